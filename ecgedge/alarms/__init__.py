"""Alarm conditions and their signals: a pure state machine with time as an argument."""

from ecgedge.alarms.engine import AlarmEngine
from ecgedge.alarms.policy_file import load_policy
from ecgedge.alarms.self_check import SelfChecks
from ecgedge.alarms.table import CONDITIONS, TRANSITIONS

__all__ = ["CONDITIONS", "TRANSITIONS", "AlarmEngine", "SelfChecks", "load_policy"]
