"""Running a trained model over rows of a dataset with one lead set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ecgedge_train.masking import apply_lead_mask, lead_set_rows
from ecgedge_train.model import EcgModel


class TrainingInfo(Protocol):
    """What training records of its data; `DatasetInfo` is one."""

    def for_run(self) -> dict[str, Any]:
        """Return data.json."""
        ...


class TrainingData(Protocol):
    """What training needs of a dataset; `ecgedge_train.dataset.EcgDataset` is one."""

    @property
    def info(self) -> TrainingInfo:
        """What the dataset is."""
        ...

    @property
    def lsb_mv(self) -> float:
        """Millivolts of one count of `gather(rows, np.int16)`."""
        ...

    @property
    def index(self) -> Mapping[str, NDArray[Any]]:
        """Column name to one value a record."""
        ...

    def select(self, *, split: str | None = None) -> NDArray[np.int64]:
        """Row numbers of a split."""
        ...

    def gather(self, rows: ArrayLike, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Windows, (B, 12, T) millivolts."""
        ...

    def presence(self, rows: ArrayLike) -> NDArray[np.float32]:
        """(B, 12), 1 where the lead was measured."""
        ...

    def labels(self, names: tuple[str, ...], rows: ArrayLike) -> NDArray[np.float32]:
        """(B, len(names)), NaN where unknown."""
        ...


@torch.inference_mode()
def predict_rows(
    model: EcgModel,
    data: TrainingData,
    rows: NDArray[np.int64],
    *,
    lead_set: str = "12",
    batch_size: int = 128,
    device: torch.device | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Run the model in evaluation mode.

    Parameters
    ----------
    model
        Left in the mode (training or evaluation) it was in.
    data, rows
        Which windows, in which order.
    lead_set
        Such as "I,II": only these leads are measured, the rest is derived or absent.
    batch_size, device
        How and where; the CPU by default.

    Returns
    -------
    dict
        Every head's output by name, and "embedding"; first axis as `rows`.
    """
    where = device or torch.device("cpu")
    was_training = model.training
    model.eval()
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        kept = lead_set_rows((lead_set,)) & torch.from_numpy(data.presence(chunk) > 0)
        x, presence = apply_lead_mask(torch.from_numpy(data.gather(chunk)).to(where), kept)
        features = model(x, presence)
        for name, value in {"embedding": features.embedding, **features.outputs}.items():
            parts.setdefault(name, []).append(value.float().cpu().numpy())
    model.train(was_training)
    return {name: np.concatenate(values) for name, values in parts.items()}
