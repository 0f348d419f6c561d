"""What a ward's file says (beds.toml): whom it serves, and where it keeps what.

    [ward]
    most_beds = 64                  # another one is refused; left out: no limit
    journals = "journals"           # folder with one journal a bed; left out: none
    journal_max_mb = 64             # a journal goes over several files of this size
    state = "state"                 # folder with one snapshot a bed; left out: a restart begins anew
    state_s = 10                    # seconds between snapshots
    events = "events.jsonl"         # all beds' events, each line with its "bed"; "-" is standard output
    control = "ward.sock"           # Unix socket for commands; left out: none
    sinks = ["mqtts://broker/ward"] # where events go over a network (docs/sinks.md)
    delivery_s = 10                 # seconds in which a station that listens confirms an alarm
    page = "127.0.0.1:8080"         # where browsers see all beds (docs/page.md); left out: nowhere
    page_users = "users.toml"       # who may see it; with page_cert and page_key, any address may be given
    page_cert = "page.pem"
    page_key = "page.key"
    page_hosts = ["ward.example"]   # further names under which browsers reach it
    page_session_h = 12             # hours after which who has logged in is asked again; more is for the role view

    [[bed]]
    name = "icu-3"
    feed = "tcp://10.0.0.7:7000?leads=I,II&rate_hz=500&lsb_nv=1000"
    policy = "icu.toml"             # left out: the bundle's
    answers = true                  # a front end shows estimates and alarms, and acknowledges; left out: it sends only

Paths are relative to the file, also that of a `file:` feed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ecgedge.errors import UsageError
from ecgedge.monitor.settings import SHIFT_H, PageSettings, parse_address
from ecgedge.schema import read_toml

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names are names of files, too."""

_FRONT_ENDS: Final = ("serial", "tcp", "ws", "wss")
_FRONT_END_FORM: Final = "serial:, tcp://, ws:// or wss://"

SMALLEST_JOURNAL_MB: Final = 0.001


@dataclass(frozen=True)
class BedConfig:
    """One bed: its name, the URI of its feed, its alarm policy's file if it has one of its own.

    `answers` says whether the front end gets estimates and alarms, and may acknowledge (docs/sinks.md, bridge).
    """

    name: str
    feed: str
    policy: str | None = None
    answers: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that is no name of a file, or answers to what is no front end; ValueError."""
        check_name(self.name)
        scheme = self.feed.partition(":")[0]
        if self.answers and scheme not in _FRONT_ENDS:
            raise ValueError(
                f"answers is true, but a {scheme}: feed takes none; leave it out, or name a feed of {_FRONT_END_FORM}"
            )


def check_name(name: str) -> str:
    """Return the name of a bed or a station; ValueError if it is none."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name is {name!r}; expected up to 64 letters, digits, '.', '_' and '-', beginning with one "
            "of the first two"
        )
    return name


@dataclass(frozen=True)
class WardSettings:
    """The table [ward]; see the module's head."""

    most_beds: int | None = None
    journals: str | None = None
    journal_max_mb: float | None = None
    state: str | None = None
    state_s: float = 10.0
    events: str | None = None
    control: str | None = None
    sinks: tuple[str, ...] = ()
    delivery_s: float = 10.0
    page: str | None = None
    page_users: str | None = None
    page_cert: str | None = None
    page_key: str | None = None
    page_hosts: tuple[str, ...] = ()
    page_session_h: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be; ValueError names the key."""
        if self.most_beds is not None and self.most_beds < 1:
            raise ValueError(f"most_beds is {self.most_beds}; it must be at least 1, or left out")
        if not 0.0 < self.state_s < 3600.0:
            raise ValueError(f"state_s is {self.state_s:g}; it must be above 0 and below 3600 seconds")
        if not 1.0 <= self.delivery_s <= 120.0:
            raise ValueError(f"delivery_s is {self.delivery_s:g}; it must be from 1 to 120 seconds")
        self._check_page()
        if self.journal_max_mb is not None:
            if self.journals is None:
                raise ValueError("journal_max_mb without journals: name the folder of the journals")
            if not SMALLEST_JOURNAL_MB <= self.journal_max_mb < math.inf:
                raise ValueError(
                    f"journal_max_mb is {self.journal_max_mb:g}; it must be a number from {SMALLEST_JOURNAL_MB:g} up"
                )

    def _check_page(self) -> None:
        given = self.page_users or self.page_cert or self.page_key or self.page_hosts
        if self.page is None and (given or self.page_session_h is not None):
            raise ValueError(
                "page_users, page_cert, page_key, page_hosts and page_session_h are of no use without page"
            )
        if self.page_session_h is not None and self.page_users is None:
            raise ValueError("page_session_h is of no use without page_users: nobody logs in")
        if self.page is not None:
            try:
                parse_address(self.page)
            except UsageError as error:
                raise ValueError(str(error)) from error

    @property
    def shown(self) -> PageSettings | None:
        """What the page is made of; None without one."""
        if self.page is None:
            return None
        return PageSettings(
            self.page,
            self.page_users,
            self.page_cert,
            self.page_key,
            self.page_hosts,
            SHIFT_H if self.page_session_h is None else self.page_session_h,
        )


@dataclass(frozen=True)
class WardConfig:
    """A ward's file."""

    ward: WardSettings = field(default_factory=WardSettings)
    bed: tuple[BedConfig, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two beds of one name, or more than the ward takes; ValueError."""
        twice = [name for name, n in Counter(b.name for b in self.bed).items() if n > 1]
        if twice:
            raise ValueError(f"two beds are called {twice[0]}: give each a name of its own")
        if self.ward.most_beds is not None and len(self.bed) > self.ward.most_beds:
            raise ValueError(f"there are {len(self.bed)} beds, and most_beds is {self.ward.most_beds}")


def load_ward(path: Path) -> WardConfig:
    """Read a ward's file; its paths are made absolute.

    Raises
    ------
    RecipeError
        If it cannot be read, is no TOML, has an unknown key (the nearest known one is named), or says what cannot be.
    """
    config = read_toml(WardConfig, path, what="ward")
    folder = path.resolve().parent

    def absolute(name: str | None) -> str | None:
        return None if name is None else str(folder / name)

    ward = config.ward
    settings = replace(
        ward,
        journals=absolute(ward.journals),
        state=absolute(ward.state),
        events=ward.events if ward.events == "-" else absolute(ward.events),
        control=absolute(ward.control),
        page_users=absolute(ward.page_users),
        page_cert=absolute(ward.page_cert),
        page_key=absolute(ward.page_key),
    )
    return WardConfig(
        settings,
        tuple(
            replace(bed, policy=absolute(bed.policy), feed=_absolute_feed(bed.feed, folder))
            for bed in config.bed
        ),
    )


def _absolute_feed(uri: str, folder: Path) -> str:
    """Make the path of a `file:` feed absolute; every other feed stays as it is."""
    scheme, _, rest = uri.partition(":")
    path, mark, query = rest.partition("?")
    path = path.removeprefix("//")
    if scheme != "file" or not path or path.startswith("/"):
        return uri
    return f"file:{quote(str(folder))}/{path}{mark}{query}"
