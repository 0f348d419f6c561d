"""Target profiles: what a kind of device runs.

The export reads one of its TOML files and packs it into the bundle as `target.toml`; the device reads it there, to
build its engines.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from ecgedge.bundle import Precision
from ecgedge.errors import UsageError
from ecgedge.schema import SchemaError, from_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TARGET_FILE = "target.toml"
Verified = Literal["run", "built", "documents"]


@dataclass(frozen=True)
class BatchProfile:
    """Smallest, best and largest batch that an engine takes."""

    smallest: int = 1
    best: int = 8
    largest: int = 64

    def __post_init__(self) -> None:
        """Refuse a profile out of order."""
        if not 1 <= self.smallest <= self.best <= self.largest:
            sizes = f"{self.smallest}/{self.best}/{self.largest}"
            raise ValueError(f"batch {sizes}: expected 1 <= smallest <= best <= largest")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Smallest, best, largest."""
        return self.smallest, self.best, self.largest


@dataclass(frozen=True)
class EngineProfile:
    """How an engine for the target comes about.

    Attributes
    ----------
    runtime
        Whose engine.
    built
        "export": when the bundle is exported. "device": on the device, by `ecgedge bundle build`.
    compute_capabilities
        GPUs that the engine is compiled for; empty where the device builds for itself.
    batch
        Batch sizes of the optimisation profile, the same for every input.
    recipe
        What NVIDIA's own `trtexec` has to be told for the same engine, to look into one by hand;
        {onnx}, {engine}, {leads}, {samples} are filled in.
    """

    runtime: Literal["tensorrt_rtx", "tensorrt"]
    built: Literal["export", "device"]
    compute_capabilities: tuple[str, ...]
    batch: BatchProfile
    recipe: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hardware:
    """What is known of the machine; a number that differs between its models is the smallest of them.

    Attributes
    ----------
    gpu, compute_capability
        Empty without a GPU that serves.
    memory_mb
        Of the whole machine; on a Jetson the GPU shares it.
    power_modes
        As its maker names them.
    dla_cores
        Deep-learning accelerators. ecgedge does not use them.
    python, software
        What a fresh device comes with.
    """

    gpu: str = ""
    compute_capability: str = ""
    memory_mb: int = 0
    power_modes: tuple[str, ...] = ()
    dla_cores: int = 0
    python: str = ""
    software: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gates:
    """What every variant must reach against the trained network before it is packed.

    Attributes
    ----------
    max_abs
        Largest difference of any output but the embedding, relative to max(1, the network's largest value): of a
        probability, the difference itself. On the tune split, where INT8 that misses it is still improved (see
        `ecgedge_export.int8`), 0.8 of it.
    min_median_cosine, min_cosine
        Centred cosine of the embeddings, in the median and for the worst window; on the tune split likewise, and on the
        test split.
    max_auroc_loss
        How much an AUROC may fall below the network's.
    min_alarm_agreement
        Share of alarm transitions that both raise, see `ecgedge_export.agreement`.
    """

    max_abs: float = 0.1
    min_median_cosine: float = 0.995
    min_cosine: float = 0.9
    max_auroc_loss: float = 0.01
    min_alarm_agreement: float = 0.8


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
    wanted
        What the target would serve best with; a precision that is not exported yet is named here alone.
    aliases
        Other names of the same target.
    opset
        ONNX opset of the files.
    verified
        What the facts rest on: the target's own runtime ran it here ("run"), built it here ("built"), or its
        documents say so ("documents").
    hardware, gates
        See there.
    engine
        None where no engine is built ahead of time.
    facts
        What is known of the platform, for the reader.
    """

    name: str
    description: str
    flavour: Literal["cpu", "rtx", "mcu"]
    precisions: tuple[Precision, ...]
    wanted: tuple[Precision, ...] = ()
    aliases: tuple[str, ...] = ()
    opset: int = 17
    verified: Verified = "documents"
    hardware: Hardware = Hardware()
    gates: Gates = Gates()
    engine: EngineProfile | None = None
    facts: tuple[str, ...] = ()


def parse_target(text: str, *, place: str) -> TargetProfile:
    """Read a target profile.

    Raises
    ------
    UsageError
        If the text is damaged; the message names `place`.
    """
    try:
        return from_plain(TargetProfile, tomllib.loads(text))
    except (SchemaError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{place} is damaged: {error}; correct it, or export the bundle again") from error
