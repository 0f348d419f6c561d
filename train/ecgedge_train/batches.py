"""From a step number to a batch: pure functions of (seed, step), so a resumed run sees what it would have seen.

Several processes draw the same batch of items and the same shifts and lead sets, and each takes its share: with any
number of processes an item is seen in the same views, and a patient's two ECGs stay in one process. (Noise alone is
drawn by each process for itself.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgedge.errors import RecipeError
from ecgedge_train.augment import add_noise, draw_shifts, shift_windows
from ecgedge_train.dataset import batches, group_by_patient, pair_batches, patient_codes
from ecgedge_train.distances import DISTANCES
from ecgedge_train.distributed import World
from ecgedge_train.inference import TrainingData
from ecgedge_train.masking import apply_lead_mask, draw_lead_sets
from ecgedge_train.objectives import Objective, Targets
from ecgedge_train.recipe import DataRecipe, MaskingRecipe, Recipe

RATE_HZ = 250.0

TRAIN_STREAM, TUNE_STREAM, DROPOUT_STREAM, NOISE_STREAM, TUNE_NOISE_STREAM = 0, 1, 2, 3, 4
"""Each its own random numbers."""
RANK_STREAMS = 16
"""From here on, each process has streams of its own."""
_ONE_PROCESS = World()


def rank_stream(stream: int, rank: int) -> int:
    """Return the stream of one process; that of the first one is the stream itself."""
    return stream if rank == 0 else RANK_STREAMS * rank + stream


@dataclass(frozen=True)
class Batch:
    """Windows of this process before augmentation.

    Attributes
    ----------
    ecg, unit_mv, measured
        (V, 12, T) float32 or int16 and how many millivolts one of it is; (V, 12) measured leads. V is the number of
        items, or twice that (`Objective.views`).
    targets
        What they are compared with.
    rows, n_views
        (V,) which views of all processes these are, and how many there are.
    n_items
        How many items of this process the views show.
    """

    ecg: Tensor
    unit_mv: float
    measured: Tensor
    targets: Targets
    rows: Tensor
    n_views: int
    n_items: int

    def windows(self, device: torch.device) -> Tensor:
        """Return (V, 12, T) float32 mV on the device."""
        ecg = self.ecg.to(device, non_blocking=True)
        return ecg if ecg.is_floating_point() else ecg * self.unit_mv


def step_seed(seed: int, stream: int, step: int) -> int:
    """Return the seed of everything random in one step of one stream."""
    return int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0] >> 1)


def step_generator(seed: int, stream: int, step: int, device: torch.device | None = None) -> torch.Generator:
    """Return a generator seeded by `step_seed`, by default on the CPU, so that a GPU sees the same draws."""
    return torch.Generator(device or "cpu").manual_seed(step_seed(seed, stream, step))


class BatchSource:
    """The batches of one split, addressed by number.

    Parameters
    ----------
    data, split
        Where from.
    objective
        Decides the views, which labels come along, and whether distances are computed; records with no label at all
        are left out.
    plan
        Batch size, pieces, label limit. A batch never is smaller unless the split is: batch norm and contrast need
        its size.
    seed
        Decides the order.
    world
        This process among all.
    distances
        Names of those that are computed here; the rest is left to the GPU.
    counts
        Hand out int16 counts in pinned memory, half the bytes, for a GPU that scales them itself.

    Raises
    ------
    RecipeError
        If the split has fewer than two records or patients to use, or a batch cannot be shared equally.
    """

    def __init__(
        self,
        data: TrainingData,
        split: str,
        objective: Objective,
        plan: DataRecipe,
        *,
        seed: int,
        world: World = _ONE_PROCESS,
        distances: Container[str] = DISTANCES,
        counts: bool = False,
    ) -> None:
        self.data = data
        self.objective = objective
        self.seed = seed
        self.world = world
        self.distances = distances
        self.counts = counts
        limit = plan.train_labels if split == "train" and objective.needs_labels else 0
        self.rows = _usable_rows(data, split, objective, limit=limit, seed=seed)
        self.patients = np.asarray(data.index["patient_id"])[self.rows]
        self.codes = patient_codes(self.patients)
        self.paired = objective.views == "pairs"
        self.groups = group_by_patient(self.codes) if self.paired else None
        self.n_patients = int(self.codes.max()) + 1
        items = self.n_patients if self.paired else len(self.rows)
        contrast = objective.views != "one"
        if min(items, self.n_patients if contrast else items) < 2:
            what = f"{self.n_patients} patients" if contrast else f"{items} records with a label"
            raise RecipeError(f"split {split!r} has {what}, too few for a batch; build a larger dataset")
        self.pieces = plan.accumulate if split == "train" else 1
        shares = self.pieces * world.size
        self.batch_size = min(plan.batch_size, items) // shares * shares
        if self.batch_size < 2 * shares or plan.batch_size % shares:
            raise RecipeError(
                f"a batch of {min(plan.batch_size, items)} items cannot be cut into {shares} equal shares of at "
                f"least 2 ({self.pieces} pieces x {world.size} processes); change data.batch_size or data.accumulate"
            )
        self.per_epoch = items // self.batch_size
        self._epoch = lru_cache(maxsize=2)(self._cut_epoch)
        self._cutting = Lock()

    def load(self, step: int) -> tuple[Batch, ...]:
        """Return the pieces of the batch of a step, counted over all epochs, as far as they are this process's."""
        with self._cutting:
            positions = self._epoch(step // self.per_epoch)[step % self.per_epoch]
        size = len(positions) // self.pieces
        return tuple(
            self._load(positions[i * size : (i + 1) * size][self.world.part(size)], size)
            for i in range(self.pieces)
        )

    def _load(self, positions: NDArray[np.int64], n_items: int) -> Batch:
        """Return a batch of these items, (b,) or (b, 2) positions in `rows`, out of `n_items` of all processes."""
        views = self.objective.views
        # Two to an item: all first ones, then all second ones.
        wanted = positions.T.reshape(-1) if self.paired else np.tile(positions, 2 if views == "twice" else 1)
        rows = self.rows[wanted]
        ecg = torch.from_numpy(self.data.gather(rows, np.int16 if self.counts else np.float32))
        measured = torch.from_numpy(self.data.presence(rows) > 0)
        names = self.objective.label_names
        labels = self.data.labels(names, rows) if names else np.zeros((len(rows), 0), np.float32)
        targets = Targets(
            torch.from_numpy(labels),
            torch.from_numpy(self.codes[wanted]),
            self._distance(ecg, measured, len(positions)),
        )
        if views == "halves":
            half = ecg.shape[2] // 2
            ecg = torch.cat([ecg[..., :half], ecg[..., half : 2 * half]])
            measured = measured.repeat(2, 1)
            targets = Targets(targets.labels.repeat(2, 1), targets.patients.repeat(2), targets.distance)
        items = torch.arange(n_items)[self.world.part(n_items)]
        two = len(ecg) == 2 * len(positions)
        if self.counts and torch.cuda.is_available():
            ecg = ecg.pin_memory()
        return Batch(
            ecg,
            self.data.lsb_mv if self.counts else 1.0,
            measured,
            targets,
            rows=torch.cat([items, items + n_items]) if two else items,
            n_views=2 * n_items if two else n_items,
            n_items=len(positions),
        )

    def _distance(self, ecg: Tensor, measured: Tensor, items: int) -> Tensor | None:
        """Return the distances between the first views, before any augmentation."""
        name = self.objective.distance
        # Of halves, only the loader sees whole ECGs.
        if name is None or (name not in self.distances and self.objective.views != "halves"):
            return None
        ecg_mv = ecg[:items].float() * self.data.lsb_mv if self.counts else ecg[:items]
        presence = measured[:items].numpy().astype(np.float32)
        return torch.from_numpy(DISTANCES[name](ecg_mv.numpy(), presence))

    def _cut_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        if self.groups is not None:
            return pair_batches(self.groups, self.batch_size, seed=self.seed, epoch=epoch, drop_last=True)
        return batches(len(self.rows), self.batch_size, seed=self.seed, epoch=epoch, drop_last=True)


def _usable_rows(
    data: TrainingData, split: str, objective: Objective, *, limit: int, seed: int
) -> NDArray[np.int64]:
    rows = data.select(split=split)
    if len(rows) and objective.needs_labels:
        rows = rows[~np.isnan(data.labels(objective.label_names, rows)).all(axis=1)]
    if len(rows) == 0:
        wanted = f" with a label {', '.join(objective.label_names)}" if objective.label_names else ""
        raise RecipeError(
            f"split {split!r} holds no record{wanted}; check the dataset with `ecgedge data info`"
        )
    return rows[some_records(np.asarray(data.index["patient_id"])[rows], limit, seed=seed)] if limit else rows


def some_records(patients: NDArray[Any], limit: int, *, seed: int) -> NDArray[np.int64]:
    """Return positions of about `limit` records, whole patients at a time; more records include the fewer ones."""
    codes = patient_codes(patients)
    place = np.random.default_rng([seed, len(patients)]).permutation(int(codes.max()) + 1)[codes]
    return np.sort(np.argsort(place, kind="stable")[:limit])


def prefetched(
    source: BatchSource, start: int, stop: int, *, threads: int = 1
) -> Iterator[tuple[int, tuple[Batch, ...]]]:
    """Yield (step, pieces); each thread reads one batch ahead."""
    with ThreadPoolExecutor(threads) as pool:
        steps = iter(range(start, stop))
        waiting = deque(pool.submit(source.load, step) for step in islice(steps, threads))
        for step in range(start, stop):
            pieces = waiting.popleft().result()
            waiting.extend(pool.submit(source.load, later) for later in islice(steps, 1))
            yield step, pieces


def make_views(
    batch: Batch,
    recipe: Recipe,
    *,
    generator: torch.Generator,
    device: torch.device,
    noise: torch.Generator | None = None,
    windows: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Shift, add noise and mask leads, each row on its own; return model input and presence on `device`.

    `generator` draws for the views of all processes; `noise`, if given, for those of this one. `windows` are those
    of the batch, if they are on the device already.
    """
    x = batch.windows(device) if windows is None else windows
    most = round(recipe.input.shift_s * RATE_HZ)
    if most:
        x = shift_windows(x, draw_shifts(batch.n_views, max_samples=most, generator=generator)[batch.rows])
    x = add_noise(x, sd_mv=recipe.input.noise_mv, generator=noise or generator)
    return apply_lead_mask(x, draw_measured(batch, recipe.masking, generator))


def draw_measured(batch: Batch, recipe: MaskingRecipe, generator: torch.Generator) -> Tensor:
    """Draw lead sets (V, 12) among the leads that were recorded; where none is left, all recorded leads stay."""
    drawn = draw_lead_sets(
        batch.n_views,
        generator=generator,
        lead_sets=recipe.lead_sets,
        full_probability=recipe.full_probability,
        device_probability=recipe.device_probability,
        keep_probability=recipe.bernoulli_keep,
    )[batch.rows]
    kept = drawn & batch.measured
    return kept | (batch.measured & ~kept.any(dim=1, keepdim=True))
