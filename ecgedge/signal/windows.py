"""Cut the conditioned stream into the windows that a model sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgedge.signal.front_end import Conditioned
from ecgedge.signal.gaps import MEASURED


class Window(NamedTuple):
    """A window.

    Attributes
    ----------
    end_index
        Conditioned samples since the start of the stream, up to and including the window's last.
    counts
        (n_leads, window_samples) int16.
    status
        (n_leads, window_samples) uint8.
    whole
        Says that every status is MEASURED; where it is False, nobody has looked.
    """

    end_index: int
    counts: NDArray[np.int16]
    status: NDArray[np.uint8]
    whole: bool = False


@dataclass(frozen=True, eq=False)
class WindowerState:
    """A windower between two chunks: samples seen, where the next window ends, and the newest samples."""

    n_seen: int
    next_end: int
    counts: NDArray[np.int16]
    status: NDArray[np.uint8]


class Windower:
    """Emits a window when `first_end` samples have come, and another each `hop_samples`.

    Parameters
    ----------
    n_leads, window_samples, hop_samples
        Of the windows.
    first_end
        Where the first window ends; `window_samples` by default, and not less.
    keep_samples
        How many of the newest samples `latest` can give; `window_samples` by default, and not less.
    state
        Where to go on; the beginning of a stream by default.

    Raises
    ------
    ValueError
        If a length is not positive, or one of the last two is less than a window.
    """

    def __init__(
        self,
        *,
        n_leads: int,
        window_samples: int,
        hop_samples: int,
        first_end: int | None = None,
        keep_samples: int | None = None,
        state: WindowerState | None = None,
    ) -> None:
        for name, value in (
            ("n_leads", n_leads),
            ("window_samples", window_samples),
            ("hop_samples", hop_samples),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self._next_end = window_samples if first_end is None else first_end
        self._keep = window_samples if keep_samples is None else keep_samples
        if min(self._next_end, self._keep) < window_samples:
            raise ValueError(
                f"first_end {self._next_end} and keep_samples {self._keep} must be at least window_samples "
                f"{window_samples}"
            )
        self._window = window_samples
        self._hop = hop_samples
        # Half as long again as what is kept: so moving it to the front costs two copies of a sample.
        size = self._keep + self._keep // 2 + 1
        self._counts = np.zeros((n_leads, size), np.int16)
        # There is no room for the status until one is to be kept that is not MEASURED.
        self._status = np.broadcast_to(np.uint8(MEASURED), self._counts.shape)
        self._whole = True
        self._whole_from = 0  # all samples from this one on are surely MEASURED
        self._fill = 0
        self._n_seen = 0
        if state is not None:
            self._n_seen, self._next_end = state.n_seen - state.counts.shape[1], state.next_end
            self._append(state.counts, state.status, whole=not state.status.any())

    @property
    def state(self) -> WindowerState:
        """All that it remembers; the arrays are views."""
        kept = slice(max(0, self._fill - self._keep), self._fill)
        return WindowerState(self._n_seen, self._next_end, self._counts[:, kept], self._status[:, kept])

    def push(self, conditioned: Conditioned) -> Iterator[Window]:
        """Take any number of conditioned samples and yield the windows that they complete.

        A window's arrays are views of the buffer: they hold until the next one is asked for. All samples have been
        taken when the iterator is exhausted.

        Raises
        ------
        ValueError
            If the number of leads is another one, or counts and status differ in shape.
        """
        counts, status = conditioned.counts, conditioned.status
        if counts.ndim != 2 or counts.shape[0] != self._counts.shape[0] or status.shape != counts.shape:
            raise ValueError(
                f"counts {counts.shape} and status {status.shape} do not fit a windower of "
                f"{self._counts.shape[0]} leads"
            )
        return self._push(conditioned)

    def latest(self, n: int) -> NDArray[np.int16]:
        """Return a view of the newest n samples, (n_leads, n), or of as many as there have been."""
        return self._counts[:, max(0, self._fill - n) : self._fill]

    def _push(self, conditioned: Conditioned) -> Iterator[Window]:
        counts, status = conditioned.counts, conditioned.status
        taken, n = 0, counts.shape[1]
        whole = conditioned.whole or not status.any()
        while taken < n:
            room = self._counts.shape[1] - self._keep
            step = min(n - taken, room, self._next_end - self._n_seen)
            self._append(counts[:, taken : taken + step], status[:, taken : taken + step], whole=whole)
            taken += step
            if self._n_seen == self._next_end:
                self._next_end += self._hop
                last = slice(self._fill - self._window, self._fill)
                known = self._n_seen - self._window >= self._whole_from
                yield Window(self._n_seen, self._counts[:, last], self._status[:, last], known)

    def _append(self, counts: NDArray[np.int16], status: NDArray[np.uint8], *, whole: bool) -> None:
        step = counts.shape[1]
        if self._fill + step > self._counts.shape[1]:
            self._move_to_the_front()
        if self._whole and not whole:
            self._whole, self._status = False, self._status.copy()
        self._counts[:, self._fill : self._fill + step] = counts
        if not self._whole:
            self._status[:, self._fill : self._fill + step] = status
        self._fill += step
        self._n_seen += step
        if not whole:
            self._whole_from = self._n_seen

    def _move_to_the_front(self) -> None:
        kept = slice(self._fill - self._keep, self._fill)
        self._counts[:, : self._keep] = self._counts[:, kept]
        if not self._whole:
            self._status[:, : self._keep] = self._status[:, kept]
            if not self._status[:, : self._keep].any():
                self._whole, self._status = True, np.broadcast_to(np.uint8(MEASURED), self._counts.shape)
        self._fill = self._keep
