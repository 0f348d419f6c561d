"""MSH, PID and PV1, as all our messages begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ecgedge.ecg import Mode
from ecgedge.hl7.message import Message, escape, write_segment
from ecgedge.hl7.numbers import write_time

VERSION: Final = "2.6"
_PROCESSING: Final[dict[Mode, str]] = {"real": "P", "test": "T", "demo": "D"}
_MODES: Final[dict[str, Mode]] = {code: mode for mode, code in _PROCESSING.items()}


@dataclass(frozen=True)
class Envelope:
    """Who sends a message to whom, when, and under which control id; the caller owns clock and counter.

    `profile` goes into MSH-21, where a receiver asks for one, for example
    ("IHE_PCD_ACM_001", "IHE PCD", "1.3.6.1.4.1.19376.1.6.4.4", "ISO"). To name one is to claim it: none by default.
    """

    time: datetime
    control_id: str
    application: str = "ECGEDGE"
    facility: str = ""
    to_application: str = ""
    to_facility: str = ""
    profile: tuple[str, ...] = ()


def write_header(kind: str, envelope: Envelope, mode: Mode, *, acknowledge: bool = True) -> bytes:
    """Write MSH of a message of `kind`, "ORU^R01^ORU_R01"; with `acknowledge`, the receiver is to answer always."""
    names = (envelope.application, envelope.facility, envelope.to_application, envelope.to_facility)
    return write_segment(
        "MSH",
        "^~\\&",
        *map(escape, names),
        write_time(envelope.time),
        "",
        kind,
        escape(envelope.control_id),
        _PROCESSING[mode],
        VERSION,
        "",
        "",
        "NE" if acknowledge else "",
        "AL" if acknowledge else "",
        "",
        "UNICODE UTF-8",
        "",
        "",
        "^".join(map(escape, envelope.profile)),
    )


def write_patient(patient_id: str | None, location: str) -> list[bytes]:
    """Write PID and PV1: the id, or null, a name that is not told, and the bed."""
    patient = escape(patient_id) if patient_id else '""'
    return [
        write_segment("PID", "", "", patient, "", "^^^^^^U"),
        write_segment("PV1", "", "U", escape(location)),
    ]


def read_mode(message: Message) -> Mode:
    """Read MSH-11: P is real, T (training) is test, D (debugging) is demo.

    Raises
    ------
    Hl7Error
        If it is none of these: nobody shall take a simulation for a patient.
    """
    code = message.field("MSH", 11)
    if code not in _MODES:
        raise message.segment("MSH").error(11, f"the processing id {code!r}; expected P, T or D")
    return _MODES[code]
