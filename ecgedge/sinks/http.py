"""Receivers that are asked over HTTP: what their answers mean, and their addresses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout

from ecgedge.errors import UsageError
from ecgedge.sinks.outbox import RefusedError, SinkError
from ecgedge.sinks.settings import sink_settings

REFUSALS: Final = frozenset({400, 409, 410, 413, 414, 415, 422})
"""Answers that say that the same request will never be taken; all others but 2xx are tried again."""

TIMEOUT_S: Final = 8.0
_MOST_TEXT: Final = 160


@dataclass(frozen=True)
class HttpAddress:
    """Where requests go. `options` stood behind `#`, which no server sees: `ca` and what the sink knows."""

    url: str
    tls: ssl.SSLContext | bool
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        """The address without its query, which may hold a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


def parse_http(url: str, *, known: tuple[str, ...], example: str) -> HttpAddress:
    """Read `https://HOST/PATH#ca=FILE&...`.

    Raises
    ------
    UsageError
        Naming what is missing or wrong.
    """
    address, _, options = url.partition("#")
    settings = sink_settings(options, ("ca", *known), uri=url)
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise UsageError(f"{address!r}: expected http://HOST/PATH or https://..., for example {example}")
        if parts.username is not None:
            raise UsageError(f"{example}: a user or a password in a URL ends up in logs; leave it out")
        ca = settings.get("ca")
        tls = True if ca is None else ssl.create_default_context(cafile=ca)
    except (ValueError, OSError) as error:
        raise UsageError(f"{address!r}: {error}; expected an address as {example}") from error
    return HttpAddress(address, tls, settings)


class Poster:
    """Posts to one address over connections that stay open."""

    def __init__(self, address: HttpAddress) -> None:
        self._address = address
        self._session: ClientSession | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post, and take a 2xx for a yes.

        Raises
        ------
        SinkError
            If nobody answers, or the answer is to be tried again.
        RefusedError
            If it says that this will never be taken.
        """
        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=TIMEOUT_S))
        try:
            # A redirect would send patients' data somewhere that nobody has named.
            async with self._session.post(
                self._address.url, data=body, headers=headers, ssl=self._address.tls, allow_redirects=False
            ) as answer:
                if 200 <= answer.status < 300:
                    return
                text = (await answer.content.read(4096)).decode("utf-8", "replace")
        except (ClientError, OSError, asyncio.TimeoutError) as error:
            raise SinkError(f"cannot be reached ({error or type(error).__name__})") from error
        why = f"it answered {answer.status} {answer.reason}: {' '.join(text.split())[:_MOST_TEXT]}"
        raise RefusedError(why) if answer.status in REFUSALS else SinkError(why)

    async def close(self) -> None:
        """Close the connections; safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
