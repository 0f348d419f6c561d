"""Inference engines behind one protocol; each engine's package is imported only when it is opened."""

from ecgedge.runtime.around import DISTANCE, MOVEMENT, WithDistance, WithMovement
from ecgedge.runtime.base import Runner, single_numbers
from ecgedge.runtime.choose import AUTO, RUNTIMES, Opened, check_runtime, open_on, open_runner, prove
from ecgedge.runtime.openvino import OpenVinoRunner
from ecgedge.runtime.ort import OrtRunner
from ecgedge.runtime.pool import Outputs, StepAsk, StepPool, StepSeat
from ecgedge.runtime.selftest import self_test, stream_self_test
from ecgedge.runtime.step import StepRunner, open_step_runner

__all__ = [
    "AUTO",
    "DISTANCE",
    "MOVEMENT",
    "RUNTIMES",
    "OpenVinoRunner",
    "Opened",
    "OrtRunner",
    "Outputs",
    "Runner",
    "StepAsk",
    "StepPool",
    "StepRunner",
    "StepSeat",
    "WithDistance",
    "WithMovement",
    "check_runtime",
    "open_on",
    "open_runner",
    "open_step_runner",
    "prove",
    "self_test",
    "single_numbers",
    "stream_self_test",
]
