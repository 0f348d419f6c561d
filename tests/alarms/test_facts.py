"""The alarm requirements on facts that are a condition of their own: R9, and R12 of the one about delivery.

Times are reckoned by hand from the policy in helpers: the stream starts at 0 s and window n ends at 5 n s.
"""

import json
from dataclasses import replace

import pytest

from ecgedge.alarms import DELAYS, AlarmEngine
from ecgedge.alarms.table import BY_WINDOW, RECOVERIES

from .helpers import AT_ONCE, HOP_S, LONG, brief, engine, play, window, windows


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
