"""Inference engines behind one protocol; each engine's package is imported only when it is opened."""

from ecgedge.runtime.base import Runner
from ecgedge.runtime.buckets import BucketRunner
from ecgedge.runtime.choose import AUTO, RUNTIMES, Opened, check_runtime, open_on, open_runner
from ecgedge.runtime.engines import open_engine
from ecgedge.runtime.openvino import OpenVinoRunner
from ecgedge.runtime.ort import OrtRunner
from ecgedge.runtime.selftest import self_test

__all__ = [
    "AUTO",
    "RUNTIMES",
    "BucketRunner",
    "OpenVinoRunner",
    "Opened",
    "OrtRunner",
    "Runner",
    "check_runtime",
    "open_engine",
    "open_on",
    "open_runner",
    "self_test",
]
