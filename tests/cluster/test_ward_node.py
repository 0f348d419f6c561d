"""A node serves beds from the bus; one that is killed is followed by another, and nothing is missing."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import needs
import numpy as np
import pytest
from bus_lines import RATE_HZ, TOLD_AGAIN, Told, alone, facts, messages, put

from ecgedge.cluster.bus import Bus, BusError, open_bus
from ecgedge.cluster.checkpoint import Checkpoint
from ecgedge.sim import Simulator

needs.nats()
CHILD = Path(__file__).parents[1] / "support" / "node_child.py"
SECONDS = 100


@pytest.fixture(scope="module")
def ecg():
    """100 s of a patient whose V3 falls off, with a part that elevates the formula's answer."""
    samples_mv = Simulator("lead-off", seed=3, rate_hz=RATE_HZ).read(round(SECONDS * RATE_HZ))
    samples_mv[:, 5000:12_000] *= 3.0
    return samples_mv


def seen(bed, t_s):
    """Whether a bed has told an estimate of this time."""
    return lambda told: any(line["type"] == "estimate" and line["t_s"] >= t_s for line in told.of(bed))


def test_a_node_says_what_a_bed_alone_says(with_node, formula_bundle, variants, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        for k, message in enumerate(messages(ecg)):
            await bus.publish("same", message, number=k)
        node = await new_node(["same"])
        assert set(await node.take(["same"])) == {"same"}
        await told.until(seen("same", SECONDS - 1.0))
        expected = alone(formula_bundle, variants, "same", ecg)
        assert {"alarm", "estimate", "self_check", "feed"} == {line["type"] for line in expected}
        assert facts(told.of("same"), until_s=SECONDS) == facts(expected, until_s=SECONDS)
        assert said == []

    with_node(test)


async def publish(bus, beds, samples_mv):
    """Ten times as fast as life."""
    for k, message in enumerate(messages(samples_mv)):
        for bed in beds:
            await put(bus, bed, message, k)
        await asyncio.sleep(0.04)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_node_that_is_killed_is_followed_and_nothing_is_missing(
    server, formula_bundle, variants, ecg, seed
):
    rng = np.random.default_rng(seed)
    beds = [f"kill{seed}.{k}" for k in range(3)]

    def start():
        command = [sys.executable, str(CHILD), server.uri, str(formula_bundle.source), *beds]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    async def main():
        bus = await open_bus(server.uri)
        told = await Told.follow(bus)
        publishing = asyncio.create_task(publish(bus, beds, ecg))
        for until_s in sorted(rng.uniform(12.0, 85.0) for _ in range(3)):
            child = start()
            await told.until(seen(beds[0], until_s))
            await asyncio.sleep(rng.uniform(0.0, 0.1))
            child.kill()
            child.communicate()
        child = start()
        await publishing
        for bed in beds:
            await told.until(seen(bed, SECONDS - 1.0))
        child.kill()
        child.communicate()
        await bus.close()
        return told

    told = asyncio.run(asyncio.wait_for(main(), 120.0))
    for bed in beds:
        expected = facts(alone(formula_bundle, variants, bed, ecg), until_s=SECONDS)
        assert facts(told.of(bed), until_s=SECONDS) == expected


class Muted(Bus):
    """A bus that keeps what it is given, and from some stream time on takes no event: as a node that dies between."""

    from_s = float("inf")

    async def tell(self, bed, line, **how):
        if json.loads(line).get("t_s", 0.0) >= self.from_s:
            raise BusError("it is muted")
        await super().tell(bed, line, **how)


def test_what_was_kept_and_not_told_is_told_by_the_next(with_node, server, formula_bundle, variants, ecg):
    expected = alone(formula_bundle, variants, "muted", ecg)
    alarm_s = next(line["t_s"] for line in expected if line.get("condition") == "MPCWP_ELEVATED")

    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        for k, message in enumerate(messages(ecg)):
            await bus.publish("muted", message, number=k)
        own = await open_bus(server.uri)
        own.__class__ = Muted
        own.from_s = alarm_s
        await (await new_node(["muted"], own=own)).take(["muted"])
        # The alarm's checkpoint is kept, and nothing of what was said with it is told.
        while f'"t_s":{alarm_s}'.encode() not in (await bus.checkpoint("muted")).data:
            await asyncio.sleep(0.01)
        await (await new_node(["muted"])).take(["muted"])
        await told.until(seen("muted", SECONDS - 1.0))
        assert facts(told.of("muted"), until_s=SECONDS) == facts(expected, until_s=SECONDS)

    with_node(test)


def test_what_the_bus_has_forgotten_is_a_gap(with_node, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        sent = messages(ecg)
        for k, message in enumerate(sent[:50]):
            await bus.publish("forgot", message, number=k)
        first = await new_node(["forgot"])
        await first.take(["forgot"])
        await told.until(seen("forgot", 19.0))
        await first.release(["forgot"])
        for k in range(60, len(sent)):  # 50 to 59 are those that nobody kept
            await bus.publish("forgot", sent[k], number=k)
        second = await new_node(["forgot"])
        await second.take(["forgot"])
        await told.until(seen("forgot", SECONDS - 1.0))
        gaps = [line for line in told.of("forgot") if line.get("state") == "gap"]
        assert [(line["t_s"], line["age_s"]) for line in gaps] == [(pytest.approx(24.0), pytest.approx(4.0))]

    with_node(test)


def test_an_alarm_is_told_anew_and_one_that_ended_as_off(with_node, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        sent = messages(ecg)
        for k, message in enumerate(sent):
            await bus.publish("anew", message, number=k)
        first = await new_node(["anew"])
        await first.take(["anew"])
        await told.until(seen("anew", SECONDS - 1.0))
        shown = first.status()["anew"]["alarms"]
        await first.release(["anew"])
        assert first.beds == ()
        before = len(told.lines)
        second = await new_node(["anew"])
        await second.take(["anew"])
        assert second.status()["anew"]["alarms"] == shown
        await asyncio.sleep(0.3)
        again = [line for _, line in told.lines[before:] if line["bed"] == "anew" and line["type"] == "alarm"]
        assert {line["condition"] for line in again if line["signal"] != "off"} == set(shown)
        assert any(TOLD_AGAIN in line["text"] for line in again) or len(again) == len(shown)

    with_node(test)


def test_a_node_that_was_thought_dead_lets_go(with_node, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        sent = messages(ecg)
        for k, message in enumerate(sent[:60]):
            await bus.publish("zombie", message, number=k)
        first = await new_node(["zombie"])
        await first.take(["zombie"])
        while await bus.checkpoint("zombie") is None:
            await asyncio.sleep(0.01)
        second = await new_node(["zombie"])
        await second.take(["zombie"])
        while first.beds:
            await asyncio.sleep(0.02)
        assert second.beds == ("zombie",)
        assert said == ["bed zombie is served by another node now; this one lets it go"]
        for k in range(60, len(sent)):
            await bus.publish("zombie", sent[k], number=k)
        await told.until(seen("zombie", SECONDS - 1.0))

    with_node(test)


def test_garbage_and_another_signal_are_dropped_by_name(with_node, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        sent = messages(ecg)
        other = messages(ecg[:2, :100], leads=("I", "II"))[0]
        damaged = sent[0][:-1] + bytes([sent[0][-1] ^ 1])
        for k, message in enumerate([b"garbage", sent[0][:50], damaged, sent[0], other, *sent[1:]]):
            await bus.publish("dirty", message, number=k)
        node = await new_node(["dirty"])
        await node.take(["dirty"])
        await told.until(seen("dirty", SECONDS - 1.0))
        assert node.status()["dirty"]["dropped"] == {"format": 1, "length": 1, "checksum": 1, "signal": 1}
        assert not any(line.get("state") == "gap" for line in told.of("dirty"))

    with_node(test)


def test_a_checkpoint_that_does_not_fit_is_set_aside(with_node, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        await bus.keep("unfit", b"no checkpoint", revision=None)
        for k, message in enumerate(messages(ecg)):
            await bus.publish("unfit", message, number=k)
        node = await new_node(["unfit"])
        await node.take(["unfit"])
        await told.until(seen("unfit", SECONDS - 1.0))
        (text,) = said
        assert "bed unfit: begins anew: the checkpoint of unfit is no checkpoint" in text
        assert "What was kept is unfit/unfit" in text

    with_node(test)


def test_silence_is_noticed_by_the_wall_clock(with_node, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        for k, message in enumerate(messages(ecg[:, :5000])):
            await bus.publish("silent", message, number=k)
        node = await new_node(["silent"])
        await node.take(["silent"])
        lost = {"type": "alarm", "condition": "FEED_LOST", "presence": "on"}
        await told.until(lambda told: any(lost.items() <= line.items() for line in told.of("silent")))

    with_node(test)


def test_a_bed_whose_feed_has_never_come_is_there(with_node):
    async def test(bus, new_node, said):
        node = await new_node(["nobody"])
        assert set(await node.take(["nobody"])) == {"nobody"}
        assert node.status()["nobody"]["back"]
        assert np.isfinite((await node.take(["nobody"]))["nobody"])

    with_node(test)


def test_a_subscription_that_has_died_is_made_anew(with_node, ecg, monkeypatch):
    monkeypatch.setattr("ecgedge.cluster.served.RENEW_S", 0.3)

    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        sent = messages(ecg)
        for k, message in enumerate(sent[:100]):
            await bus.publish("deaf", message, number=k)
        node = await new_node(["deaf"])
        await node.take(["deaf"])
        await node._beds["deaf"]._following.close()
        for k in range(100, len(sent)):
            await bus.publish("deaf", sent[k], number=k)
        await told.until(seen("deaf", SECONDS - 1.0))
        assert not any(line.get("state") == "gap" for line in told.of("deaf"))

    with_node(test)


class Busy(Bus):
    """A bus on which, between a node's look at a checkpoint and its own, another node keeps one; some times."""

    left = 2

    async def checkpoint(self, bed):
        kept = await super().checkpoint(bed)
        if kept is not None and self.left > 0:
            self.left -= 1
            other = replace(Checkpoint.from_bytes(kept.data, source="here"), owner="another").to_bytes()
            await super().keep(bed, other, revision=kept.revision)
        return kept


def test_a_bed_whose_last_node_still_keeps_checkpoints_is_asked_for_again(with_node, server, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        for k, message in enumerate(messages(ecg)):
            await bus.publish("busy", message, number=k)
        first = await new_node(["busy"])
        await first.take(["busy"])
        await told.until(seen("busy", SECONDS - 1.0))
        await first.release(["busy"])
        own = await open_bus(server.uri)
        own.__class__ = Busy
        second = await new_node(["busy"], own=own)
        await second.take(["busy"])
        assert (own.left, second.beds, said) == (0, ("busy",), [])

    with_node(test)
