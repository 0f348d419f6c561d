"""What a bed says, as HL7 v2: an estimate as ORU^R01, an alarm as ORU^R40.

Modelled on IHE PCD TF-2 (PCD-01 and PCD-04, OBX-8 and OBX-11 of appendix B.8). Every message says that it is an
estimate, for research use only, and that of a simulation says so. OBX-11 is R, "not verified": F would say that a
person has validated the number.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from ecgedge.ecg import Mode
from ecgedge.events import Alarm, Estimate, Priority, Validity
from ecgedge.hl7.header import Envelope, write_header, write_patient
from ecgedge.hl7.message import escape, write_segment
from ecgedge.hl7.numbers import write_time

Phase = Literal["start", "update", "escalate", "de-escalate", "end"]

OWN_CODES: Final = "99ECGEDGE"
"""Names the codes that the nomenclature does not have."""

_MPCWP: Final = "150052^MDC_PRESS_BLD_ART_PULM_WEDGE^MDC"
_MMHG: Final = "266016^MDC_DIM_MMHG^MDC"
_NO_UNIT: Final = "262656^MDC_DIM_DIMLESS^MDC"
_CALCULATED: Final = "ACALC^auto-calculation^MDC"
_ALARM: Final = "196616^MDC_EVT_ALARM^MDC"
_HIGH: Final = "196648^MDC_EVT_HI^MDC"
_HIGH_CONDITIONS: Final = frozenset({"MPCWP_ELEVATED", "MPCWP_RISING"})
_STATUS: Final[dict[Validity, tuple[str, str]]] = {
    "valid": ("", "R"),
    "questionable": ("QUES", "R"),
    "invalid": ("INV", "X"),
}
_MODE_FLAGS: Final[dict[Mode, str]] = {"real": "", "test": "TEST", "demo": "DEMO"}
_MODE_NOTES: Final[dict[Mode, str]] = {"real": "", "test": " Test data.", "demo": " Simulated data."}
_PRIORITIES: Final[dict[Priority, str]] = {"none": "PN", "low": "PL", "medium": "PM", "high": "PH"}
_ORDER: Final = tuple(_PRIORITIES)
_NOTE: Final = "Estimate from the ECG, not a measurement. Research use only."


def write_estimate(
    estimate: Estimate, envelope: Envelope, *, at: datetime, patient_id: str | None = None, location: str = ""
) -> bytes:
    """Write an estimate as ORU^R01; `at` is the time of the window's end, `estimate.t_s` in the world's time.

    The first OBX is mPCWP, its value left out where there is none. Below it (OBX-4) stand the interval, the
    probabilities, the signal quality and, as text, lead set, reason and calibration, as far as the estimate has them.
    """
    flag, status = _STATUS[estimate.validity]
    flags = "~".join(x for x in (flag, _MODE_FLAGS[estimate.mode]) if x)
    value = _decimal(estimate.mpcwp_mmhg)
    if not value:
        flags, status = "~".join(x for x in (flag or "NAV", _MODE_FLAGS[estimate.mode]) if x), "X"
    first = ("NM", _MPCWP, "1.1.1.1", value, _MMHG, "", flags, "", "", status, "", "", write_time(at), "", "")
    lines = [
        write_header("ORU^R01^ORU_R01", envelope, estimate.mode),
        *write_patient(patient_id, location),
        write_segment(
            "OBR", "1", "", escape(envelope.control_id), _own("MPCWP_ESTIMATE"), "", "", write_time(at)
        ),
        write_segment("OBX", "1", *first, _CALCULATED),
        write_segment("NTE", "1", "", _NOTE + _MODE_NOTES[estimate.mode]),
    ]
    rows = [row for row in _facets(estimate) if row[2]]
    for number, (kind, name, value, unit) in enumerate(rows, 1):
        row = (
            kind,
            _own(name),
            f"1.1.1.1.{number}",
            value,
            unit,
            "",
            _MODE_FLAGS[estimate.mode],
            "",
            "",
            status,
        )
        lines.append(write_segment("OBX", str(number + 1), *row))
    return b"".join(lines)


def _facets(estimate: Estimate) -> list[tuple[str, str, str, str]]:
    low, high = estimate.interval_mmhg or (None, None)
    calibration = estimate.calibration
    offset = None if calibration is None else calibration.offset_mmhg
    return [
        ("NM", "MPCWP_INTERVAL_LOW", _decimal(low), _MMHG),
        ("NM", "MPCWP_INTERVAL_HIGH", _decimal(high), _MMHG),
        ("NM", "P_MPCWP_GT_15", _decimal(estimate.p_gt_15), _NO_UNIT),
        ("NM", "P_MPCWP_GT_18", _decimal(estimate.p_gt_18), _NO_UNIT),
        ("NM", "SIGNAL_QUALITY", _decimal(estimate.sqi), _NO_UNIT),
        ("NM", "CALIBRATION_OFFSET", _decimal(offset), _MMHG),
        ("ST", "LEADS", escape(",".join(estimate.leads)), ""),
        ("ST", "VARIANT", escape(estimate.variant or ""), ""),
        ("ST", "REASON", escape(estimate.reason or ""), ""),
    ]


def write_alarm(
    alarm: Alarm,
    envelope: Envelope,
    *,
    at: datetime,
    mode: Mode,
    alert_id: str,
    previous: Alarm | None = None,
    mpcwp_mmhg: float | None = None,
    patient_id: str | None = None,
    location: str = "",
) -> bytes:
    """Write an alarm as ORU^R40 with the facets of PCD-04.

    Parameters
    ----------
    alarm, previous
        The transition, and the one of the same condition before it, which decides the event phase.
    at
        The time of the transition, `alarm.t_s` in the world's time.
    alert_id
        The same for all messages of one alarm, from its onset to its end.
    mpcwp_mmhg
        The estimate that the alarm is about, if any.
    """
    phase = event_phase(alarm, previous)
    lines = [
        write_header("ORU^R40^ORU_R40", envelope, mode),
        *write_patient(patient_id, location),
        _order(alert_id, first=phase == "start", at=at),
    ]
    facets = [
        ("ST", _identity(alarm), escape(alarm.text), "", _alarm_flags(alarm, mode)),
        *([("NM", _MPCWP, _decimal(mpcwp_mmhg), _MMHG, "")] if mpcwp_mmhg is not None else []),
        ("ST", "68481^MDC_ATTR_EVENT_PHASE^MDC", phase, "", ""),
        ("ST", "68482^MDC_ATTR_ALARM_STATE^MDC", _alarm_state(alarm), "", ""),
        ("ST", "68483^MDC_ATTR_ALARM_INACTIVATION_STATE^MDC", _inactivation(alarm), "", ""),
    ]
    for number, (kind, name, value, unit, flags) in enumerate(facets, 1):
        row = (kind, name, f"1.1.1.1.{number}", value, unit, "", flags, "", "", "R", "", "", write_time(at))
        lines.append(write_segment("OBX", str(number), *row))
        if number == 1:
            lines.append(write_segment("NTE", "1", "", _NOTE + _MODE_NOTES[mode]))
    return b"".join(lines)


def event_phase(alarm: Alarm, previous: Alarm | None = None) -> Phase:
    """Return what a transition is of its alarm, given the one before it of the same condition."""
    if alarm.presence == "off":
        return "end" if previous is None or previous.presence == "on" else "update"
    if previous is None or previous.presence == "off":
        return "start"
    change = _ORDER.index(alarm.priority) - _ORDER.index(previous.priority)
    return "escalate" if change > 0 else "de-escalate" if change < 0 else "update"


def _order(alert_id: str, *, first: bool, at: datetime) -> bytes:
    fields = ["1", "", escape(alert_id), _ALARM, "", "", write_time(at), *[""] * 21]
    return write_segment("OBR", *fields, "" if first else f"^{escape(alert_id)}")


def _identity(alarm: Alarm) -> str:
    code = _HIGH if alarm.condition in _HIGH_CONDITIONS else _ALARM
    return f"{code}^{_own(alarm.condition)}"


def _alarm_flags(alarm: Alarm, mode: Mode) -> str:
    """OBX-8 of the first facet: abnormality, priority, source; H~PM~SP."""
    high = "H" if alarm.condition in _HIGH_CONDITIONS and alarm.presence == "on" else ""
    source = "SP" if alarm.kind == "physiological" else "ST"
    return "~".join(x for x in (high, _PRIORITIES[alarm.priority], source, _MODE_FLAGS[mode]) if x)


def _alarm_state(alarm: Alarm) -> str:
    if alarm.signal == "latched":
        return "latched"
    return "active" if alarm.presence == "on" else "inactive"


def _inactivation(alarm: Alarm) -> str:
    if alarm.audible == "paused":
        return "audio-paused"
    return "alert-acknowledged" if alarm.signal == "acknowledged" else "enabled"


def _own(name: str) -> str:
    return f"{escape(name)}^{escape(name)}^{OWN_CODES}"


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
