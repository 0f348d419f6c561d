"""A stretch without gaps, resampled, filtered and rounded; with whole arrays, or in compiled loops.

`ecgedge.signal.loops` needs numba and gives the same bits in less time. Who serves many beds, or prepares many
recordings, switches them on once in a process. They are compiled when a machine first uses them (some seconds; later
starts read them from numba's cache) and held against the whole arrays, bit by bit; where numba is missing, or a bit
differs (a compiler may have fused a product with a sum in scipy), whole arrays go on. `quality_loops` goes with
them, and is held against whole arrays in tests alone.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal.resample import Resampler
from ecgedge.signal.sections import design, filter_in_place

F64 = NDArray[np.float64]


class Switch:
    """Whether this process uses compiled loops.

    Attributes
    ----------
    loops, quality
        The modules `ecgedge.signal.loops` and `quality_loops`, while they are on.
    """

    def __init__(self) -> None:
        self.loops: ModuleType | None = None
        self.quality: ModuleType | None = None
        self._found: tuple[ModuleType | None, ModuleType | None, str | None] | None = None

    def on(self) -> str | None:
        """Use compiled loops from here on; return why that cannot be, None where they are used."""
        if self._found is None:
            self._found = _look_for_loops()
        self.loops, self.quality, why = self._found
        return why

    def off(self) -> None:
        """Use whole arrays from here on."""
        self.loops = self.quality = None


def _look_for_loops() -> tuple[ModuleType | None, ModuleType | None, str | None]:
    """Return the compiled loops, or why there are none."""
    try:
        from ecgedge.signal import loops, quality_loops  # noqa: PLC0415 - numba takes half a second
    except ModuleNotFoundError:
        return None, None, "numba is not installed: pip install 'ecgedge[compiled]'"
    except ImportError as error:  # a numba that does not know this numpy
        return None, None, f"numba cannot be loaded: {error}"
    if not _same_bits(loops):
        return None, None, "on this machine compiled loops would give other bits than numpy and scipy"
    return loops, quality_loops, None


COMPILED = Switch()


def to_counts(
    resampler: Resampler, cascade: F64, samples_mv: NDArray[np.float32], spec: FrontEndSpec, sections: F64
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Resample, filter and round a stretch.

    Parameters
    ----------
    resampler, cascade
        The state, changed in place; the latter (n_leads, n_sections, 2).
    samples_mv
        (n_leads, n) float32, no gap in it.
    spec, sections
        Of the front end; the latter (n_sections, 6).

    Returns
    -------
    counts
        (n_leads, m).
    newest
        (m,): of each the column of `samples_mv` that it became ready with.
    """
    loops = COMPILED.loops
    if loops is None or len(sections) > loops.SECTIONS:
        return _by_whole_arrays(resampler, cascade, samples_mv, spec, sections)
    return _by_loops(loops, resampler, cascade, samples_mv, spec, sections)


def _by_whole_arrays(
    resampler: Resampler, cascade: F64, samples_mv: NDArray[np.float32], spec: FrontEndSpec, sections: F64
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    filtered, newest = resampler.push(samples_mv)
    if newest.size:
        filter_in_place(sections, filtered, cascade)
    return rounded(filtered, spec), newest


def rounded(filtered_mv: F64, spec: FrontEndSpec) -> NDArray[np.int16]:
    """Return the counts of filtered millivolts, which are lost."""
    np.clip(filtered_mv, -spec.clip_mv, spec.clip_mv, out=filtered_mv)
    filtered_mv *= 1.0 / spec.lsb_mv
    return np.rint(filtered_mv, out=filtered_mv).astype(np.int16)


def _by_loops(
    loops: ModuleType,
    resampler: Resampler,
    cascade: F64,
    samples_mv: NDArray[np.float32],
    spec: FrontEndSpec,
    sections: F64,
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    newest, phase = resampler.advance(samples_mv.shape[1])
    counts = np.empty((len(samples_mv), newest.size), np.int16)
    whole = _filled_up(sections.tobytes(), loops.SECTIONS)
    samples_mv = np.ascontiguousarray(samples_mv)
    past = resampler.history, cascade
    loops.condition(
        samples_mv,
        newest,
        phase,
        resampler.taps,
        resampler.pairs,
        whole,
        spec.clip_mv,
        1.0 / spec.lsb_mv,
        *past,
        counts,
    )
    return counts, newest


@lru_cache(maxsize=8)
def _filled_up(sections: bytes, n: int) -> F64:
    """Return n sections; those that are added change nothing."""
    given = np.frombuffer(sections).reshape(-1, 6)
    whole = np.zeros((n, 6))
    whole[:, 0] = 1.0
    whole[: len(given)] = given
    return whole


def _same_bits(loops: ModuleType) -> bool:
    """Compare on noise at rates of each kind; the cascade's state is float64, so that one wrong bit shows."""
    spec = FrontEndSpec()
    sections, _ = design(spec)
    noise = np.random.default_rng(0).normal(0.0, 1.0, (6, 1500)).astype(np.float32)
    for rate_hz in (250.0, 360.0, 500.0):
        resamplers = [
            Resampler(n_leads=6, rate_in_hz=rate_hz, rate_out_hz=spec.rate_hz, pass_hz=spec.lowpass_hz)
            for _ in range(2)
        ]
        plain, quick = np.zeros((2, 6, len(sections), 2))
        for chunk in (noise[:, :900], noise[:, 900:903], noise[:, 903:]):
            ours, _ = _by_whole_arrays(resamplers[0], plain, chunk, spec, sections)
            theirs, _ = _by_loops(loops, resamplers[1], quick, chunk, spec, sections)
            same = np.array_equal(ours, theirs) and np.array_equal(plain, quick)
            if not same or not np.array_equal(resamplers[0].history, resamplers[1].history):
                return False
    return True
