"""A live feed that comes at another rate than it declares: the ward tells it of that bed, over a restart, too."""

import asyncio

import numpy as np
import pytest
from memory_feed import At
from ward_lines import chunks, has, of, until

from ecgedge.wards.config import BedConfig

ECG = np.zeros((12, 2500), np.float32)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr("ecgedge.pace.STEP_S", 0.3)


def paced(seconds, *, t0_s, pace):
    """Chunks of 0.2 s of samples, `pace` times as fast as they should come."""
    silence = np.zeros((12, round(250 * seconds)), np.float32)
    played = enumerate(chunks(silence, t0_s=t0_s, chunk_s=0.2))
    return [step for k, chunk in played for step in (chunk, At(0.2 * k / pace))]


def told(lines, bed):
    return [(x["presence"], x["signal"]) for x in of(lines, bed, "alarm") if x["condition"] == "FEED_RATE"]


def test_only_the_bed_of_that_feed_tells_of_it_until_its_feed_is_set_right(ward, memory):
    async def test(service, lines):
        service.add(
            BedConfig("a", memory.add("a", paced(20.0, t0_s=0.0, pace=5.0), paced(6.0, t0_s=20.0, pace=1.0)))
        )
        service.add(BedConfig("b", memory.add("b", paced(6.0, t0_s=0.0, pace=1.0))))
        await until(lambda: told(lines, "a") == [("on", "on")])
        assert service.status()["beds"]["a"]["alarms"] == ["FEED_RATE"]
        await until(lambda: told(lines, "a")[-1:] == [("off", "off")])

    lines, _ = ward(test)
    assert told(lines, "b") == []


def test_after_a_restart_it_is_on_until_the_rate_is_known(ward, memory, tmp_path):
    async def first(service, lines):
        service.add(BedConfig("a", memory.add("a", [*paced(20.0, t0_s=0.0, pace=5.0), 3600.0])))
        await until(lambda: has(lines, condition="FEED_RATE"))

    async def second(service, lines):
        service.add(BedConfig("a", memory.add("a", [*paced(0.3, t0_s=60.0, pace=1.0), 3600.0])))
        await until(lambda: has(lines, condition="FEED_RATE"))
        await asyncio.sleep(0.5)

    assert told(ward(first, state=tmp_path)[0], "a") == [("on", "on")]
    assert told(ward(second, state=tmp_path)[0], "a") == [("on", "on")]


def test_samples_that_waited_on_their_way_are_told_of_that_bed_until_they_come_in_time(
    ward, memory, monkeypatch
):
    monkeypatch.setattr("ecgedge.pace.STEP_S", 60.0)
    monkeypatch.setattr("ecgedge.pace.LATE_S", 1.2)
    monkeypatch.setattr("ecgedge.pace.SOON_S", 0.8)
    monkeypatch.setattr("ecgedge.pace.SURE_S", 0.6)
    silence = np.zeros((12, 250 * 10), np.float32)
    late = [
        step
        for k, chunk in enumerate(chunks(silence, t0_s=0.0, chunk_s=0.2))
        for step in (At(0.2 * k + (2.0 if 5 <= k < 15 else 0.0)), chunk)
    ]

    async def test(service, lines):
        service.add(BedConfig("a", memory.add("a", late)))
        service.add(BedConfig("b", memory.add("b", paced(6.0, t0_s=0.0, pace=1.0))))
        await until(lambda: service.status()["beds"]["a"].get("alarms") == ["FEED_DELAYED"])
        await until(lambda: has(lines, condition="FEED_DELAYED", presence="off"))

    lines, _ = ward(test)
    assert {x["bed"] for x in lines if x.get("condition") == "FEED_DELAYED"} == {"a"}
