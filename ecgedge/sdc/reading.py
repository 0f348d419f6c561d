"""What a provider's description and reports say of ECG waveforms: XML in, values out; no I/O and no library of SDC.

Source: ISO/IEEE 11073-10207, BICEPS: RealTimeSampleArrayMetricDescriptor, WaveformStream, SampleArrayValue.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Mode, check_rate
from ecgedge.errors import FeedError, RecordError
from ecgedge.leads import STANDARD_LEADS, canonical_lead
from ecgedge.mdc import LEADS, MILLIVOLTS

PM: Final = "http://standards.ieee.org/downloads/11073/11073-10207-2017/participant"
MSG: Final = "http://standards.ieee.org/downloads/11073/11073-10207-2017/message"
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"

MOST_SAMPLES: Final = 100_000
"""Of one lead in a report."""

_DURATION: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_GOOD: Final = frozenset({"Vld", "Vldated", "Qst", "Ong"})
"""Validities under which samples were measured; under all others they are taken as not measured."""

_MODES: Final[dict[str, Mode]] = {"Real": "real", "Test": "test", "Demo": "demo"}


@dataclass(frozen=True)
class Waveform:
    """One ECG lead that a provider describes; `resolution_mv` is None where it names none."""

    handle: str
    lead: str
    rate_hz: float
    mv_per_unit: float
    resolution_mv: float | None
    chunk_s: float | None


@dataclass(frozen=True)
class Stretch:
    """What a report says of one lead: samples in millivolts (NaN where not measured), and the first one's time."""

    handle: str
    t_s: float
    samples_mv: NDArray[np.float32]
    mode: Mode


def read_waveforms(description: Any, *, source: str) -> list[Waveform]:
    """Return the ECG leads of a description (an lxml element), in the standard order.

    Raises
    ------
    FeedError
        If there are none, a lead comes twice, two have different rates, or one has a unit or a rate that cannot be.
    """
    found: dict[str, Waveform] = {}
    others = 0
    for metric in description.iter(f"{{{PM}}}Metric"):
        if not metric.get(f"{{{XSI}}}type", "").endswith("RealTimeSampleArrayMetricDescriptor"):
            continue
        lead = _lead(metric)
        if lead is None:
            others += 1
        elif lead in found:
            raise FeedError(f"{source}: lead {lead} is there twice; which one is meant, nobody can know")
        else:
            found[lead] = _waveform(metric, lead, source)
    if not found:
        raise FeedError(
            f"{source}: the provider describes no ECG waveform ({others} others): many SDC devices send numbers only. "
            "Ask for its real-time waveform option, or take another feed"
        )
    if len(rates := {waveform.rate_hz for waveform in found.values()}) > 1:
        raise FeedError(
            f"{source}: leads have different rates ({', '.join(f'{r:g}' for r in sorted(rates))} Hz)"
        )
    return sorted(found.values(), key=lambda waveform: STANDARD_LEADS.index(waveform.lead))


def _lead(metric: Any) -> str | None:
    """Return the lead that a metric's type names by its code, or by a text; None if it is no ECG lead."""
    kind = metric.find(f"{{{PM}}}Type")
    if kind is None:
        return None
    if (code := kind.get("Code", "")) in LEADS:
        return LEADS[code]
    for name in (kind.get("SymbolicCodeName", ""), *(text.text or "" for text in kind)):
        try:
            return canonical_lead(name.removeprefix("MDC_ECG_ELEC_POTL_"))
        except ValueError:
            continue
    return None


def _waveform(metric: Any, lead: str, source: str) -> Waveform:
    unit = metric.find(f"{{{PM}}}Unit")
    code = "" if unit is None else unit.get("Code", "")
    if code not in MILLIVOLTS:
        raise FeedError(
            f"{source}: lead {lead} has the unit {code!r}; expected volts, mV or uV (266418, 266419)"
        )
    period_s = duration_s(metric.get("SamplePeriod", ""))
    if not period_s:
        raise FeedError(
            f"{source}: lead {lead} has the sample period {metric.get('SamplePeriod')!r}; expected PT0.002S"
        )
    rate_hz = _rate(1.0 / period_s)
    try:
        check_rate(rate_hz, source=source)
    except RecordError as error:
        raise FeedError(str(error)) from error
    step = _number(metric.get("Resolution", ""))
    return Waveform(
        handle=metric.get("Handle", ""),
        lead=lead,
        rate_hz=rate_hz,
        mv_per_unit=MILLIVOLTS[code],
        resolution_mv=step * MILLIVOLTS[code] if step > 0.0 else None,
        chunk_s=duration_s(metric.get("DeterminationPeriod", "")),
    )


def _rate(rate_hz: float) -> float:
    """Return a rate, whole where a rounded period means that: PT0.00278S is 360 Hz, not 359.7."""
    whole = round(rate_hz)
    return float(whole) if abs(rate_hz - whole) < 2e-3 * rate_hz else rate_hz


def duration_s(text: str) -> float | None:
    """Return an xs:duration of days and less in seconds; None if it is none, or no time."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0.0) for part in match.groups())
    total_s = days * 86_400.0 + hours * 3_600.0 + minutes * 60.0 + seconds
    return total_s if 0.0 < total_s < math.inf else None


def read_stretches(report: Any, waveforms: Sequence[Waveform], dropped: Counter[str]) -> Iterator[Stretch]:
    """Yield what a WaveformStream (an lxml element) says of these leads.

    Whatever is wrong is counted in `dropped` and passed over: `other_handles`, `no_value`, `bad_time`, `bad_samples`,
    `bad_mode`.
    """
    by_handle = {waveform.handle: waveform for waveform in waveforms}
    for state in report.iter(f"{{{MSG}}}State"):
        waveform = by_handle.get(state.get("DescriptorHandle", ""))
        value = state.find(f"{{{PM}}}MetricValue")
        if waveform is None or value is None:
            dropped["other_handles" if waveform is None else "no_value"] += 1
            continue
        found = _stretch(value, waveform)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            yield found


def _stretch(value: Any, waveform: Waveform) -> Stretch | str:
    milliseconds = _number(value.get("DeterminationTime", ""))
    if not 0.0 < milliseconds < 1e14:
        return "bad_time"
    quality = value.find(f"{{{PM}}}MetricQuality")
    validity, mode = (
        ("", "Real") if quality is None else (quality.get("Validity", ""), quality.get("Mode", "Real"))
    )
    if mode not in _MODES:
        return "bad_mode"
    samples = _samples(value.get("Samples", ""))
    if samples is None:
        return "bad_samples"
    samples_mv = (samples * waveform.mv_per_unit).astype(np.float32)
    if validity not in _GOOD:
        samples_mv[:] = np.nan
    return Stretch(waveform.handle, milliseconds / 1e3, samples_mv, _MODES[mode])


def _samples(text: str) -> NDArray[np.float64] | None:
    """Return numbers; None where something else stands among them, there are none, or too many."""
    words = text.split()
    if not 0 < len(words) <= MOST_SAMPLES:
        return None
    try:
        found = np.array(words, dtype=np.float64)
    except ValueError:
        return None
    return found if bool(np.isfinite(found).all()) and np.abs(found).max() < 1e9 else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
