"""Inference engines behind one protocol; each engine's package is imported only when it is opened."""

from ecgedge.runtime.base import Runner
from ecgedge.runtime.feeder import StepAnswer, StepFeeder
from ecgedge.runtime.ort import OrtRunner, open_runner
from ecgedge.runtime.selftest import self_test, stream_self_test
from ecgedge.runtime.step import StepRunner, open_step_runner

__all__ = [
    "OrtRunner",
    "Runner",
    "StepAnswer",
    "StepFeeder",
    "StepRunner",
    "open_runner",
    "open_step_runner",
    "self_test",
    "stream_self_test",
]
