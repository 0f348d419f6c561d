"""One JSON object a line, to a file or a stream (the contract of `--format jsonl`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.events import Event, event_to_json


class JsonlSink:
    """Writes events as JSON lines and flushes each, so that a reader sees an alarm at once.

    Parameters
    ----------
    target
        An open text stream (left open), or a path (appended to).

    Raises
    ------
    UsageError
        If the path cannot be opened. Every method raises EcgedgeError where the disk does not take an event.
    """

    def __init__(self, target: TextIO | Path) -> None:
        self._owned = isinstance(target, Path)
        self._name = str(target) if isinstance(target, Path) else "the output"
        try:
            self._stream = target.open("a") if isinstance(target, Path) else target
        except OSError as error:
            raise UsageError(f"cannot write events to {target}: {error.strerror}") from error

    async def send(self, event: Event) -> None:
        """Write one line."""
        with self._naming_failure():
            self._stream.write(event_to_json(event) + "\n")
            self._stream.flush()

    async def close(self) -> None:
        """Close the file, if it is ours."""
        if self._owned and not self._stream.closed:
            with self._naming_failure():
                self._stream.close()

    @contextmanager
    def _naming_failure(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise EcgedgeError(
                f"cannot write events to {self._name}: {error.strerror}; the stream stops"
            ) from error
