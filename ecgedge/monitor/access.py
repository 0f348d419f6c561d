"""Who may see and do what: by which name the page is reached, from which pages it is asked, and by whom."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from aiohttp import web

from ecgedge.monitor.rates import Rate, network_of
from ecgedge.monitor.sessions import Sessions
from ecgedge.monitor.settings import LOOPBACK_NAMES, SHIFT_H
from ecgedge.monitor.users import Role, UsersBook

Why = Literal[
    "wrong_host",
    "wrong_origin",
    "no_login",
    "wrong_token",
    "expired_token",
    "wrong_password",
    "wrong_form",
    "refused_by_role",
    "too_many_logins",
    "too_many_requests",
]

REQUESTS: Final = (200.0, 50.0)
"""Of one address at once, and a second."""

_SAFE: Final = frozenset({"GET", "HEAD"})
_PAGES: Final = "/bed/"


@dataclass(frozen=True)
class Person:
    """Who looks; `user` None: whoever is at this machine, and types a name."""

    user: str | None
    role: Role


Watcher = Callable[[], Person | None]
"""Says who looks, for as long as it may; None from then on."""


class RefusalError(Exception):
    """A request that gets this answer, counted under `why`."""

    def __init__(self, why: Why, answer: web.Response) -> None:
        super().__init__(why)
        self.why: Why = why
        self.answer = answer


def refused(why: Why, status: int, text: str, **headers: str) -> RefusalError:
    """Make a refusal that says why in a line of text."""
    return RefusalError(why, web.Response(status=status, text=f"{text}\n", headers=headers))


class Access:
    """Checks requests.

    Parameters
    ----------
    users
        Who may come in; None: whoever reaches the page, which must be this machine alone.
    hosts
        Names, without ports, under which browsers may reach the page.
    secure
        Whether it is served over TLS.
    session_h
        Hours after which a session ends; of one that may do more than look, `SHIFT_H` at most.
    now_s
        A clock that is never set.
    """

    def __init__(
        self,
        users: UsersBook | None = None,
        *,
        hosts: Sequence[str] = LOOPBACK_NAMES,
        secure: bool = False,
        session_h: float = SHIFT_H,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.users, self.secure = users, secure
        self._hosts = frozenset(host.lower() for host in hosts)
        self.sessions = Sessions(now_s=now_s, longest_s=3600.0 * session_h)
        self._requests = Rate(burst=REQUESTS[0], per_s=REQUESTS[1], now_s=now_s)
        self.refused: Counter[str] = Counter()

    def check(self, request: web.Request) -> None:
        """Raise `RefusalError` where a request may not be answered."""
        if not self._requests.take(address_of(request)):
            raise refused("too_many_requests", 429, "too many requests; wait", **{"Retry-After": "2"})
        self._check_host(request)
        if request.method not in _SAFE or request.path == "/ws":
            self._check_origin(request)
        if _is_public(request.path):
            return
        if self.watcher(request)() is None:
            raise self._not_known(request)

    def _check_host(self, request: web.Request) -> None:
        """Refuse a name that is not ours: a page elsewhere may have had its own name point here (DNS rebinding)."""
        host = host_of(request.host)
        if host in self._hosts or (host and host == _local_address(request)):
            return
        raise refused(
            "wrong_host", 421, "the page is not known by this name; see --page-host in docs/page.md"
        )

    def _check_origin(self, request: web.Request) -> None:
        """Refuse what another page asks for. Who sends no Origin is no browser; with a cookie it must be one."""
        origin = request.headers.get("Origin")
        if origin is None and cookie_name(request, secure=self.secure) not in request.cookies:
            return
        scheme = "https" if self.secure else "http"
        if origin is None or origin.lower() != f"{scheme}://{request.host}".lower():
            raise refused("wrong_origin", 403, "only the page itself may ask for this")

    def _not_known(self, request: web.Request) -> RefusalError:
        if (token := _bearer(request)) is not None and self.users is not None:
            expired = self.users.by_token(token)[1]
            why: Why = "expired_token" if expired else "wrong_token"
            text = "the token has expired" if expired else "the token is not known"
            return refused(why, 401, text, **{"WWW-Authenticate": "Bearer"})
        if request.method in _SAFE and (request.path == "/" or request.path.startswith(_PAGES)):
            place = f"/login?next={quote(request.path, safe='')}"
            return RefusalError("no_login", web.Response(status=303, headers={"Location": place}))
        return refused("no_login", 401, "log in first", **{"WWW-Authenticate": "Bearer"})

    def watcher(self, request: web.Request) -> Watcher:
        """Return what says who looks through this request."""
        users = self.users
        if users is None:
            return lambda: Person(None, "acknowledge")
        token, session = _bearer(request), self.session_of(request)
        if token is not None:
            return lambda: self._by_token(users, token)
        return lambda: self._by_session(users, session)

    def session_of(self, request: web.Request) -> str:
        """Return the name of the session that a browser holds, or one that none has."""
        return request.cookies.get(cookie_name(request, secure=self.secure), "")

    def _by_token(self, users: UsersBook, token: str) -> Person | None:
        user, _ = users.by_token(token)
        return None if user is None else Person(user.name, user.role)

    def _by_session(self, users: UsersBook, name: str) -> Person | None:
        session = self.sessions.use(name)
        user = None if session is None else users.by_name(session.user)
        if session is None or user is None or user.password != session.proof:
            return None
        if user.role != "view" and self.sessions.age_s(session) >= 3600.0 * SHIFT_H:
            return None
        return Person(user.name, user.role)


def _is_public(path: str) -> bool:
    """Whether who has not logged in may ask for this: the way in, and what is in every copy of the program."""
    return path in ("/login", "/healthz") or path.startswith("/static/")


def _bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def address_of(request: web.Request) -> str:
    """Return where a request comes from, as rates count it."""
    return network_of(request.remote or "")


def cookie_name(request: web.Request, *, secure: bool) -> str:
    """Return the name of the session's cookie: cookies know no ports, and pages of several beds may be on one host."""
    return f"{'__Host-' if secure else ''}ecgedge-{_local_port(request)}"


def _local_address(request: web.Request) -> str:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return str(name[0]) if name else ""


def _local_port(request: web.Request) -> int:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return int(name[1]) if name else 0


def host_of(text: str) -> str:
    """Return the host of HOST or HOST:PORT, in lower case; "" where it is none."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""
