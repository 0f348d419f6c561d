"""Sink `mqtt://[USER@]HOST[:PORT]/TOPIC`, `mqtts://...?ca=FILE`: state and events on an MQTT v5 broker (extra `mqtt`).

Below TOPIC, all JSON but the first, all with quality of service 1:

    status                      retained: online; the last will sets offline
    BED/estimate                retained: the newest estimate; a broker forgets it after `lifetime_s` (600)
    BED/alarm/CONDITION         retained: the newest transition of an alarm
    BED/event                   every event, in order, not retained

An estimate that has expired (`expired`) is taken away from BED/estimate: nobody shall find a number that is too old.
With `discovery=homeassistant`, each bed announces itself below that topic as Home Assistant reads it. A password stands
in the environment variable ECGEDGE_MQTT_PASSWORD.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ecgedge.errors import FeedError, UsageError
from ecgedge.events import Alarm, Estimate, Expired
from ecgedge.feeds.mqtt import OFFLINE, ONLINE, MqttAddress, connect, import_aiomqtt, parse_mqtt_uri
from ecgedge.sinks.outbox import SinkError, Told

LIFETIME_S: Final = 600
MOST: Final = 50
_QOS: Final = 1


@dataclass(frozen=True)
class Publication:
    """One message. `lifetime_s` is after how long a broker forgets it, if it ever does."""

    topic: str
    payload: bytes
    retain: bool = False
    lifetime_s: int | None = None


def publications(told: Told, *, lifetime_s: int, age_s: float = 0.0) -> list[Publication]:
    """Return what an event that was told `age_s` ago puts on the broker, topics below TOPIC."""
    payload = json.dumps(told.plain, separators=(",", ":"), allow_nan=False).encode()
    event, found = told.event, [Publication(f"{told.bed}/event", payload)]
    if isinstance(event, Estimate):
        left_s = int(lifetime_s - age_s)
        if left_s > 0:
            found.append(Publication(f"{told.bed}/estimate", payload, retain=True, lifetime_s=left_s))
    elif isinstance(event, Expired):
        found.append(Publication(f"{told.bed}/estimate", b"", retain=True))
    elif isinstance(event, Alarm):
        found.append(Publication(f"{told.bed}/alarm/{event.condition}", payload, retain=True))
    return found


def discovery(bed: str, *, topic: str, prefix: str) -> list[Publication]:
    """Return what Home Assistant reads of a bed: its mPCWP estimate, and whether that is valid.

    Source: Home Assistant, MQTT integration, "MQTT Discovery" and "MQTT Sensor".
    """
    device = {
        "identifiers": [f"ecgedge_{bed}"],
        "name": f"Bed {bed} (research use only)",
        "manufacturer": "ecgedge",
    }
    common = {
        "state_topic": f"{topic}/{bed}/estimate",
        "availability_topic": f"{topic}/status",
        "device": device,
    }
    sensors: list[tuple[str, dict[str, Any]]] = [
        (
            "mpcwp",
            {
                "name": "mPCWP estimate",
                "unit_of_measurement": "mmHg",
                "state_class": "measurement",
                "value_template": "{{ value_json.mpcwp_mmhg }}",
                "expire_after": LIFETIME_S,
            },
        ),
        ("validity", {"name": "Validity of the estimate", "value_template": "{{ value_json.validity }}"}),
    ]
    found = []
    for name, more in sensors:
        config = {**common, **more, "unique_id": f"ecgedge_{bed}_{name}"}
        payload = json.dumps(config, separators=(",", ":")).encode()
        found.append(Publication(f"{prefix}/sensor/ecgedge_{bed}/{name}/config", payload, retain=True))
    return found


class MqttReceiver:
    """A broker; connected when there is something to deliver, and again after it was gone."""

    def __init__(self, address: MqttAddress, *, lifetime_s: int, prefix: str | None) -> None:
        self._address, self._lifetime_s, self._prefix = address, lifetime_s, prefix
        self._client: Any = None
        self._known: set[str] = set()

    @property
    def name(self) -> str:
        """The broker and the topic."""
        return self._address.uri.partition("?")[0]

    @property
    def most(self) -> int:
        """As many as are on their way at once."""
        return MOST

    @property
    def kinds(self) -> None:
        """All."""
        return None

    async def deliver(self, told: Sequence[Told]) -> None:
        """Publish them, and wait until the broker has all."""
        topic, now_s = self._address.topic, time.monotonic()
        found = [
            Publication(f"{topic}/{one.topic}", one.payload, one.retain, one.lifetime_s)
            for event in told
            for one in publications(event, lifetime_s=self._lifetime_s, age_s=now_s - event.since_s)
        ]
        try:
            client = await self._connected()
            new = sorted({event.bed for event in told} - self._known) if self._prefix is not None else []
            for bed in new:
                found += discovery(bed, topic=topic, prefix=self._prefix or "")
            await self._publish(client, found)
            self._known.update(new)
        except BaseException as error:
            await self.close()
            if isinstance(error, (FeedError, import_aiomqtt().MqttError, OSError)):
                why = str(error).removeprefix(f"{self._address.uri}: ")
                raise SinkError(f"the broker does not take events: {why}") from error
            raise

    async def close(self) -> None:
        """Say that nothing more comes, and disconnect; safe to call twice."""
        client, self._client = self._client, None
        if client is None:
            return
        with suppress(import_aiomqtt().MqttError, asyncio.TimeoutError, OSError):
            await client.publish(f"{self._address.topic}/status", OFFLINE, qos=_QOS, retain=True, timeout=1.0)
        with suppress(import_aiomqtt().MqttError, asyncio.TimeoutError, OSError):
            await client.__aexit__(None, None, None)

    async def _connected(self) -> Any:
        if self._client is None:
            aiomqtt = import_aiomqtt()
            status = f"{self._address.topic}/status"
            self._client = await connect(
                self._address, will=aiomqtt.Will(status, OFFLINE, qos=_QOS, retain=True)
            )
            self._known.clear()
            await self._client.publish(status, ONLINE, qos=_QOS, retain=True)
        return self._client

    async def _publish(self, client: Any, found: Sequence[Publication]) -> None:
        # Begun in order, so sent in order: MQTT keeps the order of a topic (v5, 4.6).
        sending = [
            asyncio.create_task(
                client.publish(
                    one.topic,
                    one.payload,
                    qos=_QOS,
                    retain=one.retain,
                    properties=_properties(one.lifetime_s),
                )
            )
            for one in found
        ]
        try:
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)


def _properties(lifetime_s: int | None) -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    if lifetime_s is None:
        return None
    make: Any = Properties  # Paho leaves it without types
    properties = make(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = lifetime_s
    return properties


def open_mqtt_sink(uri: str) -> MqttReceiver:
    """Make the receiver of an `mqtt://` URI; UsageError says what is wrong with it."""
    try:
        address = parse_mqtt_uri(uri, more=("lifetime_s", "discovery"))
    except FeedError as error:
        raise UsageError(str(error)) from error
    import_aiomqtt()
    lifetime = address.options.get("lifetime_s", str(LIFETIME_S))
    if not lifetime.isdecimal() or not 1 <= int(lifetime) <= 86_400:
        raise UsageError(f"{uri}: lifetime_s is {lifetime!r}; expected whole seconds from 1 to 86400")
    return MqttReceiver(address, lifetime_s=int(lifetime), prefix=address.options.get("discovery"))
