"""Target profiles: what a kind of device runs, as TOML files beside this module.

The profile goes into the bundle as `target.toml`: a Jetson builds its engine from it, on the device.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from ecgedge.bundle import Precision
from ecgedge.errors import UsageError
from ecgedge.schema import SchemaError, from_plain
from ecgedge_export.engines.rtx import BatchProfile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class EngineProfile:
    """How an engine for the target comes about.

    Attributes
    ----------
    runtime
        Whose engine.
    built
        "export": when the bundle is exported. "device": on the device, by `recipe`.
    compute_capabilities
        GPUs that the engine is compiled for; empty where the device builds for itself.
    batch
        Batch sizes of the optimisation profile.
    recipe
        The command that builds one engine; {onnx}, {engine}, {leads}, {samples} are filled in.
    """

    runtime: Literal["tensorrt_rtx", "tensorrt"]
    built: Literal["export", "device"]
    compute_capabilities: tuple[str, ...]
    batch: BatchProfile
    recipe: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gates:
    """What every variant must reach against the trained network before it is packed.

    Attributes
    ----------
    max_abs
        Largest difference of any output but the embedding, relative to max(1, the network's largest value): of a
        probability, the difference itself.
    min_median_cosine, min_cosine
        Centred cosine of the embeddings, in the median and for the worst window.
    max_auroc_loss
        How much an AUROC may fall below the network's.
    min_alarm_agreement
        Share of alarm transitions that both raise, see `ecgedge_export.agreement`.
    """

    max_abs: float
    min_median_cosine: float
    min_cosine: float
    max_auroc_loss: float
    min_alarm_agreement: float


@dataclass(frozen=True)
class TargetProfile:
    """A kind of device.

    Attributes
    ----------
    name, description
        For messages and the model card.
    flavour
        Which INT8 the target takes, see `ecgedge_export.quantize`.
    precisions
        What is exported unless the caller says otherwise.
    gates
        What a variant must reach to be packed.
    engine
        None where ONNX Runtime serves.
    facts
        What is known of the platform, for the reader.
    """

    name: str
    description: str
    flavour: Literal["cpu", "rtx"]
    precisions: tuple[Precision, ...]
    gates: Gates
    engine: EngineProfile | None = None
    facts: tuple[str, ...] = ()


def target_names() -> tuple[str, ...]:
    """Return the names of the targets."""
    folder = resources.files(__name__)
    return tuple(sorted(f.name[: -len(".toml")] for f in folder.iterdir() if f.name.endswith(".toml")))


def target_toml(name: str) -> str:
    """Return a target's TOML text.

    Raises
    ------
    UsageError
        If there is no such target.
    """
    if name not in target_names():
        raise UsageError(f"unknown target {name!r}; known targets: {', '.join(target_names())}")
    return (resources.files(__name__) / f"{name}.toml").read_text("utf-8")


def load_target(name: str) -> TargetProfile:
    """Read a target profile.

    Raises
    ------
    UsageError
        If there is no such target, or its file is damaged.
    """
    try:
        return from_plain(TargetProfile, tomllib.loads(target_toml(name)))
    except (SchemaError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the target file {name}.toml is damaged: {error}") from error
