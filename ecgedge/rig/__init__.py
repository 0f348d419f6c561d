"""A test rig: plays any feed into a transport, as a device would, with faults if asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ecgedge.errors import UsageError
from ecgedge.feeds import FeedInfo
from ecgedge.rig.faults import Faults, FaultyLine, parse_faults
from ecgedge.rig.lsl import send_lsl
from ecgedge.rig.mllp import send_mllp
from ecgedge.rig.mqtt import send_mqtt
from ecgedge.rig.play import Sender, TwoWay, play
from ecgedge.rig.sdc import send_sdc
from ecgedge.rig.serial import send_serial
from ecgedge.rig.tcp import send_tcp
from ecgedge.rig.vital import send_vital
from ecgedge.rig.ws import send_ws

_OPENERS: dict[str, Callable[..., Awaitable[Sender]]] = {
    "tcp": send_tcp,
    "serial": send_serial,
    "mllp": send_mllp,
    "mllps": send_mllp,
    "mqtt": send_mqtt,
    "mqtts": send_mqtt,
    "sdc": send_sdc,
    "sdcs": send_sdc,
    "vital": send_vital,
    "ws": send_ws,
    "lsl": send_lsl,
}


async def open_sender(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> Sender:
    """Open the transport that `uri` names, for samples as `info` declares them; `say` hears when it is there.

    Raises
    ------
    UsageError
        On an unknown scheme.
    FeedError
        If it cannot be opened.
    """
    scheme = uri.partition(":")[0]
    if scheme not in _OPENERS:
        known = ", ".join(f"{name}:" for name in _OPENERS)
        raise UsageError(
            f"cannot send to {uri!r}: expected one of {known} for example mqtt://127.0.0.1/ward/bed1"
        )
    return await _OPENERS[scheme](uri, info, say=say)


__all__ = ["Faults", "FaultyLine", "Sender", "TwoWay", "open_sender", "parse_faults", "play"]
