"""The alarm requirements by number, each as its sentence says it; the rules' edges are in the other tests.

Times are reckoned by hand from the policy in helpers: the stream starts at 0 s and window n ends at 5 n s.
"""

import json
import math
from dataclasses import fields, replace

import pytest

from ecgedge.alarms import CONDITIONS, DELAYS, AlarmEngine, SelfChecks
from ecgedge.alarms.rules import valid_window
from ecgedge.alarms.table import BY_WINDOW, RECOVERIES
from ecgedge.events import Alarm, AudioEvent, Expired
from ecgedge.policy import AlarmPolicy

from .helpers import HOP_S, SMALL, brief, engine, play, window, windows

ELEVATED = "MPCWP_ELEVATED"
LONG = replace(SMALL, medium_after_s=1000.0, poor_signal_s=600.0)


def elevated(policy: AlarmPolicy = LONG, *, letter: str = "H") -> AlarmEngine:
    """An engine whose elevation came at 25 s: low for H, medium for M."""
    made = engine(policy)
    assert [a.t_s for a in play(made, windows(letter * 5))] == [25.0]
    return made


# --- R1: the input is estimate, interval, probability, validity, quality and time, never a bare number ---


def test_r1_an_estimate_without_interval_or_probability_raises_nothing() -> None:
    bare = [replace(window(5.0 * n, p=None, mpcwp=45.0), interval_mmhg=None) for n in range(1, 20)]
    assert play(engine(LONG), bare) == []


# --- R2: what is not valid counts neither way and never clears an alarm ---


@pytest.mark.parametrize("letter", ["x", "?", "q"])
def test_r2_a_window_that_is_not_valid_counts_neither_way(letter: str) -> None:
    (estimate,) = windows(letter)
    assert valid_window(estimate) is None
    assert brief(play(engine(LONG), windows(letter * 20)), condition=ELEVATED) == []


@pytest.mark.parametrize("letter", ["x", "?", "-"])
def test_r2_nor_does_it_clear_an_alarm(letter: str) -> None:
    made = elevated()
    assert brief(play(made, windows(letter * 30, first_s=30.0)), condition=ELEVATED) == []
    assert made.active()[0].presence == "on"


# --- R3: onset by a sustained probability or lower bound, low; medium when far above or for long ---


def test_r3_the_shipped_numbers() -> None:
    policy = AlarmPolicy()
    assert (policy.onset_probability, policy.onset_fraction, policy.persistence_s) == (0.8, 4 / 5, 300.0)
    assert (policy.threshold_mmhg, policy.medium_lower_bound_mmhg, policy.medium_after_s) == (
        18.0,
        25.0,
        1800.0,
    )


@pytest.mark.parametrize(("letters", "times"), [("HHHH.", [25.0]), ("HHH..", []), ("BBBB.", [25.0])])
def test_r3_onset_needs_four_of_five_over_the_span(letters: str, times: list) -> None:
    alarms = play(engine(LONG), windows(letters))
    assert brief(alarms, condition=ELEVATED) == [(t_s, "low", "on", "on") for t_s in times]


def test_r3_medium_far_above_or_for_long() -> None:
    assert brief(play(elevated(), windows("MMMM", first_s=30.0))) == [(45.0, ELEVATED, "medium", "on", "on")]
    assert brief(elevated(SMALL).advance(125.0), condition=ELEVATED) == [(125.0, "medium", "on", "on")]


@pytest.mark.parametrize("name", CONDITIONS)
def test_r3_nothing_is_ever_of_high_priority(name: str) -> None:
    """No rule gives it: an estimate is not a reason to run."""
    made = elevated(letter="M")
    if name in DELAYS:
        assert made.on_fact(25.0, name, on=True, text="so it is") == [] or name in AT_ONCE
    made.on_lead(26.0, "I", on=False)
    alarms = made.on_feed(27.0, connected=False) + made.advance(1e5)
    said = [a for a in [*alarms, *made.active()] if isinstance(a, Alarm)]
    assert {a.priority for a in said} <= {"low", "medium"}


# --- R4: hysteresis with a recovery line ---


@pytest.mark.parametrize(("letter", "clears"), [("m", False), ("n", False), (".", True)])
def test_r4_it_goes_only_below_the_recovery_line(letter: str, clears: bool) -> None:
    alarms = play(elevated(), windows(letter * 12, first_s=30.0))
    assert [a.presence for a in alarms] == (["off"] if clears else [])


# --- R5: a rise above the patient's own baseline, off by default; its edges are in test_trend.py ---


@pytest.mark.parametrize(("rising", "names"), [(False, []), (True, ["MPCWP_RISING"])])
@pytest.mark.parametrize("rise", [4.9, 5.0])
def test_r5_five_above_the_baseline_of_a_day(rising: bool, names: list, rise: float) -> None:
    """A day at 10 mmHg, a window a minute; then an hour higher. No window exceeds 18 mmHg."""
    policy = replace(AlarmPolicy(rising=rising, poor_signal_s=600.0), rising_span_s=3600.0)
    made = AlarmEngine(policy, hop_s=60.0)
    pressures = [10.0] * 1440 + [10.0 + rise] * 60
    alarms = play(made, [window(60.0 * n, mpcwp=mmhg) for n, mmhg in enumerate(pressures, start=1)])
    assert [a.condition for a in alarms] == (names if rise == 5.0 else [])


# --- R6: the physiological signal latches, technical ones do not ---


def test_r6_a_physiological_signal_latches_and_a_technical_one_goes() -> None:
    made = elevated()
    made.on_feed(26.0, connected=False)
    made.on_feed(27.0, connected=True)
    play(made, windows("........", first_s=30.0))
    assert [(a.condition, a.signal) for a in made.active()] == [(ELEVATED, "latched")]


# --- R7: acknowledgement ---


@pytest.mark.parametrize(("letter", "priority", "due_s"), [("H", "low", 1830.0), ("M", "medium", 630.0)])
def test_r7_an_acknowledged_signal_comes_on_again_after_its_time(letter, priority, due_s) -> None:
    """30 min at low priority, 10 at medium, by default; acknowledged at 30 s."""
    made = elevated(replace(LONG, medium_after_s=86_400.0), letter=letter)
    made.acknowledge(30.0, condition=ELEVATED, user="nurse 7")
    assert brief(made.advance(due_s - 0.001), condition=ELEVATED) == []
    (again,) = [a for a in made.advance(1e4) if a.condition == ELEVATED]
    assert brief([again], condition=ELEVATED) == [(due_s, priority, "on", "on")]
    assert again.text.endswith(f"; acknowledged {due_s - 30.0:g} s ago and still present")
    made.acknowledge(1e4, condition=ELEVATED, user="nurse 8")
    (third,) = [a for a in made.advance(5e4) if a.condition == ELEVATED]
    assert third.t_s == 1e4 + due_s - 30.0
    assert third.text == again.text, "the story of earlier acknowledgements does not pile up"


def test_r7_a_technical_condition_comes_on_again_too() -> None:
    made = engine(LONG)
    made.on_feed(3.0, connected=False)
    made.acknowledge(4.0, condition="FEED_LOST", user="a")
    assert brief(made.advance(1e4)) == [(1804.0, "FEED_LOST", "low", "on", "on")]
    assert made.advance(1e5) == [], "nobody acknowledged it since: it is on, and says so once"


def test_r7_a_second_acknowledgement_does_not_put_off_the_first() -> None:
    made = elevated(replace(LONG, acknowledge_timeout_low_s=100.0))
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    assert made.acknowledge(120.0, condition=ELEVATED, user="b") == []
    assert brief(made.advance(500.0)) == [(130.0, ELEVATED, "low", "on", "on")]


def test_r7_a_condition_that_went_has_no_time_out() -> None:
    made = elevated(replace(LONG, acknowledge_timeout_low_s=100.0))
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    assert brief(play(made, windows("........", first_s=35.0)), condition=ELEVATED) == [
        (50.0, "low", "off", "off")
    ]
    assert brief(made.advance(600.0)) == []


def test_r7_a_worse_condition_breaks_through_and_the_new_acknowledgement_counts() -> None:
    policy = replace(LONG, acknowledge_timeout_low_s=100.0, acknowledge_timeout_medium_s=50.0)
    made = elevated(policy)
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    assert brief(play(made, windows("MMMM", first_s=35.0))) == [(50.0, ELEVATED, "medium", "on", "on")]
    assert made.advance(140.0) == [], "the acknowledgement of the low alarm is void"
    made.acknowledge(150.0, condition=ELEVATED, user="a")
    assert brief(made.advance(300.0)) == [(200.0, ELEVATED, "medium", "on", "on")]


def test_r7_fewer_leads_off_do_not_put_off_the_time_out() -> None:
    made = engine(replace(LONG, acknowledge_timeout_low_s=100.0))
    for lead in ("V1", "V2"):
        made.on_lead(10.0, lead, on=False)
    made.acknowledge(20.0, condition="LEAD_OFF", user="a")
    assert brief(made.on_lead(90.0, "V1", on=True)) == [(90.0, "LEAD_OFF", "low", "on", "acknowledged")]
    (again,) = made.advance(500.0)
    assert (again.t_s, again.text) == (120.0, "leads off: V2; acknowledged 100 s ago and still present")


@pytest.mark.parametrize("name", CONDITIONS)
def test_r7_one_acknowledgement_never_touches_another_condition(name: str) -> None:
    made = elevated(letter="M")
    made.on_lead(26.0, "V1", on=False)
    made.on_estimate(window(30.0, validity="invalid", variant=None))
    made.on_feed(31.0, connected=False)
    before = {a.condition: a for a in made.active()}
    made.acknowledge(32.0, condition=name, user="a")
    after = {a.condition: a for a in made.active()}
    assert {n for n in before if before[n] != after[n]} == ({name} & before.keys())


# --- R8: the sound can be paused, for two minutes at most ---


def loud(policy: AlarmPolicy = LONG, *, letter: str = "H") -> AlarmEngine:
    """An elevated engine whose sound user a paused at 30 s for 60 s."""
    made = elevated(policy, letter=letter)
    assert made.pause_audio(30.0, duration_s=60.0, user=" a ") == [
        AudioEvent(30.0, "paused", 90.0, "audio paused for 60 s by a", "a")
    ]
    return made


def test_r8_a_pause_keeps_silent_what_is_on_and_shows_it_as_before() -> None:
    made = loud()
    (shown,) = made.active()
    assert (shown.signal, shown.audible, shown.sounds) == ("on", "paused", False)
    assert made.pause is not None
    assert made.pause.ends_s == 90.0


def test_r8_it_ends_by_itself_and_the_sound_is_back() -> None:
    made = loud()
    assert made.advance(89.999) == []
    assert made.advance(200.0) == [AudioEvent(90.0, "on", None, "audio on again: the pause is over")]
    (shown,) = made.active()
    assert (shown.audible, shown.sounds) == (None, True)
    assert made.pause is None


def test_r8_a_user_ends_it() -> None:
    made = loud()
    assert made.resume_audio(40.0, user="b") == [AudioEvent(40.0, "on", None, "audio on again, by b", "b")]
    assert made.resume_audio(41.0, user="b") == []
    assert made.advance(200.0) == []


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 120.1, math.inf, math.nan])
def test_r8_never_longer_than_the_policy_says(duration_s: float) -> None:
    made = elevated()
    with pytest.raises(ValueError, match=r"a pause of .* at most 120 seconds"):
        made.pause_audio(30.0, duration_s=duration_s, user="a")
    assert made.pause is None
    (event,) = made.pause_audio(30.0, duration_s=120.0, user="a")
    assert event.ends_s == 150.0


def test_r8_a_policy_may_say_less() -> None:
    with pytest.raises(ValueError, match="at most 30 seconds"):
        engine(replace(LONG, audio_pause_max_s=30.0)).pause_audio(1.0, duration_s=31.0, user="a")


@pytest.mark.parametrize("user", ["", " ", "two\nlines"])
def test_r8_someone_must_answer_for_a_pause(user: str) -> None:
    made = loud()
    with pytest.raises(ValueError, match="who pauses the audio"):
        made.pause_audio(31.0, duration_s=60.0, user=user)
    with pytest.raises(ValueError, match="who ends the pause of the audio"):
        made.resume_audio(31.0, user=user)


def test_r8_a_second_pause_takes_the_place_of_the_first() -> None:
    made = loud()
    (event,) = made.pause_audio(80.0, duration_s=100.0, user="b")
    assert (event.ends_s, event.user) == (180.0, "b")
    assert [e.t_s for e in made.advance(500.0)] == [180.0]


def test_r8_a_condition_of_no_higher_priority_comes_silently() -> None:
    made = loud()
    made.on_lead(40.0, "V1", on=False)
    (alarm,) = made.advance(50.0)
    assert (alarm.condition, alarm.signal, alarm.audible, alarm.sounds) == ("LEAD_OFF", "on", "paused", False)


def test_r8_a_new_condition_of_higher_priority_ends_it_and_is_heard() -> None:
    made = loud()
    ended, lost = made.on_feed(40.0, connected=False)
    assert ended == AudioEvent(
        40.0, "on", None, "audio on again: FEED_LOST of medium priority ends the pause"
    )
    assert (lost.condition, lost.priority, lost.sounds) == ("FEED_LOST", "medium", True)
    assert made.advance(200.0) == []


def test_r8_a_condition_that_grows_worse_ends_it_and_is_heard() -> None:
    ended, worse = play(loud(), windows("MMMM", first_s=35.0))
    assert (ended.state, ended.t_s) == ("on", 50.0)
    assert (worse.condition, worse.priority, worse.sounds) == (ELEVATED, "medium", True)


def test_r8_a_pause_that_began_over_a_medium_alarm_covers_another() -> None:
    (lost,) = loud(letter="M").on_feed(40.0, connected=False)
    assert (lost.priority, lost.audible) == ("medium", "paused")


def test_r8_a_pause_ahead_of_an_alarm_covers_low_priority_only() -> None:
    """Electrodes are changed in peace; an elevated pressure that comes meanwhile as medium is heard."""
    quiet = engine(LONG)
    quiet.pause_audio(10.0, duration_s=60.0, user="a")
    quiet.on_lead(11.0, "V1", on=False)
    assert [e.audible for e in quiet.advance(20.0)] == ["paused"]
    assert [type(e) for e in play(quiet, windows("MMMMM", first_s=21.0))] == [AudioEvent, Alarm]


def test_r8_what_was_acknowledged_does_not_widen_a_pause() -> None:
    made = elevated(replace(LONG, acknowledge_timeout_medium_s=20.0), letter="M")
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    made.pause_audio(31.0, duration_s=60.0, user="a")
    ended, again = made.advance(60.0)
    assert (ended.t_s, ended.state) == (50.0, "on")
    assert (again.t_s, again.sounds) == (50.0, True)


def test_r8_what_comes_at_the_very_end_of_a_pause_is_heard() -> None:
    made = loud()
    made.on_lead(88.0, "V1", on=False)  # told of at 90
    ended, off = made.advance(90.0)
    assert (ended.state, off.condition, off.sounds) == ("on", "LEAD_OFF", True)


def test_r8_an_acknowledged_or_latched_alarm_is_silent_anyway() -> None:
    made = loud()
    (seen,) = made.acknowledge(40.0, condition=ELEVATED, user="a")
    assert (seen.audible, seen.sounds, seen.user) == (None, False, "a")


def test_r8_a_pause_survives_a_restart() -> None:
    made = loud()
    other = AlarmEngine.restore(LONG, hop_s=HOP_S, snapshot=json.loads(json.dumps(made.snapshot())))
    assert other.pause == made.pause
    assert other.active() == made.active()
    assert other.advance(200.0) == [AudioEvent(90.0, "on", None, "audio on again: the pause is over")]


# --- R9: technical conditions; FEED_LOST's silence is the bed's to notice ---


def test_r9_the_shipped_times() -> None:
    policy = AlarmPolicy()
    assert (policy.feed_lost_s, policy.lead_off_s, policy.poor_signal_s) == (2.0, 1.0, 60.0)


@pytest.mark.parametrize(("letter", "priority"), [("H", "medium"), (".", "low")])
def test_r9_losing_the_feed_is_medium_where_a_physiological_alarm_was_on(letter: str, priority: str) -> None:
    made = engine(LONG)
    play(made, windows(letter * 5))
    assert brief(made.on_feed(26.0, connected=False)) == [(26.0, "FEED_LOST", priority, "on", "on")]


def test_r9_a_lead_that_is_off_is_told_of_by_name() -> None:
    made = engine(LONG)
    made.on_lead(10.0, "V3", on=False)
    (off,) = made.advance(20.0)
    assert (off.t_s, off.condition, off.text) == (12.0, "LEAD_OFF", "leads off: V3")


def test_r9_too_few_leads_for_any_model() -> None:
    (alarm,) = engine(LONG).on_estimate(window(5.0, validity="invalid", variant=None, leads=("V1",)))
    assert (alarm.condition, alarm.kind) == ("NO_VARIANT", "technical")


def test_r9_no_usable_signal_for_a_minute() -> None:
    made = AlarmEngine(AlarmPolicy(), hop_s=HOP_S)
    assert brief(play(made, windows("x" * 14))) == [(65.0, "POOR_SIGNAL", "low", "on", "on")]


AT_ONCE = [name for name, key in DELAYS.items() if key is None]


@pytest.mark.parametrize("name", DELAYS)
def test_r9_a_fact_is_told_when_it_has_held_for_its_time_and_goes_with_it(name: str) -> None:
    delay_s = 0.0 if name in AT_ONCE else getattr(LONG, DELAYS[name])
    made = engine(LONG)
    come = made.on_fact(30.0, name, on=True, text="so it is") + made.advance(30.0 + delay_s)
    if name in BY_WINDOW:
        assert come == [], "no window has confirmed it"
        come = made.on_fact(30.0 + delay_s, name, on=True, text="another text")
    assert brief(come) == [(30.0 + delay_s, name, "low", "on", "on")]
    assert come[0].text == "so it is"
    assert made.on_fact(100.0, name, on=True, text="still") == []
    assert made.holds(name)
    if name in RECOVERIES:
        assert made.on_fact(200.0 - getattr(LONG, RECOVERIES[name]), name, on=False, text="not yet") == []
    gone = made.on_fact(200.0, name, on=False, text="no more")
    assert brief(gone) == [(200.0, name, "low", "off", "off")]
    assert gone[0].text == "no more"
    assert not made.holds(name)


@pytest.mark.parametrize("name", sorted(BY_WINDOW))
def test_r9_one_window_is_not_a_lasting_fault(name: str) -> None:
    """Neither where the feed then breaks off, nor where the next window ends just when the time is over."""
    delay_s = getattr(LONG, DELAYS[name])
    made = engine(LONG)
    assert made.on_fact(30.0, name, on=True, text="so it is") == []
    made.on_feed(32.0, connected=False)
    assert brief(made.advance(30.0 + delay_s), condition=name) == []
    made.on_feed(30.0 + delay_s, connected=True)
    assert made.on_fact(30.0 + delay_s, name, on=False, text="no more") == []


@pytest.mark.parametrize("name", [name for name in DELAYS if name not in AT_ONCE])
def test_r9_a_fact_that_ceases_in_time_is_never_told(name: str) -> None:
    delay_s = getattr(LONG, DELAYS[name])
    made = engine(LONG)
    for start_s in (0.0, 100.0, 200.0):
        assert made.on_fact(start_s, name, on=True, text="so it is") == []
        assert made.holds(name)
        assert made.on_fact(start_s + 0.9 * delay_s, name, on=False, text="no more") == []
    assert brief(made.advance(500.0)) == []


@pytest.mark.parametrize(("letter", "priority"), [("H", "medium"), (".", "low")])
def test_r9_a_failed_model_is_medium_where_a_physiological_alarm_was_on(letter: str, priority: str) -> None:
    made = engine(LONG)
    play(made, windows(letter * 5))
    (alarm,) = made.on_fact(26.0, "MODEL_FAILED", on=True, text="the model failed")
    assert (alarm.condition, alarm.priority) == ("MODEL_FAILED", priority)


def answers(made: AlarmEngine, told: str, *, first_s: float) -> list:
    """Events of a model that answers ("a"), fails ("f") or is not asked ("-"), one window each hop."""
    events = []
    for t_s, letter in ((first_s + k * HOP_S, letter) for k, letter in enumerate(told)):
        if letter != "-":
            events += made.on_fact(t_s, "MODEL_FAILED", on=letter == "f", text=letter)
    return events


def test_r9_a_model_that_fails_each_second_window_is_one_alarm_until_it_answers_for_its_time() -> None:
    made = engine(LONG)
    said = answers(made, "fa" * 20 + "f" + "a" * 10, first_s=100.0)
    # Its last failure is at 300 s; the first answer among which none failed at 305, and 30 s later it goes.
    assert brief(said) == [
        (100.0, "MODEL_FAILED", "low", "on", "on"),
        (335.0, "MODEL_FAILED", "low", "off", "off"),
    ]
    assert brief(answers(made, "f", first_s=400.0)) == [(400.0, "MODEL_FAILED", "low", "on", "on")]


def test_r9_a_model_goes_well_again_by_an_answer_only() -> None:
    made = engine(LONG)
    assert len(answers(made, "fa", first_s=100.0)) == 1
    assert brief(made.advance(500.0), condition="MODEL_FAILED") == [], "it has not been asked"
    assert brief(answers(made, "a", first_s=500.0)) == [(500.0, "MODEL_FAILED", "low", "off", "off")]


def test_r9_while_a_failed_model_answers_on_trial_a_poor_signal_is_told_of() -> None:
    made = engine(replace(LONG, poor_signal_s=60.0))
    answers(made, "f", first_s=10.0)
    assert brief(made.advance(200.0)) == [], "the failed model is told of instead"
    answers(made, "a", first_s=200.0)
    assert brief(made.advance(500.0), condition="POOR_SIGNAL")[0][0] == 200.0 + 60.0
    answers(made, "f", first_s=500.0)
    made.on_estimate(window(505.0))
    assert brief(made.advance(900.0), condition="POOR_SIGNAL") == []


@pytest.mark.parametrize("cut", range(11))
def test_r9_what_a_model_has_answered_on_trial_survives_a_restart(cut: int) -> None:
    told = "ffafaaaaaaaa"
    made = engine(LONG)
    answers(made, told[:cut], first_s=100.0)
    saved = json.loads(json.dumps(made.snapshot()))
    again = AlarmEngine.restore(LONG, hop_s=HOP_S, snapshot=saved)
    rest = answers(made, told[cut:], first_s=100.0 + cut * HOP_S)
    assert answers(again, told[cut:], first_s=100.0 + cut * HOP_S) == rest
    assert rest[-1].t_s == 150.0
    assert again.snapshot() == made.snapshot()


@pytest.mark.parametrize(("letter", "priority"), [("H", "medium"), (".", "low")])
def test_r12_delivery_that_fails_is_medium_where_a_physiological_alarm_was_on(letter, priority) -> None:
    made = engine(LONG)
    play(made, windows(letter * 5))
    (alarm,) = made.on_fact(26.0, "DELIVERY_FAILED", on=True, text="not confirmed")
    assert (alarm.condition, alarm.priority) == ("DELIVERY_FAILED", priority)


def test_r12_it_becomes_medium_when_a_physiological_alarm_comes_and_breaks_through() -> None:
    made = engine(LONG)
    made.on_fact(1.0, "DELIVERY_FAILED", on=True, text="not confirmed")
    made.acknowledge(2.0, condition="DELIVERY_FAILED", user="a")
    said = play(made, windows("HHHHH") + windows("HH", first_s=30.0))
    assert brief(said) == [
        (25.0, "MPCWP_ELEVATED", "low", "on", "on"),
        (25.0, "DELIVERY_FAILED", "medium", "on", "on"),
    ]
    assert said[1].text == "not confirmed"
    assert brief(made.on_fact(50.0, "DELIVERY_FAILED", on=False, text="confirmed")) == [
        (50.0, "DELIVERY_FAILED", "medium", "off", "off")
    ]


def test_r9_a_fact_that_holds_survives_a_restart() -> None:
    made = engine(LONG)
    made.on_fact(30.0, "FEED_STALE", on=True, text="late")
    saved = json.loads(json.dumps(made.snapshot()))
    again = AlarmEngine.restore(LONG, hop_s=HOP_S, snapshot=saved)
    assert again.advance(100.0) == made.advance(100.0) != []


# --- R10: no number older than its lifetime ---


def test_r10_a_number_expires_once_when_its_time_is_over() -> None:
    made = engine(replace(LONG, estimate_lifetime_s=60.0))
    play(made, windows("...xx"))  # the newest with a number ends at 15 s
    assert [e for e in made.advance(74.9) if isinstance(e, Expired)] == []
    said = [e for e in made.advance(500.0) if isinstance(e, Expired)]
    assert said == [Expired(75.0, 15.0, "no estimate for 60 s")]


def test_r10_a_new_number_begins_anew_and_before_the_first_there_is_none() -> None:
    made = engine(replace(LONG, estimate_lifetime_s=60.0))
    assert [e for e in made.advance(300.0) if isinstance(e, Expired)] == []
    play(made, windows("q", first_s=305.0))  # questionable, but shown
    assert [e.t_s for e in made.advance(1000.0) if isinstance(e, Expired)] == [365.0]


# --- R11: a self-check each 5 s; the bed's and the service's tests show it in a stream ---


def test_r11_a_check_is_due_each_period_and_a_missing_one_shows_in_the_count() -> None:
    checks = SelfChecks(AlarmPolicy())
    assert list(checks.due(12.0)) == [(1, 5.0), (2, 10.0)]
    checks.leap(1000.0)
    assert list(checks.due(1000.0)) == [(200, 1000.0)]


# --- R14: a limit that can never fire is refused ---


@pytest.mark.parametrize(
    "name", [f.name for f in fields(AlarmPolicy) if isinstance(f.default, (int, float)) and f.default > 1]
)
def test_r14_no_limit_can_be_set_out_of_reach(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(AlarmPolicy(), **{name: type(getattr(AlarmPolicy(), name))(1e9)})


# --- R16: a condition that comes too often says so, and is never muted ---

CHATTER = "; chattering: more than 3 onsets in 12 h, review its limits"


def lose_feed(made: AlarmEngine, t_s: float) -> Alarm:
    """Let the feed be lost for a second."""
    (on,) = [a for a in made.on_feed(t_s, connected=False) if a.condition == "FEED_LOST"]
    made.on_feed(t_s + 1.0, connected=True)
    return on


def test_r16_the_fourth_onset_in_twelve_hours_says_that_it_chatters() -> None:
    made = engine(LONG)
    texts = [lose_feed(made, 1000.0 * n).text for n in (1, 2, 3, 4, 5)]
    assert [t.endswith(CHATTER) for t in texts] == [False, False, False, True, True]


def test_r16_onsets_that_are_twelve_hours_old_no_longer_count() -> None:
    made = engine(LONG)
    hours_s = 43_200.0
    times = [0.0, 10.0, 20.0, hours_s, hours_s + 9.0, hours_s + 19.0, hours_s + 21.0]
    assert [CHATTER in lose_feed(made, t_s).text for t_s in times] == [
        *[False] * 3,
        False,  # the first is exactly 12 h old
        True,  # 10, 20, 43200, 43209
        True,
        True,
    ]


def test_r16_it_is_never_muted_and_an_acknowledgement_repeats_the_note() -> None:
    made = engine(LONG)
    alarms = [lose_feed(made, 1000.0 * n) for n in range(1, 20)]
    assert all(a.sounds for a in alarms)
    made.on_feed(20_000.0, connected=False)
    (seen,) = made.acknowledge(20_001.0, condition="FEED_LOST", user="a")
    assert seen.text.endswith(f"{CHATTER}; acknowledged by a")


def test_r16_conditions_are_counted_one_by_one_and_the_policy_says_how_many() -> None:
    made = engine(replace(LONG, chatter_onsets=1, chatter_window_s=100.0))
    assert CHATTER not in lose_feed(made, 10.0).text
    made.on_lead(12.0, "V1", on=False)
    (off,) = made.advance(15.0)
    assert "chattering" not in off.text
    assert "chattering: more than 1 onsets" in lose_feed(made, 20.0).text


def test_r16_the_count_survives_a_restart_and_stays_small() -> None:
    made = engine(LONG)
    for n in range(1, 50):
        lose_feed(made, 10.0 * n)
    saved = json.loads(json.dumps(made.snapshot()))
    assert saved["state"]["conditions"]["FEED_LOST"]["onsets_s"] == [460.0, 470.0, 480.0, 490.0]
    assert CHATTER in lose_feed(AlarmEngine.restore(LONG, hop_s=HOP_S, snapshot=saved), 600.0).text
