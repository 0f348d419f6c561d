"""One who listens to a ward: takes each line, and confirms those that carry a number once they are taken."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from ecgedge.errors import EcgedgeError, UsageError

AGAIN_S: Final = (0.5, 15.0)
"""How long to wait before listening again, at first and at most."""


def listen(path: Path, station: str, *, take: Callable[[bytes], None], say: Callable[[str], None]) -> None:
    """Listen on a ward's control socket under a station's name, until the connection ends: always with an error.

    Parameters
    ----------
    path
        Of the socket.
    station
        Name under which the ward knows and misses this listener.
    take
        Gives a line, with its end, to whoever reads it. An alarm is confirmed when this returns: it must not before the
        line is where it is seen.
    say
        Takes what a person at the station must know.

    Raises
    ------
    UsageError
        If no ward listens there, or it refuses the station.
    EcgedgeError
        When the ward hangs up.
    """
    with _connect(path) as connection, connection.makefile("rb") as stream:
        with suppress(OSError):  # it has hung up already: so says the first line
            connection.sendall(_line({"do": "listen", "station": station}))
        lines = _lines(stream, path)
        _, greeting = next(lines)
        if not greeting.get("ok"):
            raise UsageError(f"the ward refuses: {greeting.get('error', 'it gave no reason')}")
        say(f"listening as {station}; an alarm is confirmed once it is written. Research use only.")
        for line, event in lines:
            if "ok" in event:
                say(f"the ward says: {event.get('error', 'nothing')}")
                continue
            take(line)
            if "delivery" in event:
                with suppress(OSError):  # it has hung up: there may be lines left to take
                    connection.sendall(_line({"do": "confirm", "delivery": event["delivery"]}))


def keep_listening(
    path: Path, station: str, *, take: Callable[[bytes], None], say: Callable[[str], None]
) -> NoReturn:
    """Listen, and again whenever that ends: half a second later at first, then twice as late each time, at most 15 s.

    Parameters are those of `listen`. Why it ended is said, the same only once until the ward is heard again.
    """
    wait_s, said = AGAIN_S[0], ""

    def heard(line: bytes) -> None:
        nonlocal wait_s, said
        wait_s, said = AGAIN_S[0], ""
        take(line)

    while True:
        try:
            listen(path, station, take=heard, say=say)
        except EcgedgeError as error:
            if str(error) != said:
                said = str(error)
                say(f"{said}; trying again")
        time.sleep(wait_s)
        wait_s = min(2.0 * wait_s, AGAIN_S[1])


def _line(asked: Mapping[str, Any]) -> bytes:
    return json.dumps(asked).encode() + b"\n"


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise UsageError(f"no ward listens on {path}: {error.strerror}") from error
    return connection


def _lines(stream: Any, path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield lines and what they say; EcgedgeError at the end, which nobody here has asked for."""
    gone = f"the ward on {path} does not send any more: nobody at this station hears of alarms"
    try:
        for line in stream:
            yield line, dict(json.loads(line))
    except OSError as error:
        raise EcgedgeError(f"{gone} ({error.strerror})") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise EcgedgeError(f"what listens on {path} does not speak as a ward does: {error}") from error
    raise EcgedgeError(gone)
