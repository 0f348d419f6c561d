"""The alarm requirements by number, each as its sentence says it; the rules' edges are in the other tests.

Those on users' acts (R7, R8) stand in test_users_acts, those on facts (of R9, R12) in test_facts.

Times are reckoned by hand from the policy in helpers: the stream starts at 0 s and window n ends at 5 n s.
"""

import json
from dataclasses import fields, replace

import pytest

from ecgedge.alarms import CONDITIONS, DELAYS, AlarmEngine, SelfChecks
from ecgedge.alarms.rules import valid_window
from ecgedge.events import Alarm, Expired
from ecgedge.policy import AlarmPolicy

from .helpers import AT_ONCE, ELEVATED, HOP_S, LONG, SMALL, brief, elevated, engine, play, window, windows

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
