"""Acknowledgements: ACK with MSA, and with ERR where a message was not taken.

Source: HL7 v2.6, chapter 2 (2.9.2 original mode, 2.15.5 ERR, 2.15.8 MSA); tables 0008, 0357 and 0516.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, cast, get_args

from ecgedge.ecg import Mode
from ecgedge.errors import Hl7Error
from ecgedge.hl7.header import Envelope, read_mode, write_header
from ecgedge.hl7.message import Message, escape, parse, write_segment

Code = Literal["AA", "AE", "AR"]
"""Taken; taken in, but wrong; not taken in (come again later)."""

AnyCode = Literal["AA", "AE", "AR", "CA", "CE", "CR"]
"""What a receiver may answer: with C, that it has stored the message, or not (enhanced mode)."""

_ERROR: Final = "207^Application internal error^HL70357"


@dataclass(frozen=True)
class Acknowledgement:
    """What a receiver says of the message whose MSH-10 was `control_id`."""

    code: AnyCode
    control_id: str
    text: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the message has arrived and nothing was wrong with it."""
        return self.code in ("AA", "CA")


def acknowledge(message: Message, envelope: Envelope, code: Code = "AA", text: str | None = None) -> bytes:
    """Write the acknowledgement of a message, addressed to its sender; `text` says what was wrong."""
    to = replace(envelope, to_application=message.field("MSH", 3), to_facility=message.field("MSH", 4))
    trigger = escape(message.field("MSH", 9, 2))
    lines = [
        write_header(f"ACK^{trigger}^ACK" if trigger else "ACK", to, _mode(message), acknowledge=False),
        write_segment("MSA", code, escape(message.control_id) or '""', escape((text or "")[:60])),
    ]
    if code != "AA":
        fields = ("", "", _ERROR, "E", "", "", "", escape(text or "not taken"))
        lines.append(write_segment("ERR", *fields))
    return b"".join(lines)


def read_acknowledgement(data: bytes) -> Acknowledgement:
    """Read an acknowledgement, of original or enhanced mode.

    Raises
    ------
    Hl7Error
        If it is no message, has no MSA, or another code than AA, AE, AR, CA, CE, CR.
    """
    message = parse(data)
    answer = message.segment("MSA")
    code = answer.field(1)
    if code not in get_args(AnyCode):
        raise answer.error(1, f"the code {code!r}; expected one of {', '.join(get_args(AnyCode))}")
    text = message.field("ERR", 8) or answer.field(3)
    return Acknowledgement(cast("AnyCode", code), answer.field(2), text)


def _mode(message: Message) -> Mode:
    try:
        return read_mode(message)
    except Hl7Error:
        return "real"  # What is acknowledged then is that this is wrong.
