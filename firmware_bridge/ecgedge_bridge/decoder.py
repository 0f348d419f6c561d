"""Bytes in, frames out: nothing on the wire raises, and everything that is lost has a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ecgedge_bridge import cobs
from ecgedge_bridge.codec import VERSION_MAJOR, RejectedError, open_envelope, read_payload
from ecgedge_bridge.control import Error, ErrorCode, Frame
from ecgedge_bridge.frames import MAX_FRAME

MAX_ENCODED: Final = MAX_FRAME + 3
"""No COBS encoding of MAX_FRAME bytes is longer: one code byte first, one more per 254 bytes."""


@dataclass
class Counters:
    """What became of everything that was pushed; names and meaning as in PROTOCOL.md section 7.

    Attributes
    ----------
    frames
        Frames handed to the caller.
    bad_cobs
        The bytes between two delimiters end inside a COBS block.
    oversize
        They stand for more than 640 bytes.
    bad_length
        Too short for a frame or for its type's payload, or another length than the header says.
    bad_crc
        The check value is wrong.
    bad_version
        Another major version of the protocol.
    unknown_type
        A sound frame of a type that this version does not know.
    bad_field
        A sound frame with a value that its field must not have.
    long_payload
        Frames handed to the caller whose payload is longer than this version knows; the rest was skipped.
    lost_frames
        Sequence numbers that never came, those of damaged frames among them.
    seq_back
        Sequence numbers that went back: the sender started anew.
    """

    frames: int = 0
    bad_cobs: int = 0
    oversize: int = 0
    bad_length: int = 0
    bad_crc: int = 0
    bad_version: int = 0
    unknown_type: int = 0
    bad_field: int = 0
    long_payload: int = 0
    lost_frames: int = 0
    seq_back: int = 0


class Decoder:
    """The receiving end of one byte stream."""

    def __init__(self) -> None:
        self._counters = Counters()
        self._pending = bytearray()
        self._next_seq: int | None = None

    @property
    def counters(self) -> Counters:
        """A copy of the counters as they stand."""
        return replace(self._counters)

    def push(self, data: bytes) -> list[Frame]:
        """Take the next bytes, in any portions, and return the frames that they complete."""
        *complete, rest = bytes(data).split(b"\0")
        frames: list[Frame] = []
        for piece in complete:
            self._keep(piece)
            frame = self._judge(bytes(self._pending))
            self._pending.clear()
            if frame is not None:
                frames.append(frame)
        self._keep(rest)
        return frames

    def _keep(self, piece: bytes) -> None:
        # One byte more than any frame needs is enough to know that it is too long: garbage without
        # delimiters takes no memory.
        self._pending += piece[: MAX_ENCODED + 1 - len(self._pending)]

    def take(self, decoded: bytes) -> Frame | None:
        """Take one decoded frame of a transport that keeps messages apart; None for one that is dropped and counted."""
        try:
            envelope = open_envelope(_within(decoded))
            self._follow(envelope.seq)
            frame, skipped = read_payload(envelope)
        except RejectedError as rejected:
            self._count(rejected.counter)
            return None
        self._counters.frames += 1
        self._counters.long_payload += skipped > 0
        return frame

    def _judge(self, encoded: bytes) -> Frame | None:
        if not encoded:
            return None  # Delimiters in a row: an idle line, or a sender that flushes.
        try:
            decoded = _unstuff(encoded)
        except RejectedError as rejected:
            self._count(rejected.counter)
            return None
        return self.take(decoded)

    def _follow(self, seq: int) -> None:
        ahead = 0 if self._next_seq is None else (seq - self._next_seq) % 2**16
        if ahead < 2**15:
            self._counters.lost_frames += ahead
        else:
            self._counters.seq_back += 1
        self._next_seq = (seq + 1) % 2**16

    def _count(self, name: str) -> None:
        setattr(self._counters, name, getattr(self._counters, name) + 1)


def version_error(before: Counters, after: Counters, *, seq: int) -> Error | None:
    """Return what to tell a peer that speaks another major version; None where none was heard.

    Parameters
    ----------
    before, after
        The decoder's counters when this was last asked, and now. Ask at most once a second (PROTOCOL.md section 9).
    seq
        Number of the frame to send.
    """
    if after.bad_version == before.bad_version:
        return None
    return Error(seq=seq, code=ErrorCode.VERSION, detail=VERSION_MAJOR)


def _within(decoded: bytes) -> bytes:
    if len(decoded) > MAX_FRAME:
        raise RejectedError("oversize")
    return decoded


def _unstuff(encoded: bytes) -> bytes:
    if len(encoded) > MAX_ENCODED:
        raise RejectedError("oversize")
    try:
        return cobs.decode(encoded, limit=MAX_FRAME)
    except cobs.CobsSizeError:
        raise RejectedError("oversize") from None
    except cobs.CobsError:
        raise RejectedError("bad_cobs") from None
