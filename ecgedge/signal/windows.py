"""Cut the conditioned stream into the windows that a model sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgedge.signal.front_end import Conditioned

_HEADROOM = 4
"""The buffer is this many windows long, so that moving its content costs a fraction of a copy per sample."""


@dataclass(frozen=True, eq=False)
class Window:
    """A window, owning its arrays.

    Attributes
    ----------
    end_index
        Conditioned samples since the start of the stream, up to and including the window's last.
    counts
        (n_leads, window_samples) int16.
    status
        (n_leads, window_samples) uint8.
    """

    end_index: int
    counts: NDArray[np.int16]
    status: NDArray[np.uint8]


class Windower:
    """Emits the first window when `window_samples` have come, and another each `hop_samples`.

    The buffers are allocated once; windows are copies of them.

    Raises
    ------
    ValueError
        If a length is not positive.
    """

    def __init__(self, *, n_leads: int, window_samples: int, hop_samples: int) -> None:
        for name, value in (
            ("n_leads", n_leads),
            ("window_samples", window_samples),
            ("hop_samples", hop_samples),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self._window = window_samples
        self._hop = hop_samples
        self._counts = np.zeros((n_leads, _HEADROOM * window_samples), np.int16)
        self._status = np.zeros((n_leads, _HEADROOM * window_samples), np.uint8)
        self._fill = 0
        self._n_seen = 0
        self._next_end = window_samples

    def push(self, conditioned: Conditioned) -> list[Window]:
        """Take any number of conditioned samples; return the windows that they complete.

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
        windows: list[Window] = []
        taken, n = 0, counts.shape[1]
        while taken < n:
            step = min(n - taken, self._window, self._next_end - self._n_seen)
            self._append(counts[:, taken : taken + step], status[:, taken : taken + step])
            taken += step
            if self._n_seen == self._next_end:
                windows.append(self._emit())
        return windows

    def _append(self, counts: NDArray[np.int16], status: NDArray[np.uint8]) -> None:
        step = counts.shape[1]
        if self._fill + step > self._counts.shape[1]:
            self._keep_last_window()
        self._counts[:, self._fill : self._fill + step] = counts
        self._status[:, self._fill : self._fill + step] = status
        self._fill += step
        self._n_seen += step

    def _keep_last_window(self) -> None:
        last = slice(self._fill - self._window, self._fill)
        self._counts[:, : self._window] = self._counts[:, last]
        self._status[:, : self._window] = self._status[:, last]
        self._fill = self._window

    def _emit(self) -> Window:
        last = slice(self._fill - self._window, self._fill)
        self._next_end += self._hop
        return Window(self._n_seen, self._counts[:, last].copy(), self._status[:, last].copy())
