"""What a process does with the memory that it has freed.

Reading and rewriting a graph leaves copies of its weights that are freed but kept by the C library for later, of a
large network more than its file. A process that serves for months has no use for them: they go back to the system.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def release_free_memory() -> None:
    """Return freed memory to the system, where the C library can (glibc); some milliseconds, so once a model."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""glibc's parameters of mallopt(3)."""


def keep_freed_memory() -> None:
    """Let the C library (glibc) keep what arrays give back for the next ones, in place of new pages each time.

    For a process that does the same work over and over: a ward's front ends take twice as long where every array is
    made of pages that the system has yet to clear.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 256 << 20)
        mallopt(_TRIM_THRESHOLD, 512 << 20)


_NEW_OBJECTS = 100_000
"""More than a ward ever holds of one step's: some hundreds of beds, some dozens each."""


def collect_rarely() -> None:
    """Let the search for cycles of dead objects begin after many new objects instead of after 700.

    For a process with many beds. Python frees what they leave by counting references, at once. The search would begin
    several times in each step, now and then walk over all that the beds remember, and find hardly anything. Cycles that
    do come (an exception, a task) are found later.
    """
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
