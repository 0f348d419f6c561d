"""What a device says of itself in INFO, and what a URI says of it: put together, or told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ecgedge.ecg import Mode
from ecgedge.errors import FeedError
from ecgedge.feeds.declared import REQUIRED, SETTINGS, Declared, from_settings
from ecgedge_bridge import Info
from ecgedge_bridge import Mode as DeviceMode

SAME_RATE: Final = 1e-6
SAME_LSB: Final = 1e-3
"""Numbers of a URI are taken for INFO's within these shares: people round them."""

_MODES: Final[dict[DeviceMode, Mode]] = {
    DeviceMode.REAL: "real",
    DeviceMode.TEST: "test",
    DeviceMode.DEMO: "demo",
}


def settings_of(declared: Declared) -> dict[str, str]:
    """Return a whole declaration as the settings of a URI, for `declared_of_info`."""
    return {
        "leads": ",".join(declared.channels),
        "rate_hz": repr(declared.rate_hz),
        "lsb_nv": repr(declared.lsb_nv),
        "mode": declared.mode,
    }


def is_whole(settings: Mapping[str, str]) -> bool:
    """Tell whether a URI's settings say all that a device must be known by, so that no INFO is needed."""
    return all(name in settings for name in REQUIRED)


def declared_of_info(info: Info, settings: Mapping[str, str], *, uri: str, by: str = "the URI") -> Declared:
    """Return what INFO declares, with what it does not say (the band, calibration, frame length) from `settings`.

    Raises
    ------
    FeedError
        If it cannot be used, or says something else than the settings, which are those of `by`.
    """
    said = {
        "leads": ",".join(info.lead_names),
        "rate_hz": repr(info.rate_hz),
        "lsb_nv": repr(info.lsb_pv / 1e3),
        "mode": _MODES[info.mode],
    }
    try:
        declared = from_settings({**settings, **said})
    except ValueError as error:
        raise FeedError(f"{uri}: what the device says of itself (INFO) cannot be used: {error}") from error
    named = from_settings({**said, **settings})  # their own errors were told when they were read
    for name in (name for name in said if name in settings and not _agree(name, named, declared)):
        raise FeedError(
            f"{uri}: {by} says {name}={settings[name]}, and the device ({describe(info)}) says {said[name]}; "
            f"correct the one or the other, or leave {name} out of the URI"
        )
    return declared


def _agree(name: str, uri: Declared, info: Declared) -> bool:
    if name == "leads":
        return uri.channels == info.channels
    if name == "mode":
        return uri.mode == info.mode
    share = SAME_RATE if name == "rate_hz" else SAME_LSB
    return math.isclose(getattr(uri, name), getattr(info, name), rel_tol=share)


def check_same(first: Info, now: Info, *, uri: str) -> None:
    """See that a feed can go on with a later INFO: another gain, or another order of the same leads, is no matter.

    Raises
    ------
    FeedError
        If it is another device, or what a bed was made for has changed.
    """
    for what, before, after in (
        ("serial number", first.serial, now.serial),
        ("rate", f"{first.rate_hz:g} Hz", f"{now.rate_hz:g} Hz"),
        ("mode", first.mode.name.lower(), now.mode.name.lower()),
        ("leads", _leads(first), _leads(now)),
    ):
        if before != after:
            raise FeedError(
                f"{uri}: the device's {what} was {before} and is {after} now; open the feed again. "
                "Is it still the same patient's?"
            )


def _leads(info: Info) -> str:
    return ",".join(sorted(name for name in info.lead_names if name != "-"))


def describe(info: Info) -> str:
    """Return whom people know the device as."""
    return f"{info.serial}, firmware {'.'.join(map(str, info.firmware))}"


def check_settings(values: Mapping[str, str]) -> None:
    """Raise ValueError for what a URI's settings may not hold, whether INFO is needed beside them or not."""
    if unknown := values.keys() - set(SETTINGS):
        raise ValueError(f"unknown setting '{min(unknown)}'")
    from_settings({"leads": "I", "rate_hz": "500", "lsb_nv": "1", **values})
