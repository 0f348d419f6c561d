"""ECG waveforms in ORU^R01: one OBX a lead, with attributes below it.

As in IHE PCD's Waveform Content Module (rev. 1.3, trial implementation), and as monitors and VitalDB's Vital Recorder
send it. Where these differ:

- OBX-5 holds values in the unit that OBX-6 names. Where OBX-6 names none, it holds counts, and MDC_ATTR_NU_MSMT_RES
  below it says what one count is. A lead with neither is refused, never guessed.
- The rate is MDC_ATTR_SAMP_RATE or a sampling period below the lead, or stands in its name: `Monitor/ECG_II@100`.
- The first sample's time is the leads' OBX-14, or else OBR-7.
- Not measured, and NaN, is a sample that is empty or equals MDC_EVT_INOP's count below the lead, and all of a lead
  whose OBX-8 or OBX-11 says that it is invalid, not available or being calibrated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timezone, tzinfo
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import MAX_ABS_MV, Mode
from ecgedge.errors import Hl7Error, UsageError
from ecgedge.hl7 import mdc
from ecgedge.hl7.header import Envelope, read_mode, write_header, write_patient
from ecgedge.hl7.message import Message, Segment, write_segment
from ecgedge.hl7.numbers import MAX_DIGITS, read_numbers, read_time, write_numbers, write_time
from ecgedge.leads import STANDARD_LEADS
from ecgedge.mdc import MILLIVOLTS

MAX_SAMPLES: Final = 1 << 20
"""Of one message, all leads together: a minute of 12 leads at 1000 Hz is less."""

_BLOCK: Final = 3072
"""Samples read in one go: fewer cost calls, more cost pages that the allocator takes and gives back each time."""

_UNUSABLE: Final = frozenset({"INV", "NAV", "OFF", "CAL"})
"""OBX-8 of IHE PCD TF-2, B.8, under which the samples are none of the patient's heart."""

_MILLIVOLT: Final = "266418^MDC_DIM_MILLI_VOLT^MDC"
_PER_SECOND: Final = "264608^MDC_DIM_PER_SEC^MDC"
_NO_UNIT: Final = "262656^MDC_DIM_DIMLESS^MDC"
_UNVERIFIED: Final = ("", "", "", "", "R")
_MODES: Final[dict[str, Mode]] = {"TEST": "test", "DEMO": "demo"}


T = TypeVar("T")

Flags = dict[bytes, frozenset[str]]
"""What each OBX-8 says, as it stands."""


@dataclass(frozen=True)
class Waveforms:
    """What one message holds of the ECG.

    Attributes
    ----------
    start
        UTC; the first sample's.
    rate_hz
        Samples per second and lead.
    leads
        In standard order, one per row of `samples_mv`.
    samples_mv
        (n_leads, n) float32, millivolts. NaN marks samples that were not measured.
    patient_id
        PID-3, or else PID-2; None if there is none.
    mode
        What MSH-11 says, unless a lead's OBX-8 says TEST or DEMO.
    ignored
        Names of the waveforms that are no ECG leads.
    """

    start: datetime
    rate_hz: float
    leads: tuple[str, ...]
    samples_mv: NDArray[np.float32]
    patient_id: str | None
    mode: Mode
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Lead:
    name: str
    segment: Segment
    order: Segment | None
    attributes: dict[str, Segment] = field(default_factory=dict)


def read_waveforms(message: Message, *, zone: tzinfo = timezone.utc) -> Waveforms:
    """Read the ECG leads of a message; other waveforms and numerics are passed over.

    Parameters
    ----------
    message
        As `ecgedge.hl7.message.parse` gives it.
    zone
        What is meant by times that name no zone.

    Raises
    ------
    Hl7Error
        Naming segment and field, if there is no ECG lead, one stands twice, leads differ in rate, start or length, or
        what a lead needs is missing or wrong.
    """
    mode = read_mode(message)
    leads, ignored = _find_leads(message)
    if not leads:
        raise Hl7Error(
            f"no ECG lead among the waveforms (others: {', '.join(ignored) or 'none'}); expected OBX with NA or MA "
            "and a code such as 131330^MDC_ECG_ELEC_POTL_II^MDC",
            place="OBX",
        )
    flags = _flags(leads)
    return Waveforms(
        start=_same([_start(lead, zone) for lead in leads], leads, 14, "start"),
        rate_hz=_same([_rate_hz(lead) for lead in leads], leads, 3, "sampling rate"),
        leads=tuple(lead.name for lead in leads),
        samples_mv=_samples_mv(leads, flags),
        patient_id=message.field("PID", 3) or message.field("PID", 2) or None,
        mode=_worst_mode(mode, flags),
        ignored=tuple(ignored),
    )


def _find_leads(message: Message) -> tuple[list[_Lead], list[str]]:
    """Return the leads in standard order with what stands below each, and the names of other waveforms."""
    found: dict[str, _Lead] = {}
    ignored: list[str] = []
    here: dict[bytes, _Lead] = {}
    order: Segment | None = None
    for segment in message.segments("OBR", "OBX"):
        if segment.name == "OBR":
            order, here = segment, {}
        elif segment.raw_field(2) not in (b"NA", b"MA"):
            _keep_attribute(segment, here)
        elif (name := mdc.lead(segment)) is None:
            ignored.append(segment.field(3, 2) or segment.field(3))
        elif name in found:
            raise segment.error(3, f"the lead {name} stands twice; send the blocks one after the other")
        else:
            found[name] = here[segment.raw_field(4)] = _Lead(name, segment, order)
    return sorted(found.values(), key=lambda lead: STANDARD_LEADS.index(lead.name)), ignored


def _keep_attribute(segment: Segment, leads: dict[bytes, _Lead]) -> None:
    """Give an attribute to the lead with its OBX-4, or to the one above it: 1.1.1.1 of 1.1.1.1.2."""
    place = segment.raw_field(4)
    lead = leads.get(place) or leads.get(place.rpartition(b".")[0])
    if lead is not None and (name := mdc.attribute(segment)) is not None:
        lead.attributes[name] = segment


def _start(lead: _Lead, zone: tzinfo) -> datetime:
    segment, number = lead.segment, 14
    if not segment.raw_field(14) and lead.order is not None:
        segment, number = lead.order, 7
    if not segment.raw_field(number):
        raise segment.error(number, "the time is missing, in OBX-14 and OBR-7")
    try:
        return read_time(segment.field(number), zone)
    except ValueError as error:
        raise segment.error(number, str(error)) from error


def _rate_hz(lead: _Lead) -> float:
    attributes = lead.attributes
    if segment := attributes.get(mdc.SAMPLING_RATE):
        rate_hz = _number(segment) * (mdc.scale(segment, 6, mdc.HERTZ) or 1.0)
    elif segment := attributes.get(mdc.SAMPLING_PERIOD):
        period_s = _number(segment) * (mdc.scale(segment, 6, mdc.SECONDS) or 1.0)
        rate_hz = 1.0 / period_s if period_s > 0.0 else 0.0
    else:
        segment = lead.segment
        rate_hz = _to_number(
            segment.field(3, 2).rpartition("@")[2], segment, 3, "the sampling rate is missing"
        )
    if not 0.0 < rate_hz < math.inf:
        raise segment.error(5, f"a sampling rate of {rate_hz:g} Hz")
    return rate_hz


def _number(segment: Segment) -> float:
    return _to_number(segment.field(5), segment, 5, "expected a number")


def _to_number(text: str, segment: Segment, number: int, wrong: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise segment.error(number, f"{wrong}; found {text[:40]!r}")
    return value


def _samples_mv(leads: list[_Lead], flags: Flags) -> NDArray[np.float32]:
    texts = [_values(lead.segment) for lead in leads]
    counts = [text.count(b"^") + 1 if text else 0 for text in texts]
    n = max(counts)
    for lead, count in zip(leads, counts, strict=True):
        if count not in (0, n):
            raise lead.segment.error(5, f"{count} samples; other leads hold {n}")
    if not 0 < n * len(leads) <= MAX_SAMPLES:
        raise leads[0].segment.error(5, f"{n} samples a lead; expected 1 to {MAX_SAMPLES // len(leads)}")
    values = _read(leads, texts, n)
    for row, lead in zip(values, leads, strict=True):
        _mark_missing(row, lead, flags)
    with np.errstate(over="ignore"):  # What is infinite then is refused as too large.
        values *= np.array([[_millivolts(lead)] for lead in leads])
    for lead, largest in zip(leads, np.fmax.reduce(np.abs(values), axis=1), strict=True):
        if largest > MAX_ABS_MV:
            raise lead.segment.error(
                5, f"an amplitude of {largest:.4g} mV cannot come from electrodes; the unit is probably wrong"
            )
    return values.astype(np.float32)


def _values(segment: Segment) -> bytes:
    """Return a lead's values with "^" between them: NA parts a channel's values so, MA has repetitions in time."""
    raw, marks = segment.raw_field(5), segment.separators
    used = [mark for mark in (marks.component, marks.repetition) if mark in raw]
    if len(used) == 2 or (used == [marks.repetition] and segment.raw_field(2) == b"NA"):
        raise segment.error(5, "several channels; expected one lead in each OBX")
    return raw.replace(used[0], b"^") if used and used[0] != b"^" else raw


def _read(leads: list[_Lead], texts: list[bytes], n: int) -> NDArray[np.float64]:
    """Read a few leads in one go; (n_leads, n)."""
    values = np.empty((len(leads), n))
    step = max(1, _BLOCK // n)
    for first in range(0, len(leads), step):
        block = [text or b"^" * (n - 1) for text in texts[first : first + step]]
        try:
            values[first : first + step] = read_numbers(b"^".join(block)).reshape(len(block), n)
        except ValueError:
            for lead, text in zip(leads[first:], block, strict=False):
                _read_one(lead, text)
            raise
    return values


def _read_one(lead: _Lead, text: bytes) -> None:
    try:
        read_numbers(text)
    except ValueError as error:
        raise lead.segment.error(5, str(error)) from error


def _mark_missing(row: NDArray[np.float64], lead: _Lead, flags: Flags) -> None:
    """Put NaN where nothing was measured, in place."""
    if (marker := lead.attributes.get(mdc.NOT_MEASURED)) is not None:
        count = _number(marker)
        # 0 and 1 are a flag and no count.
        row[row == count if count > 1.0 else slice(0)] = math.nan
    segment = lead.segment
    if segment.raw_field(11) == b"X" or not _UNUSABLE.isdisjoint(flags[segment.raw_field(8)]):
        row[:] = math.nan


def _millivolts(lead: _Lead) -> float:
    """Return what one unit of OBX-5 is."""
    unit = mdc.scale(lead.segment, 6, MILLIVOLTS)
    if unit is not None:
        return unit
    resolution = lead.attributes.get(mdc.RESOLUTION)
    unit = mdc.scale(resolution, 6, MILLIVOLTS) if resolution else None
    if resolution is None or unit is None:
        raise lead.segment.error(
            6, f"neither a unit nor {mdc.RESOLUTION} with one; the lead is not calibrated"
        )
    size = _number(resolution) * unit
    if not size > 0.0:
        raise resolution.error(5, f"a resolution of {size:g} mV")
    return size


def _flags(leads: list[_Lead]) -> Flags:
    """Read each OBX-8 that stands there once: most leads have the same."""
    segments = {lead.segment.raw_field(8): lead.segment for lead in leads}
    return {
        raw: frozenset(segment.field(8, repetition=n + 1) for n in range(segment.repetitions(8)))
        for raw, segment in segments.items()
    }


def _worst_mode(mode: Mode, flags: Flags) -> Mode:
    modes = {mode, *(_MODES[flag] for flag in frozenset[str]().union(*flags.values()) if flag in _MODES)}
    return next(worst for worst in ("demo", "test", "real") if worst in modes)


def _same(values: list[T], leads: list[_Lead], number: int, what: str) -> T:
    for value, lead in zip(values, leads, strict=True):
        if value != values[0]:
            raise lead.segment.error(
                number, f"{what} {value} of {lead.name} is not that of {leads[0].name}, {values[0]}"
            )
    return values[0]


def write_waveforms(
    waveforms: Waveforms, envelope: Envelope, *, resolution_mv: float = 0.001, location: str = ""
) -> bytes:
    """Write ORU^R01 that `read_waveforms` reads back, samples rounded to whole multiples of `resolution_mv`.

    A resolution of 1, 0.1, ... mV is written as decimals of millivolts, any other as counts with MDC_ATTR_NU_MSMT_RES.
    `start` is cut to 0.1 ms, the finest that HL7 v2 has. `location` goes into PV1-3, the bed.

    Raises
    ------
    UsageError
        If a sample is infinite or has more digits than a float64.
    """
    lines = [
        write_header("ORU^R01^ORU_R01", envelope, waveforms.mode),
        *write_patient(waveforms.patient_id, location),
        write_segment("OBR", "1", "", "", "WAVEFORM", "", "", write_time(waveforms.start)),
    ]
    values, size_mv = _texts(waveforms.samples_mv, resolution_mv)
    for number, lead in enumerate(waveforms.leads):
        lines += _write_lead(lead, values[number], number, waveforms, size_mv)
    return b"".join(lines)


def _texts(samples_mv: NDArray[np.float32], resolution_mv: float) -> tuple[list[str], float | None]:
    """Return each row's OBX-5, and the size of a count unless these are millivolts."""
    decimals = next((n for n in range(10) if resolution_mv == 10.0**-n), None)
    per_count = 1.0 / resolution_mv if decimals is None else 10.0**decimals
    counts = np.rint(samples_mv.astype(np.float64) * per_count)
    missing = np.isnan(counts)
    if not (np.abs(counts[~missing]) < 10**MAX_DIGITS).all():
        raise UsageError(
            f"samples in steps of {resolution_mv:g} mV have more than {MAX_DIGITS} digits, or are infinite"
        )
    counts[missing] = 0.0
    texts = [write_numbers(row, decimals or 0) for row in counts.astype(np.int64)]
    for number in np.flatnonzero(missing.any(axis=1)):
        parts = zip(texts[number].split("^"), missing[number], strict=True)
        texts[number] = "^".join("" if gone else part for part, gone in parts)
    return texts, resolution_mv if decimals is None else None


def _write_lead(
    lead: str, values: str, number: int, waveforms: Waveforms, size_mv: float | None
) -> list[bytes]:
    place = f"1.1.1.{number + 1}"
    flag = {mode: flag for flag, mode in _MODES.items()}.get(waveforms.mode, "")
    unit = _NO_UNIT if size_mv else _MILLIVOLT
    rate = np.format_float_positional(waveforms.rate_hz, trim="-")
    time = write_time(waveforms.start)
    rows = [
        ("NA", mdc.lead_code(lead), place, values, unit, "", flag, "", "", "R", "", "", time),
        ("NM", f"67981^{mdc.SAMPLING_RATE}^MDC", f"{place}.1", rate, _PER_SECOND, *_UNVERIFIED),
    ]
    if size_mv:
        size = np.format_float_positional(size_mv, trim="-")
        rows.append(("NM", f"2327^{mdc.RESOLUTION}^MDC", f"{place}.2", size, _MILLIVOLT, *_UNVERIFIED))
    first = number * len(rows) + 1
    return [write_segment("OBX", str(first + i), *row) for i, row in enumerate(rows)]
