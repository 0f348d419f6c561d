"""The front end for whole recordings without gaps: the same counts as `ecgedge.signal.condition`, sooner.

An archive of plain ten-second records needs no bookkeeping of gaps and restarts, which is most of what a short record
costs, and many records are worth compiled loops (`ecgedge.signal.stretch`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import MAX_ABS_MV, Recording
from ecgedge.signal import condition
from ecgedge.signal.front_end import filter_cascade
from ecgedge.signal.resample import Resampler
from ecgedge.signal.stretch import COMPILED, to_counts


def quick_counts(recording: Recording, spec: FrontEndSpec) -> NDArray[np.int16]:
    """Return what `condition(recording, spec).counts` returns, sooner.

    Parameters
    ----------
    recording
        (n_leads, n_samples) float32 millivolts; where one was not measured, `condition` is called.
    spec
        The front end.

    Returns
    -------
    NDArray
        (n_leads, m) int16.

    Raises
    ------
    RecordError
        If the recording's rate cannot be used.
    """
    samples_mv = recording.samples_mv
    measured = samples_mv.size and samples_mv.min() >= -MAX_ABS_MV and samples_mv.max() <= MAX_ABS_MV
    if not measured or recording.rate_hz <= 2.0 * spec.lowpass_hz:
        return condition(recording, spec).counts
    COMPILED.on()  # where that cannot be, whole arrays give the same
    sections, steady = filter_cascade(spec)
    n_leads, first_mv = len(samples_mv), samples_mv[:, 0].astype(np.float64)
    resampler = Resampler(
        n_leads=n_leads, rate_in_hz=recording.rate_hz, rate_out_hz=spec.rate_hz, pass_hz=spec.lowpass_hz
    )
    resampler.restart(np.ones(n_leads, np.bool_), first_mv)
    counts, _ = to_counts(resampler, steady * first_mv[:, None, None], samples_mv, spec, sections)
    return counts
