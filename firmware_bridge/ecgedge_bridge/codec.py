"""Frames to their exact bytes and back (PROTOCOL.md sections 2 to 6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ecgedge_bridge import cobs, control_codec
from ecgedge_bridge.control import Frame
from ecgedge_bridge.crc import crc32c
from ecgedge_bridge.frames import (
    CRC_SIZE,
    DATA_HEAD_SIZE,
    HEADER_SIZE,
    MAX_CHANNELS,
    MAX_FRAME,
    NO_VALUE,
    Data,
    FrameType,
    Result,
    SampleFormat,
    Validity,
)

VERSION_MAJOR: Final = 1
FLAG_SIMULATED: Final = 1

_HEADER: Final = "<BBHHH"
_CRC: Final = "<I"
_DATA: Final = "<IQIBBBB"
_RESULT: Final = "<IhhhHBBIH"
_RESULT_SIZE: Final = 20


class RejectedError(Exception):
    """Bytes that are no frame for us; `counter` is the name under which they are counted."""

    def __init__(self, counter: str) -> None:
        super().__init__(counter)
        self.counter = counter


def pack(frame: Frame) -> bytes:
    """Return the decoded form of `frame`: header, payload, CRC."""
    kind, payload = _payload(frame)
    flags = FLAG_SIMULATED if frame.simulated else 0
    body = struct.pack(_HEADER, VERSION_MAJOR, kind, frame.seq, len(payload), flags) + payload
    return body + struct.pack(_CRC, crc32c(body))


def to_wire(frame: Frame) -> bytes:
    """Return `frame` as a byte stream carries it: COBS and the delimiter."""
    return cobs.encode(pack(frame)) + b"\0"


def unpack(decoded: bytes) -> Frame:
    """Return the frame in one message of a transport that keeps messages apart: what `pack` gave.

    Raises
    ------
    RejectedError
        Naming oversize, or a counter of `open_envelope` or `read_payload`.
    """
    if len(decoded) > MAX_FRAME:
        raise RejectedError("oversize")
    frame, _ = read_payload(open_envelope(decoded))
    return frame


@dataclass(frozen=True)
class Envelope:
    """A frame whose CRC, version and length are right; its payload is not read yet."""

    type: int
    seq: int
    flags: int
    payload: bytes


def open_envelope(decoded: bytes) -> Envelope:
    """Check a decoded frame up to its payload, in the order of PROTOCOL.md section 6.

    Raises
    ------
    RejectedError
        Naming bad_length, bad_crc or bad_version.
    """
    if len(decoded) < HEADER_SIZE + CRC_SIZE:
        raise RejectedError("bad_length")
    body = decoded[:-CRC_SIZE]
    if crc32c(body) != struct.unpack(_CRC, decoded[-CRC_SIZE:])[0]:
        raise RejectedError("bad_crc")
    version, kind, seq, length, flags = struct.unpack_from(_HEADER, body)
    if version != VERSION_MAJOR:
        raise RejectedError("bad_version")
    payload = body[HEADER_SIZE:]
    if length != len(payload):
        raise RejectedError("bad_length")
    return Envelope(type=kind, seq=seq, flags=flags, payload=payload)


def read_payload(envelope: Envelope) -> tuple[Frame, int]:
    """Return the frame in `envelope` and how many bytes of its payload this version does not know.

    Raises
    ------
    RejectedError
        Naming unknown_type, bad_length or bad_field.
    """
    reader = _READERS.get(envelope.type)
    if reader is None:
        raise RejectedError("unknown_type")
    try:
        return reader(envelope)
    except ValueError as error:
        raise RejectedError("bad_field") from error


def _payload(frame: Frame) -> tuple[FrameType, bytes]:
    if isinstance(frame, Data):
        return FrameType.DATA, _data_payload(frame)
    if isinstance(frame, Result):
        return FrameType.RESULT, _result_payload(frame)
    return control_codec.write(frame)


def _data_payload(data: Data) -> bytes:
    head = struct.pack(
        _DATA,
        data.sample_index,
        data.t_us,
        data.lead_off,
        data.n_channels,
        data.n_samples,
        data.fmt,
        data.gain_id,
    )
    if data.fmt is SampleFormat.I16:
        return head + struct.pack(f"<{len(data.counts)}h", *data.counts)
    return head + b"".join(count.to_bytes(3, "little", signed=True) for count in data.counts)


def _result_payload(result: Result) -> bytes:
    low, mid, high = (
        NO_VALUE if p is None else p for p in (result.low_cmmhg, result.mpcwp_cmmhg, result.high_cmmhg)
    )
    return struct.pack(
        _RESULT,
        result.sample_index,
        mid,
        low,
        high,
        result.p_elevated_u16,
        result.sqi_u8,
        result.validity,
        result.model_id,
        result.latency_ms,
    )


def _read_data(envelope: Envelope) -> tuple[Frame, int]:
    payload = envelope.payload
    if len(payload) < DATA_HEAD_SIZE:
        raise RejectedError("bad_length")
    sample_index, t_us, lead_off, n_channels, n_samples, fmt, gain_id = struct.unpack_from(_DATA, payload)
    if not 1 <= n_channels <= MAX_CHANNELS or n_samples == 0:
        raise RejectedError("bad_field")
    end = DATA_HEAD_SIZE + n_channels * n_samples * SampleFormat(fmt).width
    if len(payload) < end:
        raise RejectedError("bad_length")
    data = Data(
        seq=envelope.seq,
        sample_index=sample_index,
        t_us=t_us,
        n_channels=n_channels,
        counts=_counts(payload[DATA_HEAD_SIZE:end], SampleFormat(fmt)),
        fmt=SampleFormat(fmt),
        lead_off=lead_off,
        gain_id=gain_id,
        simulated=bool(envelope.flags & FLAG_SIMULATED),
    )
    return data, len(payload) - end


def _counts(packed: bytes, fmt: SampleFormat) -> tuple[int, ...]:
    if fmt is SampleFormat.I16:
        return struct.unpack(f"<{len(packed) // 2}h", packed)
    return tuple(
        int.from_bytes(packed[at : at + 3], "little", signed=True) for at in range(0, len(packed), 3)
    )


def _read_result(envelope: Envelope) -> tuple[Frame, int]:
    if len(envelope.payload) < _RESULT_SIZE:
        raise RejectedError("bad_length")
    index, mid, low, high, p_elevated, sqi, validity, model_id, latency_ms = struct.unpack_from(
        _RESULT, envelope.payload
    )
    result = Result(
        seq=envelope.seq,
        sample_index=index,
        validity=Validity(validity),
        mpcwp_cmmhg=_value(mid),
        low_cmmhg=_value(low),
        high_cmmhg=_value(high),
        p_elevated_u16=p_elevated,
        sqi_u8=sqi,
        model_id=model_id,
        latency_ms=latency_ms,
        simulated=bool(envelope.flags & FLAG_SIMULATED),
    )
    return result, len(envelope.payload) - _RESULT_SIZE


def _read_control(envelope: Envelope) -> tuple[Frame, int]:
    size = control_codec.SIZES[envelope.type]
    if len(envelope.payload) < size:
        raise RejectedError("bad_length")
    simulated = bool(envelope.flags & FLAG_SIMULATED)
    message = control_codec.read(envelope.type, envelope.payload, seq=envelope.seq, simulated=simulated)
    return message, len(envelope.payload) - size


_READERS: Final[dict[int, Callable[[Envelope], tuple[Frame, int]]]] = {
    FrameType.DATA: _read_data,
    FrameType.RESULT: _read_result,
    **dict.fromkeys(control_codec.SIZES, _read_control),
}


def _value(raw: int) -> int | None:
    return None if raw == NO_VALUE else raw
