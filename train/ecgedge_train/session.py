"""What a run starts from: its directory claimed, its parts built, its last checkpoint loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ecgedge.errors import EcgedgeError, RecipeError, UsageError
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
from ecgedge_train.distances import DISTANCES
from ecgedge_train.distances.cuda import ON_GPU
from ecgedge_train.distributed import World, agree, barrier, synchronise_batch_norms
from ecgedge_train.encoders import W2vEncoder
from ecgedge_train.encoders.channels_last import to_channels_last
from ecgedge_train.inference import TrainingData
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.objectives import Objective, build_objective
from ecgedge_train.optimizer import build_optimizer
from ecgedge_train.recipe import EncoderRecipe, Recipe, load_recipe, to_toml
from ecgedge_train.runlog import environment


@dataclass
class Session:
    """All that the loop holds; only `progress` changes.

    `network` is what a training step calls: `model`, wrapped for several processes where there are some.
    """

    recipe: Recipe
    data: TrainingData
    run_dir: Path
    model: EcgModel
    network: nn.Module
    optimizer: torch.optim.AdamW
    objective: Objective
    train: BatchSource
    tune: BatchSource
    device: torch.device
    world: World
    progress: Progress

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it is: neither its weights nor its batch statistics move."""
        return self.recipe.optimizer.encoder_lr_factor == 0


def open_session(
    recipe: Recipe,
    data: TrainingData,
    run_dir: Path,
    *,
    resume: bool,
    encoder_from: Path | None,
    heads_too: bool = False,
    device: torch.device,
    world: World,
) -> Session:
    """Build or resume everything that the loop needs; arguments and errors as in `loop.train`."""
    objective = build_objective(recipe.objective)
    on_gpu = device.type == "cuda"
    here = set(DISTANCES) - set(ON_GPU if on_gpu else ())
    train, tune = (
        BatchSource(
            data, split, objective, recipe.data, seed=recipe.seed, world=among, distances=here, counts=on_gpu
        )
        for split, among in (("train", world), ("tune", World()))
    )
    _check_window(recipe, data, train)
    sha256 = str(data.info.for_run()["sha256"])
    started_from = None if encoder_from is None else encoder_from.name
    model = build_model(recipe, train_patients=train.n_patients)
    if encoder_from is not None:
        _start_from(model, recipe.encoder, encoder_from, heads_too=heads_too)
    # Behind all that a recipe can be refused for: a refused one leaves no directory.
    if world.first:
        _claim_run_dir(recipe, data, run_dir, resume=resume)
        started_from = _start_of(run_dir, started_from)
    barrier()
    if world.size > 1:
        synchronise_batch_norms(model, device.type)
    # Tensor cores and bfloat16 kernels want channels last; a float32 CPU run keeps the order that its bits came from.
    fast = device.type == "cuda" or recipe.devices.precision == "bf16"
    model.to(device)
    if fast:
        to_channels_last(model)
    optimizer = build_optimizer(model, recipe.optimizer)
    progress = Progress(0, 0, 0, None, None, sha256)
    checkpoint = find_checkpoint(run_dir) if resume else None
    if checkpoint is not None:
        progress = load_checkpoint(checkpoint, model, optimizer)
    if not agree(progress.step):
        raise UsageError(
            f"the processes found different checkpoints (this one step {progress.step} in {run_dir}); all machines "
            "must share the run directory"
        )
    if world.first:
        facts = {**environment(device), "processes": world.size, "encoder_from": started_from}
        write_text(run_dir / ENVIRONMENT_FILE, json.dumps(facts, indent=1) + "\n")
    return Session(
        recipe,
        data,
        run_dir,
        model,
        _over_processes(model, device, world),
        optimizer,
        objective,
        train,
        tune,
        device,
        world,
        progress,
    )


def _check_window(recipe: Recipe, data: TrainingData, source: BatchSource) -> None:
    samples = data.gather(source.rows[:1]).shape[2]
    if samples != recipe.input.window_samples:
        raise RecipeError(
            f"the dataset's windows have {samples} samples, the recipe says input.window_samples = "
            f"{recipe.input.window_samples}; set it to {samples}, or build the dataset anew"
        )


def _start_of(run_dir: Path, encoder_from: str | None) -> str | None:
    """Return which run gave the encoder: what a resumed run says of itself, else `encoder_from`.

    Raises
    ------
    UsageError
        If a run that started from another's encoder has no checkpoint to resume, and no encoder is given.
    """
    file = run_dir / ENVIRONMENT_FILE
    known = json.loads(file.read_text(encoding="utf-8"))["encoder_from"] if file.is_file() else None
    begun = find_checkpoint(run_dir) is not None
    if known is not None and not begun and encoder_from is None:
        raise UsageError(
            f"{run_dir} was begun from the encoder of {known} and has no checkpoint yet; give --encoder-from again"
        )
    return known if begun and file.is_file() else encoder_from


def _over_processes(model: EcgModel, device: torch.device, world: World) -> nn.Module:
    if world.size == 1:
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        # The mask vector of a token encoder has no gradient in a step that hides nothing.
        find_unused_parameters=isinstance(model.encoder, W2vEncoder),
    )


_FOR_TRAINING = ("dropout", "init", "feature_gradient", "checkpointing")
"""What a recipe says of an encoder that a trained one does not depend on."""


def load_encoder(model: EcgModel, recipe: EncoderRecipe, run_dir: Path) -> None:
    """Start the encoder of `model`, built by `recipe`, from the weights of a finished run with the same encoder.

    Raises
    ------
    EcgedgeError
        If the run is unfinished or its encoder is another.
    """
    prefix = "encoder."
    tensors = read_tensors(run_dir / MODEL_FILE)
    # Some differences show in no weight, such as the length that windows are resampled to.
    theirs, ours = (to_plain(r) for r in (load_recipe(run_dir / RECIPE_FILE).encoder, recipe))
    changed = [key for key in ours if key not in _FOR_TRAINING and ours[key] != theirs.get(key)]
    if changed:
        told = ", ".join(f"encoder.{key} = {theirs.get(key)!r} there, {ours[key]!r} here" for key in changed)
        raise EcgedgeError(f"{run_dir}: its encoder is not the one of this recipe: {told}")
    weights = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    try:
        model.encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise EcgedgeError(f"{run_dir}: its encoder is not the one of this recipe: {error}") from error


def _start_from(model: EcgModel, recipe: EncoderRecipe, run_dir: Path, *, heads_too: bool) -> None:
    load_encoder(model, recipe, run_dir)
    if heads_too:
        load_heads(model, run_dir)


_MEANINGS = ("labels", "extras")
"""What the outputs of a head stand for, in their order."""


def load_heads(model: EcgModel, run_dir: Path) -> None:
    """Start the heads of `model` that `run_dir` has too from its weights.

    Raises
    ------
    EcgedgeError
        If a head of the same name has another form, or its numbers mean something else.
    """
    tensors = read_tensors(run_dir / MODEL_FILE)
    theirs = build_model(load_recipe(run_dir / RECIPE_FILE)).heads
    for name, head in model.heads.items():
        prefix = f"heads.{name}."
        weights = {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}
        if not weights:
            continue
        # Labels in another order, or another scale, show in no weight.
        there, here = (tuple(getattr(h, key, ()) for key in _MEANINGS) for h in (theirs[name], head))
        if there != here:
            raise EcgedgeError(
                f"{run_dir}: its head {name!r} is not the one of this recipe: {there} there, {here} here"
            )
        try:
            head.load_state_dict(weights)
        except RuntimeError as error:
            raise EcgedgeError(
                f"{run_dir}: its head {name!r} is not the one of this recipe: {error}"
            ) from error


def refuse_existing_run(run_dir: Path) -> None:
    """Refuse a directory that holds a run which is not to be resumed."""
    if (run_dir / RECIPE_FILE).is_file():
        raise UsageError(f"{run_dir} holds a run; continue it with --resume, or choose another --out")


def _claim_run_dir(recipe: Recipe, data: TrainingData, run_dir: Path, *, resume: bool) -> None:
    """Write recipe.toml and data.json, or check that they are the ones being resumed."""
    known = run_dir / RECIPE_FILE
    facts = data.info.for_run()
    if known.is_file():
        if not resume:
            refuse_existing_run(run_dir)
        refuse_other_run(recipe, facts, run_dir)
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / DATA_FILE, json.dumps(facts, indent=1) + "\n")
    write_text(known, to_toml(recipe))


def refuse_other_run(recipe: Recipe, facts: dict[str, Any], run_dir: Path) -> None:
    """Refuse to resume a run with another recipe, or on another dataset, than it was begun with."""
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
    """Return the device of a recipe; "auto" takes a GPU if there is one, its own one under torchrun.

    Raises
    ------
    UsageError
        If "cuda" is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("devices.device is cuda, but torch sees no GPU; use --set devices.device=cpu")
    if not available or wanted == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Set threads and deterministic algorithms for the run, and leave torch as it was."""
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    if threads > 0:
        torch.set_num_threads(threads)
    # On a GPU deterministic kernels are slower and some do not exist: bits are promised on CPUs only.
    torch.use_deterministic_algorithms(mode=not torch.cuda.is_available())
    benchmark_before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = torch.cuda.is_available()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic_before)
        torch.backends.cudnn.benchmark = benchmark_before
        torch.set_num_threads(threads_before)
