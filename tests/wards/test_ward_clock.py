"""A wall clock that no time server holds: told by every bed of the ward, over a restart too."""

import asyncio

import numpy as np
import pytest
from ward_lines import chunks, has, of, until

from ecgedge.wards.config import BedConfig

ECG = np.zeros((12, 2500), np.float32)


class Clock:
    """The kernel's word, as a test sets it."""

    held = False

    def __call__(self):
        return self.held


@pytest.fixture
def policy(tmp_path, monkeypatch):
    monkeypatch.setattr("ecgedge.wallclock.LOOK_S", 0.0)
    path = tmp_path / "quick.toml"
    path.write_text("clock_unsync_s = 5.0\n")
    return str(path)


def told(lines, bed):
    return [(x["presence"], x["signal"]) for x in of(lines, bed, "alarm") if x["condition"] == "CLOCK_UNSYNC"]


def test_every_bed_tells_of_it_and_of_its_end(ward, memory, policy):
    clock = Clock()

    async def test(service, lines):
        for name in "ab":  # time goes on after the second in which it is looked at
            feed = memory.add(name, [*chunks(ECG), 1.0, *chunks(ECG, t0_s=10.0), 3600.0])
            service.add(BedConfig(name, feed, policy))
        await until(lambda: all(has(lines, name, condition="CLOCK_UNSYNC") for name in "ab"))
        assert service.status()["clock_synchronised"] is False
        clock.held = True
        await until(lambda: all(told(lines, name)[-1:] == [("off", "off")] for name in "ab"))

    lines, _ = ward(test, read_clock=clock)
    assert told(lines, "a") == told(lines, "b") == [("on", "on"), ("off", "off")]


@pytest.mark.parametrize(
    ("held", "then"), [(False, [("on", "on")]), (True, [("on", "on"), ("off", "off")])], ids=["free", "held"]
)
def test_after_a_restart_it_goes_on_until_the_clock_is_held(ward, memory, policy, tmp_path, held, then):
    clock = Clock()

    def served(test, *steps):
        async def run(service, lines):
            service.add(BedConfig("a", memory.add("a", steps), policy))
            await test(lines)

        return ward(run, read_clock=clock, state=tmp_path)[0]

    async def comes(lines):
        await until(lambda: has(lines, condition="CLOCK_UNSYNC"))

    async def goes_or_stays(lines):
        await comes(lines)
        await asyncio.sleep(0.8)

    first = served(comes, *chunks(ECG), 1.0, *chunks(ECG, t0_s=10.0), 3600.0)
    assert told(first, "a") == [("on", "on")]
    clock.held = held
    assert told(served(goes_or_stays, 3600.0), "a") == then
