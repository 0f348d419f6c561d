"""The page's server: aiohttp over the hub, behind the gate and the rules of access."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ecgedge.errors import UsageError
from ecgedge.monitor.access import Access, RefusalError, refused
from ecgedge.monitor.answers import HEADERS, file_answer, load_static, log_answer
from ecgedge.monitor.gate import Gate, Guarded, Limits
from ecgedge.monitor.hub import Hub
from ecgedge.monitor.live import Live, Obey
from ecgedge.monitor.login import Login
from ecgedge.monitor.machine import Machine

BEAT_S: Final = 1.0
KEEP_ALIVE_S: Final = 15.0
LARGEST_BODY: Final = 8192
LINGER_S: Final = 2.0
"""What was sent and is not wanted is read for so long, so that the answer arrives."""

_REFUSALS: Final = 400

Facts = Callable[[], Mapping[str, Any]]
"""Says what a viewer is told first: version, bundle, limits, ... as docs/page.md lists them."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageServer:
    """Serves the page.

    Parameters
    ----------
    hub
        What is seen.
    access
        Who may see and do what.
    obey
        Has a bed obey a command.
    facts
        Said to each viewer first.
    card
        The model card of what serves now.
    machine
        Read for the health strip.
    ward
        Whether the first page is the overview.
    limits
        Of connections.
    tls
        None: plain HTTP.
    say
        Takes what people must know: faults of ours.
    """

    def __init__(
        self,
        hub: Hub,
        access: Access,
        *,
        obey: Obey,
        facts: Facts,
        card: Callable[[], str],
        machine: Machine,
        ward: bool,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._hub, self._access, self._obey = hub, access, obey
        self._facts, self._card, self._machine = facts, card, machine
        self._static = load_static()
        self._home = "ward.html" if ward else "index.html"
        self.counted: Counter[str] = Counter()
        self._lives: set[Live] = set()
        self._limits, self._tls = limits or Limits(), tls
        self._gate: Gate | None = None
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None
        self.address = ("", 0)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host, port = self.address
        name = f"[{host}]" if ":" in host else host
        return f"{'http' if self._tls is None else 'https'}://{name}:{port}/"

    def counts(self) -> dict[str, int]:
        """Return what was refused, dropped or cut, by name."""
        found = Counter(self.counted)
        found.update(self._access.refused)
        found.update({} if self._gate is None else {str(k): n for k, n in self._gate.refused.items()})
        found.update(self._hub.lost())
        return dict(found)

    async def open(self, host: str, port: int) -> None:
        """Listen.

        Raises
        ------
        UsageError
            If the address cannot be had.
        """
        app = web.Application(middlewares=[self._around], client_max_size=LARGEST_BODY)
        app.add_routes(
            [
                web.get("/", partial(self._file, name=self._home)),
                web.get("/bed/{bed}", partial(self._file, name="index.html")),
                web.get("/static/{name}", self._static_file),
                web.get("/ws", self._live),
                web.get("/api/events", self._events),
                web.get("/card", self._model_card),
                web.get("/api/status", self._status),
                web.get("/healthz", self._healthz),
                *Login(self._access, self._static).routes(),
            ]
        )
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_quiet_logger(self.counted, self._say),
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        make = self._runner.server
        if make is None:
            raise UsageError("the page has been closed")
        self._gate = Gate(make, limits=self._limits, tls=self._tls)
        self.address = await self._gate.listen(host, port)
        self._task = asyncio.create_task(self._beat(), name="page heartbeat")

    async def close(self) -> None:
        """Say goodbye to all who look; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for live in list(self._lives):
            live.cut()
        if self._gate is not None:
            await self._gate.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def tell_facts(self) -> None:
        """Tell all who look anew what they were told first: another bundle serves."""
        self._hub.tell_all({**self._facts(), "beds": list(self._hub.beds)})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            for live in [live for live in self._lives if not live.is_known]:
                self.counted["session_ended"] += 1
                live.cut()
            self._hub.beat(self._machine.read() if self._hub.n_viewers else {})

    # --- around every request ---

    @web.middleware
    async def _around(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse what may not be asked; give every answer its headers."""
        guarded = self._guarded(request)
        if guarded is not None:
            guarded.asked()
        try:
            self._access.check(request)
            answer = await handler(request)
        except RefusalError as refusal:
            self._access.refused[refusal.why] += 1
            answer = refusal.answer
        except web.HTTPException as error:
            answer = web.Response(status=error.status, text=f"{error.status} {error.reason}")
            answer.headers.update({k: v for k, v in error.headers.items() if k in ("Allow", "Location")})
        finally:
            if guarded is not None:
                guarded.asked()
        if not answer.prepared:
            if answer.status >= _REFUSALS:
                answer.force_close()  # who is refused holds no connection
            answer.headers.update(HEADERS)
            answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    def _guarded(self, request: web.Request) -> Guarded | None:
        """Return the connection that a request came over, as the gate knows it."""
        if self._gate is None or request.transport is None:
            return None
        return self._gate.by_transport.get(request.transport)

    # --- what can be asked for ---

    async def _file(self, request: web.Request, *, name: str) -> web.Response:
        del request
        return file_answer(name, self._static[name])

    async def _static_file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound
        answer = file_answer(name, self._static[name])
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"heartbeat": self._hub.heartbeat})

    async def _status(self, request: web.Request) -> web.Response:
        """Tell an admin what was refused: to others it would tell what works."""
        person = self._access.watcher(request)()
        if person is None or person.role != "admin":
            raise refused("refused_by_role", 403, "this is for the role admin")
        return web.json_response({"refused": self.counts(), "viewers": self._hub.n_viewers})

    async def _model_card(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text=self._card(), content_type="text/plain", charset="utf-8")

    async def _events(self, request: web.Request) -> web.Response:
        name = request.query.get("bed", "")
        bed = self._hub.beds.get(name)
        if bed is None:
            raise web.HTTPNotFound
        return log_answer(name, list(bed.log), as_csv=request.query.get("format") == "csv")

    async def _live(self, request: web.Request) -> web.StreamResponse:
        who = self._access.watcher(request)
        known = who()
        if known is None:
            raise web.HTTPUnauthorized
        guarded = self._guarded(request)
        if guarded is not None:
            guarded.upgraded()
        live = Live(self._hub, self._obey, self.counted)
        self._lives.add(live)
        try:
            return await live.serve(request, who, {**self._facts(), "user": known.user, "role": known.role})
        finally:
            self._lives.discard(live)


class _Counting(logging.Handler):
    """Counts what peers send that is no HTTP, where aiohttp would fill a log with it; faults of ours are said."""

    def __init__(self, counted: Counter[str], say: Callable[[str], None]) -> None:
        super().__init__()
        self._counted, self._say = counted, say

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or isinstance(
            error, (HttpProcessingError, web.RequestPayloadError, ConnectionError)
        ):
            self._counted["bad_request"] += 1
            return
        self._counted["failed"] += 1
        self._say(f"page: a request failed: {type(error).__name__}: {error}")


def _quiet_logger(counted: Counter[str], say: Callable[[str], None]) -> logging.Logger:
    """Return a logger of this page alone, that writes nowhere."""
    logger = logging.Logger("ecgedge.page")  # noqa: LOG001 - one for this page, not for the process
    logger.addHandler(_Counting(counted, say))
    return logger
