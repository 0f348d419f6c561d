"""How a device shall sample and send (CONFIG; firmware_bridge/PROTOCOL.md, 5.6 and 5.7): read, asked for, answered.

No clock and no I/O. What a URI does not name stays as the device has it: rate, channels, gain and mode as INFO says,
the length of a frame and its format as the first DATA has them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from ecgedge.errors import FeedError
from ecgedge.feeds.eeb_info import describe
from ecgedge_bridge import Config, ConfigAck, ConfigStatus, Data, FilterMode, Info, Mode, SampleFormat, pack

ANSWER_S: Final = 1.0
"""A device answers within it; else it is asked again."""

MOST_ASKED: Final = 4
"""Once, and three times again."""

INFO_AFTER_S: Final = 11.0
"""INFO follows the answer, or 5 s later if that one was lost, or after 5 more."""

CONFIG_WAIT_S: Final = MOST_ASKED * ANSWER_S + INFO_AFTER_S

_FIELDS: Final = {
    2: "set_channels", 4: "set_rate_hz", 8: "set_rate_hz", 12: "set_samples", 13: "set_format", 14: "set_gain_id",
    15: "set_filter", 16: "set_mode",
}  # fmt: skip
"""Settings by the offset of their field in CONFIG."""

CONFIG_SETTINGS: Final = tuple(dict.fromkeys(_FIELDS.values()))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a URI asks of a device; None where it shall stay as it is. `values` are the settings as they stand there."""

    values: Mapping[str, str]
    rate_hz: Fraction | None = None
    channels: int | None = None
    n_samples: int | None = None
    fmt: SampleFormat | None = None
    gain_id: int | None = None
    filter_mode: FilterMode = FilterMode.UNKNOWN
    mode: Mode | None = None

    def followed(self, info: Info, asked: Config) -> bool:
        """Whether what a device says of itself is what it was asked for."""
        return (
            info.rate_num * asked.rate_den == asked.rate_num * info.rate_den
            and len(info.leads) == asked.channels.bit_count()
            and (info.gain_id, info.mode) == (asked.gain_id, asked.mode)
            and asked.filter_mode in (FilterMode.UNKNOWN, info.filter_mode)
        )

    def request(self, info: Info, n_samples: int, fmt: SampleFormat) -> Config:
        """Return the request; the same one has the same number, so that a device need not follow it twice.

        Raises
        ------
        ValueError
            If no DATA frame could hold what is asked for.
        """
        rate_hz = self.rate_hz or Fraction(info.rate_num, info.rate_den)
        config = Config(
            seq=0,
            config_id=0,
            channels=self.channels or (1 << len(info.leads)) - 1,
            rate_num=rate_hz.numerator,
            rate_den=rate_hz.denominator,
            n_samples=n_samples,
            fmt=fmt,
            gain_id=info.gain_id if self.gain_id is None else self.gain_id,
            filter_mode=self.filter_mode,
            mode=info.mode if self.mode is None else self.mode,
        )
        return replace(config, config_id=zlib.crc32(pack(config)) & 0xFFFF)


def read_wanted(values: Mapping[str, str]) -> Wanted | None:
    """Read the settings of `CONFIG_SETTINGS`; None if there is none.

    Raises
    ------
    ValueError
        Naming what is wrong.
    """
    if not values:
        return None
    fields = {name.removeprefix("set_"): _read(name, text) for name, text in values.items()}
    for name, field in (("samples", "n_samples"), ("format", "fmt"), ("filter", "filter_mode")):
        if name in fields:
            fields[field] = fields.pop(name)
    return Wanted(values=dict(values), **fields)


def _read(name: str, text: str) -> Any:
    read, form = _READERS[name]
    try:
        return read(text)
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{name} is '{text}', not {form}") from error


def _whole(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text[:4]) <= high or len(text) > 4:
        raise ValueError(text)
    return int(text)


def _rate(text: str) -> Fraction:
    rate_hz = Fraction(text) if len(text) <= 20 and "e" not in text.lower() else Fraction(0)
    if not 0 < rate_hz.numerator < 2**32 or rate_hz.denominator >= 2**32:
        raise ValueError(text)
    return rate_hz


def _channels(text: str) -> int:
    return sum({1 << _whole(part, 0, 15) for part in text.split(",")})


_READERS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "set_rate_hz": (_rate, "samples per second, as 250 or 1000/3"),
    "set_channels": (_channels, "numbers of channels from 0 to 15, as 0,1"),
    "set_samples": (lambda text: _whole(text, 1, 255), "samples a channel in a frame, from 1 to 255"),
    "set_format": (lambda text: {"i16": SampleFormat.I16, "i24": SampleFormat.I24}[text], "i16 or i24"),
    "set_gain_id": (lambda text: _whole(text, 0, 255), "a number from 0 to 255"),
    "set_filter": (
        lambda text: {
            "none": FilterMode.NONE, "diagnostic": FilterMode.DIAGNOSTIC, "monitoring": FilterMode.MONITORING,
        }[text],
        "none, diagnostic or monitoring",
    ),
    "set_mode": (lambda text: {"real": Mode.REAL, "test": Mode.TEST, "demo": Mode.DEMO}[text], "real, test or demo"),
}  # fmt: skip


class Configuring:
    """Asks one device, and says when its samples are what was asked for.

    Attributes
    ----------
    done
        Whether they are; the samples before that are not to be used.
    """

    def __init__(self, wanted: Wanted, *, uri: str) -> None:
        self._wanted, self._uri = wanted, uri
        self._info: Info | None = None
        self._n_samples, self._fmt = wanted.n_samples, wanted.fmt
        self._asked: Config | None = None
        self._times = 0
        self._since_s = 0.0
        self._applied = self.done = False

    def begin_anew(self) -> None:
        """Ask again: the device has started anew."""
        self._asked, self._times = None, 0
        self._applied = self.done = False

    def hear_data(self, data: Data) -> None:
        """Take how a device sends now; FeedError if what is wanted then fits no frame."""
        self._n_samples = self._n_samples or data.n_samples
        self._fmt = data.fmt if self._fmt is None else self._fmt
        self._prepare()

    def hear_info(self, info: Info) -> bool:
        """Return whether the device is what was asked for; one that is not any more is asked again.

        Raises
        ------
        FeedError
            If it says that it applied the settings, and INFO says otherwise; if what is wanted fits no frame.
        """
        self._info = info
        followed = self._asked is not None and self._wanted.followed(info, self._asked)
        if self._applied and not self.done and not followed:
            raise FeedError(
                f"{self._uri}: {describe(info)} says that it follows {self._settings}, and sends {_sends(info)}; leave "
                "these settings out of the URI, and report it to the maker of its firmware"
            )
        if self.done and not followed:
            self.begin_anew()
        self.done = self._applied and followed
        self._prepare()
        return self.done

    def hear_answer(self, answer: ConfigAck, *, now_s: float) -> bool:
        """Take an answer; return whether it was waited for.

        Raises
        ------
        FeedError
            If the device does not follow.
        """
        if self._asked is None or answer.config_id != self._asked.config_id or self._applied:
            return False
        if answer.status is not ConfigStatus.APPLIED:
            field = _FIELDS.get(answer.field, "")
            about = f"{field}={self._wanted.values[field]}" if field in self._wanted.values else field
            raise FeedError(
                f"{self._uri}: {self._who()} does not follow {self._settings}: {answer.status.name.lower()}"
                f"{f', because of {about}' if about else ''}; it goes on with {self._now()}. Ask for something else, "
                "or leave these settings out of the URI"
            )
        self._applied, self._since_s = True, now_s
        return True

    def due(self, *, now_s: float) -> Config | None:
        """Return the request if it is to be sent now."""
        waited = self._times == 0 or now_s - self._since_s >= ANSWER_S
        if self._asked is None or self._applied or self._times == MOST_ASKED or not waited:
            return None
        self._times, self._since_s = self._times + 1, now_s
        return self._asked

    def check(self, *, now_s: float) -> None:
        """See that what is waited for can still come.

        Raises
        ------
        FeedError
            If no answer came in time, or no INFO after it.
        """
        waited_s = now_s - self._since_s
        if self._applied and not self.done and waited_s > INFO_AFTER_S:
            raise FeedError(
                f"{self._uri}: {self._who()} follows {self._settings}, and has sent no INFO for "
                f"{INFO_AFTER_S:g} s after that; its firmware must, before its DATA"
            )
        if not self._applied and self._times == MOST_ASKED and waited_s >= ANSWER_S:
            raise FeedError(
                f"{self._uri}: {self._who()} was asked {MOST_ASKED} times for {self._settings}, and has not answered; "
                "does its firmware know CONFIG? Leave these settings out of the URI"
            )

    def _prepare(self) -> None:
        """Make the request, as soon as all is known that it must hold."""
        if self._asked is not None or self._info is None or self._n_samples is None or self._fmt is None:
            return
        try:
            self._asked = self._wanted.request(self._info, self._n_samples, self._fmt)
        except ValueError as error:
            raise FeedError(f"{self._uri}: {self._settings} cannot be asked for: {error}") from error

    def trouble(self) -> str | None:
        """Say what is waited for, once INFO has come."""
        if self._info is None or self.done:
            return None
        if self._n_samples is None or self._fmt is None:
            return (
                "the device sends no DATA to take its frames from: name set_samples and set_format in the URI"
            )
        return f"{self._who()} was asked for {self._settings} and has not begun to send so"

    @property
    def _settings(self) -> str:
        return "&".join(f"{name}={text}" for name, text in self._wanted.values.items())

    def _who(self) -> str:
        return "the device" if self._info is None else describe(self._info)

    def _now(self) -> str:
        return "what it was set to" if self._info is None else _sends(self._info)


def _sends(info: Info) -> str:
    return f"{len(info.leads)} channels at {info.rate_hz:g} Hz, gain {info.gain_id}, mode {info.mode.name.lower()}"
