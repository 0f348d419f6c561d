"""A bundle whose model is a formula, and feeds from memory that a URI names."""

import json

import hand_made
import pytest
from memory_feed import MemoryFeed

from ecgedge.errors import FeedError
from ecgedge.feeds import FeedInfo, open_feed
from ecgedge.leads import STANDARD_LEADS
from ecgedge.stream import Variants


@pytest.fixture(scope="session")
def formula_bundle(tmp_path_factory):
    lead_sets = (STANDARD_LEADS, ("I", "II"), ("II",))
    return hand_made.make_formula_bundle(tmp_path_factory.mktemp("bundle") / "formula.ecgb", lead_sets)


@pytest.fixture
def new_variants(formula_bundle):
    """Variants that the service may close."""
    return lambda: Variants(formula_bundle)


class Lines:
    """An outlet that keeps what it is given."""

    def __init__(self):
        self.lines, self.urgent, self.dropped, self.failure = [], [], {}, None

    def put(self, line, *, kind, urgent):
        self.lines.append(json.loads(line))
        assert self.lines[-1]["type"] == kind
        self.urgent += [self.lines[-1]] if urgent else []


@pytest.fixture
def new_lines():
    return Lines


class Memory:
    """What `memory:NAME` opens: for each opening the next of the steps given, or an exception; then none opens."""

    def __init__(self):
        self.openings = {}
        self.feeds = []

    def add(self, name, *openings, leads=STANDARD_LEADS, rate_hz=250.0, live=True, mode="demo"):
        info = FeedInfo(f"memory:{name}", leads, rate_hz, mode, 1.0, live)
        self.openings.setdefault(name, []).extend((info, opening) for opening in openings)
        return info.uri

    async def open(self, uri):
        name = uri.removeprefix("memory:")
        if not self.openings.get(name):
            raise FeedError(f"{uri} does not answer")
        info, opening = self.openings[name].pop(0)
        if isinstance(opening, BaseException):
            raise opening
        self.feeds.append(MemoryFeed(*opening, info=info))
        return self.feeds[-1]


@pytest.fixture
def memory(monkeypatch):
    """Feeds from memory, beside those that there are; a lost one is opened again at once.

    Silence is not noticed: a machine that is busy for seconds would be taken for it. See `silence`.
    """
    memory = Memory()

    async def open_either(uri, *, speed):
        return await (memory.open(uri) if uri.startswith("memory:") else open_feed(uri, speed=speed))

    monkeypatch.setattr("ecgedge.wards.place.open_feed", open_either)
    monkeypatch.setattr("ecgedge.wards.place.AGAIN_S", (0.01, 0.05))
    monkeypatch.setattr("ecgedge.wards.place.SILENT_S", 1000.0)
    return memory


@pytest.fixture
def silence(memory, monkeypatch):
    """Silence is noticed."""
    monkeypatch.setattr("ecgedge.wards.place.SILENT_S", 0.5)
