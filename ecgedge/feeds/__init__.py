"""Where samples come from. A URI names the feed; its scheme picks the module below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ecgedge.errors import FeedError
from ecgedge.feeds.base import Chunk, Feed, FeedInfo
from ecgedge.feeds.file import open_file
from ecgedge.feeds.lsl import open_lsl
from ecgedge.feeds.mllp import open_mllp
from ecgedge.feeds.mqtt import open_mqtt
from ecgedge.feeds.sdc import open_sdc
from ecgedge.feeds.serial import open_serial
from ecgedge.feeds.sim import open_sim
from ecgedge.feeds.tcp import open_tcp
from ecgedge.feeds.vital import open_vital
from ecgedge.feeds.ws import open_ws

_OPENERS: dict[str, Callable[..., Awaitable[Feed]]] = {
    "sim": open_sim,
    "file": open_file,
    "tcp": open_tcp,
    "serial": open_serial,
    "mllp": open_mllp,
    "mllps": open_mllp,
    "mqtt": open_mqtt,
    "mqtts": open_mqtt,
    "sdc": open_sdc,
    "sdcs": open_sdc,
    "vital": open_vital,
    "ws": open_ws,
    "wss": open_ws,
    "lsl": open_lsl,
}


async def open_feed(uri: str, *, speed: float = 1.0) -> Feed:
    """Open the feed that `uri` names.

    Parameters
    ----------
    uri
        `sim:NAME?seed=1`, `file:PATH?loop=1`, `tcp://HOST:PORT`, `serial:DEVICE?baud=921600`,
        `mllp://HOST:PORT` and `vital://HOST:PORT?vr=CODE` (which listen), `mqtt://HOST:PORT/TOPIC`,
        `ws://HOST:PORT/PATH`, `sdc://HOST:PORT/PATH` or `lsl:NAME`; docs/feeds.md has them all.
    speed
        1 plays in real time, infinity as fast as possible; live feeds ignore it.

    Raises
    ------
    FeedError
        On an unknown scheme or a feed that cannot be opened.
    RecordError
        If a file cannot be read.
    """
    scheme = uri.partition(":")[0]
    if scheme not in _OPENERS or ":" not in uri:
        known = ", ".join(f"{name}:" for name in _OPENERS)
        file = "" if ":" in uri else f"; to play a recording: file:{uri}"
        raise FeedError(
            f"cannot open feed {uri!r}: expected one of {known} for example sim:stable?seed=1{file}"
        )
    if not speed > 0.0:
        raise FeedError(f"speed is {speed:g}; it must be above 0 (or max)")
    return await _OPENERS[scheme](uri, speed=speed)


def is_played(uri: str) -> bool:
    """Tell whether `uri` names a feed that is played and no live one: what is wrong with it stays wrong."""
    scheme = uri.partition(":")[0]
    return scheme in ("sim", "file") or scheme not in _OPENERS


__all__ = ["Chunk", "Feed", "FeedInfo", "is_played", "open_feed"]
