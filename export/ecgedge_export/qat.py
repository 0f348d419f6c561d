"""Fine-tuning of an INT8 network (QAT) where quantization after training misses the gate.

The float network is the teacher: on the training split's windows the rounding network learns to give the same
embedding and the same outputs. No labels are needed, so any input serves, and every other window is made larger, as
far as the front end lets it through: what turns an embedding most is a record that leaves the calibrated range, and the
scales learn to reach it.

The embedding's error counts in units of its own distance from the mean embedding, which is what the gate's cosine
sees: without that, the larger windows' large embeddings would buy reach with everyone's resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgedge.leads import standard_rows
from ecgedge.runtime.ort import OrtRunner
from ecgedge_export.compare import EMBEDDING, NEAR_MEAN, Outputs
from ecgedge_export.quant_plan import QuantPlan
from ecgedge_export.torch_graph import FakeQuantNetwork

_GAIN_LOG2 = 1.25
"""Gains go from 1 to 2^1.25 (2.4)."""
_LEAST_SPREAD = 1e-3
_SPREAD_WINDOWS = 256
"""So many at most give the outputs' spread."""
_TINY = 1e-12


@dataclass(frozen=True)
class FineTune:
    """How an INT8 network is fine-tuned.

    Attributes
    ----------
    steps, batch
        Of `batch` windows each; a few hundred steps do.
    lr, scale_lr
        Of the weights, and of the logarithms of the activations' scales; both fall to 0 along a cosine.
    """

    steps: int = 300
    batch: int = 32
    lr: float = 3e-4
    scale_lr: float = 1e-2
    seed: int = 0


def fine_tune(
    model: onnx.ModelProto,
    plan: QuantPlan,
    ecg_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
    clip_mv: float,
    how: FineTune | None = None,
) -> tuple[onnx.ModelProto, QuantPlan]:
    """Return the float graph with fine-tuned weights, and the plan with fine-tuned scales: `write_qdq` takes both.

    Parameters
    ----------
    model
        Float, from `export_onnx`: the start, and the teacher.
    plan
        From `make_plan` for this graph.
    ecg_mv
        (N, 12, T) float32 millivolts of the training split.
    leads
        The variant's measured leads.
    clip_mv
        Where the front end clips.

    Raises
    ------
    EngineError
        If the graph holds an operator that fine-tuning does not know.
    """
    recipe = how or FineTune()
    rows = standard_rows(leads)
    windows = ecg_mv[:, rows]
    rng = np.random.default_rng(recipe.seed)
    student = FakeQuantNetwork(model, plan)
    optimizer = torch.optim.Adam(
        [
            {"params": list(student.weights), "lr": recipe.lr},
            {"params": [student.log_scales], "lr": recipe.scale_lr},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    with OrtRunner(model.SerializeToString(), leads=tuple(leads), precision="fp32") as teacher:
        some = windows[:: -(-len(windows) // _SPREAD_WINDOWS)]
        loss_of = _Loss.of(teacher.run(some))
        for _ in range(recipe.steps):
            batch = _batch(windows, recipe.batch, clip_mv, rng)
            loss = loss_of(student(torch.from_numpy(batch[:, :, None])), teacher.run(batch))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return student.trained()


def _batch(
    windows: NDArray[np.float32], size: int, clip_mv: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return windows (size, K, T), every other one larger than it is."""
    chosen = windows[rng.integers(0, len(windows), size)]
    gain = np.exp2(rng.uniform(0.0, _GAIN_LOG2, (size, 1, 1))).astype(np.float32)
    gain[::2] = 1.0
    return np.asarray(np.clip(chosen * gain, -clip_mv, clip_mv), np.float32)


@dataclass(frozen=True)
class _Loss:
    """Sum over outputs of the mean squared difference, each in its own unit; taken from the teacher's answers.

    Attributes
    ----------
    spread
        Standard deviation over records of each output but the embedding.
    mean
        Mean embedding, (E,); None without an embedding.
    floor
        Least squared distance from the mean that an error is divided by.
    """

    spread: Mapping[str, float]
    mean: Tensor | None
    floor: float

    @classmethod
    def of(cls, answers: Outputs) -> _Loss:
        spread = {name: max(float(v.std(axis=0).mean()), _LEAST_SPREAD) for name, v in answers.items()}
        if EMBEDDING not in answers:
            return cls(spread, None, 1.0)
        embedding = torch.from_numpy(answers[EMBEDDING])
        mean = embedding.mean(dim=0)
        square = float((embedding - mean).square().sum(dim=1).mean())
        return cls(spread, mean, max(NEAR_MEAN**2 * square, _TINY))

    def __call__(self, found: Sequence[Tensor], answers: Outputs) -> Tensor:
        """Return the loss of a batch; `found` in the order of `answers`."""
        parts = []
        for output, (name, values) in zip(found, answers.items(), strict=True):
            target = torch.from_numpy(values)
            if name == EMBEDDING and self.mean is not None:
                distance = (target - self.mean).square().sum(dim=1).clamp(min=self.floor)
                parts.append(((output - target).square().sum(dim=1) / distance).mean())
            else:
                parts.append(((output - target) / self.spread[name]).square().mean())
        return torch.stack(parts).sum()
