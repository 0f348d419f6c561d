"""Where the page listens, and what it needs there: loopback alone is open to whoever is on this machine."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from ecgedge.errors import UsageError

_PORT: Final = re.compile(r"[0-9]{1,5}")
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")

SHIFT_H: Final = 12.0
"""Who acknowledges does so by the name that has logged in, so none may stay logged in for longer than a shift."""

SESSION_H: Final = (0.25, 720.0)
"""The shortest and the longest session that can be asked for."""

HOW_TO_EXPOSE: Final = (
    "other machines can reach it, so it needs TLS and users: give a certificate and its key (--page-cert FILE, "
    "--page-key FILE; in a ward's file page_cert, page_key) and a file of users (--page-users FILE; page_users), "
    "made by `ecgedge page add FILE NAME`; or leave the address out, and the page is "
    "for this machine alone (docs/page.md)"
)


@dataclass(frozen=True)
class PageSettings:
    """Where the page listens and who may look.

    Attributes
    ----------
    address
        PORT or HOST:PORT; port 0 lets the system choose.
    users
        File of users; without it, whoever is on this machine may look and acknowledge.
    cert, key
        PEM files for TLS.
    hosts
        Further names under which browsers reach the page.
    session_h
        Hours after which a session ends; more than `SHIFT_H` is for those who may only view, as a display on a wall.
    """

    address: str
    users: str | None = None
    cert: str | None = None
    key: str | None = None
    hosts: tuple[str, ...] = ()
    session_h: float = SHIFT_H

    @property
    def host(self) -> str:
        """Where it listens."""
        return parse_address(self.address)[0]

    @property
    def port(self) -> int:
        """The port; 0 lets the system choose."""
        return parse_address(self.address)[1]

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        return is_loopback(self.host)


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of PORT, HOST:PORT or [IPv6]:PORT; UsageError if it is none of them."""
    host, colon, port = text.rpartition(":")
    host = (host.removeprefix("[").removesuffix("]") if colon else "") or "127.0.0.1"
    if not _PORT.fullmatch(port) or int(port) > 65535 or (":" in host and f"[{host}]" not in text):
        raise UsageError(f"the page's address is {text!r}; expected PORT or HOST:PORT, for example 8080")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone; a name other than localhost may mean anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_settings(settings: PageSettings) -> None:
    """Refuse a page that would be open to others.

    Raises
    ------
    UsageError
        Where other machines could reach it without TLS or users, half of a pair of files is given, or a session would
        last for longer, or less, than it may.
    """
    if not SESSION_H[0] <= settings.session_h <= SESSION_H[1]:
        raise UsageError(
            f"a session of the page is to last {settings.session_h:g} hours; it may last {SESSION_H[0]:g} to "
            f"{SESSION_H[1]:g}"
        )
    if (settings.cert is None) != (settings.key is None):
        raise UsageError("the page's certificate and its key go together: give both, or none")
    if settings.is_loopback:
        if settings.hosts and settings.users is None:
            raise UsageError(
                f"the page is to be reached as {settings.hosts[0]}, so not by this machine alone: it needs a file of "
                "users (--page-users FILE)"
            )
        return
    if settings.cert is None or settings.users is None:
        raise UsageError(f"the page is to listen on {settings.host}: {HOW_TO_EXPOSE}")
