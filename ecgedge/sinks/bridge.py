"""Estimates back to the front end as RESULT frames, over the connection on which its samples come."""

from __future__ import annotations

from typing import Final

from ecgedge.bundle import Bundle
from ecgedge.errors import UsageError
from ecgedge.events import Estimate, Event
from ecgedge.feeds.base import Feed
from ecgedge.feeds.tcp import TcpFeed
from ecgedge_bridge import Validity, make_result, to_wire

_VALIDITY: Final = {"valid": Validity.VLD, "questionable": Validity.QST, "invalid": Validity.INV}


class BridgeSink:
    """Sends a RESULT frame for each estimate; other events have no frame yet and are passed over.

    Raises
    ------
    UsageError
        If the feed is no `tcp://` feed: there is no front end to answer to.
    """

    def __init__(self, feed: Feed, bundle: Bundle) -> None:
        if not isinstance(feed, TcpFeed):
            raise UsageError(f"sink bridge answers on a tcp:// feed, but the feed is {feed.info.uri}")
        self._feed = feed
        self._model_id = int(bundle.id[:8], 16)
        self._seq = 0

    async def send(self, event: Event) -> None:
        """Send one frame if the event is an estimate."""
        if not isinstance(event, Estimate):
            return
        result = make_result(
            seq=self._seq,
            sample_index=round(event.t_s * self._feed.info.rate_hz) - 1,
            validity=_VALIDITY[event.validity],
            mpcwp_mmhg=event.mpcwp_mmhg,
            interval_mmhg=event.interval_mmhg,
            p_elevated=event.p_gt_18,
            sqi=event.sqi,
            model_id=self._model_id,
            latency_ms=event.latency_ms or 0.0,
            simulated=event.mode != "real",
        )
        self._seq += 1
        await self._feed.send_result(to_wire(result))

    async def close(self) -> None:
        """Nothing to release: the connection is the feed's."""
