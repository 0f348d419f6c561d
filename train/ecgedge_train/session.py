"""What a run starts from: its directory claimed, its parts built, its last checkpoint loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.schema import to_plain
from ecgedge_train.batches import BatchSource
from ecgedge_train.checkpoint import (
    DATA_FILE,
    ENVIRONMENT_FILE,
    MODEL_FILE,
    RECIPE_FILE,
    Progress,
    find_checkpoint,
    load_checkpoint,
    read_tensors,
    write_text,
)
from ecgedge_train.inference import TrainingData
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.objectives import Objective, build_objective
from ecgedge_train.optimizer import build_optimizer
from ecgedge_train.recipe import Recipe, load_recipe, to_toml
from ecgedge_train.runlog import environment


@dataclass
class Session:
    """All that the loop holds; only `progress` changes."""

    recipe: Recipe
    data: TrainingData
    run_dir: Path
    model: EcgModel
    optimizer: torch.optim.AdamW
    objective: Objective
    train: BatchSource
    tune: BatchSource
    device: torch.device
    progress: Progress


def open_session(
    recipe: Recipe, data: TrainingData, run_dir: Path, *, resume: bool, encoder_from: Path | None
) -> Session:
    """Build or resume everything that the loop needs; arguments and errors as in `loop.train`."""
    device = choose_device(recipe.devices.device)
    objective = build_objective(recipe.objective)
    sources = {
        split: BatchSource(data, split, objective, batch_size=recipe.data.batch_size, seed=recipe.seed)
        for split in ("train", "tune")
    }
    sha256 = str(data.info.for_run()["sha256"])
    _claim_run_dir(recipe, data, run_dir, resume=resume)
    model = build_model(recipe)
    if encoder_from is not None:
        load_encoder(model, encoder_from)
    model.to(device)
    optimizer = build_optimizer(model, recipe.optimizer)
    progress = Progress(0, 0, 0, None, None, sha256)
    checkpoint = find_checkpoint(run_dir) if resume else None
    if checkpoint is not None:
        progress = load_checkpoint(checkpoint, model, optimizer)
    started_from = None if encoder_from is None else encoder_from.name
    facts = {**environment(device), "encoder_from": started_from}
    write_text(run_dir / ENVIRONMENT_FILE, json.dumps(facts, indent=1) + "\n")
    return Session(
        recipe,
        data,
        run_dir,
        model,
        optimizer,
        objective,
        sources["train"],
        sources["tune"],
        device,
        progress,
    )


def load_encoder(model: EcgModel, run_dir: Path) -> None:
    """Start the encoder of `model` from the weights of a finished run with the same encoder.

    Raises
    ------
    EcgedgeError
        If the run is unfinished or its encoder is another.
    """
    prefix = "encoder."
    tensors = read_tensors(run_dir / MODEL_FILE)
    weights = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    try:
        model.encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise EcgedgeError(f"{run_dir}: its encoder is not the one of this recipe: {error}") from error


def _claim_run_dir(recipe: Recipe, data: TrainingData, run_dir: Path, *, resume: bool) -> None:
    """Write recipe.toml and data.json, or check that they are the ones being resumed."""
    known = run_dir / RECIPE_FILE
    facts = data.info.for_run()
    if known.is_file():
        if not resume:
            raise UsageError(f"{run_dir} holds a run; continue it with --resume, or choose another --out")
        _refuse_other_run(recipe, facts, run_dir)
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / DATA_FILE, json.dumps(facts, indent=1) + "\n")
    write_text(known, to_toml(recipe))


def _refuse_other_run(recipe: Recipe, facts: dict[str, Any], run_dir: Path) -> None:
    old, new = to_plain(load_recipe(run_dir / RECIPE_FILE)), to_plain(recipe)
    changed = [section for section in new if old[section] != new[section]]
    if changed:
        raise UsageError(
            f"{run_dir} was begun with another recipe (different: {', '.join(changed)}); "
            f"resume with {run_dir / RECIPE_FILE}, or choose another --out"
        )
    known = json.loads((run_dir / DATA_FILE).read_text(encoding="utf-8"))
    if known["sha256"] != facts["sha256"]:
        raise UsageError(
            f"{run_dir} was begun on dataset {known['name']} ({known['sha256'][:12]}), "
            f"this one is {facts['name']} ({facts['sha256'][:12]}); resume with the same --data"
        )


def choose_device(wanted: str) -> torch.device:
    """Return the device of a recipe; "auto" takes a GPU if there is one.

    Raises
    ------
    UsageError
        If "cuda" is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("devices.device is cuda, but torch sees no GPU; use --set devices.device=cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Set threads and deterministic algorithms for the run, and leave torch as it was."""
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    if threads > 0:
        torch.set_num_threads(threads)
    # On a GPU, atomics in some backward kernels have no deterministic twin: there, warn_only lets them run.
    torch.use_deterministic_algorithms(mode=True, warn_only=torch.cuda.is_available())
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic_before)
        torch.set_num_threads(threads_before)
