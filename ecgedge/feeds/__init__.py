"""Where samples come from. A URI names the feed; its scheme picks the module below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ecgedge.errors import FeedError
from ecgedge.feeds.base import Chunk, Feed, FeedInfo
from ecgedge.feeds.file import open_file
from ecgedge.feeds.mllp import open_mllp
from ecgedge.feeds.mqtt import open_mqtt
from ecgedge.feeds.sim import open_sim
from ecgedge.feeds.tcp import open_tcp
from ecgedge.feeds.vital import open_vital
from ecgedge.feeds.ws import open_ws

_OPENERS: dict[str, Callable[..., Awaitable[Feed]]] = {
    "sim": open_sim,
    "file": open_file,
    "tcp": open_tcp,
    "mllp": open_mllp,
    "mqtt": open_mqtt,
    "mqtts": open_mqtt,
    "vital": open_vital,
    "ws": open_ws,
    "wss": open_ws,
}


async def open_feed(uri: str, *, speed: float = 1.0) -> Feed:
    """Open the feed that `uri` names.

    Parameters
    ----------
    uri
        `sim:NAME?seed=1`, `file:PATH?loop=1`, `tcp://HOST:PORT?leads=I,II&rate_hz=500&lsb_nv=...`
        `mllp://HOST:PORT` (listens), `vital://HOST:PORT?vr=CODE` (listens), `mqtt://HOST:PORT/TOPIC` or `ws://HOST:PORT/PATH`.
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
        raise FeedError(f"cannot open feed {uri!r}: expected one of {known} for example sim:stable?seed=1")
    if not speed > 0.0:
        raise FeedError(f"speed is {speed:g}; it must be above 0 (or max)")
    return await _OPENERS[scheme](uri, speed=speed)


__all__ = ["Chunk", "Feed", "FeedInfo", "open_feed"]
