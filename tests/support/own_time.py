"""An event loop with a time of its own: it jumps to the next timer as soon as nothing else is left to do.

A test of what happens after seconds then takes none, and ends the same on a machine that is busy for seconds. It holds
where all parties are coroutines of the one loop, sockets between them included; what another thread or process does
would come too late.
"""

import asyncio
import selectors
import time
from types import SimpleNamespace

import pytest

ROUND_S = 1e-4
"""A round of the loop takes no less: who looks again and again, and never rests, sees the time go on too."""


class _Jumping(selectors.DefaultSelector):
    """Waits for nobody: if nothing is ready, the time of the next timer has come."""

    now_s = 0.0

    def select(self, timeout=None):
        self.now_s += ROUND_S
        if timeout is None:  # without a timer only what is outside, such as a signal, can go on
            return super().select()
        ready = super().select(0.0)
        if not ready:
            self.now_s += max(0.0, timeout)
        return ready


class OwnTime(asyncio.SelectorEventLoop):
    """A loop of its own time, which begins at zero."""

    def __init__(self):
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now_s

    def run_in_executor(self, executor, func, *args):
        raise NotImplementedError("a thread does not know this loop's time")


def run_in_own_time(coroutine, *modules):
    """Run a coroutine to its end; the modules' `time.monotonic` is the loop's, and how long work takes is true."""
    loop = OwnTime()
    told = SimpleNamespace(monotonic=loop.time, perf_counter=time.perf_counter)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module in modules:
                patch.setattr(f"{module}.time", told)
            return loop.run_until_complete(coroutine)
    finally:
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
