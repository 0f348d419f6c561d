"""One JSON object a line, to a file or a stream (the contract of `--format jsonl`)."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from ecgedge.errors import UsageError
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
        If the path cannot be opened.
    """

    def __init__(self, target: TextIO | Path) -> None:
        self._owned = isinstance(target, Path)
        try:
            self._stream = target.open("a") if isinstance(target, Path) else target
        except OSError as error:
            raise UsageError(f"cannot write events to {target}: {error.strerror}") from error

    async def send(self, event: Event) -> None:
        """Write one line."""
        self._stream.write(event_to_json(event) + "\n")
        self._stream.flush()

    async def close(self) -> None:
        """Close the file, if it is ours."""
        if self._owned and not self._stream.closed:
            self._stream.close()
