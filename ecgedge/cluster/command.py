"""A command to a bed on the bus: a message among its samples, so that it has its place between them for every owner.

    DO1, a line end, and a JSON object: {"id":"5d0c...","do":"acknowledge","condition":"LEAD_OFF","user":"Nurse Seven"}

`do` and its keys are those of `ecgedge.wards.commands`; `status` asks how the bed does, and "journal" says whether its
journal is written: `why` is why not. The bed answers among its events, unless there is no `id`:

    {"bed":"icu-3","type":"answer","id":"5d0c...","do":"acknowledge","user":"Nurse Seven","ok":true}
    {"bed":"icu-3","type":"answer","id":"5d0c...","do":"acknowledge","ok":false,"error":"condition is None; ..."}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAGIC: Final = b"DO1\n"
LARGEST_BYTES: Final = 65_536


@dataclass(frozen=True)
class BedCommand:
    """One command, read; `id` is None where nobody waits for an answer, `asked` has the other keys."""

    do: str
    asked: Mapping[str, Any]
    id: str | None = None

    def answer(self, bed: str, *, error: str | None = None, **found: Any) -> str:
        """Return the line that says what became of it."""
        head = {"bed": bed, "type": "answer", "id": self.id, "do": self.do}
        user = self.asked.get("user")
        who = {"user": user} if isinstance(user, str) else {}
        told = {"ok": True, **found} if error is None else {"ok": False, "error": error}
        return json.dumps({**head, **who, **told}, separators=(",", ":"), default=str)


def is_command(message: bytes) -> bool:
    """Whether a message is a command, or is meant to be."""
    return message.startswith(MAGIC)


def encode_command(command: BedCommand) -> bytes:
    """Return the message of a command."""
    head = {} if command.id is None else {"id": command.id}
    return MAGIC + json.dumps({**head, "do": command.do, **command.asked}, separators=(",", ":")).encode()


def decode_command(message: bytes) -> BedCommand | None:
    """Read a message; None if it is no command. Never raises."""
    if not is_command(message) or len(message) > LARGEST_BYTES:
        return None
    try:
        asked = dict(json.loads(message[len(MAGIC) :]))
        do, key = asked.pop("do"), asked.pop("id", None)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(do, str) or not (key is None or isinstance(key, str)):
        return None
    return BedCommand(do, asked, key)
