"""A device on an MQTT broker, as `ecgedge.feeds.mqtt` hears it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import declared_of, positive_setting
from ecgedge.feeds.messages import write_declared
from ecgedge.feeds.mqtt import OFFLINE, ONLINE, MqttAddress, connect, import_aiomqtt, parse_mqtt_uri
from ecgedge.rig.writing import LSB_NV, MessageWriter


class MqttSender:
    """Publishes messages below a topic; its last will says that it is gone."""

    def __init__(self, client: Any, address: MqttAddress, writer: MessageWriter) -> None:
        self._client, self._address, self._writer = client, address, writer

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return the messages that carry a chunk."""
        return self._writer.encode(chunk)

    async def send(self, message: bytes) -> None:
        """Publish one.

        Raises
        ------
        FeedError
            If the broker is gone.
        """
        await self._publish("json" if self._writer.is_json else "data", message, qos=self._address.qos)

    async def announce(self, declared: bytes) -> None:
        """Publish what the device declares, and that it is there."""
        await self._publish("info", declared, qos=1, retain=True)
        await self._publish("status", ONLINE, qos=1, retain=True)

    async def close(self) -> None:
        """Say that nothing more comes, and disconnect."""
        await self._publish("status", OFFLINE, qos=1, retain=True)
        await self._client.__aexit__(None, None, None)

    async def _publish(self, kind: str, message: bytes, *, qos: int, retain: bool = False) -> None:
        try:
            await self._client.publish(f"{self._address.topic}/{kind}", message, qos=qos, retain=retain)
        except import_aiomqtt().MqttError as error:
            raise FeedError(f"{self._address.uri}: the broker does not take a message ({error})") from error


async def send_mqtt(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> MqttSender:
    """Connect to the broker of an `mqtt://` URI, with `format=binary|json` and `lsb_nv=` if wanted."""
    address = parse_mqtt_uri(uri, more=("format", "lsb_nv"))
    kind = address.options.get("format", "binary")
    declared = declared_of(info, lsb_nv=positive_setting(address.options, "lsb_nv", LSB_NV, uri=uri))
    writer = MessageWriter(info, declared, kind=kind, uri=uri)
    will = import_aiomqtt().Will(f"{address.topic}/status", OFFLINE, qos=1, retain=True)
    client = await connect(address, will=will)
    sender = MqttSender(client, address, writer)
    await sender.announce(write_declared(declared))
    say(f"sending to {uri}")
    return sender
