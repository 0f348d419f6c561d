"""Who may see the page: a TOML file with names, roles and hashes, never a password or a token itself.

[[user]]
name = "Nurse Seven"
role = "acknowledge"                    # view, acknowledge or admin
password = "$argon2id$v=19$..."

[[user]]
name = "wall display"
role = "view"
token_sha256 = "9f86d0..."
expires = "2027-01-31T00:00:00+00:00"
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal, cast

from ecgedge.errors import EcgedgeError, RecipeError, UsageError, missing_extra
from ecgedge.schema import read_toml

Role = Literal["view", "acknowledge", "admin"]
ROLES: Final[tuple[Role, ...]] = ("view", "acknowledge", "admin")

SHORTEST_PASSWORD: Final = 10
LONGEST_PASSWORD: Final = 256
LONGEST_NAME: Final = 100
TOKEN_BYTES: Final = 32
LOOK_S: Final = 1.0
"""How often the file is looked at: who is struck from it is out so soon."""

_PASSES: Final = 2
_MEMORY_KIB: Final = 19_456
"""OWASP's least costly form of argon2id: tens of milliseconds, and little memory for a bedside box."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class User:
    """One who may see the page, by password or by token."""

    name: str
    role: Role
    password: str | None = None
    token_sha256: str | None = None
    expires: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be; ValueError."""
        check_name(self.name)
        if (self.password is None) == (self.token_sha256 is None):
            raise ValueError(f"user {self.name!r} needs either password or token_sha256")
        if self.password is not None and not self.password.startswith("$argon2id$"):
            raise ValueError(
                f"the password of {self.name!r} is no argon2id hash; make the entry with `ecgedge page add`"
            )
        if self.token_sha256 is not None and not _SHA256.fullmatch(self.token_sha256):
            raise ValueError(f"token_sha256 of {self.name!r} is no SHA-256 in lower-case hexadecimal")
        if self.token_sha256 is not None and self.expires is None:
            raise ValueError(
                f"the token of {self.name!r} needs expires: a token that lasts for ever gets lost"
            )
        if self.expires is not None:
            parse_time(self.expires)

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and parse_time(self.expires) <= now


@dataclass(frozen=True)
class UsersFile:
    """The file of users."""

    user: tuple[User, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two users of one name; ValueError."""
        names = [user.name for user in self.user]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two users are called {name!r}: the journal could not tell them apart")


def check_name(name: str) -> str:
    """Return a user's name; ValueError if it is none."""
    if not name.strip() or not name.isprintable() or name != name.strip() or len(name) > LONGEST_NAME:
        raise ValueError(f"name is {name!r}; expected up to {LONGEST_NAME} printable characters on one line")
    return name


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time with its offset; ValueError if it is none."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if found.tzinfo is None:
        raise ValueError(
            f"expires is {text!r}; expected a time with its offset, as 2027-01-31T00:00:00+00:00"
        )
    return found


def load_users(path: Path) -> UsersFile:
    """Read a file of users.

    Raises
    ------
    UsageError
        If everybody on this machine may read it, or write to it.
    RecipeError
        If it cannot be read, or says what cannot be.
    """
    found = read_toml(UsersFile, path, what="file of users")
    mode = path.stat().st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise UsageError(f"{path} holds hashes, and others may read or write it; chmod 600 {path}")
    return found


def write_users(path: Path, users: UsersFile) -> None:
    """Put a file of users in the place of the one there, whole or not at all, for its owner alone.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write("".join(_entry(user) for user in users.user))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UsageError(f"cannot write the file of users {path}: {error.strerror}") from error


def _entry(user: User) -> str:
    lines = [f"{key} = {_text(value)}\n" for key, value in vars(user).items() if value is not None]
    return "[[user]]\n" + "".join(lines) + "\n"


def _text(value: str) -> str:
    """Write a TOML basic string: of printable text, JSON's form is one."""
    return json.dumps(value, ensure_ascii=False)


def new_token() -> tuple[str, str]:
    """Return a token of 256 random bits, and the hash of it that is kept."""
    token = f"ecgedge_{secrets.token_urlsafe(TOKEN_BYTES)}"
    return token, token_hash(token)


def token_hash(token: str) -> str:
    """Return what is kept of a token: it is random, so a plain SHA-256 tells nothing of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Passwords:
    """Argon2id, by the package argon2-cffi (extra `page`); slow by design, so not for the loop's thread."""

    def __init__(self) -> None:
        try:
            import argon2
        except ImportError as error:
            raise missing_extra(extra="page", package="argon2-cffi", purpose="a page with users") from error
        self._hasher: Any = argon2.PasswordHasher(_PASSES, _MEMORY_KIB, 1)
        self._wrong = (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError)
        self._nobody = ""

    def hash(self, password: str) -> str:
        """Return the hash to keep.

        Raises
        ------
        UsageError
            If the password is too short or too long.
        """
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise UsageError(
                f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; this one has {len(password)}"
            )
        return cast("str", self._hasher.hash(password))

    def holds(self, kept: str | None, password: str) -> bool:
        """Whether the password is the one of which `kept` is the hash; without one it takes as long to say no."""
        if not self._nobody:
            self._nobody = self._hasher.hash(secrets.token_urlsafe(16))
        try:
            self._hasher.verify(self._nobody if kept is None else kept, password[:LONGEST_PASSWORD])
        except self._wrong:
            return False
        return kept is not None and len(password) <= LONGEST_PASSWORD


class UsersBook:
    """The file of users as it is now: read again when it has changed; one that cannot be read changes nothing.

    Parameters
    ----------
    path
        The file.
    now
        The world's time, for what expires.
    now_s
        A clock that is never set.
    say
        Is told where the changed file cannot be read.

    Raises
    ------
    UsageError, RecipeError
        As `load_users`, at the start.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_s: Callable[[], float],
        say: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._path, self._now, self._now_s, self._say = path, now, now_s, say
        self._users = load_users(path)
        self._stamp = self._read_stamp()
        self._looked_s = now_s()

    def by_name(self, name: str) -> User | None:
        """Return who is called so and may still come in."""
        return next((u for u in self._current().user if u.name == name and self._may(u)), None)

    def by_token(self, token: str) -> tuple[User | None, bool]:
        """Return whose token this is, and whether its time is over."""
        asked = token_hash(token)
        for user in self._current().user:
            if user.token_sha256 is not None and hmac.compare_digest(user.token_sha256, asked):
                return (user, False) if self._may(user) else (None, True)
        return None, False

    def _may(self, user: User) -> bool:
        return not user.has_expired(self._now())

    def _current(self) -> UsersFile:
        now_s = self._now_s()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read_again()
        return self._users

    def _read_again(self) -> None:
        try:
            self._users = load_users(self._path)
        except (EcgedgeError, OSError) as error:
            self._say(f"page: {error}; the users stay as they were")

    def _read_stamp(self) -> tuple[int, int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode


def change_users(path: Path, change: Callable[[UsersFile], UsersFile]) -> None:
    """Change a file of users, or begin one."""
    before = load_users(path) if path.exists() else UsersFile()
    try:
        after = change(before)
    except ValueError as error:
        raise RecipeError(f"file of users {path}: {error}") from error
    write_users(path, after)
