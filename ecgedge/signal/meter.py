"""Quality at a fraction of the work: of a stream's windows, each tenth is measured once, many beds in one call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal.groups import groups
from ecgedge.signal.limb import CONTRADICTION, contradiction, limb_products, limb_rows
from ecgedge.signal.quality import N_NUMBERS, Quality, are_sound, assess, judge, tenth_numbers
from ecgedge.signal.raw import TENTHS
from ecgedge.signal.windows import Window

_MEASURED_ROWS = 96
"""Leads whose samples are looked at in one go: more would leave the cache (measured, a second at 250 Hz)."""

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
    meters = [a.meter for a in asked]
    n_leads = [len(a.window.counts) for a in asked]
    if not meters[0].hop_tenths:
        return [assess(a.window, a.spec, raw=a.raw, leads=a.meter.leads) for a in asked]
    for some in groups([n * m.lacks for n, m in zip(n_leads, meters, strict=True)], _MEASURED_ROWS):
        _measure(asked[some])
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


def _measure(asked: Sequence[Assess]) -> None:
    """Give each meter what it lacks; they lack the same but for those that begin."""
    if len({a.meter.lacks for a in asked}) > 1:
        for one in asked:
            _measure([one])
        return
    lacks, tenth = asked[0].meter.lacks, asked[0].meter.tenth
    whole = all(a.window.whole for a in asked)
    newest = slice(asked[0].window.counts.shape[1] - lacks * tenth, None)
    counts = np.concatenate([a.window.counts[:, newest] for a in asked]).reshape(-1, tenth)
    status = None
    if not whole:
        status = np.concatenate([a.window.status[:, newest] for a in asked]).reshape(-1, tenth)
    measured = tenth_numbers(counts, status, asked[0].spec).reshape(N_NUMBERS, -1, lacks)
    products = _limb_products([a.meter for a in asked], counts.reshape(-1, lacks, tenth))
    first = 0
    for one, of_limb in zip(asked, products, strict=True):
        rows = slice(first, first + len(one.window.counts))
        one.meter.take(measured[:, rows], of_limb)
        first = rows.stop


def _limb_products(meters: Sequence[Meter], counts: NDArray[np.int16]) -> Sequence[NDArray[np.float64]]:
    """Return each stream's products, (lacks, limb leads, limb leads), of all rows one after the other."""
    limb, n_leads = meters[0].limb, len(counts) // len(meters)
    if all(meter.limb == limb and meter.n_leads == n_leads for meter in meters):
        own = counts.reshape(len(meters), n_leads, *counts.shape[1:])[:, list(limb)]
        return list(limb_products(own.swapaxes(1, 2)))
    products, first = [], 0
    for meter in meters:
        products.append(limb_products(counts[[first + row for row in meter.limb]].swapaxes(0, 1)))
        first += meter.n_leads
    return products
