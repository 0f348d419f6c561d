"""Fine-tuning of an INT8 network (QAT) where quantization after training misses the gate.

The float network is the teacher: on the training split's windows the rounding network learns to give the same
embedding and the same outputs. No labels are needed, so any input serves, and half of the windows are made larger or
smaller: what turns an embedding most is a record that leaves the calibrated range, and the scales learn to reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime.ort import OrtRunner
from ecgedge_export.qdq import QuantPlan
from ecgedge_export.torch_graph import FakeQuantNetwork

_GAIN_LOG2 = 1.25
"""Gains go from 2^-1.25 to 2^1.25 (0.42 to 2.4)."""


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
    lr: float = 5e-4
    scale_lr: float = 3e-3
    seed: int = 0


def fine_tune(
    model: onnx.ModelProto,
    plan: QuantPlan,
    ecg_mv: NDArray[np.float32],
    *,
    leads: Sequence[str],
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

    Raises
    ------
    EngineError
        If the graph holds an operator that fine-tuning does not know.
    """
    recipe = how or FineTune()
    rows = [STANDARD_LEADS.index(lead) for lead in leads]
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
        spread = [max(float(v.std(axis=0).mean()), 1e-3) for v in teacher.run(windows).values()]
        for _ in range(recipe.steps):
            batch = _batch(windows, recipe.batch, rng)
            target = [torch.from_numpy(values) for values in teacher.run(batch).values()]
            loss = _loss(student(torch.from_numpy(batch[:, :, None])), target, spread)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            schedule.step()
    return student.trained()


def _batch(windows: NDArray[np.float32], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return windows (size, K, T), every other one at another gain."""
    chosen = windows[rng.integers(0, len(windows), size)]
    gain = np.exp2(rng.uniform(-_GAIN_LOG2, _GAIN_LOG2, (size, 1, 1))).astype(np.float32)
    gain[::2] = 1.0
    return chosen * gain


def _loss(found: Sequence[Tensor], target: Sequence[Tensor], spread: Sequence[float]) -> Tensor:
    """Return the sum over outputs of the mean squared difference, in units of the output's spread over records."""
    parts = [((a - b) / s).square().mean() for a, b, s in zip(found, target, spread, strict=True)]
    return torch.stack(parts).sum()
