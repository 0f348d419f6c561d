"""What a user's act must look like, checked before time moves: an act that is refused changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ecgedge.alarms.table import CONDITIONS
from ecgedge.policy import AlarmPolicy

READING_SD_MMHG: Final = 2.0
"""Of a catheter reading whose own is not given: a choice of this project, not a finding."""

_HIGHEST_MMHG: Final = 60.0
_HIGHEST_SD_MMHG: Final = 10.0


@dataclass(frozen=True)
class Reading:
    """An mPCWP by catheter and the standard deviation of reading it, in mmHg, in the name of `user`.

    Raises
    ------
    ValueError
        On a value that no wedge pressure has, or if `user` is empty or unprintable.
    """

    mpcwp_mmhg: float
    user: str
    sd_mmhg: float = READING_SD_MMHG

    def __post_init__(self) -> None:
        if not 0.0 < self.mpcwp_mmhg <= _HIGHEST_MMHG:
            raise ValueError(
                f"mpcwp_mmhg is {self.mpcwp_mmhg:g}; a catheter value is above 0 and at most {_HIGHEST_MMHG:g} mmHg"
            )
        if not 0.0 < self.sd_mmhg <= _HIGHEST_SD_MMHG:
            raise ValueError(
                f"sd_mmhg is {self.sd_mmhg:g}; the standard deviation of a reading is above 0 and at most "
                f"{_HIGHEST_SD_MMHG:g} mmHg"
            )
        object.__setattr__(self, "user", _name(self.user, does="calibrates"))


def check_uncalibrate(user: str) -> str:
    """Return the name of who ends a calibration.

    Raises
    ------
    ValueError
        If `user` is empty or unprintable.
    """
    return _name(user, does="ends the calibration")


def check_acknowledge(condition: str, user: str) -> str:
    """Return the name of who acknowledges `condition`.

    Raises
    ------
    ValueError
        If there is no such condition, or `user` is empty or unprintable: someone must answer for it.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; known are {', '.join(CONDITIONS)}")
    return _name(user, does=f"acknowledges {condition}")


def check_pause(duration_s: float, user: str, policy: AlarmPolicy) -> str:
    """Return the name of who pauses the sound.

    Raises
    ------
    ValueError
        If `duration_s` is not above 0 and at most the policy's `audio_pause_max_s`, or `user` is empty or
        unprintable.
    """
    longest_s = policy.audio_pause_max_s
    if not 0.0 < duration_s <= longest_s:
        raise ValueError(f"a pause of {duration_s:g} s; it must be above 0 and at most {longest_s:g} seconds")
    return _name(user, does="pauses the audio")


def check_resume(user: str) -> str:
    """Return the name of who ends a pause.

    Raises
    ------
    ValueError
        If `user` is empty or unprintable.
    """
    return _name(user, does="ends the pause of the audio")


def _name(user: str, *, does: str) -> str:
    if not user.strip() or not user.isprintable():
        raise ValueError(f"who {does}? user is {user!r}; expected a name on one line")
    return user.strip()
