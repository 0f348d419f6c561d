"""An LSL inlet whose calls block, read by a thread of its own for an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.feeds.lsl_stream import Pulled

FRESH_S: Final = 1.0
"""Samples that are older when the feed begins have waited somewhere: they are dropped, until the first that is not."""

OLD_S: Final = 5.0
"""Where after so long all that comes is old, waiting is not the reason: the stamps are of another clock than LSL's."""

PULL_S: Final = 0.2
"""How long one call waits for samples, and so how long closing may take."""

MOST_AT_ONCE: Final = 4096
MOST_QUEUED: Final = 4096
"""Samples a call brings at most, and calls' results that wait for who reads them; what comes then is dropped."""


@dataclass(frozen=True)
class Lost:
    """The inlet brings nothing any more; `why` says it in words."""

    why: str


class InletThread:
    """Pulls samples in a thread, hands them to an event loop.

    Parameters
    ----------
    pylsl
        The package.
    inlet
        Open; the thread's alone from `start` on.
    correction_s
        What brings a stamp to this machine's LSL clock, until LSL estimates it anew.

    Attributes
    ----------
    dropped
        Samples of each lead: `old_samples` (older than `FRESH_S` when the feed began) and `overrun` (nobody read).
    age_s
        How old the newest sample was when it came; None before the first.
    """

    def __init__(self, pylsl: ModuleType, inlet: Any, *, correction_s: float) -> None:
        self._pylsl, self._inlet, self._correction_s = pylsl, inlet, correction_s
        self._queue: asyncio.Queue[Pulled | Lost] = asyncio.Queue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._fresh = False
        self.dropped: Counter[str] = Counter()
        self.age_s: float | None = None

    def start(self) -> None:
        """Begin to pull; the event loop that runs is the one that hears."""
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="lsl inlet", daemon=True)
            self._thread.start()

    async def __aiter__(self) -> AsyncIterator[Pulled | Lost]:
        """Deliver what was pulled; a `Lost` is the last."""
        while True:
            pulled = await self._queue.get()
            yield pulled
            if isinstance(pulled, Lost):
                return

    async def close(self) -> None:
        """Stop the thread and disconnect; safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        inlet, self._inlet = self._inlet, None
        if inlet is not None:
            await asyncio.to_thread(inlet.close_stream)

    # --- in the thread ---

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        began_s = time.monotonic()
        while not self._stop.is_set():
            try:
                result = self._pull(began_s, loop)
            except (RuntimeError, ValueError, TimeoutError) as error:  # pylsl's own are RuntimeErrors
                result = Lost(f"the outlet is gone ({error})")
            with suppress(RuntimeError):  # the loop is closed: nobody hears any more
                loop.call_soon_threadsafe(self._hand_over, result)
            if loop.is_closed() or isinstance(result, Lost):
                return

    def _pull(self, began_s: float, loop: asyncio.AbstractEventLoop) -> Pulled | Lost | None:
        values, stamps_s = self._inlet.pull_chunk(
            timeout=PULL_S, max_samples=MOST_AT_ONCE, min_samples=1, as_numpy=True
        )
        if len(stamps_s) == 0:
            return None
        arrived_s = time.monotonic()
        ages_s = self._ages_s(stamps_s)
        self.age_s = float(ages_s[-1])
        first = self._first_fresh(ages_s)
        if first:
            loop.call_soon_threadsafe(self._count_old, first)
        if first == len(stamps_s) and arrived_s - began_s > OLD_S:
            return Lost(
                f"its samples are {self.age_s:.1f} s old by their stamps, and stay so: the outlet stamps by another "
                "clock than LSL's, or sends what it has stored"
            )
        return Pulled(values[first:], stamps_s[first:], arrived_s) if first < len(stamps_s) else None

    def _ages_s(self, stamps_s: NDArray[np.float64]) -> NDArray[np.float64]:
        # After the first estimate this does not block: LSL renews it in the background. Of an outlet that is gone the
        # last estimate holds: what it sent is still there to be pulled.
        with suppress(RuntimeError, TimeoutError):
            self._correction_s = self._inlet.time_correction(PULL_S)
        ages_s: NDArray[np.float64] = self._pylsl.local_clock() - (stamps_s + self._correction_s)
        return ages_s

    def _first_fresh(self, ages_s: NDArray[np.float64]) -> int:
        """Return how many are dropped, at the beginning of the feed."""
        if self._fresh:
            return 0
        fresh = np.flatnonzero(ages_s <= FRESH_S)
        self._fresh = fresh.size > 0
        return int(fresh[0]) if self._fresh else len(ages_s)

    # --- in the event loop ---

    def _count_old(self, n: int) -> None:
        self.dropped["old_samples"] += n

    def _hand_over(self, result: Pulled | Lost | None) -> None:
        if result is None:
            return
        if isinstance(result, Pulled) and self._queue.qsize() >= MOST_QUEUED:
            self.dropped["overrun"] += len(result.stamps_s)
            return
        self._queue.put_nowait(result)
