"""MLLP, the framing of HL7 v2 on a byte stream: 0x0B, the message, 0x1C 0x0D.

Source: HL7 v2 Transport Specification, Minimal Lower Layer Protocol, release 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ecgedge.errors import UsageError

START: Final = b"\x0b"
END: Final = b"\x1c\r"
MAX_MESSAGE_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class MllpCounters:
    """What became of the bytes.

    Attributes
    ----------
    messages
        Delivered.
    bytes_outside
        Bytes that stood in no frame, and were dropped.
    oversized
        Messages dropped since they were longer than the limit.
    unfinished
        Messages dropped since another began before their end.
    """

    messages: int = 0
    bytes_outside: int = 0
    oversized: int = 0
    unfinished: int = 0


def frame(message: bytes) -> bytes:
    """Wrap a message for the wire.

    Raises
    ------
    UsageError
        If it holds a byte 0x0B or the bytes 0x1C 0x0D, which would end the frame.
    """
    if START in message or END in message or message.endswith(END[:1]):
        raise UsageError(
            "the message holds the bytes that frame it (0x0B, 0x1C 0x0D); send them escaped, as \\X0B\\"
        )
    return START + message + END


class MllpDecoder:
    """Takes bytes as they come and gives whole messages; what it gives does not depend on how the bytes were cut.

    It keeps `max_bytes` at most. Nothing that stands on the wire raises.
    """

    def __init__(self, *, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        if max_bytes < 1:
            raise UsageError(f"max_bytes is {max_bytes}; a message has at least one byte")
        self.counters = MllpCounters()
        self._max_bytes = max_bytes
        self._inside = False
        self._too_long = False
        self._held = bytearray()
        self._half_end = False

    def push(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the messages that end in them, without their frames."""
        if self._half_end and data:
            data = END[:1] + data
            self._half_end = False
        messages: list[bytes] = []
        at, end = 0, -1
        while at < len(data):
            if not self._inside:
                at = self._enter(data, at)
                continue
            # Looked for once a frame, so that many starts in a row cost no more than their bytes.
            if end < at:
                end = _find(data, END, at)
            stop = min(end, _find(data, START, at, end))
            self._keep(data, at, stop)
            at = stop
            if stop == len(data):
                break
            if stop == end:
                messages += self._finish()
                at += len(END)
            else:
                self._restart()
                at += len(START)
        self._count(messages=len(messages))
        return messages

    def _enter(self, data: bytes, at: int) -> int:
        start = _find(data, START, at)
        self._count(bytes_outside=start - at)
        self._inside = start < len(data)
        return start + len(START)

    def _keep(self, data: bytes, at: int, stop: int) -> None:
        # A last 0x1C may be half of an end.
        if stop == len(data) and stop > at and data.endswith(END[:1]):
            self._half_end = True
            stop -= 1
        if self._too_long or stop == at:
            return
        if len(self._held) + stop - at > self._max_bytes:
            self._too_long = True
            self._held.clear()
            self._count(oversized=1)
        else:
            self._held += memoryview(data)[at:stop]

    def _finish(self) -> list[bytes]:
        message = [] if self._too_long else [bytes(self._held)]
        self._inside = False
        self._clear()
        return message

    def _restart(self) -> None:
        if not self._too_long:
            self._count(unfinished=1)
        self._clear()

    def _clear(self) -> None:
        self._held.clear()
        self._too_long = False

    def _count(
        self, *, messages: int = 0, bytes_outside: int = 0, oversized: int = 0, unfinished: int = 0
    ) -> None:
        was = self.counters
        self.counters = replace(
            was,
            messages=was.messages + messages,
            bytes_outside=was.bytes_outside + bytes_outside,
            oversized=was.oversized + oversized,
            unfinished=was.unfinished + unfinished,
        )


def _find(data: bytes, what: bytes, at: int, stop: int | None = None) -> int:
    """Return where `what` stands, or else the length of `data`."""
    found = data.find(what, at, len(data) if stop is None else stop)
    return len(data) if found < 0 else found
