"""One viewer's WebSocket: what waits for it goes out, what it asks for is done."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from ecgedge.control import Command
from ecgedge.errors import EcgedgeError
from ecgedge.monitor.beds import scrub, to_json
from ecgedge.monitor.commands import LONGEST_MESSAGE, Asked, Garbled, Watch, WatchWard, read_message
from ecgedge.monitor.hub import Hub
from ecgedge.monitor.viewer import Viewer

Obey = Callable[[str, Command], Awaitable[None]]
"""Has a bed obey a command; UsageError if it cannot now."""

OBEY_S: Final = 5.0
HEARTBEAT_S: Final = 15.0
"""A peer that answers no ping for about so long has gone."""

MESSAGES_A_SECOND: Final = 20.0
"""Of one viewer on average; a burst of twice as many is taken. More closes the connection."""


class Identity(Protocol):
    """Who looks."""

    @property
    def user(self) -> str | None:
        """The name that has logged in; None where names are typed."""
        ...

    @property
    def role(self) -> str:
        """What it may do: view, acknowledge or admin."""
        ...


class Live:
    """Serves one WebSocket.

    Parameters
    ----------
    hub
        Where the viewer looks.
    obey
        Takes its commands.
    counted
        Counts what is dropped, by name.
    """

    def __init__(self, hub: Hub, obey: Obey, counted: Counter[str]) -> None:
        self._hub, self._obey, self._counted = hub, obey, counted
        self._something = asyncio.Event()
        self._socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=LONGEST_MESSAGE, compress=False, timeout=2.0
        )
        self._viewer = Viewer(wake=self._something.set, overflow=self._overflow)
        self._task: asyncio.Task[None] | None = None
        self._left = 2.0 * MESSAGES_A_SECOND
        self._filled_s = time.monotonic()

    async def serve(
        self, request: web.Request, who: Callable[[], Identity | None], hello: Mapping[str, Any]
    ) -> web.WebSocketResponse:
        """Serve until the viewer leaves, or `who` knows it no more."""
        await self._socket.prepare(request)
        self._who, self._transport = who, request.transport
        self._hub.join(self._viewer, hello)
        self._task = asyncio.create_task(self._write(), name="page viewer")
        try:
            await self._read()
        finally:
            self._hub.leave(self._viewer)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await self._socket.close()
        return self._socket

    def cut(self) -> None:
        """End it from our side, now."""
        self._hub.leave(self._viewer)
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_known(self) -> bool:
        """Whether who looks may still look."""
        return self._who() is not None

    def _overflow(self) -> None:
        self._counted["viewer_too_slow"] += 1
        self.cut()

    async def _write(self) -> None:
        try:
            while not self._viewer.closed:
                await self._something.wait()
                self._something.clear()
                while (message := self._viewer.take()) is not None:
                    if isinstance(message, bytes):
                        await self._socket.send_bytes(message)
                    else:
                        await self._socket.send_str(message)
        except ConnectionError:
            self.cut()

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type == WSMsgType.ERROR:
                self._counted["too_long" if _is_too_big(message.data) else "bad_frame"] += 1
            elif message.type != WSMsgType.TEXT:
                self._counted["not_text"] += 1
            elif not self._has_room():
                self._counted["too_many_messages"] += 1
                return
            else:
                await self._take(str(message.data))

    def _has_room(self) -> bool:
        now_s = time.monotonic()
        self._left = min(2.0 * MESSAGES_A_SECOND, self._left + (now_s - self._filled_s) * MESSAGES_A_SECOND)
        self._filled_s = now_s
        self._left -= 1.0
        return self._left >= 0.0

    async def _take(self, text: str) -> None:
        who = self._who()
        if who is None:
            self.cut()
            return
        asked = read_message(text, user=who.user)
        if isinstance(asked, WatchWard):
            self._hub.watch_ward(self._viewer)
        elif isinstance(asked, Watch):
            self._watch(asked.bed)
        elif isinstance(asked, Garbled):
            self._counted[asked.fault] += 1
            if asked.number is not None:
                self._answer(asked.number, asked.reason)
        else:
            self._answer(asked.number, await self._do(asked, who.role))

    def _watch(self, bed: str) -> None:
        try:
            self._hub.watch(self._viewer, bed)
        except KeyError:
            self._counted["unknown_bed"] += 1
            self._viewer.tell(to_json({"type": "gone", "bed": bed}))

    async def _do(self, asked: Asked, role: str) -> str | None:
        """Have it done, and return why it was not."""
        if role not in ("acknowledge", "admin"):
            self._counted["refused_by_role"] += 1
            return f"your role is {role}: it may look, and not acknowledge or pause; ask for the role acknowledge"
        try:
            await asyncio.wait_for(self._obey(asked.bed, asked.command), OBEY_S)
        except asyncio.TimeoutError:
            return f"the bed has not answered for {OBEY_S:g} s; look whether it is still served"
        except (EcgedgeError, ValueError) as error:
            self._counted["refused"] += 1
            return str(error)
        return None

    def _answer(self, number: int, error: str | None) -> None:
        self._viewer.tell(
            to_json(
                {"type": "answer", "id": number, "ok": error is None, "error": scrub(error or "") or None}
            )
        )


def _is_too_big(error: object) -> bool:
    return isinstance(error, WebSocketError) and error.code == WSCloseCode.MESSAGE_TOO_BIG
