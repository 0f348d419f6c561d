"""How many labels a frozen encoder needs: a linear probe on nested, growing subsets of the labelled training records.

Everything is paid for out of the subset: a fifth of its patients chooses the regularisation, then the probe is fitted
on the whole subset. A tune split of its own would hide hundreds of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.metrics import Floats, macro_auroc, point
from ecgedge_train.evaluate.probe import fit_linear_probe

SIZES: Final = (100, 300, 1000)
_STRENGTHS: Final = (0.001, 0.01, 0.1, 1.0)
_INNER_TUNE: Final = 0.2


@dataclass(frozen=True)
class Labelled:
    """Embeddings (N, E), truth (N, C) of 0/1 without NaN, and whose record (N,)."""

    embeddings: NDArray[Any]
    truth: NDArray[Any]
    patients: NDArray[Any]


@dataclass(frozen=True)
class LowLabelPoint:
    """Mean macro AUROC over the draws on the test split with its interval over test patients, and the draws apart."""

    records: int
    estimate: Estimate
    draws: tuple[float, ...]


def nested_subset(patients: NDArray[Any], records: int, *, seed: int) -> NDArray[np.int64]:
    """Return `records` row numbers, whole patients in an order that `seed` decides; larger ones hold smaller ones."""
    names, code = np.unique(patients, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))[code]
    return np.argsort(place, kind="stable")[:records]


def low_label_curve(
    train: Labelled,
    test: Labelled,
    *,
    labels: tuple[str, ...],
    sizes: tuple[int, ...] = SIZES,
    draws: int = 5,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[LowLabelPoint, ...]:
    """Fit probes on subsets of `train` and score them on `test`.

    Parameters
    ----------
    train, test
        Of one frozen encoder. Another encoder with the same rows and seed gets the same subsets.
    labels
        C names.
    sizes
        Numbers of records; those not below the number of training records give way to one point with all of them.
    draws
        Subsets a size, nested within a draw.
    seed, resamples
        First seed of the subsets; of the bootstrap over test patients.
    """
    everything = len(train.truth)
    points = []
    for size in (*[s for s in sizes if s < everything], everything):
        # With every record there is only one subset; what differs is who chooses the strength, so one draw will do.
        seeds = range(seed, seed + (draws if size < everything else 1))
        predicted = [_fit_predict(train, test, labels, size, seed=s) for s in seeds]
        estimate = patient_bootstrap(
            _mean_of_draws, test.truth, np.stack(predicted, axis=-1), test.patients, resamples=resamples
        )
        points.append(
            LowLabelPoint(size, estimate, tuple(point(macro_auroc, test.truth, p) for p in predicted))
        )
    return tuple(points)


def _fit_predict(
    train: Labelled, test: Labelled, labels: tuple[str, ...], size: int, *, seed: int
) -> NDArray[np.float64]:
    rows = nested_subset(train.patients, size, seed=seed)
    # The subset lists patients one after the other, so its tail is a fifth of its patients, but for one cut in two.
    whose = train.patients[rows]
    names = list(dict.fromkeys(whose.tolist()))
    chooses = np.isin(
        whose.astype(str), [str(n) for n in names[len(names) - max(1, round(_INNER_TUNE * len(names))) :]]
    )
    fits, picks = rows[~chooses], rows[chooses]
    probe = fit_linear_probe(
        train.embeddings[fits],
        train.truth[fits],
        tune_embeddings=train.embeddings[picks],
        tune_truth=train.truth[picks],
        labels=labels,
        strengths=_STRENGTHS,
    )
    return probe.predict(test.embeddings)


def _mean_of_draws(truth: NDArray[Any], prediction: NDArray[Any], weights: Floats) -> Floats:
    each = [macro_auroc(truth, prediction[:, :, d], weights) for d in range(prediction.shape[2])]
    return np.asarray(np.mean(each, axis=0), np.float64)
