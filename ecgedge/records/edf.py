"""EDF and EDF+ (the European Data Format of 1992 and 2003). Needs the extra `records`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, missing_extra
from ecgedge.records._common import common_rate_hz, dropped_metadata, mv_per_unit, select_leads
from ecgedge.records._edf_onsets import record_onsets_s
from ecgedge.records._gaps import check_gaps

if TYPE_CHECKING:
    from edfio import Edf, EdfSignal
    from numpy.typing import NDArray

# What edfio 0.4 was seen to raise for damaged files. It warns where it mends a file that is cut or uncalibrated;
# here those warnings are errors. A record duration of zero leaves a variable unbound in it.
_DAMAGE: Final = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError, MemoryError),
    *(UnboundLocalError, UserWarning),
)


def read_edf(path: Path) -> Recording:
    """Read the ECG leads of an EDF or EDF+ file; gaps between the records of an EDF+D file become NaN.

    millivolts = ((stored - digital minimum) * (physical range / digital range) + physical minimum) * unit.

    Raises
    ------
    RecordError
        If the file is damaged or cut, a lead has no calibration or another unit, rates differ, or records
        overlap.
    UsageError
        If the package edfio is not installed.
    """
    source = str(path)
    try:
        import edfio
    except ImportError as error:
        raise missing_extra(extra="records", package="edfio", purpose="Reading EDF files") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return _recording(edfio.read_edf(path), path, source)
    except _DAMAGE as error:
        raise RecordError(
            f"{source}: not a readable EDF file ({type(error).__name__}: {error}); "
            "the file is damaged, incomplete or no EDF: export it again"
        ) from error


def _recording(edf: Edf, path: Path, source: str) -> Recording:
    selection = select_leads([signal.label for signal in edf.signals], source=source)
    signals = [edf.signals[channel] for channel in selection.channels]
    rate_hz = common_rate_hz(
        selection.leads, [float(signal.sampling_frequency) for signal in signals], source=source
    )
    samples_mv = np.stack(
        [_millivolts(signal, lead, source) for signal, lead in zip(signals, selection.leads, strict=True)]
    )
    if edf.reserved.startswith("EDF+D"):
        onsets_s = record_onsets_s(path, edf.num_data_records, source=source)
        samples_mv = _with_gaps(samples_mv, onsets_s, rate_hz, source)
    return Recording(
        samples_mv=samples_mv,
        rate_hz=rate_hz,
        leads=selection.leads,
        source=source,
        patient_id=_patient_id(edf),
        metadata=_metadata(edf) | dropped_metadata(selection.dropped),
    )


def _millivolts(signal: EdfSignal, lead: str, source: str) -> NDArray[np.float32]:
    digital_min, digital_max = signal.digital_min, signal.digital_max
    physical_min, physical_max = signal.physical_min, signal.physical_max
    ends = (physical_min, physical_max)
    if digital_min >= digital_max or physical_min == physical_max or not all(map(math.isfinite, ends)):
        raise RecordError(
            f"{source}: lead {lead} is uncalibrated (digital {digital_min} to {digital_max} is physical "
            f"{physical_min:g} to {physical_max:g}); write the true ranges into the header if you know them"
        )
    factor = mv_per_unit(signal.physical_dimension, lead=lead, source=source)
    gain = (physical_max - physical_min) / (digital_max - digital_min)
    stored: NDArray[np.int16] = signal.digital
    values_mv = ((stored.astype(np.float64) - digital_min) * gain + physical_min) * factor
    # no electrode gives what float32 cannot hold; Recording then refuses the infinity
    with np.errstate(over="ignore"):
        return values_mv.astype(np.float32)


def _with_gaps(
    samples_mv: NDArray[np.float32], onsets_s: Sequence[float], rate_hz: float, source: str
) -> NDArray[np.float32]:
    """Move each record to its onset; what lies between records is NaN."""
    n_leads, n_stored = samples_mv.shape
    n_record = n_stored // len(onsets_s)
    starts = [round((onset - onsets_s[0]) * rate_hz) for onset in onsets_s]
    for record, (start, following) in enumerate(pairwise(starts)):
        if following < start + n_record:
            raise RecordError(
                f"{source}: record {record + 2} begins at {onsets_s[record + 1]:g} s, before the end of the "
                "record before it; the times cannot be trusted: export the file again"
            )
    n_samples = starts[-1] + n_record
    check_gaps(n_samples - n_stored, n_leads=n_leads, rate_hz=rate_hz, source=source)
    spread = np.full((n_leads, n_samples), np.nan, np.float32)
    for record, start in enumerate(starts):
        spread[:, start : start + n_record] = samples_mv[:, record * n_record : (record + 1) * n_record]
    return spread


def _patient_id(edf: Edf) -> str | None:
    """Return the hospital's code in EDF+, else the whole free text; "X" means that it is not told."""
    told = edf.patient.code if edf.reserved.startswith("EDF+") else edf.local_patient_identification.strip()
    return None if told in ("", "X") else told


def _metadata(edf: Edf) -> dict[str, str]:
    told = edf.patient.sex if edf.reserved.startswith("EDF+") else "X"
    return {"format": "edf"} | ({"sex": told} if told in ("F", "M") else {})
