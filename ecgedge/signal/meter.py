"""Quality at a fraction of the work: of a stream's windows, each tenth is measured once, many beds in one call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal.doubts import BASELINE_MV, BURST_SPREAD, MAINS_RATIO, MUSCLE_RATIO
from ecgedge.signal.groups import groups
from ecgedge.signal.limb import CONTRADICTION, contradiction, limb_products, limb_rows, misfit
from ecgedge.signal.quality import (
    CLEAN_SPREAD,
    CLIPPED_FRACTION,
    FLAT_MV,
    N_NUMBERS,
    NOISE_SPREAD,
    Quality,
    are_sound,
    assess,
    clean_quality,
    judge,
    tenth_numbers,
)
from ecgedge.signal.raw import RAIL_BLOCKS, RAIL_DISTANCE, TENTHS
from ecgedge.signal.raw_track import N_RAW
from ecgedge.signal.stretch import COMPILED
from ecgedge.signal.windows import Window

_MEASURED_ROWS = 96
"""Leads whose samples are looked at in one go: more would leave the cache (measured, a second at 250 Hz)."""

_GLANCED_ROWS = 384
"""The same in compiled loops, which make no float64s of them."""

_JUDGED_ROWS = 768
"""Leads judged in one go, of whom few numbers are left."""


class Meter:
    """Remembers the numbers of the tenths of one stream's newest window.

    Where hops are no whole tenths, nothing can be remembered, and each window is measured anew.

    Parameters
    ----------
    n_leads, window_samples, hop_samples
        Of the windows.
    leads
        Names of the leads; without them limb leads are not held against each other.

    Attributes
    ----------
    alike
        The same object for meters of the same leads.
    """

    def __init__(
        self, *, n_leads: int, window_samples: int, hop_samples: int, leads: Sequence[str] = ()
    ) -> None:
        self.n_leads, self.leads, self.limb = n_leads, tuple(leads), tuple(limb_rows(leads))
        self.limb_names = tuple(leads[row] for row in self.limb)
        self.tenth = window_samples // TENTHS
        whole = window_samples % TENTHS == 0 and self.tenth > 1 and hop_samples % self.tenth == 0
        self.hop_tenths = min(TENTHS, hop_samples // self.tenth) if whole else 0
        # Each is written twice, so that from any place on the newest ones lie in their order.
        self._ring = np.zeros((2 * TENTHS, N_NUMBERS, n_leads if whole else 0))
        self._products = np.zeros((2 * TENTHS, len(self.limb), len(self.limb)))
        self._oldest = 0
        self._full = False
        self.alike = _alike(n_leads, self.leads if self.limb else ())
        # The arrays stay where they are, and so compiled loops find them.
        self._ring_at, self._products_at = self._ring.ctypes.data, self._products.ctypes.data

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied: a copy would lead compiled loops to the memory of this one."""
        raise TypeError("a meter cannot be copied or pickled; restore the bed from its snapshot")

    @property
    def memory(self) -> tuple[int, int, int]:
        """Addresses of the rings of numbers and of products, and the place of the oldest tenth in both."""
        return self._ring_at, self._products_at, self._oldest

    def move_on(self) -> None:
        """Take that someone else has written what was lacking into the memory."""
        self._oldest = (self._oldest + self.lacks) % TENTHS
        self._full = True

    @property
    def kept(self) -> NDArray[np.float64]:
        """Numbers of the newest window's tenths, (TENTHS, N_NUMBERS, n_leads), the oldest first; a view."""
        return self._ring[self._oldest : self._oldest + TENTHS]

    @property
    def products(self) -> NDArray[np.float64]:
        """Products of the limb leads in the newest window's tenths, (TENTHS, limb leads, limb leads); a view."""
        return self._products[self._oldest : self._oldest + TENTHS]

    @property
    def lacks(self) -> int:
        """How many of the next window's tenths, the newest, are not known yet."""
        return self.hop_tenths if self._full else TENTHS

    def take(self, numbers: NDArray[np.float64], products: NDArray[np.float64]) -> None:
        """Take what is lacking, the oldest first: (N_NUMBERS, n_leads, lacks), and (lacks, limb leads, limb leads)."""
        for k in range(numbers.shape[2]):
            of_tenth, place = numbers[:, :, k], self._oldest
            self._ring[place] = self._ring[place + TENTHS] = of_tenth
            if self.limb:
                self._products[place] = self._products[place + TENTHS] = products[k]
            self._oldest = (place + 1) % TENTHS
        self._full = True


class Assess(NamedTuple):
    """Asks for the quality of a window, which is the next of its meter's stream.

    `raw` is what was measured of its raw samples, as for `ecgedge.signal.assess`.
    """

    meter: Meter
    window: Window
    spec: FrontEndSpec
    raw: NDArray[np.float32] | None = None


def assess_together(asked: Sequence[Assess]) -> list[Quality]:
    """Judge windows of several streams, each once: `ecgedge.signal.assess` of each, to the bit, in fewer calls.

    All windows must be of one length, hop and front end; raw samples were measured of all of them, or of none.
    """
    if not asked[0].meter.hop_tenths:
        return [assess(a.window, a.spec, raw=a.raw, leads=a.meter.leads) for a in asked]
    found: list[Quality | None] = [None] * len(asked)
    by_kind: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place, one in enumerate(asked):
        by_kind[one.meter.alike, one.meter.lacks, one.window.whole].append(place)
    most = _MEASURED_ROWS if COMPILED.quality is None else _GLANCED_ROWS
    limits = _limits(asked[0].spec, asked[0].window.counts.shape[1])
    for places in by_kind.values():
        meter = asked[places[0]].meter
        for some in groups([meter.n_leads * meter.lacks] * len(places), most):
            these = [asked[k] for k in places[some]]
            for place, quality in zip(places[some], _take_in(these, limits), strict=True):
                found[place] = quality
    left = [place for place, quality in enumerate(found) if quality is None]
    judged = iter(_judge([asked[place] for place in left]) if left else ())
    return [next(judged) if quality is None else quality for quality in found]


def _judge(asked: Sequence[Assess]) -> list[Quality]:
    """Judge windows that have been measured."""
    meters = [a.meter for a in asked]
    n_leads = [meter.n_leads for meter in meters]
    answers: list[Quality] = []
    n_samples, spec = asked[0].window.counts.shape[1], asked[0].spec
    for some in groups(n_leads, _JUDGED_ROWS):
        kept = np.concatenate([meter.kept for meter in meters[some]], axis=2)
        blocks = [a.raw for a in asked[some] if a.raw is not None]
        raw = np.concatenate(blocks, axis=2) if blocks else None
        answers += judge(kept, n_leads[some], n_samples, spec, raw=raw)
    for place in _contradicting(meters, n_samples):
        if are_sound(answers[place], meters[place].limb):
            answers[place] = replace(answers[place], contradicts=True)
    return answers


def _contradicting(meters: Sequence[Meter], n_samples: int) -> Iterator[int]:
    """Yield the places of the streams whose limb leads contradict each other."""
    places: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, meter in enumerate(meters):
        if meter.limb:
            places[meter.limb_names].append(place)
    for names, these in places.items():
        products = np.stack([meters[place].products for place in these]).sum(axis=1)
        for k in np.flatnonzero(contradiction(products, names, n_samples=n_samples) > CONTRADICTION).tolist():
            yield these[k]


def _take_in(asked: Sequence[Assess], limits: NDArray[np.float64]) -> Sequence[Quality | None]:
    """Give meters of one kind what they lack; return the quality of windows that are clean at a glance."""
    meter, whole = asked[0].meter, asked[0].window.whole
    newest = slice(asked[0].window.counts.shape[1] - meter.lacks * meter.tenth, None)
    counts = np.concatenate([a.window.counts[:, newest] for a in asked]).reshape(-1, meter.tenth)
    status = None
    if not whole:
        status = np.concatenate([a.window.status[:, newest] for a in asked]).reshape(-1, meter.tenth)
    numbers = tenth_numbers(counts, status, asked[0].spec)
    if whole and COMPILED.quality is not None:
        return _glance(COMPILED.quality, asked, counts, numbers, limits)
    by_bed = numbers.reshape(N_NUMBERS, len(asked), meter.n_leads, -1)
    limb = counts.reshape(len(asked), meter.n_leads, -1, meter.tenth)[:, list(meter.limb)]
    for bed, (one, products) in enumerate(zip(asked, limb_products(limb.swapaxes(1, 2)), strict=True)):
        one.meter.take(by_bed[:, bed], products)
    return [None] * len(asked)


def _glance(
    loops: ModuleType,
    asked: Sequence[Assess],
    counts: NDArray[np.int16],
    numbers: NDArray[np.float64],
    limits: NDArray[np.float64],
) -> list[Quality | None]:
    """Do the same in compiled loops, for windows that are whole."""
    n_beds, n_leads, limb = len(asked), asked[0].meter.n_leads, asked[0].meter.limb
    sd_mv, score = np.empty((2, n_beds, n_leads))
    clean = np.empty(n_beds, np.bool_)
    blocks = [a.raw for a in asked if a.raw is not None]
    loops.glance(
        counts,
        numbers,
        np.concatenate(blocks) if blocks else np.empty((0, N_RAW, n_leads), np.float32),
        np.array([a.meter.memory for a in asked]),
        np.array(limb, np.int64),
        misfit(asked[0].meter.limb_names) if limb else np.empty((0, 0)),
        limits,
        sd_mv,
        score,
        clean,
    )
    for one in asked:
        one.meter.move_on()
    full = (score == 1.0).all(axis=1).tolist()
    return [
        clean_quality(sds, 1.0 if full[k] else sum(score[k].tolist()) / n_leads) if good else None
        for k, (good, sds) in enumerate(zip(clean.tolist(), sd_mv.tolist(), strict=True))
    ]


@lru_cache(maxsize=64)
def _alike(_n_leads: int, _leads: tuple[str, ...]) -> object:
    """Return the same object for the same leads, whose hash costs nothing."""
    return object()


@lru_cache(maxsize=8)
def _limits(spec: FrontEndSpec, n_samples: int) -> NDArray[np.float64]:
    """Return what `ecgedge.signal.quality_loops.glance` looks for."""
    window = n_samples, n_samples - TENTHS, spec.lsb_mv, spec.lsb_mv * TENTHS / n_samples
    faults = FLAT_MV, CLIPPED_FRACTION, NOISE_SPREAD, NOISE_SPREAD - CLEAN_SPREAD
    doubts = BASELINE_MV, BURST_SPREAD, MUSCLE_RATIO, MAINS_RATIO
    rails = RAIL_DISTANCE, RAIL_BLOCKS
    return np.array([*window, *faults, *doubts, *rails, CONTRADICTION**2], np.float64)
