"""Who has logged in: sessions that are kept here, and of which a browser holds no more than a random name."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

IDLE_S: Final = 1800.0
"""A session that nobody uses ends after so long; an open page uses it."""

MOST: Final = 500
MOST_OF_USER: Final = 20
"""Where there are so many the oldest ends."""

_BYTES: Final = 32


@dataclass
class Session:
    """`proof` is the hash that the password was checked against: another one in the file ends the session."""

    user: str
    proof: str
    began_s: float
    used_s: float


class Sessions:
    """Sessions by the hash of their name.

    Parameters
    ----------
    now_s
        A clock that is never set.
    longest_s
        A session ends after so long, whatever is done with it.
    """

    def __init__(self, *, now_s: Callable[[], float], longest_s: float) -> None:
        self._now_s, self._longest_s = now_s, longest_s
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._sessions)

    def begin(self, user: str, proof: str) -> str:
        """Begin one, and return its name: 256 random bits."""
        self._let_go()
        own = [key for key, session in self._sessions.items() if session.user == user]
        if len(own) >= MOST_OF_USER:
            del self._sessions[own[0]]
        elif len(self._sessions) >= MOST:
            del self._sessions[next(iter(self._sessions))]
        name, now_s = secrets.token_urlsafe(_BYTES), self._now_s()
        self._sessions[_key(name)] = Session(user, proof, now_s, now_s)
        return name

    def use(self, name: str) -> Session | None:
        """Return the session of this name, if it has not ended; it is used by this."""
        session = self._sessions.get(_key(name))
        if session is None or self._has_ended(session):
            return None
        session.used_s = self._now_s()
        return session

    def age_s(self, session: Session) -> float:
        """Return how long ago it began."""
        return self._now_s() - session.began_s

    def end(self, name: str) -> None:
        """End it; safe to call for one that is none."""
        self._sessions.pop(_key(name), None)

    def _has_ended(self, session: Session) -> bool:
        return self._now_s() - session.used_s >= IDLE_S or self.age_s(session) >= self._longest_s

    def _let_go(self) -> None:
        for key in [key for key, session in self._sessions.items() if self._has_ended(session)]:
            del self._sessions[key]


def _key(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
