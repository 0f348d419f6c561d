"""Payloads of the messages in `control` (PROTOCOL.md sections 5.3 to 5.10): all of a fixed size."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from ecgedge_bridge.control import (
    SPEC_MAJOR,
    Ack,
    Alert,
    Config,
    ConfigAck,
    Control,
    Error,
    Info,
    Ping,
    Pong,
)
from ecgedge_bridge.frames import MAX_CHANNELS, FrameType


@dataclass(frozen=True)
class _Layout:
    """The plain fields of a message, in their order on the wire."""

    kind: FrameType
    message: type[Control]
    format: struct.Struct
    names: tuple[str, ...]


def _layout(kind: FrameType, message: type[Control], form: str, names: str) -> _Layout:
    return _Layout(kind, message, struct.Struct("<" + form), tuple(names.split()))


_INFO: Final = struct.Struct("<BBBBIIIHBB16s16sBBH")
_LAYOUTS: Final = (
    _layout(FrameType.ALERT, Alert, "IHBBBBH", "sample_index condition kind priority present signal text_id"),
    _layout(FrameType.ACK, Ack, "IHH", "sample_index condition user_id"),
    _layout(
        FrameType.CONFIG,
        Config,
        "HHIIBBBBB",
        "config_id channels rate_num rate_den n_samples fmt gain_id filter_mode mode",
    ),
    _layout(FrameType.CONFIG_ACK, ConfigAck, "IHBB", "sample_index config_id status field"),
    _layout(FrameType.PING, Ping, "IQ", "ping_id t1_us"),
    _layout(FrameType.PONG, Pong, "IQQQ", "ping_id t1_us t2_us t3_us"),
    _layout(FrameType.ERROR, Error, "BBHI", "code about_type about_seq detail"),
)
_BY_MESSAGE: Final = {layout.message: layout for layout in _LAYOUTS}
_BY_KIND: Final[dict[int, _Layout]] = {layout.kind: layout for layout in _LAYOUTS}

SIZES: Final[dict[int, int]] = {
    FrameType.INFO: _INFO.size,
    **{layout.kind: layout.format.size for layout in _LAYOUTS},
}
"""Bytes of each type's payload, as this version knows it."""


def write(message: Control) -> tuple[FrameType, bytes]:
    """Return the message's type and its payload."""
    if isinstance(message, Info):
        return FrameType.INFO, _write_info(message)
    layout = _BY_MESSAGE[type(message)]
    return layout.kind, layout.format.pack(*(getattr(message, name) for name in layout.names))


def read(kind: int, payload: bytes, *, seq: int, simulated: bool) -> Control:
    """Return the message of type `kind` in a payload of at least `SIZES[kind]` bytes; the rest is skipped.

    Raises
    ------
    ValueError
        When a field holds what it must not.
    """
    if kind == FrameType.INFO:
        return _read_info(payload, seq=seq, simulated=simulated)
    layout = _BY_KIND[kind]
    values: dict[str, Any] = dict(zip(layout.names, layout.format.unpack_from(payload), strict=True))
    return layout.message(seq=seq, simulated=simulated, **values)


def _write_info(info: Info) -> bytes:
    return _INFO.pack(
        SPEC_MAJOR,
        info.spec_minor,
        info.mode,
        info.filter_mode,
        info.rate_num,
        info.rate_den,
        info.lsb_pv,
        info.gain_centi,
        info.gain_id,
        len(info.leads),
        bytes(info.leads),
        info.serial.encode("ascii"),
        *info.firmware,
    )


def _read_info(payload: bytes, *, seq: int, simulated: bool) -> Info:
    major, minor, mode, filter_mode, num, den, lsb, gain, gain_id, n_channels, leads, serial, *firmware = (
        _INFO.unpack_from(payload)
    )
    if major != SPEC_MAJOR:
        raise ValueError(f"INFO of specification {major} in a frame of version {SPEC_MAJOR}")
    if n_channels > MAX_CHANNELS or any(leads[n_channels:]):
        raise ValueError(f"{n_channels} channels with leads {leads.hex()}")
    text = serial.rstrip(b"\0").decode("ascii")
    return Info(
        rate_num=num,
        rate_den=den,
        lsb_pv=lsb,
        gain_centi=gain,
        gain_id=gain_id,
        leads=tuple(leads[:n_channels]),
        serial=text,
        firmware=(firmware[0], firmware[1], firmware[2]),
        mode=mode,
        filter_mode=filter_mode,
        spec_minor=minor,
        seq=seq,
        simulated=simulated,
    )
