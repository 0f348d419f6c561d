"""Sink `webhook:https://HOST/PATH#secret=FILE&ca=FILE`: events as JSON over HTTP, signed.

A request holds one or more events, in order: {"type": "ecgedge.events", "timestamp": ..., "data": {"events": [...]}}.
With a secret it is signed as Standard Webhooks 1.0 has it (https://www.standardwebhooks.com): headers `webhook-id`,
`webhook-timestamp` and `webhook-signature`. The same `webhook-id` may come twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from typing import Final

from ecgedge.errors import UsageError
from ecgedge.sinks.http import HttpAddress, Poster, parse_http
from ecgedge.sinks.outbox import Told
from ecgedge.sinks.settings import read_secret

MOST: Final = 100
_EXAMPLE: Final = "webhook:https://alerts.example/ecgedge#secret=webhook.secret"
_PREFIX: Final = "whsec_"


def read_key(text: str) -> bytes:
    """Return the key of a secret, base64 after `whsec_`; UsageError if it is none."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise UsageError(f"the webhook's secret is no base64 ({error}); {_how()}") from error
    if len(key) < 24:
        raise UsageError(f"the webhook's secret has {len(key)} bytes; it needs 24 or more: {_how()}")
    return key


def _how() -> str:
    return "make one with: echo whsec_$(openssl rand -base64 32) > webhook.secret"


def sign(key: bytes, *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `webhook-signature` (Standard Webhooks 1.0, "Signature scheme": HMAC-SHA256)."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class WebhookReceiver:
    """One address that takes events."""

    def __init__(self, address: HttpAddress, *, key: bytes | None) -> None:
        self._address, self._key = address, key
        self._poster = Poster(address)

    @property
    def name(self) -> str:
        """The address."""
        return f"webhook:{self._address.name}"

    @property
    def most(self) -> int:
        """As many as a server takes without a word about the size."""
        return MOST

    @property
    def kinds(self) -> None:
        """All."""
        return None

    async def deliver(self, told: Sequence[Told]) -> None:
        """Post them in one request."""
        timestamp = told[0].plain["at"]
        events = [one.plain for one in told]
        document = {"type": "ecgedge.events", "timestamp": timestamp, "data": {"events": events}}
        body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        message_id, timestamp_s = f"{told[0].id}-{len(told)}", int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
        }
        if self._key is not None:
            headers["webhook-signature"] = sign(
                self._key, message_id=message_id, timestamp_s=timestamp_s, body=body
            )
        await self._poster.post(body, headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()


def open_webhook(uri: str) -> WebhookReceiver:
    """Make the receiver of a `webhook:` URI; UsageError says what is wrong with it."""
    address = parse_http(uri.partition(":")[2], known=("secret",), example=_EXAMPLE)
    secret = address.options.get("secret")
    key = None if secret is None else read_key(read_secret(secret, what="the webhook's secret"))
    return WebhookReceiver(address, key=key)
