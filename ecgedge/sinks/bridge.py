"""Estimates and alarms back to the front end, over the connection on which its samples come.

RESULT for each estimate, and for one that has expired (validity NA: blank the number); ALERT for each state of an
alarm. What a user acknowledges at the front end (ACK) goes to the bed.
"""

from __future__ import annotations

from typing import Final

from ecgedge.bundle import Bundle
from ecgedge.errors import UsageError
from ecgedge.events import Alarm, Estimate, Event, Expired
from ecgedge.feeds.base import Feed
from ecgedge.feeds.eeb_feed import EebFeed
from ecgedge.sinks.sdc import Acknowledge
from ecgedge_bridge import Alert, AlertKind, AlertPriority, Result, SignalPresence, Validity, make_result
from ecgedge_bridge.control import CONDITION_IDS

_VALIDITY: Final = {"valid": Validity.VLD, "questionable": Validity.QST, "invalid": Validity.INV}


class BridgeSink:
    """Sends RESULT and ALERT frames; events without a frame are passed over.

    Parameters
    ----------
    feed
        The front end's.
    bundle
        Whose id stands in each RESULT.
    bed
        What the bed is called.
    acknowledge
        Has the bed acknowledge what a user acknowledges at the front end; None where nobody may.

    Attributes
    ----------
    outdated
        Results that were not sent: of samples from before the device started anew.

    Raises
    ------
    UsageError
        If the feed does not speak the bridge protocol: there is no front end to answer to.
    """

    def __init__(
        self, feed: Feed, bundle: Bundle, *, bed: str = "bed1", acknowledge: Acknowledge | None = None
    ) -> None:
        if not isinstance(feed, EebFeed):
            raise UsageError(
                f"sink bridge answers on a serial:, tcp:// or ws:// feed, but the feed is {feed.info.uri}"
            )
        self._feed = feed
        self._model_id = int(bundle.id[:8], 16)
        self.outdated = 0
        if acknowledge is not None:
            ask = acknowledge

            async def obey(condition: str, user: str) -> None:
                await ask(bed, condition, user)

            feed.acknowledge(obey)

    async def send(self, event: Event) -> None:
        """Send what has a frame."""
        if isinstance(event, Alarm):
            self._feed.send_alert(self._alert(event))
        elif isinstance(event, (Estimate, Expired)):
            end_s = event.since_s if isinstance(event, Expired) else event.t_s
            index = self._feed.device_index(end_s) - 1
            if index < 0:
                self.outdated += 1
                return
            self._feed.send_result(self._result(event, index))

    def _result(self, event: Estimate | Expired, index: int) -> Result:
        if isinstance(event, Expired):
            simulated = self._feed.info.mode != "real"
            return make_result(
                seq=0,
                sample_index=index,
                validity=Validity.NA,
                model_id=self._model_id,
                latency_ms=(event.t_s - event.since_s) * 1e3,
                simulated=simulated,
            )
        return make_result(
            seq=0,
            sample_index=index,
            validity=_VALIDITY[event.validity],
            mpcwp_mmhg=event.mpcwp_mmhg,
            interval_mmhg=event.interval_mmhg,
            p_elevated=event.p_gt_18,
            sqi=event.sqi,
            model_id=self._model_id,
            latency_ms=event.latency_ms or 0.0,
            simulated=event.mode != "real",
        )

    def _alert(self, alarm: Alarm) -> Alert:
        return Alert(
            seq=0,
            sample_index=self._feed.device_index(alarm.t_s) % 2**32,
            condition=CONDITION_IDS[alarm.condition],
            kind=AlertKind[alarm.kind.upper()],
            priority=AlertPriority[alarm.priority.upper()],
            present=alarm.presence == "on",
            signal=SignalPresence[alarm.signal.upper()],
            simulated=self._feed.info.mode != "real",
        )

    async def close(self) -> None:
        """Nothing to release: the connection is the feed's."""
