"""EEB v1, the frames between an ECG front end and ecgedge; standard library only. See PROTOCOL.md."""

from __future__ import annotations

from ecgedge_bridge.codec import RejectedError, pack, to_wire, unpack
from ecgedge_bridge.control import (
    Ack,
    Alert,
    AlertKind,
    AlertPriority,
    Config,
    ConfigAck,
    ConfigStatus,
    Control,
    Error,
    ErrorCode,
    FilterMode,
    Frame,
    Info,
    Mode,
    Ping,
    Pong,
    SignalPresence,
)
from ecgedge_bridge.decoder import Counters, Decoder, version_error
from ecgedge_bridge.frames import Data, FrameType, Result, SampleFormat, Validity, make_result
from ecgedge_bridge.sender import encode_stream
from ecgedge_bridge.timesync import ClockFit, Exchange, fit_clock

__all__ = [
    "Ack",
    "Alert",
    "AlertKind",
    "AlertPriority",
    "ClockFit",
    "Config",
    "ConfigAck",
    "ConfigStatus",
    "Control",
    "Counters",
    "Data",
    "Decoder",
    "Error",
    "ErrorCode",
    "Exchange",
    "FilterMode",
    "Frame",
    "FrameType",
    "Info",
    "Mode",
    "Ping",
    "Pong",
    "RejectedError",
    "Result",
    "SampleFormat",
    "SignalPresence",
    "Validity",
    "encode_stream",
    "fit_clock",
    "make_result",
    "pack",
    "to_wire",
    "unpack",
    "version_error",
]
