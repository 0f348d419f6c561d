"""What a user asks of a bed, as plain JSON types: read and checked the same on a ward and on a cluster.

{"do":"acknowledge","condition":"MPCWP_ELEVATED","user":"Nurse Seven"}
{"do":"pause_audio","duration_s":60,"user":"Nurse Seven"}
{"do":"resume_audio","user":"Nurse Seven"}
{"do":"calibrate","mpcwp_mmhg":14.0,"sd_mmhg":2.0,"user":"Dr Eight"}
{"do":"uncalibrate","user":"Dr Eight"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecgedge.alarms import Reading, check_acknowledge, check_pause, check_resume, check_uncalibrate
from ecgedge.alarms.users import READING_SD_MMHG
from ecgedge.control import Acknowledge, Command, PauseAudio, ResumeAudio, Uncalibrate
from ecgedge.errors import UsageError
from ecgedge.policy import AlarmPolicy


def read_command(do: str, asked: Mapping[str, Any], policy: AlarmPolicy | None) -> Command:
    """Return the command that `do` names, with what else was `asked`.

    Parameters
    ----------
    do
        One of `BED_COMMANDS`.
    asked
        The other keys, without the bed's name.
    policy
        The bed's, which says how long a pause may be; None where there is no bed yet.

    Raises
    ------
    UsageError, ValueError
        If a key is missing, unknown, or of a wrong type or value.
    """
    return _READERS[do](dict(asked), policy)


def _acknowledge(asked: dict[str, Any], _: AlarmPolicy | None) -> Command:
    condition, user = take_texts(asked, "condition", "user")
    return Acknowledge(condition, check_acknowledge(condition, user))


def _pause(asked: dict[str, Any], policy: AlarmPolicy | None) -> Command:
    duration_s = _number("duration_s", asked.pop("duration_s", None), "seconds")
    (user,) = take_texts(asked, "user")
    if policy is not None:
        check_pause(duration_s, user, policy)
    return PauseAudio(duration_s, user)


def _resume(asked: dict[str, Any], _: AlarmPolicy | None) -> Command:
    (user,) = take_texts(asked, "user")
    return ResumeAudio(check_resume(user))


def _calibrate(asked: dict[str, Any], _: AlarmPolicy | None) -> Command:
    mmhg = _number("mpcwp_mmhg", asked.pop("mpcwp_mmhg", None), "mmHg")
    sd_mmhg = _number("sd_mmhg", asked.pop("sd_mmhg", READING_SD_MMHG), "mmHg")
    (user,) = take_texts(asked, "user")
    return Reading(mmhg, user, sd_mmhg)


def _uncalibrate(asked: dict[str, Any], _: AlarmPolicy | None) -> Command:
    (user,) = take_texts(asked, "user")
    return Uncalibrate(check_uncalibrate(user))


_READERS: Final[dict[str, Callable[[dict[str, Any], AlarmPolicy | None], Command]]] = {
    "acknowledge": _acknowledge,
    "pause_audio": _pause,
    "resume_audio": _resume,
    "calibrate": _calibrate,
    "uncalibrate": _uncalibrate,
}

BED_COMMANDS: Final = tuple(_READERS)
"""What a bed obeys."""


def take_texts(asked: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Return the texts of these names; UsageError if one is missing, no text, or there are others."""
    for name in names:
        if not isinstance(asked.get(name), str):
            raise UsageError(f"{name} is {asked.get(name)!r}; expected a text")
    others = sorted(set(asked) - set(names))
    if others:
        raise UsageError(f"unknown key {others[0]!r}; expected {', '.join(names) or 'none'}")
    return tuple(asked[name] for name in names)


def _number(name: str, value: Any, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name} is {value!r}; expected {unit}")
    try:
        return float(value)
    except OverflowError as error:
        raise UsageError(f"{name} is larger than any number of {unit}; expected {unit}") from error
