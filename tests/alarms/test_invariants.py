"""What holds for every stream: hypothesis plays facts in any order and looks at the events."""

import json
from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ecgedge.alarms import CONDITIONS, AlarmEngine
from ecgedge.alarms.table import DELAYS, RECOVERIES
from ecgedge.events import Alarm, AudioEvent, Expired
from ecgedge.policy import AlarmPolicy

from .helpers import HOP_S, SMALL, WINDOWS, window

# Acknowledgements that run out within a test's stream, and the trend condition on.
QUICK = replace(
    SMALL,
    acknowledge_timeout_low_s=45.0,
    acknowledge_timeout_medium_s=20.0,
    rising=True,
    rising_span_s=20.0,
    rising_baseline_s=240.0,
    rising_min_windows=3,
)
LATCHING = {True: QUICK, False: replace(QUICK, latching=False)}
KINDS = [c for c in WINDOWS if WINDOWS[c] is not None]
LEADS = ("I", "II", "V1")

Fact = tuple[float, str, object]

# Steps are multiples of 1/64 s: exact in binary, so that facts often fall on the very instant of a due time.
steps = st.one_of(
    st.integers(0, 320).map(lambda n: n / 64), st.just(5.0), st.sampled_from([2.0, 30.0, 100.0])
)
facts = st.one_of(
    st.tuples(st.just("window"), st.sampled_from([*KINDS, "H", "H", "M", ".", "."])),
    st.tuples(st.just("missing"), st.none()),
    st.tuples(st.just("lead"), st.tuples(st.sampled_from(LEADS), st.booleans())),
    st.tuples(st.just("feed"), st.booleans()),
    st.tuples(st.just("fact"), st.tuples(st.sampled_from(["MODEL_FAILED", *DELAYS]), st.booleans())),
    st.tuples(st.just("acknowledge"), st.sampled_from(list(CONDITIONS))),
    st.tuples(st.just("pause"), st.sampled_from([0.5, 10.0, 30.0, 120.0])),
    st.tuples(st.just("resume"), st.none()),
)


def timed(draws: list[tuple[float, tuple[str, object]]]) -> list[Fact]:
    """Add the steps up; a window that would end when the one before it did is left out."""
    t_s, last_s, made = 0.0, -1.0, []
    for step_s, (kind, what) in draws:
        t_s += step_s
        if kind in ("window", "missing"):
            if t_s <= last_s:
                continue
            last_s = t_s
        made.append((t_s, kind, what))
    return made


# Long runs of windows of one kind are what brings an elevation about; single facts alone never would.
runs = st.builds(
    lambda kind, n: [(5.0, ("window", kind))] * n, st.sampled_from(["H", "M", ".", "x"]), st.integers(1, 12)
)
singles = st.tuples(steps, facts).map(lambda one: [one])
streams = st.lists(runs | singles, max_size=25).map(
    lambda parts: timed([one for part in parts for one in part])
)


def give(made: AlarmEngine, fact: Fact) -> list[Alarm]:
    t_s, kind, what = fact
    if kind == "window":
        return made.on_estimate(window(t_s, **WINDOWS[what]))
    if kind == "missing":
        return made.on_estimate(window(t_s, validity="invalid", variant=None))
    if kind == "lead":
        return made.on_lead(t_s, what[0], on=what[1])
    if kind == "feed":
        return made.on_feed(t_s, connected=what)
    if kind == "fact":
        return made.on_fact(t_s, what[0], on=what[1], text="told")
    if kind == "pause":
        return made.pause_audio(t_s, duration_s=what, user="a")
    if kind == "resume":
        return made.resume_audio(t_s, user="a")
    return made.acknowledge(t_s, condition=what, user="a")


def new(policy: AlarmPolicy = SMALL) -> AlarmEngine:
    made = AlarmEngine(policy, hop_s=HOP_S)
    made.on_feed(0.0, connected=True)
    return made


@given(streams, st.lists(st.floats(0.0, 1.0), max_size=30), st.booleans())
def test_events_do_not_depend_on_how_often_advance_is_called(stream, places, latching) -> None:
    end_s = (stream[-1][0] if stream else 0.0) + 500.0
    plain, watched = new(LATCHING[latching]), new(LATCHING[latching])
    expected = [alarm for fact in stream for alarm in give(plain, fact)] + plain.advance(end_s)
    ticks = sorted(place * end_s for place in places)
    found = []
    for fact in stream:
        while ticks and ticks[0] <= fact[0]:
            found += watched.advance(ticks.pop(0))
        found += watched.advance(fact[0]) + give(watched, fact)
    for tick in ticks:
        found += watched.advance(tick)
    assert found + watched.advance(end_s) == expected


@given(streams, st.integers(0, 200), st.booleans())
def test_a_restored_engine_says_the_same(stream, cut, latching) -> None:
    policy = LATCHING[latching]
    one = new(policy)
    for fact in stream[:cut]:
        give(one, fact)
    other = AlarmEngine.restore(policy, hop_s=HOP_S, snapshot=json.loads(json.dumps(one.snapshot())))
    for fact in stream[cut:]:
        assert give(other, fact) == give(one, fact)
    assert other.advance(1e6) == one.advance(1e6)
    assert other.snapshot() == one.snapshot()


@given(streams)
def test_memory_is_bounded(stream) -> None:
    made = new(QUICK)
    for fact in stream:
        give(made, fact)
    saved = made.snapshot()
    assert len(saved["windows"]) <= 9
    assert len(saved["trend"]["recent"]) <= 5
    assert len(saved["trend"]["blocks"]) <= 25
    assert all(len(c["onsets_s"]) <= 4 for c in saved["state"]["conditions"].values())
    assert len(saved["state"]["off_since_s"]) <= len(LEADS)


class Watched(RuleBasedStateMachine):
    """An engine, all its events, and what they add up to."""

    def __init__(self) -> None:
        super().__init__()
        self.t_s = 0.0
        self.presence = defaultdict(lambda: "off")
        self.signal = defaultdict(lambda: "off")
        self.last = {}
        self.acknowledged_s = {}
        self.pause = None  # the event that began the pause in force
        self.stamps = [0.0]

    @initialize(latching=st.booleans())
    def start(self, latching: bool) -> None:
        self.latching = latching
        self.made = new(LATCHING[latching])

    def take(self, alarms: list[Alarm], *, acknowledged: str | None = None, valid: bool = False) -> None:
        for alarm in alarms:
            if isinstance(alarm, Expired):
                self.stamps.append(alarm.t_s)
                continue
            if isinstance(alarm, AudioEvent):
                self.take_audio(alarm)
                continue
            assert alarm.audible == ("paused" if self.pause and alarm.signal == "on" else None)
            self.check_presence(alarm, valid=valid)
            self.check_repeat(alarm, acknowledged=acknowledged)
            self.check_signal(alarm, acknowledged=acknowledged)
            self.stamps.append(alarm.t_s)
            self.last[alarm.condition] = alarm
            self.presence[alarm.condition], self.signal[alarm.condition] = alarm.presence, alarm.signal

    def take_audio(self, event: AudioEvent) -> None:
        self.stamps.append(event.t_s)
        if event.state == "paused":
            assert 0.0 < event.ends_s - event.t_s <= 120.0
            self.pause = event
            return
        assert self.pause is not None, "only a pause ends"
        assert event.t_s <= self.pause.ends_s
        early = event.user is None and event.t_s < self.pause.ends_s
        assert not early or "ends the pause" in event.text
        self.pause = None

    def check_presence(self, alarm: Alarm, *, valid: bool) -> None:
        name = alarm.condition
        assert alarm.kind == CONDITIONS[name].kind
        assert alarm.priority in ("low", "medium")
        changes = alarm.presence != self.presence[name]
        if alarm.kind == "physiological" and changes:
            assert valid, "only a valid window brings the condition or takes it away"
        if self.presence[name] == "on" and not changes:  # never less urgent while it is present
            assert (self.last[name].priority, alarm.priority) != ("medium", "low")

    def check_repeat(self, alarm: Alarm, *, acknowledged: str | None) -> None:
        """On and off alternate; an event that changes neither was acknowledged, got worse, or names other leads."""
        name = alarm.condition
        if alarm.presence != self.presence[name] or acknowledged == name:
            return
        assert alarm.presence == "on"
        worse = (self.last[name].priority, alarm.priority) == ("low", "medium")
        if "acknowledged" in (before := self.signal[name]) and alarm.signal == "on" and not worse:
            held_s = alarm.t_s - self.acknowledged_s[name]
            ran_out = held_s == {"low": 45.0, "medium": 20.0}[alarm.priority]
            assert ran_out or (name == "LEAD_OFF" and alarm.text != self.last[name].text), before
            return
        assert worse or (name == "LEAD_OFF" and alarm.text != self.last[name].text)

    def check_signal(self, alarm: Alarm, *, acknowledged: str | None) -> None:
        name, before = alarm.condition, self.signal[alarm.condition]
        if alarm.presence == "on":
            assert alarm.signal in ("on", "acknowledged")
        if alarm.signal == "latched":
            assert self.latching
            assert CONDITIONS[name].kind == "physiological"
            assert alarm.presence == "off"
        if alarm.signal == "acknowledged" and before != "acknowledged":
            assert name == acknowledged, "only its own acknowledgement acknowledges a condition"
        if before == "latched" and alarm.signal == "off":
            assert name == acknowledged, "a latched signal ends with an acknowledgement only"
        if alarm.presence == "on" and self.presence[name] == "off":
            assert alarm.signal == "on", "a new alarm is always shown"

    @rule(step_s=steps, letter=st.sampled_from(KINDS))
    def one_window(self, step_s: float, letter: str) -> None:
        self.t_s += step_s or HOP_S
        self.take(self.made.advance(self.t_s))
        estimate = window(self.t_s, **WINDOWS[letter])
        last_s = self.made.snapshot()["state"]["window_s"]
        if last_s is None or self.t_s > last_s:
            self.take(self.made.on_estimate(estimate), valid=estimate.validity == "valid")

    @rule(letter=st.sampled_from("HM.mx"), n=st.integers(3, 12))
    def many_windows(self, letter: str, n: int) -> None:
        for _ in range(n):
            self.one_window(HOP_S, letter)

    @rule(step_s=steps, lead=st.sampled_from(LEADS), on=st.booleans())
    def lead(self, step_s: float, lead: str, on: bool) -> None:
        self.t_s += step_s
        self.take(self.made.on_lead(self.t_s, lead, on=on))

    @rule(step_s=steps, connected=st.booleans())
    def feed(self, step_s: float, connected: bool) -> None:
        self.t_s += step_s
        self.take(self.made.on_feed(self.t_s, connected=connected))
        assert (self.presence["FEED_LOST"] == "on") == (not connected)

    @rule(step_s=steps, condition=st.sampled_from(list(DELAYS)), on=st.booleans())
    def fact(self, step_s: float, condition: str, on: bool) -> None:
        self.t_s += step_s
        self.take(self.made.on_fact(self.t_s, condition, on=on, text="seen"))
        trial = condition in RECOVERIES and self.presence[condition] == "on"
        assert self.made.holds(condition) == (on or trial)

    @rule(step_s=steps)
    def wait(self, step_s: float) -> None:
        self.t_s += step_s
        self.take(self.made.advance(self.t_s))

    @rule(name=st.sampled_from(list(CONDITIONS)))
    def acknowledge(self, name: str) -> None:
        self.take(self.made.advance(self.t_s))
        alarms = self.made.acknowledge(self.t_s, condition=name, user="a")
        assert [a.condition for a in alarms] in ([], [name])
        self.take(alarms, acknowledged=name)
        if alarms:
            self.acknowledged_s[name] = self.t_s
        assert self.signal[name] in ("off", "acknowledged")

    @rule(step_s=steps, duration_s=st.sampled_from([0.5, 10.0, 60.0, 120.0]))
    def pause_audio(self, step_s: float, duration_s: float) -> None:
        self.t_s += step_s
        self.take(self.made.advance(self.t_s))
        self.take(self.made.pause_audio(self.t_s, duration_s=duration_s, user="a"))
        assert self.pause.ends_s == self.t_s + duration_s

    @rule()
    def resume_audio(self) -> None:
        self.take(self.made.advance(self.t_s))
        self.take(self.made.resume_audio(self.t_s, user="a"))
        assert self.pause is None

    @rule()
    def restart(self) -> None:
        saved = json.loads(json.dumps(self.made.snapshot()))
        shown, pause = self.made.active(), self.made.pause
        self.made = AlarmEngine.restore(LATCHING[self.latching], hop_s=HOP_S, snapshot=saved)
        assert (self.made.active(), self.made.pause) == (shown, pause), "no state is lost over a restart"

    @invariant()
    def a_pause_never_outlives_its_end(self) -> None:
        if hasattr(self, "made"):
            assert self.pause is None or self.t_s < self.pause.ends_s
            assert (self.made.pause is None) == (self.pause is None)

    @invariant()
    def quiet_is_when_no_condition_is_present_and_no_fact_holds(self) -> None:
        if hasattr(self, "made"):
            facts = any(self.made.holds(name) for name in DELAYS)
            assert self.made.quiet == (not facts and "on" not in self.presence.values())

    @invariant()
    def stamps_never_run_backwards(self) -> None:
        assert self.stamps == sorted(self.stamps)
        assert self.stamps[-1] <= self.t_s

    @invariant()
    def a_signal_is_off_only_while_its_condition_is_absent(self) -> None:
        for name in CONDITIONS:
            assert not (self.signal[name] == "off" and self.presence[name] == "on")

    @invariant()
    def an_acknowledgement_never_outlives_its_time(self) -> None:
        for name, since_s in self.acknowledged_s.items():
            if self.signal[name] == "acknowledged":
                assert self.t_s - since_s < {"low": 45.0, "medium": 20.0}[self.last[name].priority]

    @invariant()
    def active_tells_the_latest_event_of_each_signal_that_is_not_off(self) -> None:
        if hasattr(self, "made"):
            shown = [self.last[n] for n in CONDITIONS if self.signal[n] != "off"]
            paused = "paused" if self.pause else None
            expected = [replace(a, audible=paused if a.signal == "on" else None) for a in shown]
            assert self.made.active() == expected


Watched.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWatched = Watched.TestCase
