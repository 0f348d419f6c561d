"""Inference engines behind one protocol; each engine's package is imported only when it is opened."""

from ecgedge.runtime.base import Runner
from ecgedge.runtime.engines import open_engine
from ecgedge.runtime.ort import OrtRunner, open_runner
from ecgedge.runtime.selftest import self_test

__all__ = ["OrtRunner", "Runner", "open_engine", "open_runner", "self_test"]
