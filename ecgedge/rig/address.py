"""The address that a sender listens on or connects to, out of a URI."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ecgedge.errors import FeedError
from ecgedge.query import read_query


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
        found = read_query(parts.query, options)
    except ValueError as error:
        raise FeedError(f"{uri}: {error}; expected {form}") from error
    if not host or port is None:
        raise FeedError(f"{uri}: expected {form}")
    return Address(host, port, parts.path, found)


def options_of(uri: str, query: str, known: Collection[str]) -> dict[str, str]:
    """Return the settings of a sender's URI; FeedError names one that is unknown or stands twice."""
    try:
        return read_query(query, known)
    except ValueError as error:
        raise FeedError(f"{uri}: {error}") from error
