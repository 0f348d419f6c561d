"""Checkpoints: safetensors and JSON, swapped in whole.

RUN/checkpoints/last/ holds model.safetensors, optimizer.safetensors and state.json. A new one is written beside it,
flushed, then exchanged by two renames; whatever instant the process dies at, `last` or `previous` is whole. Nothing
random is kept: weights apart, all randomness of a step follows from (seed, step), see loop.py.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ecgedge.errors import EcgedgeError
from ecgedge.schema import SchemaError, from_plain, to_plain

MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
RECIPE_FILE = "recipe.toml"
DATA_FILE = "data.json"
METRICS_FILE = "metrics.jsonl"
ENVIRONMENT_FILE = "environment.json"


@dataclass(frozen=True)
class Progress:
    """Where training stands: optimiser steps done, and the best tune loss so far (None: not evaluated yet)."""

    step: int
    epoch: int
    batch_of_epoch: int
    best_loss: float | None
    best_step: int | None
    dataset_sha256: str


def save_checkpoint(
    run_dir: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Replace RUN/checkpoints/last."""
    folder = run_dir / "checkpoints"
    new, last, previous = folder / "new", folder / "last", folder / "previous"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_tensors(new / MODEL_FILE, model.state_dict())
    save_tensors(new / OPTIMIZER_FILE, optimizer_tensors(model, optimizer))
    write_text(new / STATE_FILE, json.dumps(to_plain(progress), indent=1) + "\n")
    _sync(new)
    if last.exists():
        shutil.rmtree(previous, ignore_errors=True)
        last.rename(previous)
    new.rename(last)
    shutil.rmtree(previous, ignore_errors=True)
    _sync(folder)


def find_checkpoint(run_dir: Path) -> Path | None:
    """Return the folder of the newest whole checkpoint, or None."""
    for name in ("last", "previous"):
        if (run_dir / "checkpoints" / name / STATE_FILE).is_file():
            return run_dir / "checkpoints" / name
    return None


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Fill model and optimiser from a checkpoint and return where it stands.

    Raises
    ------
    EcgedgeError
        If a file is missing, damaged or of another model.
    """
    try:
        progress = from_plain(Progress, json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, SchemaError) as error:
        raise EcgedgeError(
            f"{folder / STATE_FILE} cannot be read ({error}); start again without --resume"
        ) from error
    load_weights(folder / MODEL_FILE, model)
    _restore_optimizer(read_tensors(folder / OPTIMIZER_FILE), model, optimizer)
    return progress


def load_weights(path: Path, model: nn.Module) -> None:
    """Load weights into a model of the same recipe.

    Raises
    ------
    EcgedgeError
        If the file is missing, damaged or does not fit.
    """
    try:
        model.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise EcgedgeError(f"{path} does not fit the model of this recipe: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises
    ------
    EcgedgeError
        If it is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise EcgedgeError(f"{path} cannot be read ({error}); the run is incomplete or damaged") from error


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file under another name, flush it, rename it to `path`."""
    temporary = path.with_name(path.name + ".tmp")
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary)
    _sync(temporary)
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file under another name, flush it, rename it to `path`."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's state as named tensors, such as "exp_avg/encoder.stem.weight"."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value
    return tensors


def _restore_optimizer(
    tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    parameters = dict(model.named_parameters())
    fused = any(group["fused"] for group in optimizer.param_groups)
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
        if name not in parameters:
            raise EcgedgeError(f"the checkpoint's optimiser knows {name!r}, which this model has not")
        parameter = parameters[name]
        if key == "step":
            # AdamW keeps its step counter on the CPU, but for the fused one, which has it beside the weights.
            state = value.to(parameter.device) if fused else value
        else:
            # In the memory order of the weights (channels last, say): the fused step walks both side by side.
            state = torch.empty_like(parameter, requires_grad=False).copy_(value)
        optimizer.state[parameter][key] = state


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
