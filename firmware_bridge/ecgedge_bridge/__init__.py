"""EEB v1, the frames between an ECG front end and ecgedge; standard library only. See PROTOCOL.md."""

from __future__ import annotations

from ecgedge_bridge.codec import RejectedError, pack, to_wire, unpack
from ecgedge_bridge.decoder import Counters, Decoder
from ecgedge_bridge.frames import (
    Data,
    Frame,
    FrameType,
    Result,
    SampleFormat,
    Validity,
    make_result,
)
from ecgedge_bridge.sender import encode_stream

__all__ = [
    "Counters",
    "Data",
    "Decoder",
    "Frame",
    "FrameType",
    "RejectedError",
    "Result",
    "SampleFormat",
    "Validity",
    "encode_stream",
    "make_result",
    "pack",
    "to_wire",
    "unpack",
]
