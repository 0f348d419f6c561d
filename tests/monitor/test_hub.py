"""The hub: what viewers get follows from what beds say, however it is cut, not from how slow others are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_parts import EPOCH_MS, Clock, Watcher, chunk, make_hub
from sink_events import alarm, estimate, expired, self_check

from ecgedge.events import AudioEvent, FeedEvent
from ecgedge.feeds import Chunk
from ecgedge.monitor import viewer as viewer_module
from ecgedge.monitor.beds import HISTORY_EVENTS, LOG_EVENTS
from ecgedge.monitor.frames import MOST_SAMPLES, Samples

RATE_HZ = 500.0


def watching(hub, bed="a"):
    found = Watcher(hub)
    hub.watch(found.viewer, bed)
    return found


def samples_of(watcher):
    return [m for m in watcher.taken() if isinstance(m, Samples)]


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=12),
    st.sets(st.integers(0, 5000), max_size=30),
)
def test_any_chunking_gives_the_same_samples(sizes, missing):
    whole = (np.arange(2 * sum(sizes), dtype=np.float32).reshape(2, -1) % 2000.0) / 1000.0
    whole[1, [k for k in missing if k < whole.shape[1]]] = np.nan
    hub = make_hub()
    watcher = watching(hub)
    first = 0
    for n in sizes:
        hub.take_samples("a", Chunk(first / RATE_HZ, whole[:, first : first + n], 0))
        first += n
    found = samples_of(watcher)
    np.testing.assert_allclose(np.concatenate([m.samples_mv for m in found], axis=1), whole, atol=5e-4)
    assert [m.seq for m in found] == list(range(len(found)))
    starts = np.cumsum([0, *(m.samples_mv.shape[1] for m in found[:-1])]) / RATE_HZ
    assert [m.t_s for m in found] == pytest.approx(starts.tolist())


def test_a_long_chunk_is_cut_and_nothing_of_it_lost():
    hub = make_hub()
    watcher = watching(hub)
    long = np.zeros((2, 2 * MOST_SAMPLES + 3), np.float32)
    hub.take_samples("a", Chunk(7.0, long, 0))
    found = samples_of(watcher)
    assert [m.samples_mv.shape[1] for m in found] == [MOST_SAMPLES, MOST_SAMPLES, 3]
    assert found[2].t_s == pytest.approx(7.0 + 2 * MOST_SAMPLES / RATE_HZ)


def test_nobody_watches_and_nothing_is_made():
    hub = make_hub(beds=("a", "b"))
    watcher = watching(hub, "b")
    hub.take_samples("a", chunk())
    assert not hub.is_watched("a")
    assert hub.beds["a"].seq == 0
    assert samples_of(watcher) == []
    hub.watch(watcher.viewer, "a")
    hub.take_samples("a", chunk())
    assert [m.seq for m in samples_of(watcher)] == [0]
    hub.leave(watcher.viewer)
    hub.leave(watcher.viewer)
    hub.take_samples("a", chunk())
    assert hub.beds["a"].seq == 1
    assert hub.n_viewers == 0


def test_a_slow_viewer_loses_whole_messages_and_the_quick_one_none(monkeypatch):
    hub = make_hub()
    slow, quick = watching(hub), watching(hub)
    slow.taken()
    monkeypatch.setattr(viewer_module, "MOST_SAMPLE_BYTES", 300)
    seen = []
    for k in range(10):
        hub.take_samples("a", chunk(n=20, t_s=k / 25))
        seen += samples_of(quick)
    hub.take_event("a", alarm())
    kept = slow.taken()
    assert [m.seq for m in kept[:-1]] == [0, 1]
    assert kept[-1]["type"] == "alarm", "an alarm finds room where samples do not"
    hub.take_samples("a", chunk(n=20, t_s=10 / 25))
    assert [m.seq for m in samples_of(slow)] == [10], "the hole shows"
    assert [m.seq for m in seen] == list(range(10))
    assert slow.viewer.dropped == hub.lost() == {"samples": 8}
    hub.leave(slow.viewer)
    assert hub.lost() == {"samples": 8}


def test_who_cannot_take_events_is_cut_off_and_the_others_are_not(monkeypatch):
    monkeypatch.setattr(viewer_module, "MOST_TEXTS", 50)
    hub = make_hub()
    slow, quick = watching(hub), watching(hub)
    told = []
    for k in range(100):
        hub.take_event("a", estimate(float(k)))
        told += quick.texts("estimate")
    assert slow.cut == 1
    assert slow.viewer.closed
    assert slow.viewer.waiting == 0, "what waited is let go"
    assert slow.taken() == []
    assert [m["t_s"] for m in told] == [float(k) for k in range(100)]
    assert quick.cut == 0


def test_the_bytes_of_events_are_bounded_too(monkeypatch):
    monkeypatch.setattr(viewer_module, "MOST_TEXT_BYTES", 1000)
    watcher = Watcher()
    for _ in range(3):
        watcher.viewer.tell("x" * 400)
    assert watcher.cut == 1


def test_who_comes_later_sees_what_is_on_and_what_has_been():
    clock = Clock()
    hub = make_hub(clock)
    for k in range(LOG_EVENTS + 50):
        clock.s = float(k)
        hub.take_event("a", FeedEvent(float(k), "gap", age_s=1.0))
    hub.take_event("a", alarm(1.0, "LEAD_OFF", kind="technical", priority="low"))
    hub.take_event("a", alarm(2.0))
    hub.take_event("a", alarm(3.0, presence="off", signal="latched"))
    hub.take_event("a", alarm(4.0, "LEAD_OFF", presence="off", kind="technical", priority="low"))
    for k in range(3):
        hub.take_event("a", estimate(float(k)))
    hub.take_event("a", self_check())
    hello, bed, history = watching(hub).taken()
    assert hello == {"type": "hello", "beds": ["a"], "speed": 1.0}
    assert bed["leads"] == ["I", "II"]
    assert bed["limits"]["recovery_mmhg"] == 15.0
    assert [a["condition"] for a in history["alarms"]] == ["MPCWP_ELEVATED"]
    assert history["alarms"][0]["signal"] == "latched"
    kinds = [event["type"] for event in history["events"]]
    assert kinds.count("estimate") == 1
    assert kinds.count("self_check") == 1
    assert len(kinds) == HISTORY_EVENTS + 2
    times = [event["wall_ms"] for event in history["events"]]
    assert times == sorted(times)
    assert len(hub.beds["a"].log) == LOG_EVENTS
    assert history["trend"]["mpcwp_mmhg"] == [17.25]


def test_an_expired_estimate_is_not_told_to_who_comes():
    hub = make_hub()
    hub.take_event("a", estimate())
    hub.take_event("a", expired())
    history = watching(hub).texts("history")[0]
    assert [e["type"] for e in history["events"]] == ["expired"]
    assert hub.beds["a"].tile()["estimate"] is None


def test_events_carry_both_times():
    clock = Clock(5.0)
    hub = make_hub(clock)
    watcher = watching(hub)
    hub.take_event("a", estimate(30.0))
    told = watcher.texts("estimate")[0]
    assert (told["bed"], told["wall_ms"], told["at_ms"]) == ("a", EPOCH_MS + 5000, EPOCH_MS + 5000)


def test_a_fast_feed_has_its_trend_on_the_streams_time():
    clock = Clock(5.0)
    hub = make_hub(clock, speed=60.0)
    watcher = watching(hub)
    hub.take_event("a", estimate(100.0))
    clock.s = 6.0
    hub.take_event("a", estimate(160.0))
    assert [m["at_ms"] - EPOCH_MS for m in watcher.texts("estimate")] == [5000, 65_000]


def test_the_ward_sees_the_newest_tile_of_each_bed_by_urgency():
    hub = make_hub(beds=("a", "b"))
    watcher = Watcher(hub)
    hub.watch_ward(watcher.viewer)
    for k in range(5000):
        hub.take_event("a", estimate(float(k)))
    hub.take_event("b", alarm(1.0, "LEAD_OFF", kind="technical", priority="low"))
    hub.take_event("b", alarm(2.0, priority="medium"))
    hub.take_event("b", FeedEvent(2.0, "lead_off", lead="V1"))
    hub.take_event("b", FeedEvent(3.0, "lost"))
    tiles = {m["bed"]: m for m in watcher.texts("tile")}
    assert len(tiles) == 2, "however many events there were, a tile waits once"
    assert tiles["a"]["estimate"]["t_s"] == 4999.0
    assert (tiles["a"]["worst"], tiles["a"]["active"], tiles["a"]["feed"]) == (None, 0, "waiting")
    assert tiles["b"]["worst"]["condition"] == "MPCWP_ELEVATED"
    assert (tiles["b"]["active"], tiles["b"]["feed"], tiles["b"]["leads_off"]) == (2, "lost", ["V1"])
    assert watcher.cut == 0


def test_a_pause_of_the_sound_is_told_of_alarms_that_came_before_it_and_so_is_its_end():
    hub = make_hub()
    watcher = Watcher(hub)
    hub.watch_ward(watcher.viewer)
    hub.take_event("a", alarm(1.0, priority="medium"))
    assert "audible" not in watcher.texts("tile")[-1]["worst"]
    hub.take_event("a", AudioEvent(2.0, "paused", 122.0, "paused", "Nurse Seven"))
    assert watcher.texts("tile")[-1]["worst"]["audible"] == "paused"
    hub.take_event("a", AudioEvent(122.0, "on", None, "on"))
    assert "audible" not in watcher.texts("tile")[-1]["worst"]


def test_the_worst_alarm_of_a_bed_is_one_that_nobody_has_seen():
    hub = make_hub()
    watcher = Watcher(hub)
    hub.watch_ward(watcher.viewer)
    hub.take_event("a", alarm(1.0, priority="high", signal="acknowledged"))
    hub.take_event("a", alarm(2.0, "LEAD_OFF", kind="technical", priority="low"))
    assert watcher.texts("tile")[-1]["worst"]["condition"] == "LEAD_OFF"


def test_who_comes_is_told_which_leads_are_off_however_long_ago_that_was():
    hub = make_hub()
    hub.take_event("a", FeedEvent(1.0, "lead_off", lead="V2"))
    for k in range(1500):
        hub.take_event("a", FeedEvent(2.0 + k, "gap", age_s=0.1))
    watcher = watching(hub)
    assert watcher.texts("history")[0]["leads_off"] == ["V2"]


def test_one_who_looks_at_the_ward_gets_no_samples_and_the_other_way_round():
    hub = make_hub()
    watcher = watching(hub)
    hub.take_samples("a", chunk())
    hub.watch_ward(watcher.viewer)
    hub.take_samples("a", chunk())
    assert samples_of(watcher) == [], "those of the bed before are of no use"
    hub.watch(watcher.viewer, "a")
    watcher.taken()
    hub.take_event("a", estimate())
    assert watcher.texts("tile") == []


def test_beds_come_and_go():
    hub = make_hub()
    watcher = watching(hub)
    watcher.taken()
    hub.add("b")
    hub.remove("a")
    hub.remove("a")
    assert [m["beds"] for m in watcher.texts("beds")] == [["a", "b"], ["b"]]
    with pytest.raises(KeyError):
        hub.watch(watcher.viewer, "a")


def test_health_is_told_to_all_and_only_the_newest_waits():
    clock = Clock()
    hub = make_hub(clock)
    hub.beds["a"].health = lambda: {"queue": 7, "dropped": {"gap": 1}}
    watcher = Watcher(hub)
    hub.take_samples("a", chunk())
    hub.take_event("a", estimate(latency_ms=4.0))
    for _ in range(3):
        clock.s += 0.4
        hub.beat({"cpu_percent": 2.0})
    (told,) = watcher.texts("health")
    assert told["heartbeat"] == 3
    assert told["viewers"] == 1
    assert told["cpu_percent"] == 2.0
    bed = told["beds"]["a"]
    assert bed["queue"] == 7
    assert bed["latency_ms"] == {"p50": 4.0, "p99": 4.0}
    feed = {"alive": False, "age_s": 1.2, "state": "waiting", "dropped": {"gap": 1}}
    assert bed["feed"] == feed


def test_a_long_queue_does_not_hide_the_heartbeat():
    hub = make_hub()
    watcher = watching(hub)
    for k in range(100):
        hub.take_event("a", estimate(float(k)))
    hub.beat({})
    assert "health" in [m["type"] for m in watcher.taken()[:5]]


def test_another_feed_of_the_same_bed_is_told():
    hub = make_hub()
    watcher = watching(hub)
    watcher.taken()
    hub.describe("a", hub.beds["a"].facts)
    assert watcher.taken() == []
    from page_parts import facts

    hub.describe("a", facts(leads=("II",)))
    assert watcher.texts("bed")[0]["leads"] == ["II"]
