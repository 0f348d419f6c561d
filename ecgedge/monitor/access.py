"""Who may see and do what: by which name the page is reached, from which pages it is asked, and by whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from aiohttp import web

from ecgedge.monitor.settings import LOOPBACK_NAMES

Role = Literal["view", "acknowledge", "admin"]

Why = Literal["wrong_host", "wrong_origin"]

_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Person:
    """Who looks; `user` None: whoever is at this machine, and types a name."""

    user: str | None
    role: Role


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that gets this answer, counted under `why`."""

    def __init__(self, why: Why, status: int, text: str) -> None:
        super().__init__(text)
        self.why: Why = why
        self.answer = web.Response(status=status, text=f"{text}\n")


class Access:
    """Checks requests.

    Parameters
    ----------
    hosts
        Names, without ports, under which browsers may reach the page.
    secure
        Whether it is served over TLS.
    """

    def __init__(self, *, hosts: Sequence[str] = LOOPBACK_NAMES, secure: bool = False) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._scheme = "https" if secure else "http"
        self.refused: Counter[str] = Counter()

    def check(self, request: web.Request) -> None:
        """Raise `Refused` where a request may not be answered."""
        host = _host_of(request.host)
        if host not in self._hosts:
            raise Refused("wrong_host", 421, "the page is not known by this name; see docs/page.md on names")
        asks_more = request.method not in _SAFE or request.path == "/ws"
        if asks_more and not self._same_origin(request):
            raise Refused("wrong_origin", 403, "only the page itself may ask for this")

    def _same_origin(self, request: web.Request) -> bool:
        """Whether our own page asks; who sends no Origin is no browser, and no page misleads it."""
        origin = request.headers.get("Origin")
        return origin is None or origin.lower() == f"{self._scheme}://{request.host}".lower()

    def watcher(self, request: web.Request) -> Callable[[], Person | None]:
        """Return what says who looks through this request, for as long as it may."""
        del request
        return lambda: Person(None, "acknowledge")

    def routes(self, static: Mapping[str, bytes]) -> list[web.RouteDef]:
        """Return the addresses of logging in and out."""
        del static
        return []


def _host_of(text: str) -> str:
    """Return the host of HOST or HOST:PORT, in lower case; "" where it is none."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""
