"""A bundle whose model is a formula, and feeds from memory that a URI names."""

import asyncio
import json
import math

import pytest
from memory_feed import MemoryFeed
from own_time import run_in_own_time
from ward_lines import RATE_HZ, timeless

from ecgedge.errors import FeedError
from ecgedge.events import event_to_dict
from ecgedge.feeds import FeedInfo, open_feed
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants
from ecgedge.wards.config import WardSettings
from ecgedge.wards.serve import WardService


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


@pytest.fixture(scope="module")
def ecg():
    """100 s of a patient whose V3 falls off."""
    return Simulator("lead-off", seed=3, rate_hz=RATE_HZ).read(round(100 * RATE_HZ))


TOLD_THE_TIME = ("ecgedge.station", "ecgedge.wards.delivery", "ecgedge.wards.place", "ecgedge.wards.serve")


@pytest.fixture
def ward(formula_bundle, new_variants, new_lines):
    """Run a test's coroutine beside a ward, in a time of their own; return all lines, after the end, and what was said.

    A disk that hangs needs the true time.
    """

    def run(test, *, speed=math.inf, read_clock=lambda: None, true_time=False, **chosen):
        said, lines = [], new_lines()

        async def main():
            settings = WardSettings(
                **{
                    key: str(value) if key in ("state", "journals") else value
                    for key, value in chosen.items()
                }
            )
            service = WardService(
                formula_bundle,
                new_variants(),
                settings,
                outlet=lines,
                speed=speed,
                say=said.append,
                read_clock=read_clock,
            )
            serving = asyncio.create_task(service.run())
            try:
                await asyncio.wait_for(test(service, lines.lines), 60.0)
            finally:
                service.stop()
                await serving

        if true_time:
            asyncio.run(main())
        else:
            run_in_own_time(main(), *TOLD_THE_TIME)
        return lines.lines, said

    return run


@pytest.fixture
def alone(formula_bundle, new_variants):
    """What a bed alone says, told by a function; as the ward's lines, without latencies."""

    def run(tell, *, name="a", leads=STANDARD_LEADS, rate_hz=RATE_HZ, mode="demo", **options):
        with new_variants() as variants:
            bed = Bed(formula_bundle, leads=leads, rate_hz=rate_hz, variants=variants, mode=mode, **options)
            events = tell(bed)
            events.append(bed.summary(latency_ms={}, journal=None))
        return timeless([json.loads(json.dumps({"bed": name, **event_to_dict(event)})) for event in events])

    return run
