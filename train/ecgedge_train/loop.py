"""The training loop, in one place and in order: step, log, evaluate on tune, save.

Everything random in a step (batch order, lead masks, augmentation, dropout) follows from (seed, step). So a
checkpoint is weights, optimiser moments and a step number, and a run that was killed and resumed, in the middle of
an epoch too, ends with the same bits as one that was not, on the same machine and thread count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ecgedge.errors import EcgedgeError, UsageError
from ecgedge_train.batches import (
    DROPOUT_STREAM,
    NOISE_STREAM,
    TRAIN_STREAM,
    TUNE_NOISE_STREAM,
    TUNE_STREAM,
    Batch,
    make_views,
    prefetched,
    rank_stream,
    step_generator,
    step_seed,
)
from ecgedge_train.calibrate import calibrate, write_calibration
from ecgedge_train.checkpoint import METRICS_FILE, MODEL_FILE, load_weights, save_checkpoint, save_tensors
from ecgedge_train.distances.cuda import distance_on_gpu
from ecgedge_train.distributed import alone, barrier, open_world, sum_over_world
from ecgedge_train.encoders import W2vEncoder
from ecgedge_train.inference import TrainingData, predict_rows
from ecgedge_train.objectives import Targets, hemodynamics_of
from ecgedge_train.optimizer import lr_at, set_lr
from ecgedge_train.recipe import Recipe
from ecgedge_train.runlog import MetricsLog, Report, Telling, telling
from ecgedge_train.session import Session, choose_device, open_session, reproducible

LOADER_THREADS = 4
"""For a GPU, which eats more than one thread reads. On a CPU one thread leaves the cores to the training."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended; `ecg_per_s` counts windows through optimiser steps, without evaluation."""

    run_dir: Path
    steps: int
    best_step: int | None
    best_loss: float | None
    ecg_per_s: float


def train(
    recipe: Recipe,
    data: TrainingData,
    run_dir: Path,
    *,
    resume: bool = False,
    max_steps: int | None = None,
    encoder_from: Path | None = None,
    heads_too: bool = False,
    report: Report | None = None,
) -> TrainingResult:
    """Train, checkpoint, and write the finished run.

    Parameters
    ----------
    recipe
        What to do.
    data
        An open dataset with splits "train" and "tune".
    run_dir
        Where the run goes; created.
    resume
        Continue from the last checkpoint; a run that has none starts at step 0.
    max_steps
        Stop here at the latest; the learning-rate schedule stays that of the recipe.
    encoder_from
        A finished run whose encoder weights start this one (fine-tuning).
    heads_too
        Start the heads from that run as well: the same task goes on.
    report
        Called after every step with (steps done, steps in all, loss); by default lines on standard error, and a bar
        where that is a terminal.

    Raises
    ------
    UsageError
        If `run_dir` holds a run and `resume` is not set, or another recipe or dataset than before is resumed.
    RecipeError
        If a split is empty or has no labels.
    EcgedgeError
        If the loss stops being finite, or a checkpoint is damaged.
    """
    if max_steps is not None and max_steps < 1:
        raise UsageError(f"max_steps {max_steps} is below 1")
    stop = min(recipe.schedule.steps, max_steps or recipe.schedule.steps)
    device = choose_device(recipe.devices.device)
    with reproducible(recipe.devices.threads), open_world(device.type) as world:
        session = open_session(
            recipe,
            data,
            run_dir,
            resume=resume,
            encoder_from=encoder_from,
            heads_too=heads_too,
            device=device,
            world=world,
        )
        with telling(report if world.first else _silent, recipe.name) as told:
            ecg_per_s = _loop(session, stop, told)
            if world.first:
                with alone():
                    _finish(session)
            barrier()
            done = session.progress
            told.line(_summary(session, ecg_per_s))
        # Its network holds the process group, which is left now.
        del session
    return TrainingResult(run_dir, done.step, done.best_step, done.best_loss, ecg_per_s)


def _silent(done: int, total: int, loss: float) -> None:
    """Report nothing: only the first process speaks."""


def _summary(session: Session, ecg_per_s: float) -> str:
    """Return where the run ended and what of it is kept."""
    done, steps = session.progress, session.recipe.schedule.steps
    ended = (
        f"finished after {steps} steps" if done.step == steps else f"stopped at step {done.step} of {steps}"
    )
    kept = "the last step is kept"
    if session.recipe.evaluate.keep == "best" and done.best_step is not None:
        kept = f"step {done.best_step} is kept, its tune loss {done.best_loss:.4g} is the lowest"
    shown = f"{ecg_per_s:.3g}" if ecg_per_s < 100 else f"{ecg_per_s:.0f}"  # 1270, not 1.27e+03
    speed = f", {shown} ECG/s" if ecg_per_s else ""  # none where nothing was left to do
    more = "" if done.step == steps else "; --resume goes on"
    return f"{ended}{speed}; {kept}; {session.run_dir}{more}"


def _loop(session: Session, stop: int, told: Telling) -> float:
    """Run from session.progress.step to `stop`; return windows per second of the training steps."""
    plan, start = session.recipe.evaluate, session.progress.step
    n_windows, clock = 0, _Stopwatch()
    threads = LOADER_THREADS if session.device.type == "cuda" else 1
    with _metrics_log(session, start) as log:
        for step, pieces in prefetched(session.train, start, stop, threads=threads):
            done, last = step + 1, step + 1 == stop
            logged = last or done % plan.log_every_steps == 0
            saved = last or done % plan.checkpoint_every_steps == 0
            tuned = done == session.recipe.schedule.steps or done % plan.every_steps == 0
            # What is kept must have been looked at: a weight that is no number must not reach the disk.
            figures = _train_step(session, step, pieces, look=logged or saved or tuned)
            n_windows += sum(piece.n_views for piece in pieces)
            session.progress = replace(
                session.progress, step=done, epoch=done // session.train.per_epoch,
                batch_of_epoch=done % session.train.per_epoch,
            )  # fmt: skip
            if logged:
                log.write("train", done, {**figures, "ecg_per_s": n_windows / clock.seconds()})
            with clock.stopped():
                # Not at a --max-steps stop: a look that an uninterrupted run does not take could choose another best.
                if tuned:
                    seen = _evaluate_and_keep_best(session)
                    log.write("tune", done, seen)
                    told.look(done, session.recipe.schedule.steps, seen)
                if session.world.first and saved:
                    save_checkpoint(session.run_dir, session.model, session.optimizer, session.progress)
            told.step(done, stop, figures["loss"])
    return n_windows / clock.seconds()


class _Stopwatch:
    """Seconds of training, waiting for data included, without evaluation and saving."""

    def __init__(self) -> None:
        self._began, self._lost_s = time.perf_counter(), 0.0

    def seconds(self) -> float:
        """Return what has passed."""
        return time.perf_counter() - self._began - self._lost_s

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out what happens inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._lost_s += time.perf_counter() - began


def _metrics_log(session: Session, start: int) -> MetricsLog:
    """Return the log of the first process; the others keep none."""
    path = session.run_dir / METRICS_FILE if session.world.first else None
    return MetricsLog(path, keep_until_step=start)


def _train_step(session: Session, step: int, pieces: Sequence[Batch], *, look: bool) -> dict[str, float]:
    """Take one optimiser step; with `look` false a GPU is not waited for, and the figures are NaN."""
    recipe, model, optimizer = session.recipe, session.model, session.optimizer
    lr = lr_at(recipe.optimizer.lr, recipe.schedule, step)
    set_lr(optimizer, lr)
    torch.manual_seed(step_seed(recipe.seed, rank_stream(DROPOUT_STREAM, session.world.rank), step))
    generator, noise = step_generator(recipe.seed, TRAIN_STREAM, step), None
    if session.device.type == "cuda" or session.world.size > 1:
        # One for all pieces: each takes up where the last one stopped.
        stream = rank_stream(NOISE_STREAM, session.world.rank)
        noise = step_generator(recipe.seed, stream, step, session.device)
    model.train()
    if session.frozen:
        model.encoder.eval()
    model.begin_step(step)
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=session.device)
    for i, piece in enumerate(pieces):
        with _gradients_kept_here(session.network, unless=i + 1 == len(pieces)):
            outputs, targets = _forward(session, piece, generator, noise, session.network)
            loss = session.objective.loss(outputs, targets, generator) / len(pieces)
            torch.autograd.backward(loss)
        total += loss.detach()
    limit = recipe.optimizer.clip_norm or math.inf
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    look = look or session.device.type == "cpu"
    if look:
        total = sum_over_world(total) / session.world.size
        _refuse_infinite(total, grad_norm, step, recipe.optimizer.lr)
    optimizer.step()
    if not look:
        return {"loss": math.nan, "lr": lr, "grad_norm": math.nan}
    return {"loss": total.item(), "lr": lr, "grad_norm": float(grad_norm)}


def _gradients_kept_here(network: nn.Module, *, unless: bool) -> AbstractContextManager[None]:
    """Keep gradients from being averaged over processes until the last piece of a batch."""
    if unless or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    return network.no_sync()


def _refuse_infinite(loss: Tensor, grad_norm: Tensor, step: int, lr: float) -> None:
    for what, value in (("loss", loss), ("gradient", grad_norm)):
        if not bool(torch.isfinite(value)):
            raise EcgedgeError(
                f"the {what} is {value.item()} at step {step}; lower optimizer.lr ({lr:g}) or set "
                "optimizer.clip_norm, and start again (--resume wants the same recipe)"
            )


def _forward(
    session: Session,
    batch: Batch,
    generator: torch.Generator,
    noise: torch.Generator | None,
    network: nn.Module,
) -> tuple[dict[str, Tensor], Targets]:
    """Return the outputs of augmented, lead-masked views, and what to compare them with."""
    device, recipe = session.device, session.recipe
    windows = batch.windows(device)
    x, presence = make_views(batch, recipe, generator=generator, device=device, noise=noise, windows=windows)
    mask = None
    if isinstance(session.model.encoder, W2vEncoder):
        n_tokens = session.model.encoder.n_tokens(x.shape[-1])
        drawn = session.objective.token_mask(batch.n_views, n_tokens, generator)
        mask = None if drawn is None else drawn[batch.rows].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.devices.precision == "bf16"):
        features = network(x, presence, token_mask=mask, for_loss=True)
    # Losses in float32: log-sum-exp over a batch and 8 mmHg in bfloat16 would cost digits for nothing.
    outputs = {"embedding": features.embedding, **features.outputs}
    outputs = {name: v.float() if v.is_floating_point() else v for name, v in outputs.items()}
    targets = batch.targets
    labels, patients = targets.labels.to(device), targets.patients.to(device)
    return outputs, Targets(labels, patients, _distance(session, batch, windows))


def _distance(session: Session, batch: Batch, windows: Tensor) -> Tensor | None:
    """Return the distances between the signals before augmentation: the loader's, or computed here on a GPU."""
    known, name = batch.targets.distance, session.objective.distance
    if known is not None or name is None:
        return None if known is None else known.to(session.device)
    items = batch.n_items
    return distance_on_gpu(name, windows[:items], batch.measured[:items].to(windows))


def _evaluate_and_keep_best(session: Session) -> dict[str, float]:
    """Evaluate in the first process, alone, while the others wait."""
    figures: dict[str, float] = {}
    if session.world.first:
        with alone():
            figures = _keep_best(session)
    barrier()
    return figures


def _keep_best(session: Session) -> dict[str, float]:
    figures = evaluate_tune(session)
    loss, best = figures["loss"], session.progress.best_loss
    if math.isfinite(loss) and (best is None or loss < best):
        session.progress = replace(session.progress, best_loss=loss, best_step=session.progress.step)
        folder = session.run_dir / "checkpoints" / "best"
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / MODEL_FILE, session.model.state_dict())
    return figures


@torch.no_grad()
def evaluate_tune(session: Session) -> dict[str, float]:
    """Return the mean loss over views drawn as in training (the same ones each time), and the scores."""
    recipe, tune = session.recipe, session.tune
    session.model.eval()
    per_batch: list[dict[str, float]] = []
    for i in range(max(1, min(tune.per_epoch, recipe.evaluate.max_records // tune.batch_size))):
        generator, noise = step_generator(recipe.seed, TUNE_STREAM, i), None
        if session.device.type == "cuda":
            noise = step_generator(recipe.seed, TUNE_NOISE_STREAM, i, session.device)
        (batch,) = tune.load(i)
        outputs, targets = _forward(session, batch, generator, noise, session.model)
        loss = session.objective.tune_loss(outputs, targets, generator).item()
        per_batch.append({"loss": loss, **session.objective.batch_scores(outputs, targets)})
    means = {name: float(np.mean([figures[name] for figures in per_batch])) for name in per_batch[0]}
    rows = tune.rows[:: math.ceil(len(tune.rows) / recipe.evaluate.max_records)]
    return {**means, **_scores(session, rows)}


def _scores(session: Session, rows: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    if not session.objective.scored:
        return {}
    names = session.objective.label_names
    plan = session.recipe.evaluate
    # A network made for one lead set is not judged by leads that it never sees.
    lead_set = "12" if "12" in plan.lead_sets else plan.lead_sets[0]
    outputs = predict_rows(
        session.model,
        session.data,
        rows,
        lead_set=lead_set,
        batch_size=plan.batch_size,
        device=session.device,
    )
    return session.objective.scores(outputs, session.data.labels(names, rows))


def _finish(session: Session) -> None:
    """Write model.safetensors (best or last) and, for a hemodynamic head, calibration.json."""
    recipe, run_dir = session.recipe, session.run_dir
    best = run_dir / "checkpoints" / "best" / MODEL_FILE
    if recipe.evaluate.keep == "best" and session.progress.best_step is not None:
        load_weights(best, session.model)
    objective = hemodynamics_of(session.objective)
    if objective is not None:
        calibration = calibrate(
            session.model,
            session.data,
            session.tune.rows,
            label=objective.recipe.label,
            lead_sets=recipe.evaluate.lead_sets,
            coverage=recipe.evaluate.interval_coverage,
            batch_size=recipe.evaluate.batch_size,
            device=session.device,
        )
        write_calibration(run_dir, calibration)
    # Last: a run directory with model.safetensors is a finished one.
    save_tensors(run_dir / MODEL_FILE, session.model.deployed_state())
