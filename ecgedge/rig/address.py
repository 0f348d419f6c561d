"""The address that a sender listens on or connects to, out of a URI."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from ecgedge.errors import FeedError


@dataclass(frozen=True)
class Address:
    """A URI, read."""

    host: str
    port: int
    path: str
    options: Mapping[str, str]


def parse_address(uri: str, *, options: Collection[str], form: str) -> Address:
    """Read `SCHEME://HOST:PORT/PATH?...` with these options at most.

    Raises
    ------
    FeedError
        Saying which `form` is expected.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise FeedError(f"{uri}: {error}; expected {form}") from error
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not host or port is None or found.keys() - set(options):
        raise FeedError(f"{uri}: expected {form}")
    return Address(host, port, parts.path, found)
