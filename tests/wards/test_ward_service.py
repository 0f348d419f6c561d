"""The ward's service in one loop: feeds that come, go and lie; files that break; readers who are slow."""

import asyncio
import json
import math
from functools import partial

import numpy as np
import pytest
from ward_lines import RATE_HZ, chunks, ended, has, of, timeless, until

from ecgedge.control import Acknowledge, PauseAudio
from ecgedge.ecg import Recording
from ecgedge.errors import FeedError, RecordError
from ecgedge.events import Alarm, AudioEvent, Expired, FeedEvent
from ecgedge.feeds import Chunk
from ecgedge.journal import Journal, read_journal, verify_journal
from ecgedge.leads import STANDARD_LEADS, parse_lead_set
from ecgedge.records import write_npz
from ecgedge.rerun import compare_run, find_runs
from ecgedge.sim import Simulator
from ecgedge.stream import Bed
from ecgedge.wards import place as place_module
from ecgedge.wards.config import BedConfig
from ecgedge.wards.delivery import Deliveries
from ecgedge.wards.lines import BedLines

BEGIN = {"bed": "a", "type": "feed", "t_s": 0.0, "state": "connected", "lead": None, "age_s": None}


# --- each bed ---


def test_each_bed_says_what_it_says_alone(ward, alone):
    uris = {
        "a": "sim:lead-off?seed=3&rate_hz=250&duration_s=80",
        "b": "sim:noisy?seed=4&rate_hz=500&duration_s=41&chunk_ms=10000&leads=I,II",
        "c": "sim:stable?seed=5&rate_hz=360&duration_s=37.3&chunk_ms=7&leads=II",
        "d": "sim:stable?seed=5&rate_hz=250&duration_s=30&chunk_ms=3000&leads=I,II,V3",
    }

    async def test(service, lines):
        for name, uri in uris.items():
            service.add(BedConfig(name, uri))
        await until(lambda: ended(lines, *uris))

    lines, said = ward(test)
    assert said == []
    for name, uri in uris.items():
        scenario, _, query = uri.removeprefix("sim:").partition("?")
        asked = dict(pair.split("=") for pair in query.split("&"))
        rate_hz, leads = float(asked["rate_hz"]), parse_lead_set(asked.get("leads", "12"))
        samples_mv = Simulator(scenario, seed=int(asked["seed"]), rate_hz=rate_hz).read(
            round(float(asked["duration_s"]) * rate_hz)
        )[[STANDARD_LEADS.index(lead) for lead in leads]]
        expected = alone(
            partial(Bed.push, samples_mv=samples_mv, t_s=0.0), name=name, leads=leads, rate_hz=rate_hz
        )
        assert of(lines, name) == expected


def test_a_recordings_end_gives_the_summary_and_the_journal_stays(ward, alone, ecg, tmp_path):
    path = tmp_path / "r.npz"
    write_npz(Recording(ecg[:, :7500], RATE_HZ, STANDARD_LEADS, mode="test"), path)

    async def test(service, lines):
        service.add(BedConfig("a", f"file:{path}?chunk_ms=10000"))
        await until(lambda: ended(lines, "a"))
        assert service.status()["beds"]["a"] == {
            "feed": f"file:{path}?chunk_ms=10000",
            "connected": False,
            "ended": True,
        }

    lines, _ = ward(test, journals=tmp_path, true_time=True)  # a thread reads the file
    assert of(lines, "a") == alone(lambda bed: bed.push(ecg[:, :7500], t_s=0.0), mode="test")
    assert lines[-1]["journal"] == str(tmp_path / "a.jsonl")
    assert all(x["latency_ms"] >= 0.0 for x in lines if x["type"] == "estimate")
    kept = [entry.event for entry in read_journal(tmp_path / "a.jsonl")]
    assert timeless([{"bed": "a", **e} for e in kept if e["type"] not in ("journal", "input")]) == of(
        lines, "a"
    )


def test_a_bed_of_a_ward_is_run_again_from_its_journal(
    ward, silence, memory, ecg, tmp_path, formula_bundle, new_variants
):
    """With silence, a lost feed, a clock set back and a user in it."""
    steps = [*chunks(ecg[:, :2500]), 2.6, *chunks(ecg[:, 2500:4500], t0_s=13.0), FeedError("cut")]
    again = [*chunks(ecg[:, 4500:6500], t0_s=1.0), 3600.0]

    async def test(service, lines):
        service.add(BedConfig("a", memory.add("a", steps, again)))
        await until(lambda: has(lines, condition="FEED_LOST", presence="on"))
        await service.place("a").obey(Acknowledge("FEED_LOST", "Nurse Seven"))
        await service.place("a").obey(PauseAudio(30.0, "Nurse Seven"))
        await until(lambda: has(lines, type="feed", state="clock_jump"))
        await until(lambda: service.status()["beds"]["a"]["t_s"] > 8.0)

    lines, _ = ward(test, journals=tmp_path)
    assert has(lines, signal="acknowledged")
    path = tmp_path / "a.jsonl"
    (run,) = find_runs(path)
    calls = {given.call for given in run.inputs}
    assert {"advance", "feed_lost", "acknowledge", "pause_audio", "end"} <= calls

    async def compare():
        memory.add("again", [step for step in [*steps, *again] if isinstance(step, Chunk)], live=False)
        feed = await memory.open("memory:again")
        with new_variants() as variants:
            return await compare_run(path, run, bundle=formula_bundle, feed=feed, variants=variants)

    found = asyncio.run(compare())
    assert found.difference is None


def test_beds_come_and_go_and_the_others_do_not_notice(ward, alone, memory, ecg, tmp_path):
    async def test(service, lines):
        go_on = asyncio.Event()
        service.add(
            BedConfig(
                "a",
                memory.add(
                    "a", [*chunks(ecg[:, :5000]), go_on, *chunks(ecg[:, 5000:], t0_s=20.0)], live=False
                ),
            )
        )
        await until(lambda: has(lines, type="estimate", t_s=20.0))
        service.add(BedConfig("b", memory.add("b", [*chunks(ecg[:, :2500]), 3600.0])))
        await until(lambda: has(lines, "b", type="estimate"))
        await until(lambda: (tmp_path / "a.bed").exists() and (tmp_path / "b.bed").exists())
        await service.remove("b")
        assert ended(lines, "b")
        assert not (tmp_path / "b.bed").exists()
        go_on.set()
        await until(lambda: ended(lines, "a"))

    lines, said = ward(test, state=tmp_path, state_s=0.001)
    assert said == []
    assert of(lines, "a") == alone(lambda bed: bed.push(ecg, t_s=0.0))
    assert [feed.closed for feed in memory.feeds] == [1, 1]


# --- feeds that are lost ---


@pytest.mark.parametrize("end", [[FeedError("the cable was pulled")], []])
def test_a_feed_that_is_lost_or_hangs_up_is_opened_again(ward, alone, memory, ecg, end):
    async def test(service, lines):
        first, again = [*chunks(ecg[:, :2500]), *end], [*chunks(ecg[:, 2500:4500], t0_s=10.0), 3600.0]
        service.add(BedConfig("a", memory.add("a", first, OSError("no route"), again)))
        await until(lambda: has(lines, type="estimate", t_s=15.0))
        assert "trouble" not in service.status()["beds"]["a"]

    lines, said = ward(test)

    def tell(bed):
        return [
            *bed.push(ecg[:, :2500], t_s=0.0),
            *bed.feed_lost(),
            *bed.push(ecg[:, 2500:4500], t_s=10.0),
        ]

    assert of(lines, "a") == alone(tell)
    assert has(lines, condition="FEED_LOST", presence="on")
    assert has(lines, condition="FEED_LOST", presence="off")
    why = "the cable was pulled" if end else "memory:a: the device has closed the connection"
    assert said == [f"bed a: {why}; trying again", "bed a: OSError: no route; trying again"]


def test_a_feed_that_cannot_be_opened_at_first_is_tried_until_it_can(ward, alone, memory, ecg):
    async def test(service, lines):
        refusals = [FeedError("nobody there")] * 3 + [
            ValueError("a fault of ours"),
            FeedError("nobody there"),
        ]
        service.add(BedConfig("a", memory.add("a", *refusals, [*chunks(ecg[:, :2500]), 3600.0])))
        await until(lambda: has(lines, type="estimate", t_s=10.0))

    lines, said = ward(test)
    assert of(lines, "a") == alone(lambda bed: bed.push(ecg[:, :2500], t_s=0.0))
    assert said == [
        "bed a: nobody there; trying again",
        "bed a: ValueError: a fault of ours; trying again",
    ]


def test_it_is_tried_less_and_less_often(ward, memory, monkeypatch):
    monkeypatch.setattr(place_module, "AGAIN_S", (0.02, 0.1))
    opened_s = []

    async def refuse(uri, *, speed):
        opened_s.append(asyncio.get_running_loop().time())
        raise FeedError("nobody there")

    monkeypatch.setattr(place_module, "open_feed", refuse)

    async def test(service, lines):
        service.add(BedConfig("a", "memory:a"))
        await until(lambda: len(opened_s) == 6)

    ward(test)
    waits_s = np.diff(opened_s)
    assert waits_s[1] >= 0.04
    assert (waits_s[3:] >= 0.1).all()


def test_a_feed_that_keeps_a_cancellation_for_itself_holds_up_no_end(ward, memory, monkeypatch):
    """As one does that waits for a task of its own to be cancelled, when it is told of the end."""
    kept, waits = [], asyncio.Event()

    async def busy(uri, *, speed):
        waits.set()
        while True:
            try:
                await asyncio.sleep(3600.0)
            except asyncio.CancelledError:
                kept.append(uri)
                if len(kept) > 1:
                    raise

    monkeypatch.setattr(place_module, "open_feed", busy)
    monkeypatch.setattr("ecgedge.tasks.AGAIN_S", 0.05)

    async def test(service, lines):
        service.add(BedConfig("a", "memory:a"))
        await waits.wait()

    ward(test)
    assert kept == ["memory:a"] * 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leads": ("I", "II")}, "has leads I,II at 250 Hz in mode demo now, and had leads I,II,III"),
        ({"rate_hz": 500.0}, "at 500 Hz in mode demo now"),
        ({"mode": "real"}, "in mode real now"),
    ],
)
def test_a_feed_that_comes_back_as_another_is_refused_and_said(ward, alone, memory, ecg, changes, words):
    async def test(service, lines):
        uri = memory.add("a", [*chunks(ecg[:, :2500]), FeedError("cut")])
        memory.add("a", *[[*chunks(ecg[:2, :2000], t0_s=10.0), 3600.0]] * 2, **changes)
        memory.add("a", [*chunks(ecg[:, 2500:4500], t0_s=10.0), 3600.0])
        service.add(BedConfig("a", uri))
        await until(lambda: has(lines, type="estimate", t_s=15.0))

    lines, said = ward(test)
    assert len(said) == 2
    assert words in said[1]
    assert "remove the bed and add it again" in said[1]
    assert of(lines, "a") == alone(
        lambda bed: [
            *bed.push(ecg[:, :2500], t_s=0.0),
            *bed.feed_lost(),
            *bed.push(ecg[:, 2500:4500], t_s=10.0),
        ]
    )
    assert [feed.closed for feed in memory.feeds] == [1] * 4


def test_silence_is_told_by_the_wall_clock(ward, silence, memory, ecg):
    async def test(service, lines):
        service.add(BedConfig("a", memory.add("a", [*chunks(ecg[:, :500]), 3600.0])))
        read_clock = asyncio.get_running_loop().time
        began_s = read_clock()
        await until(lambda: has(lines, condition="FEED_LOST"))
        assert 1.9 < read_clock() - began_s < 2.6
        await until(lambda: has(lines, type="self_check", t_s=5.0))

    lines, _ = ward(test)
    (lost,) = of(lines, "a", "alarm")
    assert (lost["condition"], lost["t_s"], lost["presence"]) == ("FEED_LOST", 4.0, "on")


def test_a_feed_of_nothing_but_old_samples_is_lost_and_stale(ward, silence, memory, ecg):
    async def test(service, lines):
        (old,) = chunks(ecg[:, :50], t0_s=1.0)
        steps = [*chunks(ecg[:, :750]), *[step for _ in range(400) for step in (0.03, old)]]
        service.add(BedConfig("a", memory.add("a", steps)))
        await until(lambda: has(lines, condition="FEED_STALE"))

    lines, _ = ward(test, speed=4.0)
    told = [(e["condition"], e["t_s"]) for e in of(lines, "a", "alarm") if e["presence"] == "on"]
    assert told[:2] == [("FEED_LOST", 5.0), ("FEED_STALE", 8.0)]


def test_a_feed_whose_clock_was_just_set_back_cannot_hide_its_silence(ward, silence, memory, ecg):
    async def test(service, lines):
        old, new = chunks(ecg[:, :2000], t0_s=86_400.0), chunks(ecg[:, :125], t0_s=0.0, chunk_s=0.25)
        service.add(BedConfig("a", memory.add("a", [*old, *new, 3600.0])))
        await until(lambda: has(lines, condition="FEED_LOST"))

    lines, _ = ward(test)
    (lost,) = of(lines, "a", "alarm")
    assert lost["t_s"] == 86_410.0


# --- what feeds may say ---


def test_a_storm_of_samples_is_a_gap_and_only_for_its_own_bed(ward, alone, memory, ecg):
    """Ten times more at once than an inbox holds."""

    async def test(service, lines):
        calm = memory.add("b", [*chunks(ecg), 3600.0], live=False)
        service.add(
            BedConfig(
                "a", memory.add("a", [*chunks(ecg[:, :2500]), 0.5, *chunks(ecg[:, 2500:], t0_s=10.0), 0.3])
            )
        )
        service.add(BedConfig("b", calm))
        await until(lambda: has(lines, type="estimate", t_s=100.0))
        await until(lambda: has(lines, "b", type="estimate", t_s=100.0))

    lines, _ = ward(test)
    (gap,) = [x for x in of(lines, "a", "feed") if x["state"] == "gap"]
    assert 75.0 <= gap["age_s"] <= 90.0
    (summary,) = of(lines, "a", "summary")
    assert summary["dropped_samples"] == round(gap["age_s"] * RATE_HZ)
    (estimate,) = [x for x in of(lines, "a", "estimate") if x["t_s"] == 100.0]
    assert estimate["validity"] != "valid"
    assert of(lines, "b") == alone(lambda bed: bed.push(ecg, t_s=0.0), name="b")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e6, 3.4e38])
def test_samples_that_no_heart_made_are_told_and_end_nothing(ward, alone, memory, ecg, value):
    odd = ecg.copy()
    odd[1, 2500:5000] = value

    async def test(service, lines):
        service.add(BedConfig("a", memory.add("a", [*chunks(odd), 3600.0], live=False)))
        await until(lambda: has(lines, type="estimate", t_s=100.0))

    lines, _ = ward(test)
    assert of(lines, "a") == alone(lambda bed: bed.push(odd, t_s=0.0))
    text = json.dumps(of(lines, "a"))
    assert "NaN" not in text
    assert "Infinity" not in text
    (during,) = [x for x in of(lines, "a", "estimate") if x["t_s"] == 20.0]
    assert "II" not in during["leads"] or during["validity"] != "valid"
    (after,) = [x for x in of(lines, "a", "estimate") if x["t_s"] == 40.0]
    assert after["validity"] == "valid"


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_a_day_back_or_forward_is_told(ward, alone, memory, ecg, jump_s):
    early, late = ecg[:, :5000], ecg[:, 5000:]

    async def test(service, lines):
        feed = [*chunks(early, t0_s=1e5), *chunks(late, t0_s=1e5 + 20.0 + jump_s)]
        service.add(BedConfig("a", memory.add("a", feed, live=False)))
        await until(lambda: ended(lines, "a"))

    lines, _ = ward(test)
    assert of(lines, "a") == alone(
        lambda bed: [*bed.push(early, t_s=1e5), *bed.push(late, t_s=1e5 + 20.0 + jump_s)]
    )
    state, age_s = ("clock_jump", 86_400.0) if jump_s < 0.0 else ("gap", 86_400.0)
    (told,) = [x for x in of(lines, "a", "feed") if x["state"] == state and x["age_s"] > 2.0]
    assert told["age_s"] == pytest.approx(age_s, abs=1.5)
    assert of(lines, "a", "estimate")[-1]["validity"] == "valid"


# --- disks ---


def test_a_journal_that_cannot_be_opened_stops_its_own_bed_only(ward, alone, memory, ecg, tmp_path):
    (tmp_path / "a.jsonl").write_text("a letter\n")

    async def test(service, lines):
        for name in "ab":
            service.add(BedConfig(name, memory.add(name, *[chunks(ecg[:, :3000])] * 3, live=False)))
        await until(lambda: ended(lines, "b"))
        await until(lambda: "trouble" in service.status()["beds"]["a"])
        assert "a.jsonl" in service.status()["beds"]["a"]["trouble"]

    lines, said = ward(test, journals=tmp_path)
    assert of(lines, "a") == []
    assert of(lines, "b") == alone(lambda bed: bed.push(ecg[:, :3000], t_s=0.0), name="b")
    assert f"the journal {tmp_path / 'a.jsonl'}" in said[0]
    assert (tmp_path / "a.jsonl").read_text() == "a letter\n"
    assert verify_journal(tmp_path / "b.jsonl").ok


def test_a_journal_that_cannot_be_written_is_an_alarm_of_its_own_bed(
    ward, memory, ecg, tmp_path, monkeypatch
):
    full = {"a.jsonl"}

    class OnFullDisk(Journal):
        def append(self, event, **options):
            if self.path.name in full:
                raise RecordError(f"the journal {self.path} cannot be written: No space left on device")
            return super().append(event, **options)

    monkeypatch.setattr(place_module, "Journal", OnFullDisk)

    async def test(service, lines):
        go_on = asyncio.Event()
        for name in "ab":
            steps = [*chunks(ecg[:, :3000]), go_on, *chunks(ecg[:, 3000:5000], t0_s=12.0), 3600.0]
            service.add(BedConfig(name, memory.add(name, steps, live=False)))
        await until(lambda: has(lines, "a", condition="JOURNAL_FAILED", presence="on"))
        await until(lambda: has(lines, "b", type="estimate", t_s=10.0))
        go_on.set()
        await until(lambda: all(has(lines, name, type="estimate", t_s=20.0) for name in "ab"))

    lines, said = ward(test, journals=tmp_path)
    assert not has(lines, "b", condition="JOURNAL_FAILED")
    assert of(lines, "a", "estimate") == [{**x, "bed": "a"} for x in of(lines, "b", "estimate")]
    (text,) = said
    assert text.startswith("bed a: the journal")
    assert "it lacks the last" in text
    assert [e.event["type"] for e in read_journal(tmp_path / "a.jsonl")] == ["journal"]
    assert verify_journal(tmp_path / "b.jsonl").ok


def test_a_state_that_cannot_be_written_is_said_once_and_ends_nothing(ward, memory, ecg, tmp_path):
    (tmp_path / "a.bed.new").mkdir()

    async def test(service, lines):
        for name in "ab":
            service.add(BedConfig(name, memory.add(name, [*chunks(ecg[:, :3000]), 3600.0], live=False)))
        await until(lambda: all(has(lines, name, type="estimate", t_s=10.0) for name in "ab"))
        await until(lambda: (tmp_path / "b.bed").exists())
        assert "state_trouble" not in service.status()["beds"]["b"]
        assert "a.bed" in service.status()["beds"]["a"]["state_trouble"]
        await asyncio.sleep(0.6)  # twice more
        (tmp_path / "a.bed.new").rmdir()
        await until(lambda: (tmp_path / "a.bed").exists())

    _, said = ward(test, state=tmp_path, state_s=0.01)
    path = tmp_path / "a.bed"
    assert said == [
        f"bed a: cannot write the state {path}: Is a directory; a restart would begin with an older state",
        f"bed a: the state {path} is written again",
    ]


# --- the service manager ---


def test_the_manager_hears_that_the_ward_is_ready_alive_and_stopping(ward, monkeypatch):
    heard = []
    monkeypatch.setattr("ecgedge.wards.serve.notify", heard.append)
    monkeypatch.setenv("WATCHDOG_USEC", "60000")

    async def test(service, lines):
        await until(lambda: heard.count("WATCHDOG=1") >= 5)

    ward(test)
    assert heard[0] == "READY=1"
    assert heard[-1] == "STOPPING=1"
    assert set(heard[1:-1]) == {"WATCHDOG=1"}


@pytest.mark.parametrize(
    ("event", "urgent"),
    [
        (Expired(610.0, 10.0, "no estimate for 600 s"), True),
        (AudioEvent(1.0, "on", None, "audio on again"), True),
        (Alarm(1.0, "FLAT", "technical", "low", "on", "on", "flat: I"), True),
        (FeedEvent(1.0, "connected"), False),
    ],
    ids=lambda value: getattr(value, "type", None),
)
def test_what_no_slow_reader_may_miss(new_lines, event, urgent):
    lines = new_lines()
    nobody = Deliveries(delivery_s=10.0, remembered=None, say=print)
    asyncio.run(BedLines("a", lines, nobody).send(event))
    assert lines.urgent == (lines.lines if urgent else [])
    assert lines.lines[0]["type"] == event.type


def test_an_estimate_of_samples_that_waited_says_how_long(ward, memory, ecg):
    """Nine seconds come at once: when the window of 10 s is answered, 8 s of them wait, then 3."""

    async def test(service, lines):
        first, burst = chunks(ecg[:, :2250], chunk_s=9.0), chunks(ecg[:, 2250:4500], t0_s=9.0)
        service.add(BedConfig("a", memory.add("a", [*first, 0.5, *burst, 3600.0])))
        await until(lambda: has(lines, type="estimate", t_s=15.0))

    lines, _ = ward(test)
    latencies_s = {e["t_s"]: e["latency_ms"] / 1e3 for e in lines if e["type"] == "estimate"}
    assert 8.0 <= latencies_s[10.0] < 10.0
    assert 3.0 <= latencies_s[15.0] < 5.0
