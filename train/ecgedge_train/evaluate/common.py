"""What the evaluations share: a model as a plain callable, rows of results, subgroups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import ResultRow
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.metrics import Metric

Rows: TypeAlias = NDArray[np.int64]
Predict: TypeAlias = Callable[[Rows, str], Mapping[str, NDArray[Any]]]
"""(row numbers, lead set) to raw outputs by name; "embedding" (n, E) is always among them."""

AGE_BANDS: Final = ((18, 35), (35, 50), (50, 75), (75, 200))
"""Years, lower end included; those of Jeong et al. 2023, so that figures can be set side by side."""
MIN_GROUP_PATIENTS: Final = 10
MAX_GROUPS: Final = 8
"""Of devices and sites only so many are told apart, those with the most records first."""


@dataclass(frozen=True)
class Scorer:
    """Makes result rows of one lead set on a fixed set of records."""

    dataset: str
    lead_set: str
    patients: NDArray[Any]
    resamples: int

    def row(
        self,
        name: str,
        metric: Metric,
        truth: NDArray[Any],
        prediction: NDArray[Any],
        *,
        baseline: float | None = None,
        keep: NDArray[np.bool_] | None = None,
    ) -> ResultRow | None:
        """Return a row with its interval over patients, or None if the metric is undefined here."""
        chosen = np.ones(len(truth), bool) if keep is None else keep
        if not chosen.any():
            return None
        estimate = patient_bootstrap(
            metric, truth[chosen], prediction[chosen], self.patients[chosen], resamples=self.resamples
        )
        return self._as_row(name, estimate, baseline)

    def _as_row(self, name: str, estimate: Estimate, baseline: float | None) -> ResultRow | None:
        if np.isnan(estimate.value):
            return None
        return ResultRow(
            dataset=self.dataset,
            lead_set=self.lead_set,
            metric=name,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            baseline=baseline,
            patients=estimate.patients,
        )


def subgroups(data: EcgDataset, rows: Rows) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield (name, mask over `rows`) of each sex, age band, device and site with at least ten patients."""
    patients = data.index["patient_id"][rows]
    for labels in group_labels(data, rows).values():
        for name in group_names(labels):
            mask = labels == name
            if len(np.unique(patients[mask])) >= MIN_GROUP_PATIENTS:
                yield name, mask


def group_labels(data: EcgDataset, rows: Rows) -> dict[str, NDArray[np.str_]]:
    """Return, by factor that the index knows, the group of each of `rows` ("sex=female"); "" where unknown."""
    found = {}
    if "sex" in data.index:
        sex = data.index["sex"][rows].astype(str)
        found["sex"] = np.where(np.isin(sex, ("female", "male")), np.char.add("sex=", sex), "")
    if "age" in data.index:
        age = data.index["age"][rows].astype(np.float64)
        inside = [(age >= low) & (age < high) for low, high in AGE_BANDS]
        names = [f"age={low}-{high}" if high < 200 else f"age>={low}" for low, high in AGE_BANDS]
        found["age"] = np.select(inside, names, default="")
    for factor in ("device", "site"):
        if factor in data.index:
            found[factor] = _named(factor, data.index[factor][rows])
    return found


def group_names(labels: NDArray[np.str_]) -> list[str]:
    """Return the groups to report of one factor: in order of name (age bands are in order so), unknown left out."""
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:MAX_GROUPS]
    return sorted(str(name) for name in largest)


def _named(factor: str, values: NDArray[Any]) -> NDArray[np.str_]:
    text = [
        str(int(v)) if isinstance(v, (float, np.floating)) and float(v).is_integer() else str(v).strip()
        for v in values.tolist()
    ]
    return np.array(["" if t in ("", "nan", "None") else f"{factor}={t}" for t in text], dtype=np.str_)
