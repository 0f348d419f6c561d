"""Memory that an engine needed only to open a model goes back to the system.

Reading and rewriting a graph leaves copies of its weights that are freed but kept by the C library for later, of a
large network more than its file. A process that serves for months has no use for them.
"""

from __future__ import annotations

import ctypes
import sys


def release_free_memory() -> None:
    """Return freed memory to the system, where the C library can (glibc); some milliseconds, so once a model."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
