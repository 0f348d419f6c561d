"""The other hemodynamic outputs of a run: pressures, flows and resistances beside mPCWP, and what their odds reveal.

An output called as a label (mpap_mmhg) is a regression; logit_<label>_gt_<cut> is the logit of label > cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ecgedge.bundle import ResultRow
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.encoders.rhcnet import unreliability
from ecgedge_train.evaluate import metrics
from ecgedge_train.evaluate.common import Rows, Scorer

_LOGIT: Final = re.compile(r"logit_(?P<label>\w+?)_gt_(?P<cut>\d+(?:\.\d+)?)")
MPAP_LOGIT: Final = "logit_mpap_mmhg_gt_20"
MPCWP_LOGIT: Final = "logit_gt_15"
PVR_LOGIT: Final = "logit_pvr_wu_gt_3"
DECILE: Final = 0.1


def head_rows(
    data: EcgDataset,
    scorer: Scorer,
    outputs: Mapping[str, NDArray[Any]],
    test: Rows,
    *,
    main_label: str,
) -> Iterator[ResultRow | None]:
    """Yield RMSE and AUROC of every output besides `main_label` whose truth the dataset holds."""
    for name, predicted in outputs.items():
        if name != main_label and _is_number(data, name) and predicted.ndim == 1:
            yield from _regression_rows(data, scorer, name, predicted, test)
        match = _LOGIT.fullmatch(name)
        if match and _is_number(data, match["label"]):
            truth = _truth(data, match["label"], test)
            yield scorer.row(
                f"auroc_{match['label']}_gt_{match['cut']}",
                metrics.auroc,
                truth > float(match["cut"]),
                predicted,
                baseline=0.5,
                keep=~np.isnan(truth),
            )


def unreliability_rows(
    scorer: Scorer, outputs: Mapping[str, NDArray[Any]], above_15: NDArray[np.bool_], p_gt_15: NDArray[Any]
) -> Iterator[ResultRow | None]:
    """Yield the AUROC for mPCWP > 15 in the least and the most contradictory decile, if the run has all three odds."""
    if not {MPAP_LOGIT, MPCWP_LOGIT, PVR_LOGIT} <= outputs.keys():
        return
    u = unreliability(
        *(expit(outputs[name].astype(np.float64)) for name in (MPAP_LOGIT, MPCWP_LOGIT, PVR_LOGIT))
    )
    low, high = np.quantile(u, [DECILE, 1 - DECILE])
    for name, keep in (("least", u <= low), ("most", u >= high)):
        yield scorer.row(
            f"auroc_gt_15 | {name} unreliable 10 %", metrics.auroc, above_15, p_gt_15, baseline=0.5, keep=keep
        )


def _regression_rows(
    data: EcgDataset, scorer: Scorer, name: str, predicted: NDArray[Any], test: Rows
) -> Iterator[ResultRow | None]:
    truth = _truth(data, name, test)
    train = _truth(data, name, data.select(split="train"))
    keep = ~np.isnan(truth)
    if not keep.any() or np.isnan(train).all():
        return
    mean = np.full(int(keep.sum()), np.nanmean(train))
    for metric_name, metric in (("rmse", metrics.rmse), ("mae", metrics.mae)):
        baseline = metrics.point(metric, truth[keep], mean)
        yield scorer.row(f"{metric_name}_{name}", metric, truth, predicted, baseline=baseline, keep=keep)
    yield scorer.row(f"pearson_r_{name}", metrics.pearson, truth, predicted, keep=keep)


def _truth(data: EcgDataset, label: str, rows: Rows) -> NDArray[np.float64]:
    return data.labels((label,), rows)[:, 0].astype(np.float64)


def _is_number(data: EcgDataset, label: str) -> bool:
    return data.info.labels.get(label) == "float"
