"""An outlet of Lab Streaming Layer, as `ecgedge.feeds.lsl` reads it, and any other program of that world."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import declared_of
from ecgedge.feeds.lsl import LslAddress, import_pylsl, parse_lsl_uri
from ecgedge.feeds.lsl_stream import OURS
from ecgedge.rig.writing import LSB_NV

WAIT_S: Final = 0.2
"""How often it is asked whether somebody listens."""

LINGER_S: Final = 1.0
"""For so long an outlet stays after its last sample: LSL sends in the background, and with it goes what is not sent."""

_HEAD: Final = struct.Struct("<d")


class LslSender:
    """One outlet. A message is the stamp of its last sample, and float32 millivolts, channels of a sample together."""

    def __init__(self, pylsl: ModuleType, outlet: Any, info: FeedInfo) -> None:
        self._pylsl, self._outlet, self._info = pylsl, outlet, info
        self._ahead_s: float | None = None  # of the stream's time, the clock's

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return the message that carries a chunk; the first sample is stamped with the clock, the rest by the rate."""
        if self._ahead_s is None:
            self._ahead_s = self._pylsl.local_clock() - chunk.t_s
        stamp_s = self._ahead_s + chunk.t_s + (chunk.samples_mv.shape[1] - 1) / self._info.rate_hz
        return [_HEAD.pack(stamp_s) + chunk.samples_mv.T.astype("<f4").tobytes()]

    async def send(self, message: bytes) -> None:
        """Push one; FeedError when nobody listens any more."""
        if not self._outlet.have_consumers():
            raise FeedError("whoever listened to the outlet is gone")
        (stamp_s,) = _HEAD.unpack_from(message)
        values = np.frombuffer(message, "<f4", offset=_HEAD.size).reshape(-1, len(self._info.leads))
        self._outlet.push_chunk(values, stamp_s)
        await asyncio.sleep(0.0)  # no call here waits, and others have to run

    async def close(self) -> None:
        """Take the outlet away, once what was pushed has had time to go."""
        if self._outlet is not None:
            await asyncio.sleep(LINGER_S)
            self._outlet = None


async def send_lsl(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> LslSender:
    """Open an outlet as `lsl:NAME?type=ECG&source_id=ID` names it, and wait for somebody to listen."""
    address, pylsl = parse_lsl_uri(uri), import_pylsl()
    if "name" not in address.properties:
        raise FeedError(f"{uri}: an outlet needs a name, for example lsl:bed1")
    outlet = pylsl.StreamOutlet(describe(pylsl, address, info), max_buffered=60)
    say(f"waiting for a host: {uri}")
    while not outlet.have_consumers():
        await asyncio.sleep(WAIT_S)
    return LslSender(pylsl, outlet, info)


def describe(pylsl: ModuleType, address: LslAddress, info: FeedInfo) -> Any:
    """Return what the outlet says of itself: XDF's meta-data of channels, and an element of ours."""
    asked = {"type": "ECG", **address.properties}
    asked.setdefault("source_id", f"ecgedge {asked['name']}")
    described = pylsl.StreamInfo(
        asked["name"], asked["type"], len(info.leads), info.rate_hz, "float32", asked["source_id"]
    )
    channels = described.desc().append_child("channels")
    for lead in info.leads:
        channel = channels.append_child("channel")
        for name, value in (("label", lead), ("unit", "mV"), ("type", "ECG")):
            channel.append_child_value(name, value)
    ours = described.desc().append_child(OURS)
    declared = declared_of(info, lsb_nv=LSB_NV)
    ours.append_child_value("mode", declared.mode)
    ours.append_child_value("chunk_ms", f"{declared.chunk_s * 1e3:g}")
    return described
