"""Doubts about a lead that has no fault: what is measured of a window, and the thresholds.

A fault (`ecgedge.signal.quality`) makes a lead unusable. A doubt leaves it in use, and the estimate questionable:

==========  ========================================================================  ==================================
doubt       measured                                                                  where
==========  ========================================================================  ==================================
mains       amplitude of the hum by the lead's standard deviation                     raw, `ecgedge.signal.raw`
muscle      noise in 50 to 200 Hz by the lead's standard deviation                    raw
burst       largest of the seconds' median slopes by the window's rms slope           conditioned
baseline    range of the seconds' means                                               conditioned
beats       agreement of two QRS detectors                                            `ecgedge.signal.beats`
==========  ========================================================================  ==================================

Clipping at a source's own rails is a fault like clipping at ours (`at_rails`), and limb leads that contradict each
other (`ecgedge.signal.limb`) are a matter of all of them.

All are functions of numbers kept by second, so a window's are composed from blocks; `measure_window` measures them from
its samples, and says the same to the bit. Measured on real ECGs with noise added: docs/quality.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal.beats import BeatEnergies, agreement, frame_length, window_energies
from ecgedge.signal.raw import RawBlock, at_rails, window_hum_mv, window_muscle_mv
from ecgedge.signal.steps import median_step, steps_of

F64 = NDArray[np.float64]
Doubt = Literal["mains", "muscle", "burst", "baseline", "beats"]
DOUBTS: Final[tuple[Doubt, ...]] = ("mains", "muscle", "burst", "baseline", "beats")

MAINS_RATIO = 2.0
"""The notches take hum away where it has its nominal frequency. Hum of this size that is 0.2 Hz off, as grids are at
times, leaves a fifth of the lead's standard deviation."""
MUSCLE_RATIO = 0.5
BURST_SPREAD = 0.65
"""As NOISE_SPREAD, of the worst second: noise that lasts one or two seconds does not move the window's median."""
BASELINE_MV = 0.5
"""Of the means of conditioned seconds: what the high-pass leaves of electrode motion."""
AGREEMENT = 0.3
"""Low, since in leads with ectopic or paced beats of two sizes honest detectors differ, too."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What the doubts about a window's leads are made of; arrays (rows,).

    Attributes
    ----------
    hum_mv, muscle_mv
        As `ecgedge.signal.raw` measures them, medians of the seconds.
    railed
        Clipped at the source's rails.
    burst
        Largest median slope of a second by the window's rms slope.
    baseline_mv
        Range of the seconds' means.
    agreement
        Of two QRS detectors, 0 to 1.
    """

    hum_mv: NDArray[np.float32]
    muscle_mv: NDArray[np.float32]
    railed: NDArray[np.bool_]
    burst: F64
    baseline_mv: F64
    agreement: F64


def second_length(window_samples: int, spec: FrontEndSpec) -> int | None:
    """Return the divisor of a window next to a second that holds whole frames; None: there is none within a fifth."""
    second = round(spec.rate_hz)
    near = sorted(range(second - second // 5, second + second // 5 + 1), key=lambda n: abs(n - second))
    return next((n for n in near if window_samples % n == 0 and frame_length(n) is not None), None)


def median_slopes(counts: NDArray[np.int16], *, second_samples: int) -> NDArray[np.uint16]:
    """Return the median slope inside each second, (rows, n) to (seconds, rows); of an even number the lower."""
    medians = median_step(steps_of(np.ascontiguousarray(counts).reshape(-1, second_samples)))
    return np.ascontiguousarray(medians.reshape(len(counts), -1).T)


def burst_spread(medians: NDArray[np.uint16], rms: F64) -> F64:
    """Return the largest of the seconds' median slopes, (seconds, rows), by the window's rms slope, (rows,)."""
    spread: F64 = np.divide(medians.max(axis=0), rms, out=np.zeros(len(rms)), where=rms > 0.0)
    return spread


def baseline_range_mv(totals: F64, *, second_samples: int, spec: FrontEndSpec) -> F64:
    """Return the range of the seconds' means, from their sums of counts (seconds, rows), exact whole numbers."""
    span: F64 = (totals.max(axis=0) - totals.min(axis=0)) * (spec.lsb_mv / second_samples)
    return span


def compose(
    *,
    raw: RawBlock,
    energies: BeatEnergies,
    medians: NDArray[np.uint16],
    totals: F64,
    rms: F64,
    second_samples: int,
    spec: FrontEndSpec,
) -> Measures:
    """Return a window's measures from what is kept of its seconds.

    Parameters
    ----------
    raw
        (raw blocks, rows) each: the newest that were complete when the window was.
    energies
        (frames, rows) each.
    medians, totals
        (seconds, rows): `median_slopes`, and the sums of the counts.
    rms
        (rows,): rms slope of the window, in counts.
    second_samples
        From `second_length`.
    spec
        The front end that made the counts.

    Raises
    ------
    ValueError
        If seconds are made of no whole frames.
    """
    return Measures(
        hum_mv=window_hum_mv(raw.hum_mv),
        muscle_mv=window_muscle_mv(raw.muscle_mv),
        railed=at_rails(raw),
        burst=burst_spread(medians, rms),
        baseline_mv=baseline_range_mv(totals, second_samples=second_samples, spec=spec),
        agreement=agreement(energies, second_frames=second_samples // _frame(second_samples)),
    )


def measure_window(
    counts: NDArray[np.int16], rms: F64, raw: RawBlock, *, second_samples: int, spec: FrontEndSpec
) -> Measures:
    """Measure a window, (rows, n), from its samples: the definition that blocks are held against.

    Parameters
    ----------
    counts, rms
        The window, and its rms slope in counts, (rows,).
    raw, second_samples, spec
        As for `compose`.
    """
    seconds = counts.reshape(len(counts), -1, second_samples)
    return compose(
        raw=raw,
        energies=window_energies(counts, frame_samples=_frame(second_samples)),
        medians=median_slopes(counts, second_samples=second_samples),
        totals=np.ascontiguousarray(seconds.sum(axis=2, dtype=np.float64).T),
        rms=rms,
        second_samples=second_samples,
        spec=spec,
    )


def _frame(second_samples: int) -> int:
    frame = frame_length(second_samples)
    if frame is None:
        raise ValueError(f"a second of {second_samples} samples holds no whole frames; use second_length")
    return frame


def doubtful(measures: Measures, sd_mv: F64) -> NDArray[np.bool_]:
    """Return which doubts hold, (len(DOUBTS), rows), given the leads' standard deviations; NaN holds nothing."""
    return np.stack(
        [
            measures.hum_mv > MAINS_RATIO * sd_mv,
            measures.muscle_mv > MUSCLE_RATIO * sd_mv,
            measures.burst > BURST_SPREAD,
            measures.baseline_mv > BASELINE_MV,
            measures.agreement < AGREEMENT,
        ]
    )


def lasting_doubts(
    *, burst: F64, baseline_mv: F64, sd_mv: F64, raw: RawBlock | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Return the doubts of a bed's windows: of each row 0, or 1 + the number in `DOUBTS` of the first that holds.

    And which rows are at the source's rails; None where nothing was measured of the raw samples. Two detectors' beats
    are left out: they cost half as much as all others together, and find little that those do not (docs/quality.md).
    """
    doubt = np.zeros(len(sd_mv), np.uint8)
    # The first that holds is written last.
    doubt[baseline_mv > BASELINE_MV] = 1 + DOUBTS.index("baseline")
    doubt[burst > BURST_SPREAD] = 1 + DOUBTS.index("burst")
    if raw is None:
        return doubt, None
    doubt[window_muscle_mv(raw.muscle_mv) > MUSCLE_RATIO * sd_mv] = 1 + DOUBTS.index("muscle")
    doubt[window_hum_mv(raw.hum_mv) > MAINS_RATIO * sd_mv] = 1 + DOUBTS.index("mains")
    return doubt, at_rails(raw)


def first_doubts(doubts: NDArray[np.bool_]) -> list[Doubt | None]:
    """Return of each row the first doubt that holds, in the order of `DOUBTS`."""
    firsts = doubts.argmax(axis=0).tolist()
    return [DOUBTS[k] if doubts[k, row] else None for row, k in enumerate(firsts)]
