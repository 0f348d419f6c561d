"""Commands to beds of a cluster: in their place among the samples, obeyed once, answered; against a real server."""

import asyncio
import json

import needs
import pytest
from bus_lines import RATE_HZ, Told, facts, messages, obeyed_alone, stream_of
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.cluster.bus import Bus, BusError, open_bus
from ecgedge.cluster.checkpoint import Checkpoint
from ecgedge.cluster.command import BedCommand, decode_command, encode_command
from ecgedge.cluster.tell import tell_bed
from ecgedge.errors import EcgedgeError
from ecgedge.sim import Simulator

needs.nats()
SECONDS = 60
OFF_S = 20.0
NURSE = {"user": "Nurse Seven"}
ACKNOWLEDGE = {"condition": "LEAD_OFF", **NURSE}


@pytest.fixture(scope="module")
def ecg():
    """A patient whose V3 falls off after 20 s."""
    samples_mv = Simulator("stable", seed=3, rate_hz=RATE_HZ).read(round(SECONDS * RATE_HZ))
    samples_mv[8, round(OFF_S * RATE_HZ) :] = float("nan")
    return samples_mv


def is_on(bed):
    return lambda told: any(line.get("condition") == "LEAD_OFF" for line in told.of(bed))


def answered(told, bed):
    return [line for line in told.of(bed) if line["type"] == "answer"]


async def begun(bus, bed, sent, n=100):
    for k, message in enumerate(sent[:n]):
        last = await bus.publish(bed, message, number=k)
    return last


async def until_kept(bus, bed, sequence):
    """Until a checkpoint has read all: whoever restores it knows of these samples from there alone."""
    while True:
        kept = await bus.checkpoint(bed)
        if kept and Checkpoint.from_bytes(kept.data, source="here").position.sequence >= sequence:
            return
        await asyncio.sleep(0.02)


async def rest(bus, bed, sent, n=100):
    for k, message in enumerate(sent[n:], n):
        last = await bus.publish(bed, message, number=k)
    return last


def to_the_end(bed):
    return lambda told: any(x["type"] == "estimate" and x["t_s"] >= SECONDS - 1.0 for x in told.of(bed))


def test_an_alarm_is_acknowledged_in_its_place(with_node, formula_bundle, variants, ecg):
    async def test(bus, new_node, said):
        told, sent = await Told.follow(bus), messages(ecg)
        await (await new_node(["ack.1"])).take(["ack.1"])
        await begun(bus, "ack.1", sent)
        await told.until(is_on("ack.1"))
        answer = await tell_bed(bus, "ack.1", "acknowledge", ACKNOWLEDGE)
        assert (answer["ok"], answer["user"]) == (True, "Nurse Seven")
        last = await rest(bus, "ack.1", sent)
        await told.until(to_the_end("ack.1"))
        shown = [x for x in told.of("ack.1") if x.get("condition") == "LEAD_OFF"]
        assert (shown[-1]["signal"], shown[-1]["user"]) == ("acknowledged", "Nurse Seven")
        # The whole line is that of a bed that nobody moved and that was told the same.
        expected = obeyed_alone(formula_bundle, variants, "ack.1", await stream_of(bus, "ack.1", last))
        assert facts(told.of("ack.1"), until_s=SECONDS) == facts(expected, until_s=SECONDS)
        assert said == []

    with_node(test)


def test_every_command_of_a_ward_and_status(with_node, ecg):
    async def test(bus, new_node, said):
        told = await Told.follow(bus)
        await (await new_node(["all"])).take(["all"])
        await begun(bus, "all", messages(ecg))
        await told.until(is_on("all"))
        for do, asked in (
            ("pause_audio", {"duration_s": 60, **NURSE}),
            ("resume_audio", NURSE),
            ("uncalibrate", NURSE),
        ):
            assert (await tell_bed(bus, "all", do, asked))["ok"]
        states = [x["state"] for x in told.of("all") if x["type"] == "audio" and x["user"] == "Nurse Seven"]
        assert states == ["paused", "on"]
        status = (await tell_bed(bus, "all", "status", {}))["status"]
        assert "LEAD_OFF" in status["alarms"]

    with_node(test)


@pytest.mark.parametrize(
    ("do", "asked", "why"),
    [
        ("acknowledge", NURSE, "condition is None; expected a text"),
        ("acknowledge", {"condition": "TIRED", **NURSE}, "unknown condition 'TIRED'"),
        ("pause_audio", {"duration_s": 1e9, **NURSE}, "a pause of 1e+09 s"),
        ("calibrate", {"mpcwp_mmhg": 14.0, **NURSE}, "estimates"),
        ("dance", {}, "unknown command 'dance'; known are status, acknowledge"),
    ],
)
def test_what_a_bed_does_not_do_is_answered(with_node, ecg, do, asked, why):
    bed = f"no-{do}-{len(asked)}-{asked.get('condition', '')}"

    async def test(bus, new_node, said):
        await (await new_node([bed])).take([bed])
        await begun(bus, bed, messages(ecg), 5)
        answer = await tell_bed(bus, bed, do, asked)
        assert not answer["ok"]
        assert why in answer["error"]

    with_node(test)


def test_a_bed_that_has_heard_nothing_says_so(with_node):
    async def test(bus, new_node, said):
        await (await new_node(["new"])).take(["new"])
        answer = await tell_bed(bus, "new", "acknowledge", ACKNOWLEDGE)
        assert answer["error"] == "bed new has heard nothing of its feed yet"

    with_node(test)


def test_a_command_that_nobody_answers_is_taken_back(on_bus):
    async def test(bus):
        with pytest.raises(EcgedgeError, match=r"nobody answers for bed gone in 0\.3 s.*taken back"):
            await tell_bed(bus, "gone", "acknowledge", ACKNOWLEDGE, wait_s=0.3)
        last = await bus.publish("gone", b"x", number=0)
        assert [found.data for found in await stream_of(bus, "gone", last)] == [b"x"]

    on_bus(test)


class Dying(Bus):
    """A bus that from the first answer on keeps and takes nothing: as of a node that dies behind an obeyed command."""

    refused = 0

    async def keep(self, bed, data, *, revision):
        if b'\\"type\\":\\"answer\\"' in data:
            self.refused += 1
        if self.refused:
            raise BusError("it is dying")
        return await super().keep(bed, data, revision=revision)

    async def tell(self, bed, line, **how):
        if self.refused:
            raise BusError("it is dying")
        await super().tell(bed, line, **how)


class Silent(Dying):
    """It keeps the checkpoint that knows of the command, and dies before the answer is told."""

    async def keep(self, bed, data, *, revision):
        self.refused += b'\\"type\\":\\"answer\\"' in data
        return await Bus.keep(self, bed, data, revision=revision)


@pytest.mark.parametrize("kind", [Dying, Silent])
def test_a_command_whose_node_dies_is_obeyed_once_and_answered(
    with_node, server, formula_bundle, variants, ecg, kind, monkeypatch
):
    monkeypatch.setattr("ecgedge.cluster.ward_node.LEAVE_S", 0.2)  # the dying one has nothing to wait for
    bed = kind.__name__

    async def test(bus, new_node, said):
        told, sent = await Told.follow(bus), messages(ecg)
        own = await open_bus(server.uri)
        own.__class__ = kind
        await (await new_node([bed], own=own)).take([bed])
        last = await begun(bus, bed, sent)
        await told.until(is_on(bed))
        await until_kept(bus, bed, last)
        asking = asyncio.create_task(tell_bed(bus, bed, "acknowledge", ACKNOWLEDGE))
        while not own.refused:
            await asyncio.sleep(0.01)
        await (await new_node([bed])).take([bed])
        assert (await asking)["ok"]
        last = await rest(bus, bed, sent)
        await told.until(to_the_end(bed))
        expected = obeyed_alone(formula_bundle, variants, bed, await stream_of(bus, bed, last))
        assert facts(told.of(bed), until_s=SECONDS) == facts(expected, until_s=SECONDS)
        assert {line["ok"] for line in answered(told, bed)} == {True}

    with_node(test)


def test_a_command_as_a_message():
    command = BedCommand("acknowledge", ACKNOWLEDGE, "k")
    assert decode_command(encode_command(command)) == command
    line = json.loads(command.answer("icu-1", error="no"))
    assert line == {
        "bed": "icu-1",
        "type": "answer",
        "id": "k",
        "do": "acknowledge",
        "user": "Nurse Seven",
        "ok": False,
        "error": "no",
    }


@given(garbage=st.binary(max_size=100))
def test_garbage_is_no_command(garbage):
    found = decode_command(b"DO1\n" + garbage)
    assert found is None or isinstance(found.do, str)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"do":1}', b'{"do":"x","id":1}', b"[" * 5000])
def test_what_is_no_command(body):
    assert decode_command(b"DO1\n" + body) is None
