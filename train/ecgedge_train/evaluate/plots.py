"""The plots of a report, each an inline SVG; no global state of matplotlib is touched."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ecgedge_train.evaluate.classes import ClassScores
from ecgedge_train.evaluate.metrics import ECE_BINS, auroc, point
from ecgedge_train.evaluate.pressure import PressureScores

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette: told apart with any colour vision."""
_GREY: Final = "#8a8a8a"
_MIN_BIN: Final = 10
"""A share observed among fewer records says too little to draw."""


def class_figure(scores: ClassScores, *, mark: str) -> Figure:
    """ROC and reliability of every class with one lead set."""
    figure, (left, right) = _two_axes(f"Test split, lead set {scores.lead_set}", mark)
    for c, label in enumerate(scores.labels):
        truth, p = scores.truth[:, c] > 0, scores.probability[:, c]
        _roc(left, truth, p, name=label, colour=COLOURS[c % len(COLOURS)])
        _reliability(right, truth, p, name=label, colour=COLOURS[c % len(COLOURS)])
    _finish_roc(left)
    _finish_reliability(right)
    return figure


def roc_figure(scores: Sequence[PressureScores], *, cut: int, mark: str) -> Figure:
    """ROC and reliability of every lead set for one cut-off."""
    figure, (left, right) = _two_axes(f"mPCWP above {cut} mmHg, test split", mark)
    for i, score in enumerate(scores):
        above, p, colour = score.truth_mmhg > cut, score.probability[cut], COLOURS[i % len(COLOURS)]
        _roc(left, above, p, name=score.lead_set, colour=colour)
        _reliability(right, above, p, name=score.lead_set, colour=colour)
    if scores[0].ideal is not None:
        above = scores[0].truth_mmhg > cut
        _roc(
            left,
            above,
            scores[0].ideal[cut],
            name=f"ideal observer ({scores[0].lead_set})",
            colour=_GREY,
            style=":",
        )
    _finish_roc(left)
    _finish_reliability(right)
    return figure


def scatter_figure(score: PressureScores, *, mark: str) -> Figure:
    """Predicted against measured pressure, with the identity and the mean that needs no model; the errors beside."""
    figure, (left, right) = _two_axes(f"mPCWP, test split, lead set {score.lead_set}", mark)
    truth, predicted = score.truth_mmhg, score.predicted_mmhg
    low, high = float(min(truth.min(), predicted.min())) - 1, float(max(truth.max(), predicted.max())) + 1
    left.plot([low, high], [low, high], color="black", linewidth=1, label="identity")
    left.axhline(
        score.train_mean_mmhg, color=_GREY, linestyle="--", linewidth=1, label="mean of the training split"
    )
    if score.interval_mmhg is not None:
        half = float(score.interval_mmhg[0, 1] - score.interval_mmhg[0, 0]) / 2
        left.plot([low, high], [low + half, high + half], color=COLOURS[1], linewidth=0.8, linestyle=":",
                  label=f"{score.interval_coverage:.0%} interval, +-{half:.1f} mmHg")  # fmt: skip
        left.plot([low, high], [low - half, high - half], color=COLOURS[1], linewidth=0.8, linestyle=":")
    left.scatter(truth, predicted, s=8, alpha=0.4, color=COLOURS[0], linewidths=0, rasterized=True)
    left.set(
        xlabel="true mPCWP, as labelled (mmHg)",
        ylabel="predicted mPCWP (mmHg)",
        xlim=(low, high),
        ylim=(low, high),
    )
    left.legend(fontsize=7, loc="upper left")
    error, baseline = predicted - truth, score.train_mean_mmhg - truth
    first, last = np.percentile(np.r_[error, baseline], (0.5, 99.5)).tolist()
    edges = np.linspace(first, last, 40).tolist()
    right.hist(error, edges, color=COLOURS[0], alpha=0.7, label=f"model, RMSE {_rms(error):.2f} mmHg")
    right.hist(baseline, edges, color="black", histtype="step", label=f"mean, RMSE {_rms(baseline):.2f} mmHg")
    right.set(xlabel="predicted - true (mmHg)", ylabel="records")
    right.legend(fontsize=7)
    return figure


def to_svg(figure: Figure) -> bytes:
    """Draw a figure; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "ecgedge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _two_axes(title: str, mark: str) -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(9.0, 4.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2)
    figure.suptitle(
        f"{title}{'   ' + mark if mark else ''}", fontsize=10, color="#b00020" if mark else "black"
    )
    return figure, (axes[0], axes[1])


def _roc(
    axes: Axes, truth: NDArray[np.bool_], score: NDArray[Any], *, name: str, colour: str, style: str = "-"
) -> None:
    if truth.all() or not truth.any():
        return
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])  # equal scores are one step
    hits = np.r_[0, np.cumsum(truth[order])[ends] / truth.sum()]
    alarms = np.r_[0, np.cumsum(~truth[order])[ends] / (~truth).sum()]
    label = f"{name}: {point(auroc, truth, score):.3f}"
    axes.plot(alarms, hits, color=colour, linestyle=style, linewidth=1.3, label=label)


def _reliability(axes: Axes, truth: NDArray[np.bool_], p: NDArray[Any], *, name: str, colour: str) -> None:
    bins = np.minimum((p * ECE_BINS).astype(int), ECE_BINS - 1)
    used = [b for b in range(ECE_BINS) if (bins == b).sum() >= _MIN_BIN]
    x = [float(p[bins == b].mean()) for b in used]
    y = [float(truth[bins == b].mean()) for b in used]
    axes.plot(x, y, color=colour, linewidth=0.8, label=name)
    sizes = [4 + 80 * float((bins == b).mean()) for b in used]
    axes.scatter(x, y, s=sizes, color=colour, linewidths=0)


def _finish_roc(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.7)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title("ROC (AUROC in the legend)", fontsize=9)
    axes.legend(fontsize=7, loc="lower right")


def _finish_reliability(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.7)
    axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title(f"Reliability (bins of {_MIN_BIN} records or more; area: share)", fontsize=9)
    axes.legend(fontsize=7, loc="upper left")


def _rms(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(errors**2)))
