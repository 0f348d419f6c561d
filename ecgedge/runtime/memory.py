"""What a process does with the memory that it has freed, and where a large model's weights lie.

Reading and rewriting a graph leaves copies of its weights that are freed but kept by the C library for later, of a
large network more than its file. A process that serves for months has no use for them: they go back to the system.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MADV_HUGEPAGE = 14
_LARGE_PAGE = 2 << 20
_PIECE = 30 << 20
"""Below 32 MB, the size from which on glibc maps each block on its own whatever was freed before (mallopt(3))."""
_COPIES = 5
"""As often does a graph's weights lie in memory, at most, while ONNX Runtime rewrites it."""
_WORTH_BYTES = 4 << 20


@contextmanager
def large_pages(model_bytes: int) -> Iterator[None]:
    """Let a model that is opened inside, if it is large, lie in pages of 2 MB; what it leaves behind is given back.

    Most of the time that opening a network of 35 MB takes is page faults, of 4 KB each; and a step of one bed, which
    reads all weights once, would wait for their addresses. Where the C library is not glibc, or the system has no
    such pages, nothing changes.
    """
    libc = _glibc() if model_bytes >= _WORTH_BYTES else None
    pin = None if libc is None else _free_pages_ahead(libc, _COPIES * model_bytes)
    try:
        yield
    finally:
        # Before the block that holds it is freed: what lies at the end of a thread's heap would stay.
        release_free_memory()
        if libc is not None:
            libc.free(pin)


def _free_pages_ahead(libc: ctypes.CDLL, n_bytes: int) -> int | None:
    """Leave n freed bytes in the heap that the system will back with large pages; return a block that holds them.

    Freed blocks are taken first, before any new ones. As long as the block that is returned lies above them, they do
    not go back to the system.
    """
    # Once a block was mapped and freed, glibc takes all that are smaller from its heap.
    libc.free(libc.malloc(_PIECE + (1 << 20)))
    blocks = [libc.malloc(_PIECE) for _ in range(-(-n_bytes // _PIECE))]
    # Of the same size, or it would find its place below them.
    pin: int | None = libc.malloc(_PIECE)
    for block in blocks:
        if block is not None:
            begin = -(-block // _LARGE_PAGE) * _LARGE_PAGE
            libc.madvise(begin, (block + _PIECE - begin) // _LARGE_PAGE * _LARGE_PAGE, _MADV_HUGEPAGE)
        libc.free(block)
    return pin


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    if getattr(libc, "gnu_get_libc_version", None) is None:
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc


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
