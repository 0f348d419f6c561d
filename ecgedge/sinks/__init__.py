"""Where events go.

A `Sink` takes one bed's events, one at a time, here and now. An `Output` takes those of many beds and carries them over
a network: it never holds a bed up, and says what it could not deliver.
"""

from __future__ import annotations

from ecgedge.sinks.base import Sink
from ecgedge.sinks.bridge import BridgeSink
from ecgedge.sinks.jsonl import JsonlSink
from ecgedge.sinks.opening import SCHEMES, open_output
from ecgedge.sinks.outbox import BedOutlet, Output, first_trouble
from ecgedge.sinks.sdc import Acknowledge as AcknowledgeBed
from ecgedge.sinks.text import TextSink, format_event

__all__ = [
    "SCHEMES",
    "AcknowledgeBed",
    "BedOutlet",
    "BridgeSink",
    "JsonlSink",
    "Output",
    "Sink",
    "TextSink",
    "first_trouble",
    "format_event",
    "open_output",
]
