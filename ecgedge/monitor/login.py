"""Logging in and out: a form that works without scripts, checked slowly, in a thread, and not too often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from ecgedge.monitor.access import Access, address_of, cookie_name, refused
from ecgedge.monitor.answers import file_answer
from ecgedge.monitor.rates import Rate
from ecgedge.monitor.users import Passwords, User, UsersBook

AT_ONCE: Final = 2
"""Passwords that are checked at once, each with 19 MiB on a thread of its own."""

WAITING: Final = 16
"""More do not wait for it."""

BODY_S: Final = 5.0
"""A form must have come within so long."""

OF_ADDRESS: Final = (8.0, 1 / 30)
OF_USER: Final = (20.0, 1 / 60)
OF_ALL: Final = (40.0, 2.0)
"""Logins at once and a second: from one address, into one name, and in all. One that succeeds does not count."""

_NEXT: Final = re.compile(r"/(bed/[A-Za-z0-9._-]{1,64})?")
_FORM_BYTES: Final = 32


@dataclass(frozen=True)
class Filled:
    """The form as it came."""

    user: str
    password: str
    csrf: str
    next: str


class Login:
    """The addresses /login, /logout and /whoami.

    Parameters
    ----------
    access
        Of the page.
    static
        The page's files, with the form among them.
    now_s
        A clock that is never set.
    """

    def __init__(
        self,
        access: Access,
        static: Mapping[str, bytes],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._form = static["login.html"]
        self._key = secrets.token_bytes(_FORM_BYTES)
        self._passwords = None if access.users is None else Passwords()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._rates = [Rate(burst=b, per_s=r, now_s=now_s) for b, r in (OF_ADDRESS, OF_USER, OF_ALL)]

    def routes(self) -> list[web.RouteDef]:
        """Return the addresses."""
        return [
            web.get("/login", self._show),
            web.post("/login", self._take),
            web.post("/logout", self._logout),
            web.get("/whoami", self._whoami),
        ]

    async def _whoami(self, request: web.Request) -> web.Response:
        person = self._access.watcher(request)()
        if person is None:
            raise web.HTTPUnauthorized
        has_login = self._access.users is not None
        return web.json_response({"user": person.user, "role": person.role, "login": has_login})

    async def _show(self, request: web.Request) -> web.Response:
        self._users()
        return self._with_form(request, next_page=request.query.get("next", "/"))

    async def _take(self, request: web.Request) -> web.Response:
        users, filled = self._users(), await self._filled(request)
        if not self._is_ours(request, filled.csrf):
            self._access.refused["wrong_form"] += 1
            text = "The form was too old, or cookies are off. Try again."
            return self._with_form(request, next_page=filled.next, error=text, status=403)
        keys = (address_of(request), filled.user[:100], "all")
        if not all(rate.take(key) for rate, key in zip(self._rates, keys, strict=True)):
            self._access.refused["too_many_logins"] += 1
            text = "Too many attempts. Wait a minute, then try again."
            return self._with_form(request, next_page=filled.next, error=text, status=429)
        user = await self._check(users, filled)
        if user is None or user.password is None:
            self._access.refused["wrong_password"] += 1
            text = "User or password is wrong."
            return self._with_form(request, next_page=filled.next, error=text, status=401)
        for rate, key in zip(self._rates, keys, strict=True):
            rate.give_back(key)
        return self._let_in(request, user.name, user.password, filled.next)

    async def _logout(self, request: web.Request) -> web.Response:
        self._access.sessions.end(self._access.session_of(request))
        answer = web.Response(status=303, headers={"Location": "/login"})
        self._set_cookie(answer, cookie_name(request, secure=self._access.secure), "", max_age=0)
        return answer

    # --- the parts ---

    def _users(self) -> UsersBook:
        if self._access.users is None:
            raise web.HTTPNotFound
        return self._access.users

    async def _filled(self, request: web.Request) -> Filled:
        try:
            form = await asyncio.wait_for(request.post(), BODY_S)
        except asyncio.TimeoutError:
            raise refused("wrong_form", 408, "the form did not come") from None
        except ValueError:
            raise refused("wrong_form", 400, "that is no form") from None
        texts = {name: _text(form.get(name)) for name in ("user", "password", "csrf", "next")}
        return Filled(**texts)

    async def _check(self, users: UsersBook, filled: Filled) -> User | None:
        """Return whose password this is; away from the loop, and with the same work whether there is such a user."""
        if self._waiting >= WAITING or self._passwords is None:
            raise refused(
                "too_many_logins", 503, "too many log in at once; try again", **{"Retry-After": "5"}
            )
        user = users.by_name(filled.user)
        kept = None if user is None else user.password
        self._waiting += 1
        try:
            async with self._turn:
                holds = await asyncio.to_thread(self._passwords.holds, kept, filled.password)
        finally:
            self._waiting -= 1
        return user if holds else None

    def _let_in(self, request: web.Request, user: str, proof: str, next_page: str) -> web.Response:
        """Begin a session of its own name: one that was known before the login is worth nothing."""
        access = self._access
        access.sessions.end(access.session_of(request))
        answer = web.Response(status=303, headers={"Location": _local(next_page)})
        name = access.sessions.begin(user, proof)
        self._set_cookie(answer, cookie_name(request, secure=access.secure), name)
        return answer

    def _with_form(
        self, request: web.Request, *, next_page: str, error: str = "", status: int = 200
    ) -> web.Response:
        cookie = request.cookies.get(self._form_cookie(request)) or secrets.token_urlsafe(_FORM_BYTES)
        put = {"__CSRF__": self._sign(cookie), "__ERROR__": error, "__NEXT__": _local(next_page)}
        content = self._form
        for name, text in put.items():
            content = content.replace(name.encode(), html.escape(text).encode())
        answer = file_answer("login.html", content, status=status)
        self._set_cookie(answer, self._form_cookie(request), cookie)
        return answer

    def _is_ours(self, request: web.Request, csrf: str) -> bool:
        cookie = request.cookies.get(self._form_cookie(request), "")
        return bool(cookie) and hmac.compare_digest(self._sign(cookie).encode(), csrf.encode())

    def _sign(self, cookie: str) -> str:
        return hmac.new(self._key, cookie.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def _form_cookie(self, request: web.Request) -> str:
        return f"{cookie_name(request, secure=self._access.secure)}-form"

    def _set_cookie(self, answer: web.Response, name: str, value: str, *, max_age: int | None = None) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=max_age,
            path="/",
            secure=self._access.secure,
            httponly=True,
            samesite="Strict",
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _local(page: str) -> str:
    """Return where to go next: a page of ours, whatever the form says."""
    return page if _NEXT.fullmatch(page) else "/"
