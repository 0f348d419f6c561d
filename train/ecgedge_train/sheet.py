"""A recording as the usual sheet: 25 mm/s, 10 mm/mV, a pink grid, a calibration pulse before each line.

Twelve leads stand in four columns of 2.5 s over a rhythm strip; fewer leads are strips of 10 s, one below the other,
and go on below where the recording is longer. Nothing is filtered: a strip is drawn about its median, and what was not
measured is a gap. A picture for people who develop models, not a diagnostic print.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ecgedge.bundle import RESEARCH_USE_ONLY
from ecgedge.ecg import Recording
from ecgedge.errors import UsageError
from ecgedge.leads import STANDARD_LEADS

MM_PER_S: Final = 25.0
MM_PER_MV: Final = 10.0
LINE_S: Final = 10.0
MOST_STRIPS: Final = 12
"""Of 10 s, on one sheet."""
_COLUMNS: Final = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
_RHYTHM: Final = "II"
_MM_PER_IN: Final = 25.4
_MARGIN_MM: Final = 7.0
_PULSE_MM: Final = 12.0
"""Room of the calibration pulse, left of a line."""
_HEAD_MM: Final = 17.0
_FOOT_MM: Final = 9.0
_LEAST_MM, _MOST_MM = 20.0, 60.0
"""Height of a line: as much as its signals need, between these."""
_DPI: Final = 160
_FINE, _COARSE, _INK, _RED = "#f7d0d4", "#ec9aa4", "#111111", "#b00020"
_NAME_LETTERS: Final = 60


@dataclass(frozen=True)
class Strip:
    """A lead between two times, at a place of a line: `at_s` after the line's begin."""

    lead: str
    start_s: float
    length_s: float
    at_s: float = 0.0


Line = tuple[Strip, ...]


def layout(recording: Recording, *, start_s: float = 0.0) -> tuple[Line, ...]:
    """Return the lines of a recording's sheet, top first.

    Raises
    ------
    UsageError
        If the recording does not reach `start_s`.
    """
    length_s = recording.samples_mv.shape[1] / recording.rate_hz
    if not 0.0 <= start_s < length_s:
        raise UsageError(f"--start is {start_s:g}; the recording lasts {length_s:.1f} s")
    if recording.leads == STANDARD_LEADS:
        part_s = LINE_S / len(_COLUMNS[0])
        rows = [
            tuple(Strip(lead, start_s + k * part_s, part_s, k * part_s) for k, lead in enumerate(leads))
            for leads in _COLUMNS
        ]
        return (*rows, (Strip(_RHYTHM, start_s, LINE_S),))
    left = math.ceil(round((length_s - start_s) / LINE_S, 6))
    turns = max(1, min(left, MOST_STRIPS // len(recording.leads)))
    return tuple(
        (Strip(lead, start_s + k * LINE_S, LINE_S),) for k in range(turns) for lead in recording.leads
    )


def draw_sheet(recording: Recording, *, name: str, start_s: float = 0.0) -> Figure:
    """Draw a recording's sheet in its true size.

    Parameters
    ----------
    recording
        What is drawn; NaN is a gap.
    name
        What the recording is called on the sheet.
    start_s
        Where the sheet begins.

    Raises
    ------
    UsageError
        If the recording does not reach `start_s`.
    """
    lines = layout(recording, start_s=start_s)
    traces = [[_trace(recording, strip) for strip in line] for line in lines]
    heights = [_height(each) for each in traces]
    width = 2 * _MARGIN_MM + _PULSE_MM + LINE_S * MM_PER_S
    height = _HEAD_MM + sum(heights) + _FOOT_MM
    figure = Figure(figsize=(width / _MM_PER_IN, height / _MM_PER_IN), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, width), ylim=(0.0, height))
    axes.axis("off")
    _grid(axes, width, bottom=_FOOT_MM, top=height - _HEAD_MM)
    top = height - _HEAD_MM
    begin_s = lines[0][0].start_s
    cut = False
    for line, each, tall in zip(lines, traces, heights, strict=True):
        cut |= _draw_line(axes, line, each, tall, top, later=len(line) == 1 and line[0].start_s > begin_s)
        top -= tall
    _head(axes, recording, lines, name, height)
    _foot(axes, width, cut=cut)
    return figure


def write_sheet(recording: Recording, path: Path, *, name: str, start_s: float = 0.0) -> None:
    """Draw a recording's sheet into a PNG file.

    Raises
    ------
    UsageError
        If the recording does not reach `start_s`.
    """
    draw_sheet(recording, name=name, start_s=start_s).savefig(path, format="png")


def _trace(recording: Recording, strip: Strip) -> NDArray[np.float64]:
    """Return (2, n) mm from the strip's begin and from its median; empty where the recording has ended."""
    first, last = (round(at * recording.rate_hz) for at in (strip.start_s, strip.start_s + strip.length_s))
    mv = recording.samples_mv[recording.leads.index(strip.lead), first:last].astype(np.float64)
    known = mv[np.isfinite(mv)]
    x = np.arange(mv.size) / recording.rate_hz * MM_PER_S
    return np.stack([x, (mv - (np.median(known) if known.size else 0.0)) * MM_PER_MV])


def _reach(traces: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return mm below and above the median that a line's signals take, without the rarest samples."""
    y = np.concatenate([trace[1] for trace in traces])
    y = y[np.isfinite(y)]
    low, high = np.percentile(y, (0.05, 99.95)) if y.size else (0.0, 0.0)
    return max(-float(low), 4.0) + 1.0, max(float(high), MM_PER_MV) + 4.0


def _height(traces: Sequence[NDArray[np.float64]]) -> float:
    needed = sum(_reach(traces))
    return min(max(5.0 * math.ceil(needed / 5.0), _LEAST_MM), _MOST_MM)


def _draw_line(
    axes: Axes, line: Line, traces: Sequence[NDArray[np.float64]], height: float, top: float, *, later: bool
) -> bool:
    """Draw pulse, names and signals of a line; say whether a signal was cut at its edges."""
    below, above = _reach(traces)
    spare = height - below - above
    zero = (
        top - height + below + max(spare / 2, 0.0) if spare >= 0 else top - height * above / (below + above)
    )
    left = _MARGIN_MM + _PULSE_MM
    _pulse(axes, left - 9.0, zero)
    room = Rectangle((left, top - height), LINE_S * MM_PER_S, height, transform=axes.transData)
    cut = False
    for strip, trace in zip(line, traces, strict=True):
        x = left + strip.at_s * MM_PER_S
        if strip.at_s:
            axes.plot([x, x], [zero - 3.0, zero + 3.0], color=_INK, linewidth=0.6)
        (drawn,) = axes.plot(
            x + trace[0], zero + trace[1], color=_INK, linewidth=0.75, solid_joinstyle="round"
        )
        drawn.set_clip_path(room)
        missing = not np.isfinite(trace[1]).any()
        text = (
            strip.lead
            + (f"  from {strip.start_s:g} s" if later else "")
            + ("  not measured" if missing else "")
        )
        axes.text(x + 1.2, top - 0.8, text, fontsize=8, va="top", fontweight="bold", color=_INK, bbox=_PAPER)
        cut |= bool(np.any((zero + trace[1] > top) | (zero + trace[1] < top - height)))
    return cut


_PAPER: Final = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}


def _pulse(axes: Axes, x: float, zero: float) -> None:
    """1 mV for 0.2 s."""
    high = zero + MM_PER_MV
    axes.plot(
        [x, x + 1, x + 1, x + 6, x + 6, x + 7],
        [zero, zero, high, high, zero, zero],
        color=_INK,
        linewidth=0.75,
    )


def _grid(axes: Axes, width: float, *, bottom: float, top: float) -> None:
    left, right = _MARGIN_MM, width - _MARGIN_MM
    for step, colour, thickness in ((1.0, _FINE, 0.3), (5.0, _COARSE, 0.55)):
        xs = np.arange(left + (_PULSE_MM % step), right + 0.01, step)
        ys = np.arange(bottom, top + 0.01, step)
        upright = [[(x, bottom), (x, top)] for x in xs]
        level = [[(left, y), (right, y)] for y in ys]
        axes.add_collection(
            LineCollection([*upright, *level], colors=colour, linewidths=thickness), autolim=False
        )


def _head(axes: Axes, recording: Recording, lines: Sequence[Line], name: str, height: float) -> None:
    length_s = recording.samples_mv.shape[1] / recording.rate_hz
    first = lines[0][0].start_s
    last = min(max(strip.start_s + strip.length_s for line in lines for strip in line), length_s)
    shown = name if len(name) <= _NAME_LETTERS else f"...{name[3 - _NAME_LETTERS :]}"
    facts = (
        f"{recording.rate_hz:g} Hz",
        f"{len(recording.leads)} lead{'s' if len(recording.leads) > 1 else ''}",
        f"{first:g} to {last:.1f} s of {length_s:.1f} s",
        "25 mm/s, 10 mm/mV, no filter",
    )
    axes.text(_MARGIN_MM, height - 3.0, shown, fontsize=10, fontweight="bold", va="top", color=_INK)
    axes.text(_MARGIN_MM, height - 9.5, "   ".join(facts), fontsize=8.5, va="top", color=_INK)
    mark = next(_marks(recording), None)
    if mark is not None:
        at = 2 * _MARGIN_MM + _PULSE_MM + LINE_S * MM_PER_S - _MARGIN_MM
        axes.text(at, height - 3.0, mark, fontsize=11, fontweight="bold", ha="right", va="top", color=_RED)


def _marks(recording: Recording) -> Iterator[str]:
    if recording.mode == "demo":
        yield "SIMULATED"
    if recording.mode == "test":
        yield "TEST SIGNAL"


def _foot(axes: Axes, width: float, *, cut: bool) -> None:
    axes.text(_MARGIN_MM, 4.5, RESEARCH_USE_ONLY, fontsize=8, va="center", color=_RED)
    if cut:
        text = "a signal leaves its line and is cut there"
        axes.text(width - _MARGIN_MM, 4.5, text, fontsize=8, va="center", ha="right", color=_INK)
