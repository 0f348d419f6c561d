"""What a device says of its samples before they come: in the settings of a URI, or in a JSON object of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from ecgedge.ecg import Mode, check_rate
from ecgedge.errors import FeedError, RecordError
from ecgedge.feeds.base import FeedInfo
from ecgedge.leads import canonical_lead, order_leads

SPARE: Final = "-"
"""Stands in `leads` for a channel that is no ECG lead; it is not delivered."""

REQUIRED: Final = ("leads", "rate_hz", "lsb_nv")
OPTIONAL: Final = ("mode", "chunk_ms", "band_hz", "calibrated")
SETTINGS: Final = (*REQUIRED, *OPTIONAL)

LONGEST_CHUNK_MS: Final = 10_000.0


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A device's samples. `channels` holds one lead name or "-" per channel on the wire; the rest is as in FeedInfo."""

    channels: tuple[str, ...]
    rate_hz: float
    lsb_nv: float
    mode: Mode = "real"
    chunk_s: float = 0.02
    band_hz: tuple[float, float] | None = None
    calibrated: bool | None = None

    @property
    def leads(self) -> tuple[str, ...]:
        """The leads delivered, in standard order."""
        return order_leads([name for name in self.channels if name != SPARE])

    @property
    def rows(self) -> list[int]:
        """Which channels they are."""
        return [self.channels.index(lead) for lead in self.leads]

    def info(self, uri: str) -> FeedInfo:
        """Return what a feed of it declares."""
        return FeedInfo(
            uri=uri,
            leads=self.leads,
            rate_hz=self.rate_hz,
            mode=self.mode,
            chunk_s=self.chunk_s,
            live=True,
            resolution_mv=self.lsb_nv * 1e-6,
            band_hz=self.band_hz,
            calibrated=self.calibrated,
        )


def declared_of(info: FeedInfo, *, lsb_nv: float) -> Declared:
    """Return what a device that plays this feed says of itself: no patient is at its end, so it is never "real"."""
    return Declared(
        channels=info.leads,
        rate_hz=info.rate_hz,
        lsb_nv=lsb_nv,
        mode="demo" if info.mode == "demo" else "test",
        chunk_s=info.chunk_s,
        band_hz=info.band_hz,
        calibrated=info.calibrated,
    )


def to_object(declared: Declared) -> dict[str, Any]:
    """Return it as a JSON object, for `from_object`."""
    found: dict[str, Any] = {
        "leads": list(declared.channels),
        "rate_hz": declared.rate_hz,
        "lsb_nv": declared.lsb_nv,
        "mode": declared.mode,
        "chunk_ms": round(declared.chunk_s * 1e3, 6),
    }
    if declared.band_hz is not None:
        found["band_hz"] = list(declared.band_hz)
    if declared.calibrated is not None:
        found["calibrated"] = declared.calibrated
    return found


def from_object(plain: object) -> Declared:
    """Read a JSON object; other keys than `SETTINGS` are passed over, so that devices may say more of themselves.

    Raises
    ------
    ValueError
        Naming what is missing or wrong.
    """
    named = plain if isinstance(plain, dict) else {}
    values = {str(key): value for key, value in named.items() if key in SETTINGS}
    if isinstance(values.get("leads"), list):
        values["leads"] = ",".join(map(str, values["leads"]))
    if isinstance(values.get("band_hz"), list):
        values["band_hz"] = ",".join(map(str, values["band_hz"]))
    if isinstance(values.get("calibrated"), bool):
        values["calibrated"] = str(int(values["calibrated"]))
    return from_settings({key: str(value) for key, value in values.items()})


def from_settings(values: Mapping[str, str]) -> Declared:
    """Read the settings of a URI.

    Raises
    ------
    ValueError
        Naming what is missing or wrong.
    """
    if missing := [name for name in REQUIRED if name not in values]:
        raise ValueError(f"'{missing[0]}' is missing")
    mode = values.get("mode", "real")
    if mode not in get_args(Mode):
        raise ValueError(f"mode '{mode}' is not one of {', '.join(get_args(Mode))}")
    calibrated = values.get("calibrated")
    if calibrated not in (None, "0", "1"):
        raise ValueError(f"calibrated is '{calibrated}', neither 0 nor 1")
    declared = Declared(
        channels=tuple(_channel(name) for name in values["leads"].split(",")),
        rate_hz=_positive("rate_hz", values["rate_hz"]),
        lsb_nv=_positive("lsb_nv", values["lsb_nv"]),
        mode=cast("Mode", mode),
        chunk_s=_positive("chunk_ms", values.get("chunk_ms", "20"), at_most=LONGEST_CHUNK_MS) / 1e3,
        band_hz=_band(values.get("band_hz")),
        calibrated=None if calibrated is None else calibrated == "1",
    )
    try:
        check_rate(declared.rate_hz, source="rate_hz")
    except RecordError as error:
        raise ValueError(str(error)) from error
    _ = declared.leads  # Raises on a repeated lead, or none.
    return declared


def positive_setting(values: Mapping[str, str], name: str, default: float, *, uri: str) -> float:
    """Return a number above 0 out of a URI's settings; FeedError names what it is instead."""
    try:
        return _positive(name, values.get(name, str(default)))
    except ValueError as error:
        raise FeedError(f"{uri}: {error}") from error


def _channel(name: str) -> str:
    return SPARE if name.strip() == SPARE else canonical_lead(name)


def _band(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, _, high = text.partition(",")
    band_hz = _number("band_hz", low), _number("band_hz", high)
    if not 0.0 <= band_hz[0] < band_hz[1]:
        raise ValueError(f"band_hz is '{text}'; give the lower and the upper end, for example 0.05,150")
    return band_hz


def _positive(name: str, text: str, *, at_most: float = math.inf) -> float:
    number = _number(name, text)
    if not 0.0 < number <= at_most:
        raise ValueError(
            f"{name} is '{text}', not a number above 0" + f" and at most {at_most:g}" * (at_most < math.inf)
        )
    return number


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is '{text}', not a number above 0")
    return number
