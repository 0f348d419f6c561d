"""VitalRecorder files (.vital), as the open VitalDB has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.records._common import common_rate_hz, dropped_metadata, mv_per_unit, select_leads
from ecgedge.records._gaps import check_gaps
from ecgedge.records._vital_packets import Wave, read_waves

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_vital(path: Path) -> Recording:
    """Read the ECG waves of a .vital file; what no block covers is NaN.

    Blocks of samples carry the time at which they came. Each begins at the sample nearest to its time, counted
    from the earliest block of any lead, and overwrites what an earlier one left there. The format names no
    patient.

    Raises
    ------
    RecordError
        If the file is cut or damaged, holds no ECG lead, a lead has no voltage for its unit, or rates differ.
    """
    source = str(path)
    waves = read_waves(path)
    selection = select_leads([wave.name for wave in waves], source=source)
    chosen = [waves[channel] for channel in selection.channels]
    rate_hz = common_rate_hz(selection.leads, [wave.rate_hz for wave in chosen], source=source)
    factors = [
        mv_per_unit(wave.unit, lead=lead, source=source)
        for wave, lead in zip(chosen, selection.leads, strict=True)
    ]
    return Recording(
        samples_mv=_laid_out(chosen, factors, rate_hz, source),
        rate_hz=rate_hz,
        leads=selection.leads,
        source=source,
        metadata={"format": "vital"} | dropped_metadata(selection.dropped),
    )


def _laid_out(
    waves: Sequence[Wave], factors: Sequence[float], rate_hz: float, source: str
) -> NDArray[np.float32]:
    times_s = [time_s for wave in waves for time_s, _ in wave.blocks]
    if not times_s or not all(map(math.isfinite, times_s)):
        raise RecordError(
            f"{source}: no samples of an ECG lead, or without their time; export the file again"
        )
    first_s = min(times_s)
    placed = [
        [(round((time_s - first_s) * rate_hz), values * factor) for time_s, values in wave.blocks]
        for wave, factor in zip(waves, factors, strict=True)
    ]
    n_samples = max(start + len(values) for blocks in placed for start, values in blocks)
    held = max(sum(len(values) for _, values in blocks) for blocks in placed)
    check_gaps(n_samples - held, n_leads=len(waves), rate_hz=rate_hz, source=source)
    samples_mv = np.full((len(waves), n_samples), np.nan, np.float32)
    for row, blocks in zip(samples_mv, placed, strict=True):
        for start, values in blocks:
            # no electrode gives what float32 cannot hold; Recording then refuses the infinity
            with np.errstate(over="ignore"):
                row[start : start + len(values)] = values
    return samples_mv
