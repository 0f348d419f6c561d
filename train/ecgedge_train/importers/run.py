"""From published weights to a run directory, which every later command takes like a trained one.

Such a run has an encoder and no heads; its objective is "imported". Its data.json says that its training data are not
known here: no counts, no envelope, and as attribution the file, its SHA-256 and whose licence holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import torch

from ecgedge.bundle import Envelope
from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.schema import to_plain
from ecgedge_train.checkpoint import (
    DATA_FILE,
    ENVIRONMENT_FILE,
    MODEL_FILE,
    RECIPE_FILE,
    save_tensors,
    write_text,
)
from ecgedge_train.dataset.index import file_sha256
from ecgedge_train.encoders.w2v import SIZES, SizeName, W2vEncoder
from ecgedge_train.importers.fairseq_signals import import_fairseq_signals
from ecgedge_train.importers.keras_h5 import refuse_lfs_pointer
from ecgedge_train.importers.pclr import import_pclr
from ecgedge_train.model import EcgModel, Encoder
from ecgedge_train.recipe import (
    DataRecipe,
    EncoderRecipe,
    EvaluateRecipe,
    ImportedObjective,
    PclrResNetRecipe,
    Recipe,
    ScheduleRecipe,
    W2vRecipe,
    to_toml,
)
from ecgedge_train.run import DataInfo
from ecgedge_train.runlog import environment

Kind: TypeAlias = Literal["pclr", "fairseq-signals"]

UNKNOWN: Final = "unknown"
"""In place of the hash of a dataset that nobody here has seen."""

_LICENCES: Final[Mapping[Kind, str]] = {
    "pclr": "ml4h, which publishes PCLR, is under GPL-3",
    "fairseq-signals": "fairseq-signals is under MIT; weights made with it need not be",
}
_PCLR_LEAD_SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "12": ("12",),
    "C3PO": ("12",),
    "I": ("12", "I"),
    "II": ("12", "II"),
}
"""What a network was published for; evaluate and export take these unless told otherwise."""


@dataclass(frozen=True)
class _Published:
    """An encoder with the weights of a file, and the recipe sections that build it and say what it is for."""

    network: str
    encoder: Encoder
    section: EncoderRecipe
    evaluate: EvaluateRecipe


def import_run(kind: Kind, path: Path, *, out: Path, variant: str | None = None) -> str:
    """Write a finished run that holds published weights.

    Parameters
    ----------
    kind
        Who published them: "pclr" (Keras .h5 or SavedModel folder), "fairseq-signals" (.pt).
    path, out
        The downloaded file or folder; the run directory, created.
    variant
        See `import_pclr`; of PCLR only.

    Returns
    -------
    str
        What was imported, for the user.

    Raises
    ------
    UsageError
        If `out` holds a run, or a variant is asked of weights that have none.
    EcgedgeError
        If the file cannot be read, or no recipe describes its network.
    """
    if variant is not None and kind != "pclr":
        raise UsageError(f"--variant {variant}: only pclr has variants; leave it out")
    for name in (RECIPE_FILE, MODEL_FILE):
        if (out / name).exists():
            raise UsageError(f"{out} holds a run; choose another --out")
    published = _READ[kind](path, variant)
    recipe = Recipe(
        name=f"imported_{kind.replace('-', '_')}",
        data=DataRecipe(source=f"published-{kind}"),
        objective=ImportedObjective("imported"),
        # A recipe has a schedule; this one is never run.
        schedule=ScheduleRecipe(steps=1),
        encoder=published.section,
        evaluate=published.evaluate,
    )
    facts = _facts(kind, path)
    started_from = {"imported_from": path.name, **environment(torch.device("cpu"))}
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / DATA_FILE, json.dumps(to_plain(facts), indent=1) + "\n")
    write_text(out / ENVIRONMENT_FILE, json.dumps(started_from, indent=1) + "\n")
    write_text(out / RECIPE_FILE, to_toml(recipe))
    # Last: a run directory with model.safetensors is a finished one.
    save_tensors(out / MODEL_FILE, EcgModel(published.encoder, {}).deployed_state())
    return _summary(out, published, facts)


def _read_pclr(path: Path, variant: str | None) -> _Published:
    net = import_pclr(path, variant=variant)
    section = PclrResNetRecipe("pclr_resnet", variant=net.variant, resample_samples=net.resample.n_samples)
    return _Published(
        f"PCLR {net.variant}", net, section, EvaluateRecipe(lead_sets=_PCLR_LEAD_SETS[net.variant])
    )


def _read_fairseq_signals(path: Path, _variant: str | None) -> _Published:
    if path.is_file():
        refuse_lfs_pointer(path)
    encoder = import_fairseq_signals(path)
    size = _size_name(encoder, path)
    section = W2vRecipe(
        "w2v",
        size=size,
        dropout=encoder.dropout.p,
        resample_samples=encoder.resample_samples,
        feature_gradient=encoder.feature_gradient,
    )
    return _Published(f"W2V {size}", encoder, section, EvaluateRecipe())


_READ: Final[Mapping[Kind, Callable[[Path, str | None], _Published]]] = {
    "pclr": _read_pclr,
    "fairseq-signals": _read_fairseq_signals,
}


def _size_name(encoder: W2vEncoder, path: Path) -> SizeName:
    """Return the name that a recipe has for the widths of an encoder."""
    for name, size in SIZES.items():
        if size == encoder.size:
            return name
    known = "; ".join(f"{name}: {size}" for name, size in SIZES.items())
    raise EcgedgeError(
        f"{path} holds a network of another size than those that a recipe can name: {encoder.size} ({known}); "
        "import_fairseq_signals in Python takes it"
    )


def _facts(kind: Kind, path: Path) -> DataInfo:
    return DataInfo(
        name=f"published-{kind}",
        sha256=UNKNOWN,
        simulated=False,
        records=0,
        patients=0,
        envelope=Envelope(),
        attribution=(
            f"Encoder weights read from {path.name} (SHA-256 {_sha256(path)}); what they were trained on stands with "
            f"their publication. Their licence is for you to find out and to keep ({_LICENCES[kind]})."
        ),
    )


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its listing as `sha256sum` prints it, sorted by name."""
    if path.is_file():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = "".join(f"{file_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _summary(out: Path, published: _Published, facts: DataInfo) -> str:
    encoder = published.encoder
    parameters = sum(p.numel() for p in encoder.parameters())
    return (
        f"{out}: {published.network}, {parameters:,} parameters, {encoder.embedding_size} numbers an ECG. "
        f"{facts.attribution}"
    )
