"""Where events go: each sink takes one event at a time and says how many it could not deliver."""

from __future__ import annotations

from ecgedge.sinks.base import Sink
from ecgedge.sinks.bridge import BridgeSink
from ecgedge.sinks.jsonl import JsonlSink
from ecgedge.sinks.text import TextSink, format_event

__all__ = ["BridgeSink", "JsonlSink", "Sink", "TextSink", "format_event"]
