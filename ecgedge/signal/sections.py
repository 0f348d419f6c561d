"""The recursive filters without the half of scipy that they never use.

`import scipy.signal` runs optimisers, splines and sparse matrices, which costs time and memory before a bed's first
answer, on a small device the most. A bed needs one compiled loop of it and a handful of coefficients:

- The loop is scipy's own, `scipy/signal/_sosfilt`, loaded from its file without its package: the same machine
  code, so the same bits. Where the file is not found or not what it was (another scipy), the public
  `scipy.signal.sosfilt` serves, which calls it. Called directly it is also cheaper for short chunks, where the public
  function's checks are most of the work.
- The design of the default front end stands here as numbers from scipy 1.17.1; a test holds them against the
  scipy that is installed. Any other specification is designed by scipy when it is first used. Written down,
  they are also the same on every machine, whatever its LAPACK.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import ExtensionFileLoader, PathFinder
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec

Array = NDArray[np.float64]
_EXTENSION = "scipy.signal._sosfilt"
_DEFAULT_SECTIONS = (
    (0.991153595101663, -1.982307190203326, 0.991153595101663, 1.0, -1.9822289297925284, 0.9823854506141251),
    (0.9794827609814495, -0.6053536376811252, 0.9794827609814492, 1.0, -0.6053536376811253, 0.958965521962899),
    (0.975478390750534, -0.12250158988968947, 0.9754783907505347, 1.0, -0.12250158988968951, 0.950956781501068),
    (0.02287020771629096, 0.04574041543258192, 0.02287020771629096, 1.0, -0.602033202257445, 0.12355934398734861),
    (1.0, 2.0, 1.0, 1.0, -0.8099502989391327, 0.5115897646941701),
)  # fmt: skip
_DEFAULT_STEADY = (
    (-0.9911535951013929, 0.9911535951013977),
    (0.0, 0.0),
    (0.0, 0.0),
    (0.0, 0.0),
    (0.0, -0.0),
)


def design(spec: FrontEndSpec) -> tuple[Array, Array]:
    """Return the (n_sections, 6) sections of a checked specification and their (n_sections, 2) steady state.

    The steady state is that after an endless input of 1.
    """
    if _filters_of(spec) == _filters_of(FrontEndSpec()):
        return np.array(_DEFAULT_SECTIONS), np.array(_DEFAULT_STEADY)
    return design_with_scipy(spec)


def design_with_scipy(spec: FrontEndSpec) -> tuple[Array, Array]:
    """Return what `design` returns, computed by scipy.signal now."""
    from scipy.signal import butter, iirnotch, sosfilt_zi, tf2sos

    parts = [butter(2, spec.highpass_hz, "highpass", fs=spec.rate_hz, output="sos")]
    parts += [tf2sos(*iirnotch(hz, spec.notch_q, fs=spec.rate_hz)) for hz in spec.notch_hz]
    parts.append(butter(4, spec.lowpass_hz, "lowpass", fs=spec.rate_hz, output="sos"))
    sections = np.ascontiguousarray(np.concatenate(parts), dtype=np.float64)
    return sections, np.asarray(sosfilt_zi(sections), np.float64)


def _filters_of(spec: FrontEndSpec) -> tuple[object, ...]:
    return spec.rate_hz, spec.highpass_hz, spec.notch_hz, spec.notch_q, spec.lowpass_hz


def filter_in_place(sections: Array, samples: Array, state: Array) -> None:
    """Run the cascade over each row, and leave the result and the new state in the arrays given.

    Parameters
    ----------
    sections
        (n_sections, 6) float64.
    samples
        (n_rows, n) float64, contiguous, n at least 1.
    state
        (n_rows, n_sections, 2) float64, contiguous.
    """
    _loop()(sections, samples, state)


@lru_cache(maxsize=1)
def _loop() -> Callable[[Array, Array, Array], Any]:
    try:
        loop: Callable[[Array, Array, Array], Any] = vars(_extension())["_sosfilt"]
        if _agrees(loop):
            return loop
    except (ImportError, KeyError, TypeError, ValueError):
        pass  # another scipy keeps it elsewhere or calls it otherwise
    return _through_the_public_door


def _extension() -> ModuleType:
    """Return scipy's compiled module; it enters itself in sys.modules, where scipy.signal finds it later."""
    if _EXTENSION in sys.modules:
        return sys.modules[_EXTENSION]
    scipy = importlib.util.find_spec("scipy")
    folders = scipy.submodule_search_locations if scipy else None
    found = PathFinder.find_spec(_EXTENSION.rpartition(".")[2], [f"{path}/signal" for path in folders or ()])
    if found is None or not isinstance(found.loader, ExtensionFileLoader):
        raise ImportError(_EXTENSION)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _agrees(loop: Callable[[Array, Array, Array], Any]) -> bool:
    """Hold the loop against its definition (transposed direct form II) on one section and three samples."""
    b0, b1, b2, a1, a2 = 0.5, 0.25, -0.125, -0.5, 0.25
    samples, state = np.array([[1.0, -2.0, 4.0]]), np.array([[[0.5, -0.25]]])
    expected, (s0, s1) = [], state[0, 0].tolist()
    for x in samples[0].tolist():
        y = b0 * x + s0
        s0, s1 = b1 * x - a1 * y + s1, b2 * x - a2 * y
        expected.append(y)
    loop(np.array([[b0, b1, b2, 1.0, a1, a2]]), samples, state)
    exact: bool = samples[0].tolist() == expected and state[0, 0].tolist() == [s0, s1]  # in binary
    return exact


def _through_the_public_door(sections: Array, samples: Array, state: Array) -> None:
    from scipy.signal import sosfilt

    filtered, left = sosfilt(sections, samples, axis=-1, zi=np.moveaxis(state, 1, 0))
    samples[...] = filtered
    state[...] = np.moveaxis(left, 0, 1)
