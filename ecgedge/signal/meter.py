"""Quality at a fraction of the work: of a stream's windows, each tenth is measured once, many beds in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal.quality import N_NUMBERS, TENTHS, Quality, assess, judge, tenth_numbers
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
    """

    def __init__(self, *, n_leads: int, window_samples: int, hop_samples: int) -> None:
        self.tenth = window_samples // TENTHS
        whole = window_samples % TENTHS == 0 and self.tenth > 1 and hop_samples % self.tenth == 0
        self.hop_tenths = min(TENTHS, hop_samples // self.tenth) if whole else 0
        # Each is written twice, so that from any place on the newest ones lie in their order.
        self._ring = np.zeros((2 * TENTHS, N_NUMBERS, n_leads if whole else 0))
        self._oldest = 0
        self._full = False

    @property
    def kept(self) -> NDArray[np.float64]:
        """Numbers of the newest window's tenths, (TENTHS, N_NUMBERS, n_leads), the oldest first; a view."""
        return self._ring[self._oldest : self._oldest + TENTHS]

    @property
    def lacks(self) -> int:
        """How many of the next window's tenths, the newest, are not known yet."""
        return self.hop_tenths if self._full else TENTHS

    def take(self, numbers: NDArray[np.float64]) -> None:
        """Take the numbers of the tenths that are lacking, (N_NUMBERS, n_leads, lacks), the oldest first."""
        for k in range(numbers.shape[2]):
            of_tenth = numbers[:, :, k]
            self._ring[self._oldest] = self._ring[self._oldest + TENTHS] = of_tenth
            self._oldest = (self._oldest + 1) % TENTHS
        self._full = True


class Assess(NamedTuple):
    """Asks for the quality of a window, which is the next of its meter's stream."""

    meter: Meter
    window: Window
    spec: FrontEndSpec


def assess_together(asked: Sequence[Assess]) -> list[Quality]:
    """Judge windows of several streams, each once: `ecgedge.signal.assess` of each, to the bit, in fewer calls.

    All windows must be of one length and one front end.
    """
    meters = [a.meter for a in asked]
    n_leads = [len(a.window.counts) for a in asked]
    if not meters[0].hop_tenths:
        return [assess(a.window, a.spec) for a in asked]
    for some in _groups([n * m.lacks for n, m in zip(n_leads, meters, strict=True)], _MEASURED_ROWS):
        _measure(asked[some])
    answers: list[Quality] = []
    n_samples, spec = asked[0].window.counts.shape[1], asked[0].spec
    for some in _groups(n_leads, _JUDGED_ROWS):
        kept = [meter.kept for meter in meters[some]]
        answers += judge(np.concatenate(kept, axis=2), n_leads[some], n_samples, spec)
    return answers


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
    first = 0
    for one in asked:
        rows = slice(first, first + len(one.window.counts))
        one.meter.take(measured[:, rows])
        first = rows.stop


def _groups(n_rows: Sequence[int], most: int) -> Iterator[slice]:
    """Cut a sequence of things with so many rows into groups of at most `most` rows, or of one."""
    start = total = 0
    for k, n in enumerate(n_rows):
        if total + n > most and k > start:
            yield slice(start, k)
            start, total = k, 0
        total += n
    yield slice(start, len(n_rows))
