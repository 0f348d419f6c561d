"""Alarm conditions and their signals: a pure state machine with time as an argument."""

from ecgedge.alarms.engine import AlarmEngine
from ecgedge.alarms.policy_file import load_policy
from ecgedge.alarms.self_check import ChecksState, SelfChecks
from ecgedge.alarms.table import CONDITIONS, DELAYS, TRANSITIONS, Fact
from ecgedge.alarms.users import Reading, check_acknowledge, check_pause, check_resume, check_uncalibrate

__all__ = [
    "CONDITIONS",
    "DELAYS",
    "TRANSITIONS",
    "AlarmEngine",
    "ChecksState",
    "Fact",
    "Reading",
    "SelfChecks",
    "check_acknowledge",
    "check_pause",
    "check_resume",
    "check_uncalibrate",
    "load_policy",
]
