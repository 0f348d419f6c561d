"""The ward's control socket: one JSON object a line in, one out. Whoever may open the socket may command the ward.

    {"do":"status"}
    {"do":"add","name":"icu-3","feed":"tcp://10.0.0.7:7000?...","policy":"/etc/ecgedge/icu.toml"}
    {"do":"remove","name":"icu-3"}
    {"do":"acknowledge","name":"icu-3","condition":"MPCWP_ELEVATED","user":"Nurse Seven"}
    {"do":"pause_audio","name":"icu-3","duration_s":60,"user":"Nurse Seven"}
    {"do":"resume_audio","name":"icu-3","user":"Nurse Seven"}
    {"do":"calibrate","name":"icu-3","mpcwp_mmhg":14.0,"sd_mmhg":2.0,"user":"Dr Eight"}
    {"do":"uncalibrate","name":"icu-3","user":"Dr Eight"}
    {"do":"swap","bundle":"/var/lib/ecgedge/new.ecgb"}
    {"do":"drain"}
    {"do":"listen","station":"desk-3"}
    {"do":"confirm","delivery":17}
    {"do":"dismiss","station":"desk-3","user":"Nurse Seven"}

A connection that listens is sent the events of all beds (`ecgedge.wards.delivery`); `confirm` is for it alone, and has
no answer where all is well. Answers are {"ok":true,...} or {"ok":false,"error":"..."}. Garbage is answered with an
error, counted, and harms nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ecgedge.alarms import check_resume
from ecgedge.bundle import Bundle
from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.schema import from_plain
from ecgedge.stream import Variants
from ecgedge.wards.commands import BED_COMMANDS, read_command, take_texts
from ecgedge.wards.config import BedConfig, check_name
from ecgedge.wards.delivery import Listener
from ecgedge.wards.serve import WardService

LONGEST_LINE: Final = 65_536
"""In bytes."""

_UNANSWERED: Final = ("listen", "confirm")
"""Of them the first is answered as the first line of what is listened to."""

Opened = tuple[Bundle, Variants]

_Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]


@dataclass
class Connection:
    """One who is connected, and listens or does not; one who listens gets answers in order with what it hears."""

    writer: asyncio.StreamWriter
    listener: Listener | None = None

    async def say(self, answer: Mapping[str, Any]) -> None:
        """Write an answer."""
        if self.listener is not None:
            self.listener.say(answer)
            return
        self.writer.write(json.dumps(answer, separators=(",", ":"), default=str).encode() + b"\n")
        await self.writer.drain()


class WardControl:
    """Answers commands for one ward.

    Parameters
    ----------
    service
        The ward.
    open_bundle
        Opens and self-tests a bundle by its path, away from the loop; may raise EcgedgeError.
    """

    def __init__(self, service: WardService, *, open_bundle: Callable[[str], Awaitable[Opened]]) -> None:
        self._service, self._open_bundle = service, open_bundle
        self.refused: Counter[str] = Counter()
        self._swapping = asyncio.Lock()

    async def answer(self, line: bytes, connection: Connection | None = None) -> dict[str, Any] | None:
        """Do what a line asks for, and say what came of it, if it is for this to say."""
        try:
            asked = dict(json.loads(line))
            name = asked.pop("do")
            do = self._commands(connection)[name]
        except (ValueError, TypeError, KeyError, RecursionError):
            self.refused["unknown_command"] += 1
            return _error(f'expected a JSON object with "do" being one of {", ".join(self._commands())}')
        try:
            said = {"ok": True, **(await do(asked) or {})}
        except (
            EcgedgeError,
            ValueError,
            OSError,
        ) as error:  # ValueError: a key of a wrong name, type or value
            self.refused["refused"] += 1
            return _error(str(error))
        return None if name in _UNANSWERED else said

    def left(self, connection: Connection) -> None:
        """Take that a connection has ended."""
        if connection.listener is not None:
            self._service.deliveries.left(connection.listener)

    def too_long(self) -> dict[str, Any]:
        """Return the answer to a line that is too long to be read."""
        self.refused["too_long"] += 1
        return _error(f"a line may have {LONGEST_LINE} bytes; this one has more, and the connection ends")

    def _commands(self, connection: Connection | None = None) -> Mapping[str, _Command]:
        return {
            "status": self._status,
            "add": self._add,
            "remove": self._remove,
            **{do: partial(self._obey, do) for do in BED_COMMANDS},
            "swap": self._swap,
            "drain": self._drain,
            "listen": partial(self._listen, connection),
            "confirm": partial(self._confirm, connection),
            "dismiss": self._dismiss,
        }

    async def _status(self, asked: dict[str, Any]) -> dict[str, Any]:
        take_texts(asked)
        return {**self._service.status(), "refused_commands": dict(self.refused)}

    async def _add(self, asked: dict[str, Any]) -> None:
        self._service.add(from_plain(BedConfig, asked))

    async def _remove(self, asked: dict[str, Any]) -> None:
        (name,) = take_texts(asked, "name")
        await self._service.remove(name)

    async def _obey(self, do: str, asked: dict[str, Any]) -> None:
        name = asked.pop("name", None)
        if not isinstance(name, str):
            raise UsageError(f"name is {name!r}; expected a text")
        place = self._service.place(name)
        await place.obey(read_command(do, asked, None if place.bed is None else place.bed.policy))

    async def _swap(self, asked: dict[str, Any]) -> dict[str, Any]:
        (path,) = take_texts(asked, "bundle")
        async with self._swapping:
            bundle, variants = await self._open_bundle(path)
            try:
                await self._service.swap(bundle, variants)
            except BaseException:
                variants.close()
                raise
        return {"bundle": bundle.id, "not_serving": variants.refused}

    async def _drain(self, asked: dict[str, Any]) -> None:
        take_texts(asked)
        self._service.stop()

    async def _listen(self, connection: Connection | None, asked: dict[str, Any]) -> None:
        (station,) = take_texts(asked, "station")
        if connection is None or connection.listener is not None:
            raise UsageError("listen is for a connection that does not listen yet, and stays open")
        connection.listener = self._service.listen(check_name(station), connection.writer)

    async def _confirm(self, connection: Connection | None, asked: dict[str, Any]) -> None:
        number = asked.pop("delivery", None)
        take_texts(asked)
        if connection is None or connection.listener is None:
            raise UsageError("confirm is for a connection that listens")
        if type(number) is not int:
            raise UsageError(f"delivery is {number!r}; expected the number of an event that was sent")
        connection.listener.confirm(number)

    async def _dismiss(self, asked: dict[str, Any]) -> None:
        station, user = take_texts(asked, "station", "user")
        self._service.deliveries.dismiss(station, check_resume(user))


def _error(text: str) -> dict[str, Any]:
    return {"ok": False, "error": text}


async def open_socket(path: Path, control: WardControl) -> asyncio.Server:
    """Listen on a Unix socket that only this user may open.

    Raises
    ------
    UsageError
        If something else is there, or another ward listens.
    """
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise UsageError(f"{path} is no socket; give the control socket another name")
        if await _someone_listens(path):
            raise UsageError(f"another ward listens on {path}; give this one another socket")
        path.unlink()  # left by a killed ward

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        try:
            await _converse(control, reader, connection)
        except (ConnectionError, asyncio.CancelledError):
            pass  # whoever asked has gone, or the ward has drained while he stayed
        finally:
            control.left(connection)
            writer.close()

    return await asyncio.start_unix_server(serve, sock=_bound(path), limit=LONGEST_LINE)


async def _converse(control: WardControl, reader: asyncio.StreamReader, connection: Connection) -> None:
    """Answer line by line until the other side hangs up, or says too much at once."""
    while (line := await _read_line(reader)) != b"":
        answer = control.too_long() if line is None else await control.answer(line, connection)
        if answer is not None:
            await connection.say(answer)
        if line is None:
            return


def _bound(path: Path) -> socket.socket:
    """Return a socket with this name that nobody else may open, not even for a moment."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener


async def _read_line(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next line, nothing at the end, or None for a line that is too long."""
    try:
        return await reader.readline()
    except ValueError:
        return None


async def _someone_listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def ask(path: Path, question: Mapping[str, Any]) -> dict[str, Any]:
    """Send one command to a ward and return its answer.

    Raises
    ------
    UsageError
        If no ward listens there.
    EcgedgeError
        If it hung up, or what listens is no ward.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 26)
    except OSError as error:
        raise UsageError(f"no ward listens on {path}: {error.strerror}") from error
    try:
        writer.write(json.dumps(question).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise EcgedgeError(f"the ward on {path} hung up without an answer")
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        raise EcgedgeError(f"what listens on {path} does not answer as a ward does: {line[:60]!r}") from error
