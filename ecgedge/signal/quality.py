"""Can this window be trusted, lead by lead? A few plain criteria, each with its number and where it is from.

Noise is told from ECG by how the steepness is spread. In an ECG nearly all steep samples stand in the QRS
complexes, a tenth of the time; in noise they are everywhere. So

    spread = median over the window's tenths of median(|d|) / rms(d),       d = first difference within a tenth,

is 0.67 for Gaussian noise of whatever colour, 1 for a sine wave (mains hum), and small for an ECG. Unlike a
ratio of band powers it hardly depends on the width of the QRS. Measured on 4,560 leads of 380 PTB-XL records
(500 Hz, all kinds of rhythms, noisy ones included): median 0.08, 95th percentile 0.26, 99.5th 0.44; white
noise of 1 mV: 0.59 to 0.73. A rhythm without QRS complexes (ventricular fibrillation) counts as noise too.

Slow electrode motion is not judged: what of it passes the high-pass looks to these criteria like ECG.

A window is judged by a few numbers of each of its tenths (`tenth_numbers`), all of them whole: they add up without
rounding, so a tenth that a window shares with the next is measured once, and the rows of many beds are measured and
judged in one call (`judge`), with the same bits as one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal.doubts import DOUBTS, Doubt, lasting_doubts
from ecgedge.signal.gaps import MISSING, SETTLING
from ecgedge.signal.limb import CONTRADICTION, contradiction, limb_products, limb_rows
from ecgedge.signal.raw import TENTHS
from ecgedge.signal.raw_track import as_blocks
from ecgedge.signal.steps import median_step, steps_of
from ecgedge.signal.stretch import COMPILED
from ecgedge.signal.windows import Window

Reason = Literal["off", "gap", "flat", "clipped", "noise"]
_REASONS: Final[tuple[Reason | None, ...]] = (None, *get_args(Reason))

_DOUBTS: Final[tuple[Doubt | None, ...]] = (None, *DOUBTS)

_TOTAL, _SQUARES, _STEPS, _LOW, _HIGH, _RAILED, _SLOPE, _MISSING, _NEWEST, _SETTLING = range(10)
N_NUMBERS = 10
"""Of a lead's tenth: the sum of its counts, of their squares and of the squares of their differences; the least and the
greatest count; the median amount of the differences; how many samples stand at the clipping level, how many were not
measured, whether the newest was not, and how many were settling."""

FLAT_MV = 0.03
"""Peak to peak, in either half of the window: a lead that fell silent is not saved by what it said before."""

CLIPPED_FRACTION = 0.01
NOISE_SPREAD = 0.5
CLEAN_SPREAD = 0.15
"""The spread from which a lead is noise, and up to which its score is 1."""


@dataclass(frozen=True, eq=False)
class Quality:
    """What `assess` found.

    Attributes
    ----------
    usable
        Per lead, whether there is no reason against it.
    sqi
        Mean score of the leads that are not off, 0 to 1; 0 where all are off. A lead's score is 0 where
        there is a reason against it, otherwise 1 up to a spread of `CLEAN_SPREAD`, from there falling in a
        straight line to 0 at `NOISE_SPREAD`.
    reasons
        Per lead, the first that holds: "off" (more than half, or the last sample, not measured), "gap" (any
        sample not measured), "flat", "clipped", "noise"; None for a usable lead.
    settling
        Some lead that is not off has samples within `spec.settle_s` of its start or return.
    sd_mv
        Per lead, the standard deviation of its samples.
    lost
        The largest share of samples not measured, of the leads that have any; 0 where none has.
    doubts
        Per lead, what makes it doubtful though it is usable, or None; see `ecgedge.signal.doubts`.
    contradicts
        The limb leads do not belong to one heart; see `ecgedge.signal.limb`.
    """

    usable: tuple[bool, ...]
    sqi: float
    reasons: tuple[Reason | None, ...]
    settling: bool
    sd_mv: tuple[float, ...]
    lost: float
    doubts: tuple[Doubt | None, ...] = ()
    contradicts: bool = False


def clean_quality(sd_mv: Sequence[float], sqi: float) -> Quality:
    """Return the quality of a measured window that has nothing against any of its leads."""
    n = len(sd_mv)
    found = object.__new__(Quality)
    # As the frozen class's own __init__, which takes longer.
    vars(found).update(
        usable=(True,) * n,
        sqi=sqi,
        reasons=(None,) * n,
        settling=False,
        sd_mv=tuple(sd_mv),
        lost=0.0,
        doubts=(None,) * n,
        contradicts=False,
    )
    return found


def tenth_numbers(
    counts: NDArray[np.int16], status: NDArray[np.uint8] | None, spec: FrontEndSpec
) -> NDArray[np.float64]:
    """Return what is kept of a tenth of a window.

    Parameters
    ----------
    counts
        (n_rows, n), contiguous, n at least 2; the leads of many beds may be stacked.
    status
        Of the same shape; None where all is MEASURED.
    spec
        The front end that made the counts.

    Returns
    -------
    NDArray
        (N_NUMBERS, n_rows) float64, whole numbers below 2^53.
    """
    kept = np.zeros((N_NUMBERS, len(counts)))
    rail = round(spec.clip_mv / spec.lsb_mv)
    if COMPILED.quality is None:
        amounts = _sums(counts, rail, kept[: _RAILED + 1])
    else:
        amounts = np.empty(counts.shape, np.uint16)
        COMPILED.quality.tenths(counts, rail, kept[: _RAILED + 1], amounts)
    kept[_SLOPE] = median_step(amounts)
    if status is not None and status.any():
        kept[_MISSING] = (status == MISSING).sum(axis=1)
        kept[_NEWEST] = status[:, -1] == MISSING
        kept[_SETTLING] = (status == SETTLING).sum(axis=1)
    return kept


def _sums(counts: NDArray[np.int16], rail: int, kept: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Fill in the first numbers, up to the railed ones; return the amounts of the differences."""
    exact = counts.astype(np.float64)
    amounts = steps_of(counts)
    np.matmul(exact, np.ones(counts.shape[1]), out=kept[_TOTAL])
    kept[_SQUARES] = _square_sums(exact)
    kept[_STEPS] = _square_sums(amounts.astype(np.float64))
    kept[_LOW] = counts.min(axis=1)
    kept[_HIGH] = counts.max(axis=1)
    if kept[_HIGH].max() >= rail or kept[_LOW].min() <= -rail:
        kept[_RAILED] = ((counts >= rail) | (counts <= -rail)).sum(axis=1)
    return amounts


def _square_sums(exact: NDArray[np.float64]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.matmul(exact[:, np.newaxis], exact[:, :, np.newaxis])[:, 0, 0]
    return sums


def tenths(n: int) -> list[slice]:
    """Return where the tenths of a window of n samples lie; its halves are five of them each."""
    edges = [k * n // TENTHS for k in range(TENTHS + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def assess(
    window: Window,
    spec: FrontEndSpec,
    *,
    raw: NDArray[np.float32] | None = None,
    leads: Sequence[str] = (),
) -> Quality:
    """Judge every lead of a window.

    Parameters
    ----------
    window
        Counts and status, (n_leads, n_samples) each, at least 20 samples.
    spec
        The front end that made the window; gives the counts' unit and the clipping level.
    raw
        What was measured of the raw samples, `RawTrack.window`; without it hum, muscle noise and the source's own rails
        are not judged.
    leads
        Names of the rows; without them limb leads are not held against each other.
    """
    counts, status = window.counts, window.status
    found = judge(window_numbers(counts, status, spec), [len(counts)], counts.shape[1], spec, raw=raw)[0]
    limb = limb_rows(leads)
    if not limb:
        return found
    products = np.sum([limb_products(counts[limb, x]) for x in tenths(counts.shape[1])], axis=0)
    names = [leads[row] for row in limb]
    share = float(contradiction(products, names, n_samples=counts.shape[1]))
    return replace(found, contradicts=share > CONTRADICTION and are_sound(found, limb))


def window_numbers(
    counts: NDArray[np.int16], status: NDArray[np.uint8], spec: FrontEndSpec
) -> NDArray[np.float64]:
    """Return the numbers of all tenths of a window, (TENTHS, N_NUMBERS, n_leads)."""
    n_leads, n = counts.shape
    if n % TENTHS == 0:
        rows = np.ascontiguousarray(counts).reshape(-1, n // TENTHS)
        numbers = tenth_numbers(rows, np.ascontiguousarray(status).reshape(rows.shape), spec)
        return np.ascontiguousarray(numbers.reshape(N_NUMBERS, n_leads, TENTHS).transpose(2, 0, 1))
    return np.stack(
        [tenth_numbers(np.ascontiguousarray(counts[:, x]), status[:, x], spec) for x in tenths(n)]
    )


def are_sound(found: Quality, rows: Sequence[int]) -> bool:
    """Tell whether these leads can be held against each other: none has a fault or settles."""
    return not found.settling and all(found.usable[row] for row in rows)


def judge(
    kept: NDArray[np.float64],
    n_leads: Sequence[int],
    n_samples: int,
    spec: FrontEndSpec,
    *,
    raw: NDArray[np.float32] | None = None,
) -> list[Quality]:
    """Judge one window of each of several beds.

    Parameters
    ----------
    kept
        (TENTHS, N_NUMBERS, n_rows), the oldest tenth first; the rows of the beds one after the other.
    n_leads
        How many rows each bed has.
    n_samples
        Samples of a window, per lead.
    spec
        The front end that made the counts.
    raw
        (RAW_BLOCKS, N_RAW, n_rows), as for `assess`.
    """
    total, squares, steps = kept[:, : _STEPS + 1].sum(axis=0)
    sd = np.sqrt(np.maximum(squares / n_samples - (total / n_samples) ** 2, 0.0))
    spread, burst = _spreads(kept[:, _SLOPE], steps, n_samples - TENTHS)
    totals = kept[:, _TOTAL]
    wander = (totals.max(axis=0) - totals.min(axis=0)) * (spec.lsb_mv * TENTHS / n_samples)
    blocks = None if raw is None else as_blocks(raw)
    doubt, at_rail = lasting_doubts(burst=burst, baseline_mv=wander, sd_mv=sd * spec.lsb_mv, raw=blocks)
    low = kept[:, _LOW].reshape(2, TENTHS // 2, -1).min(axis=1)
    high = kept[:, _HIGH].reshape(2, TENTHS // 2, -1).max(axis=1)
    extent = (high - low).min(axis=0)
    railed = kept[:, _RAILED].sum(axis=0) / n_samples
    verdict = np.zeros(spread.shape, np.uint8)
    # The first reason that holds is written last.
    verdict[spread > NOISE_SPREAD] = _REASONS.index("noise")
    verdict[railed > CLIPPED_FRACTION] = _REASONS.index("clipped")
    if at_rail is not None:
        verdict[at_rail] = _REASONS.index("clipped")
    verdict[extent * spec.lsb_mv < FLAT_MV] = _REASONS.index("flat")
    missing = settling = None
    if kept[:, _MISSING:].any():
        missing = kept[:, _MISSING].sum(axis=0) / n_samples
        settling = kept[:, _SETTLING].sum(axis=0) > 0.0
        verdict[missing > 0.0] = _REASONS.index("gap")
        verdict[(missing > 0.5) | (kept[-1, _NEWEST] > 0.0)] = _REASONS.index("off")
    score = np.minimum(1.0, (NOISE_SPREAD - spread) / (NOISE_SPREAD - CLEAN_SPREAD))
    score[verdict > 0] = 0.0
    doubt[verdict > 0] = 0
    return _qualities(verdict, doubt, score, sd * spec.lsb_mv, missing, settling, n_leads)


def slope_spread(counts: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return the spread of the steepness along the last axis of (n_leads, n), n at least 20; 0 for a constant."""
    n = counts.shape[1]
    steps = [steps_of(np.ascontiguousarray(counts[:, x])) for x in tenths(n)]
    squares = np.stack([_square_sums(of_tenth.astype(np.float64)) for of_tenth in steps]).sum(axis=0)
    medians = np.stack([median_step(of_tenth) for of_tenth in steps]).astype(np.float64)
    return _spreads(medians, squares, n - TENTHS)[0]


def _spreads(
    slope: NDArray[np.float64], steps: NDArray[np.float64], n_steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median of the (TENTHS, n_rows) slopes over the rms of all differences, and the largest over it."""
    ordered = np.sort(slope, axis=0)
    middle = (ordered[TENTHS // 2 - 1] + ordered[TENTHS // 2]) / 2.0
    rms = np.sqrt(steps / n_steps)
    spread, burst = np.zeros((2, len(rms)))
    np.divide(middle, rms, out=spread, where=rms > 0.0)
    np.divide(ordered[-1], rms, out=burst, where=rms > 0.0)
    return spread, burst


def _qualities(
    verdict: NDArray[np.uint8],
    doubt: NDArray[np.uint8],
    score: NDArray[np.float64],
    sd_mv: NDArray[np.float64],
    missing: NDArray[np.float64] | None,
    settling: NDArray[np.bool_] | None,
    n_leads: Sequence[int],
) -> list[Quality]:
    """Give each bed its own rows."""
    scores, sds = score.tolist(), sd_mv.tolist()
    found: list[Quality] = []
    start = 0
    for n in n_leads:
        own = slice(start, start + n)
        start += n
        usable, reasons, on = _said(verdict[own].tobytes())
        settles = settling is not None and bool(settling[own][on].any())
        # What a lead lacks that is on and off by turns is lost; one that is not there at all is off, or the feed is.
        lost = 0.0 if missing is None else float(missing[own].max(initial=0.0, where=missing[own] < 1.0))
        sqi = sum(scores[own]) / len(on) if on else 0.0
        doubts = _doubted(doubt[own].tobytes())
        found.append(Quality(usable, sqi, reasons, settles, tuple(sds[own]), lost, doubts))
    return found


@lru_cache(maxsize=1024)
def _doubted(doubt: bytes) -> tuple[Doubt | None, ...]:
    return tuple(_DOUBTS[code] for code in doubt)


@lru_cache(maxsize=1024)
def _said(verdict: bytes) -> tuple[tuple[bool, ...], tuple[Reason | None, ...], list[int]]:
    """Return which leads are usable, the reasons against the others, and which are not off."""
    reasons = tuple(_REASONS[code] for code in verdict)
    on = [lead for lead, reason in enumerate(reasons) if reason != "off"]
    return tuple(reason is None for reason in reasons), reasons, on
