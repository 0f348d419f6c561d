"""From a step number to a batch: pure functions of (seed, step), so a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgedge.errors import RecipeError
from ecgedge_train.augment import add_noise, shift_windows
from ecgedge_train.dataset import batches, pair_batches
from ecgedge_train.inference import TrainingData
from ecgedge_train.masking import apply_lead_mask, draw_lead_sets
from ecgedge_train.objectives import Objective, Targets
from ecgedge_train.recipe import InputRecipe, MaskingRecipe, Recipe

RATE_HZ = 250.0

TRAIN_STREAM, TUNE_STREAM, DROPOUT_STREAM = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """Windows before augmentation: (V, 12, T) mV and measured leads (V, 12); V is B, or 2B for pairs."""

    ecg_mv: Tensor
    measured: Tensor
    targets: Targets


def step_seed(seed: int, stream: int, step: int) -> int:
    """Return the seed of everything random in one step of one stream."""
    return int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0] >> 1)


def step_generator(seed: int, stream: int, step: int) -> torch.Generator:
    """Return a CPU generator seeded by `step_seed`; draws are on the CPU so that a GPU sees the same ones."""
    return torch.Generator().manual_seed(step_seed(seed, stream, step))


class BatchSource:
    """The batches of one split, addressed by number.

    Parameters
    ----------
    data, split
        Where from.
    objective
        Decides pairs or single records, and which labels come along; records with no label at all are left out.
    batch_size, seed
        A batch never is smaller than `batch_size` unless the split is: batch norm and contrast need its size.

    Raises
    ------
    RecipeError
        If the split has fewer than two records or patients to use.
    """

    def __init__(
        self, data: TrainingData, split: str, objective: Objective, *, batch_size: int, seed: int
    ) -> None:
        self.data = data
        self.objective = objective
        self.seed = seed
        self.rows = _usable_rows(data, split, objective)
        self.patients = np.asarray(data.index["patient_id"])[self.rows]
        self.codes = np.unique(self.patients, return_inverse=True)[1]
        items = int(self.codes.max()) + 1 if objective.paired else len(self.rows)
        if items < 2:
            what = "patients" if objective.paired else "records with a label"
            raise RecipeError(
                f"split {split!r} has {items} {what}, too few for a batch; build a larger dataset"
            )
        self.batch_size = min(batch_size, items)
        self.per_epoch = items // self.batch_size
        self._epoch = lru_cache(maxsize=2)(self._cut_epoch)

    def load(self, step: int) -> Batch:
        """Return the batch of a step, counted over all epochs."""
        positions = self._epoch(step // self.per_epoch)[step % self.per_epoch]
        codes = torch.from_numpy(self.codes[positions[:, 0] if self.objective.paired else positions])
        rows = self.rows[positions.T.reshape(-1)]  # pairs (B, 2): all first ECGs, then all second ones
        names = self.objective.label_names
        labels = self.data.labels(names, rows) if names else np.zeros((len(rows), 0), np.float32)
        return Batch(
            ecg_mv=torch.from_numpy(self.data.gather(rows)),
            measured=torch.from_numpy(self.data.presence(rows) > 0),
            targets=Targets(torch.from_numpy(labels), codes),
        )

    def _cut_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        if self.objective.paired:
            return pair_batches(self.codes, self.batch_size, seed=self.seed, epoch=epoch, drop_last=True)
        return batches(len(self.rows), self.batch_size, seed=self.seed, epoch=epoch, drop_last=True)


def _usable_rows(data: TrainingData, split: str, objective: Objective) -> NDArray[np.int64]:
    rows = data.select(split=split)
    if len(rows) and objective.label_names:
        rows = rows[~np.isnan(data.labels(objective.label_names, rows)).all(axis=1)]
    if len(rows) == 0:
        wanted = f" with a label {', '.join(objective.label_names)}" if objective.label_names else ""
        raise RecipeError(
            f"split {split!r} holds no record{wanted}; check the dataset with `ecgedge data info`"
        )
    return rows


def prefetched(source: BatchSource, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
    """Yield (step, batch), reading one batch ahead on a thread of its own."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(source.load, start)
        for step in range(start, stop):
            batch = upcoming.result()
            if step + 1 < stop:
                upcoming = pool.submit(source.load, step + 1)
            yield step, batch


def make_views(
    batch: Batch, recipe: Recipe, *, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Shift, add noise and mask leads, each row on its own; return model input and presence on `device`."""
    x = augment(batch.ecg_mv.to(device), recipe.input, generator)
    kept = draw_measured(batch.measured, recipe.masking, generator)
    return apply_lead_mask(x, kept)


def augment(ecg_mv: Tensor, recipe: InputRecipe, generator: torch.Generator) -> Tensor:
    """Apply what the recipe's [input] asks for."""
    x = shift_windows(ecg_mv, max_samples=round(recipe.shift_s * RATE_HZ), generator=generator)
    return add_noise(x, sd_mv=recipe.noise_mv, generator=generator)


def draw_measured(measured: Tensor, recipe: MaskingRecipe, generator: torch.Generator) -> Tensor:
    """Draw lead sets (B, 12) among the leads that were recorded; where none is left, all recorded leads stay."""
    drawn = draw_lead_sets(
        len(measured),
        generator=generator,
        lead_sets=recipe.lead_sets,
        full_probability=recipe.full_probability,
        device_probability=recipe.device_probability,
        keep_probability=recipe.bernoulli_keep,
    )
    kept = drawn & measured
    return kept | (measured & ~kept.any(dim=1, keepdim=True))
