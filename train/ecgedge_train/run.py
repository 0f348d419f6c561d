"""The run directory: what training leaves and everything later reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgedge.bundle import Envelope
from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.schema import SchemaError, from_plain
from ecgedge_train.calibrate import CALIBRATION_FILE, LeadSetCalibration
from ecgedge_train.checkpoint import (
    DATA_FILE,
    ENVIRONMENT_FILE,
    METRICS_FILE,
    MODEL_FILE,
    RECIPE_FILE,
    STATE_FILE,
    find_checkpoint,
    load_weights,
)
from ecgedge_train.dataset import EcgDataset, UnionDataset, open_dataset
from ecgedge_train.distributed import open_world
from ecgedge_train.loop import TrainingResult, train
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.recipe import Recipe, distillation_of, load_recipe
from ecgedge_train.session import choose_device, refuse_existing_run, refuse_other_run

__all__ = [
    "DATA_FILE",
    "ENVIRONMENT_FILE",
    "METRICS_FILE",
    "RECIPE_FILE",
    "DataInfo",
    "Run",
    "load_run",
    "train_run",
]


PRETRAIN_FOLDER = "pretrain"


@dataclass(frozen=True)
class DataInfo:
    """What the model was trained on (data.json); the counts are those of the training split.

    `primary_sha256` is the dataset that gave the tune split, where there were several.
    """

    name: str
    sha256: str
    simulated: bool
    records: int
    patients: int
    envelope: Envelope
    attribution: str = ""
    primary_sha256: str = ""

    def holds(self, sha256: str) -> bool:
        """Say whether the run was trained on this dataset, alone or as the first among several."""
        return sha256 in (self.sha256, self.primary_sha256)


@dataclass(frozen=True)
class Run:
    """A finished run; the model is in evaluation mode on the CPU."""

    path: Path
    recipe: Recipe
    model: EcgModel
    calibration: Mapping[str, LeadSetCalibration] | None
    data: DataInfo


def train_run(
    recipe: str | Path,
    *,
    data: Path,
    out: Path,
    also: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    max_steps: int | None = None,
    resume: bool = False,
    encoder_from: Path | None = None,
) -> TrainingResult:
    """Train a recipe, by file or by name, on the dataset in `data` and leave the run in `out`.

    Parameters
    ----------
    recipe, data, out
        What, on what, where to.
    also
        Further datasets whose records all train, but for those of patients that `data` holds; tune and test are
        those of `data` alone.
    overrides, max_steps, resume
        As on the command line.
    encoder_from
        A finished run whose encoder weights start this one; not for a recipe that pretrains.

    A recipe that pretrains leaves its first stage in OUT/pretrain, and resumes in whichever stage it was.

    Raises
    ------
    EcgedgeError
        As `load_recipe`, `open_dataset` and `loop.train` do.
    """
    resolved = load_recipe(recipe, overrides)
    _refuse_distillation(resolved)
    if resolved.pretrain is not None and encoder_from is not None:
        raise UsageError(f"the recipe {resolved.name} pretrains its encoder; leave --encoder-from out")
    primary = open_dataset(data)
    source = UnionDataset(primary, [open_dataset(path) for path in also]) if also else primary
    first, main = resolved.stages()
    # One process group for both stages: processes that leave a group cannot meet again under the same address.
    with open_world(choose_device(resolved.devices.device).type):
        if first is not None:
            _refuse_other_second_stage(main, source, out, resume=resume)
            encoder_from = out / PRETRAIN_FOLDER
            _refuse_first_stage_cut_short(first, out, max_steps)
            # Also where it is finished: that checks that it is of this recipe and dataset, and repeats nothing.
            train(first, source, encoder_from, resume=resume, max_steps=max_steps)
        return train(main, source, out, resume=resume, max_steps=max_steps, encoder_from=encoder_from)


def _refuse_distillation(recipe: Recipe) -> None:
    """Refuse a student's recipe: nobody is here to teach it."""
    objectives = [recipe.objective, *([recipe.pretrain.objective] if recipe.pretrain else ())]
    for objective in objectives:
        taught = distillation_of(objective)
        if taught is not None:
            raise UsageError(
                f"the recipe {recipe.name} is that of a student of {taught.teacher}; train it with "
                "`ecgedge compress TEACHER`, which asks the teacher"
            )


def _refuse_other_second_stage(
    main: Recipe, data: EcgDataset | UnionDataset, out: Path, *, resume: bool
) -> None:
    """Refuse a folder of another run before hours of a first stage go into it."""
    if not (out / RECIPE_FILE).is_file():
        return
    if not resume:
        refuse_existing_run(out)
    if not (out / PRETRAIN_FOLDER / RECIPE_FILE).is_file():
        raise UsageError(
            f"{out} holds a run without a first stage, and the recipe {main.name} has one; choose another --out"
        )
    refuse_other_run(main, data.info.for_run(), out)


def _refuse_first_stage_cut_short(first: Recipe, out: Path, max_steps: int | None) -> None:
    """Refuse to train a first stage further from which the second one has begun."""
    checkpoint = find_checkpoint(out / PRETRAIN_FOLDER)
    if checkpoint is None or find_checkpoint(out) is None:
        return
    done = int(_read_json(checkpoint / STATE_FILE)["step"])
    if done < min(first.schedule.steps, max_steps or first.schedule.steps):
        raise UsageError(
            f"{out}: its first stage was stopped at step {done} of {first.schedule.steps} by --max-steps, and the "
            "second has begun from it; choose another --out for the whole"
        )


def load_run(path: Path | str) -> Run:
    """Load a finished run.

    Raises
    ------
    EcgedgeError
        If a file is missing or damaged, or training has not finished.
    """
    folder = Path(path)
    if not (folder / RECIPE_FILE).is_file():
        raise EcgedgeError(f"{folder} is no run directory: it has no {RECIPE_FILE}")
    if not (folder / MODEL_FILE).is_file():
        raise EcgedgeError(
            f"{folder}: training has not finished (no {MODEL_FILE}); continue it with --resume"
        )
    recipe = load_recipe(folder / RECIPE_FILE)
    model = build_model(recipe)
    load_weights(folder / MODEL_FILE, model)
    return Run(folder, recipe, model.eval(), _read_calibration(folder), _read_data(folder))


def _read_calibration(folder: Path) -> dict[str, LeadSetCalibration] | None:
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    plain = _read_json(path)
    try:
        return {name: from_plain(LeadSetCalibration, c, where=name) for name, c in plain.items()}
    except SchemaError as error:
        raise EcgedgeError(f"{path}: {error}") from error


def _read_data(folder: Path) -> DataInfo:
    path = folder / DATA_FILE
    try:
        return from_plain(DataInfo, _read_json(path))
    except SchemaError as error:
        raise EcgedgeError(f"{path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise EcgedgeError(f"{path} cannot be read ({error}); the run is incomplete or damaged") from error
    if not isinstance(plain, dict):
        raise EcgedgeError(f"{path} holds no JSON object; the run is damaged")
    return plain
