"""How the loops are compiled, and how they reach arrays that lie apart: by their addresses.

Nobody imports this module but modules of loops, which are imported when a process switches them on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit, types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

part: Callable[[F], F] = njit(**_OPTIONS)
"""Compiles what only other loops call."""


def jit(*signature: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile for these types at once, or read it from numba's cache where there is a folder for it."""

    def compiled(function: Callable[..., None]) -> Callable[..., None]:
        fixed = types.void(*signature)
        try:
            loop: Callable[..., None] = njit(fixed, cache=True, **_OPTIONS)(function)
        except (RuntimeError, OSError):  # no folder that numba may write to, or no room in it
            loop = njit(fixed, **_OPTIONS)(function)
        return loop

    return compiled


def _floats_at(_context: Any, address: Any) -> Any:
    def pointer(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

    pointed: Any = types.CPointer
    return pointed(types.float64)(address), pointer


floats_at: Any = intrinsic(_floats_at)
"""Takes an address as that of float64s, for `carray`; who gave it must keep the array."""
