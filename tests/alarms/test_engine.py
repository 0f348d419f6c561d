"""Signals, technical conditions and time, by example."""

import json
import math
from dataclasses import replace

import pytest

from ecgedge.alarms import AlarmEngine
from ecgedge.events import event_to_dict

from .helpers import HOP_S, SMALL, brief, engine, play, window, windows

ELEVATED = "MPCWP_ELEVATED"
LONG = replace(SMALL, medium_after_s=1000.0, poor_signal_s=600.0)


# --- the physiological signal ---


def elevated(policy=LONG) -> AlarmEngine:
    made = engine(policy)
    assert brief(play(made, windows("HHHHH"))) == [(25.0, ELEVATED, "low", "on", "on")]
    return made


def test_a_gone_condition_latches_until_acknowledged() -> None:
    made = elevated()
    assert brief(play(made, windows("........", first_s=30.0))) == [(50.0, ELEVATED, "low", "off", "latched")]
    assert brief(made.active()) == [(50.0, ELEVATED, "low", "off", "latched")]
    seen = made.acknowledge(70.0, condition=ELEVATED, user="nurse 7")
    assert brief(seen) == [(70.0, ELEVATED, "low", "off", "off")]
    assert seen[0].text == "mPCWP estimate no longer elevated; acknowledged by nurse 7"
    assert made.active() == []


def test_a_condition_that_comes_back_wakes_its_latched_signal() -> None:
    made = elevated()
    alarms = play(made, windows("........ HHHH", first_s=30.0))
    assert brief(alarms)[-1] == (85.0, ELEVATED, "low", "on", "on")


def test_an_acknowledged_condition_goes_without_latching() -> None:
    made = elevated()
    assert brief(made.acknowledge(26.0, condition=ELEVATED, user="a")) == [
        (26.0, ELEVATED, "low", "on", "acknowledged")
    ]
    assert brief(play(made, windows("........", first_s=30.0))) == [(50.0, ELEVATED, "low", "off", "off")]


def test_without_latching_it_just_goes() -> None:
    made = elevated(replace(LONG, latching=False))
    assert brief(play(made, windows("........", first_s=30.0))) == [(50.0, ELEVATED, "low", "off", "off")]


def test_acknowledging_twice_or_too_late_changes_nothing() -> None:
    made = elevated()
    made.acknowledge(26.0, condition=ELEVATED, user="a")
    assert made.acknowledge(27.0, condition=ELEVATED, user="b") == []
    assert made.acknowledge(27.0, condition="FEED_LOST", user="b") == []
    assert brief(made.active()) == [(26.0, ELEVATED, "low", "on", "acknowledged")]


def test_escalation_breaks_through_an_acknowledgement() -> None:
    made = elevated()
    made.acknowledge(26.0, condition=ELEVATED, user="a")
    alarms = play(made, windows("MMMM", first_s=30.0))
    assert brief(alarms) == [(45.0, ELEVATED, "medium", "on", "on")]
    assert brief(made.acknowledge(46.0, condition=ELEVATED, user="a")) == [
        (46.0, ELEVATED, "medium", "on", "acknowledged")
    ]


def test_medium_after_a_time_is_stamped_with_its_due_time() -> None:
    made = elevated(replace(LONG, medium_after_s=100.0))
    made.acknowledge(26.0, condition=ELEVATED, user="a")
    assert made.advance(124.999) == []
    alarms = made.advance(500.0)
    assert brief(alarms) == [(125.0, ELEVATED, "medium", "on", "on")]
    assert alarms[0].text == "mPCWP estimate elevated for 100 s; an estimate, not a measurement"
    assert made.advance(624.0) == []  # POOR_SIGNAL would follow at 25 + 600


def test_medium_comes_though_the_feed_is_lost() -> None:
    made = elevated(replace(LONG, medium_after_s=100.0))
    made.on_feed(60.0, connected=False)
    assert brief(made.advance(125.0), condition=ELEVATED) == [(125.0, "medium", "on", "on")]


def test_an_alarm_that_went_does_not_become_medium() -> None:
    made = elevated(replace(LONG, medium_after_s=100.0))
    play(made, windows("........", first_s=30.0))
    assert made.advance(600.0) == []


@pytest.mark.parametrize("user", ["", "  ", "two\nlines", "\x1b[31m"])
def test_someone_must_answer_for_an_acknowledgement(user: str) -> None:
    made = elevated()
    with pytest.raises(ValueError, match="who acknowledges MPCWP_ELEVATED"):
        made.acknowledge(26.0, condition=ELEVATED, user=user)
    assert brief(made.active()) == [(25.0, ELEVATED, "low", "on", "on")]


def test_an_unknown_condition_cannot_be_acknowledged() -> None:
    with pytest.raises(ValueError, match="unknown condition 'MPCWP'; known are MPCWP_ELEVATED, FEED_LOST"):
        elevated().acknowledge(26.0, condition="MPCWP", user="a")


def test_one_acknowledgement_never_touches_another_condition() -> None:
    made = elevated()
    made.on_feed(26.0, connected=False)
    made.acknowledge(27.0, condition="FEED_LOST", user="a")
    assert brief(made.active()) == [
        (25.0, ELEVATED, "low", "on", "on"),
        (26.0 + 1.0, "FEED_LOST", "medium", "on", "acknowledged"),
    ]


# --- technical conditions ---


def test_a_lost_feed_is_low_where_nothing_was_on() -> None:
    made = engine(LONG)
    assert brief(made.on_feed(3.0, connected=False)) == [(3.0, "FEED_LOST", "low", "on", "on")]
    assert made.on_feed(4.0, connected=False) == []
    assert brief(made.on_feed(9.0, connected=True)) == [(9.0, "FEED_LOST", "low", "off", "off")]
    assert made.on_feed(9.5, connected=True) == []


def test_a_lost_feed_is_medium_where_it_cuts_off_an_alarm() -> None:
    made = elevated()
    made.acknowledge(26.0, condition=ELEVATED, user="a")
    assert brief(made.on_feed(27.0, connected=False)) == [(27.0, "FEED_LOST", "medium", "on", "on")]


def test_a_lost_feed_is_low_where_the_alarm_is_only_latched() -> None:
    made = elevated()
    play(made, windows("........", first_s=30.0))
    assert brief(made.on_feed(70.0, connected=False)) == [(70.0, "FEED_LOST", "low", "on", "on")]


def test_a_feed_lost_before_anything_came() -> None:
    made = AlarmEngine(LONG, hop_s=HOP_S)
    assert brief(made.on_feed(2.0, connected=False)) == [(2.0, "FEED_LOST", "low", "on", "on")]
    assert brief(made.advance(5000.0)) == []


def test_an_acknowledged_technical_condition_still_goes() -> None:
    made = engine(LONG)
    made.on_feed(3.0, connected=False)
    made.acknowledge(4.0, condition="FEED_LOST", user="a")
    assert brief(made.on_feed(9.0, connected=True)) == [(9.0, "FEED_LOST", "low", "off", "off")]


def test_a_lead_is_off_after_its_time_and_on_at_once() -> None:
    made = engine(LONG)
    assert made.on_lead(10.0, "V1", on=False) == []
    assert made.advance(11.999) == []
    alarms = made.advance(20.0)
    assert brief(alarms) == [(12.0, "LEAD_OFF", "low", "on", "on")]
    assert alarms[0].text == "leads off: V1"
    back = made.on_lead(21.0, "V1", on=True)
    assert brief(back) == [(21.0, "LEAD_OFF", "low", "off", "off")]
    assert back[0].text == "all leads on again"


def test_a_lead_that_returns_in_time_is_not_told_of() -> None:
    made = engine(LONG)
    made.on_lead(10.0, "V1", on=False)
    assert made.on_lead(11.9, "V1", on=True) == []
    assert made.advance(100.0) == []


def test_a_lead_said_to_be_off_twice_keeps_its_first_time() -> None:
    made = engine(LONG)
    made.on_lead(10.0, "V1", on=False)
    assert made.on_lead(11.0, "v1", on=False) == []
    assert brief(made.advance(12.0)) == [(12.0, "LEAD_OFF", "low", "on", "on")]
    assert made.on_lead(13.0, "V1", on=False) == []
    assert made.on_lead(14.0, "II", on=True) == []


def test_leads_of_one_electrode_make_one_event() -> None:
    made = engine(LONG)
    for lead in ("aVR", "I", "aVL"):
        made.on_lead(10.0, lead, on=False)
    alarms = made.advance(12.0)
    assert [a.text for a in alarms] == ["leads off: I,aVR,aVL"]


def test_each_change_of_the_leads_off_is_one_event_and_more_breaks_through() -> None:
    made = engine(LONG)
    made.on_lead(10.0, "V1", on=False)
    made.on_lead(11.0, "V2", on=False)
    assert [(a.t_s, a.text) for a in made.advance(12.5)] == [(12.0, "leads off: V1")]
    made.acknowledge(12.6, condition="LEAD_OFF", user="a")
    alarms = made.advance(13.0)
    assert brief(alarms) == [(13.0, "LEAD_OFF", "low", "on", "on")]
    assert alarms[0].text == "leads off: V1,V2"
    made.acknowledge(14.0, condition="LEAD_OFF", user="a")
    fewer = made.on_lead(15.0, "V1", on=True)
    assert brief(fewer) == [(15.0, "LEAD_OFF", "low", "on", "acknowledged")]
    assert fewer[0].text == "leads off: V2"


def test_a_lead_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown lead 'V77'"):
        engine().on_lead(1.0, "V77", on=False)


def test_no_variant() -> None:
    made = engine(LONG)
    alarms = play(
        made,
        [
            window(5.0),
            window(10.0, validity="invalid"),  # noise: the variant is known
            window(15.0, validity="invalid", variant=None, leads=("V1",)),
            window(20.0, validity="invalid", variant=None, leads=()),
            window(25.0, validity="questionable"),
        ],
    )
    assert brief(alarms) == [
        (15.0, "NO_VARIANT", "low", "on", "on"),
        (25.0, "NO_VARIANT", "low", "off", "off"),
    ]
    assert alarms[0].text == "too few leads for any model variant (on: V1)"


POOR = replace(LONG, poor_signal_s=30.0)


def test_poor_signal_from_the_start_and_until_a_usable_window() -> None:
    made = engine(POOR)
    alarms = play(made, windows("xxxxxxxx?"))
    assert brief(alarms) == [
        (30.0, "POOR_SIGNAL", "low", "on", "on"),
        (45.0, "POOR_SIGNAL", "low", "off", "off"),
    ]
    assert alarms[0].text == "no usable window for 30 s"
    assert brief(made.advance(75.0)) == [(75.0, "POOR_SIGNAL", "low", "on", "on")]


def test_a_usable_window_starts_the_wait_anew() -> None:
    made = engine(POOR)
    assert play(made, windows("xxx.xxxx?xxxxx")) == []  # usable at 20 and 45; waits end at 50 and 75
    assert brief(made.advance(1000.0)) == [(75.0, "POOR_SIGNAL", "low", "on", "on")]


def test_no_poor_signal_while_the_feed_is_lost_and_a_new_wait_when_it_returns() -> None:
    made = engine(POOR)
    play(made, windows("...."))
    assert brief(made.on_feed(22.0, connected=False)) == [(22.0, "FEED_LOST", "low", "on", "on")]
    assert made.advance(100.0) == []
    made.on_feed(100.0, connected=True)
    assert brief(made.advance(1000.0)) == [(130.0, "POOR_SIGNAL", "low", "on", "on")]


def test_no_poor_signal_while_leads_are_missing() -> None:
    made = engine(POOR)
    missing = [window(5.0 * i, validity="invalid", variant=None) for i in range(1, 20)]
    assert brief(play(made, missing)) == [(5.0, "NO_VARIANT", "low", "on", "on")]
    back = made.on_estimate(window(100.0, validity="invalid"))
    assert brief(back) == [(100.0, "NO_VARIANT", "low", "off", "off")]
    assert brief(made.advance(1000.0)) == [(130.0, "POOR_SIGNAL", "low", "on", "on")]


def test_a_feed_that_comes_and_goes_leaves_poor_signal_on() -> None:
    made = engine(POOR)
    made.advance(30.0)
    made.on_feed(40.0, connected=False)
    assert brief(made.on_feed(50.0, connected=True)) == [(50.0, "FEED_LOST", "low", "off", "off")]
    assert [a.condition for a in made.active()] == ["POOR_SIGNAL"]
    assert made.advance(500.0) == []


# --- time ---


def test_what_is_due_together_comes_in_order_of_rank() -> None:
    made = elevated(
        replace(LONG, medium_after_s=100.0, poor_signal_s=100.0)
    )  # last window at 25 s: all due at 125
    made.on_lead(123.0, "I", on=False)
    names = [a.condition for a in made.advance(125.0)]
    assert names == [ELEVATED, "LEAD_OFF", "POOR_SIGNAL"]


def test_a_fact_comes_after_what_was_due_by_its_time() -> None:
    made = engine(POOR)
    alarms = made.on_estimate(window(30.0))
    assert brief(alarms) == [
        (30.0, "POOR_SIGNAL", "low", "on", "on"),
        (30.0, "POOR_SIGNAL", "low", "off", "off"),
    ]


def test_a_late_fact_takes_effect_now() -> None:
    made = engine(LONG)
    made.advance(40.0)
    assert brief(made.on_feed(38.0, connected=False)) == [(40.0, "FEED_LOST", "low", "on", "on")]
    assert made.advance(3.0) == []


@pytest.mark.parametrize("t_s", [math.nan, math.inf, -math.inf])
def test_time_must_be_finite(t_s: float) -> None:
    made = engine()
    for call in (
        lambda: made.advance(t_s),
        lambda: made.on_feed(t_s, connected=False),
        lambda: made.on_lead(t_s, "I", on=False),
        lambda: made.acknowledge(t_s, condition="FEED_LOST", user="a"),
        lambda: made.on_estimate(window(t_s)),
    ):
        with pytest.raises(ValueError, match="finite"):
            call()


@pytest.mark.parametrize("t_s", [5.0, 4.0])
def test_windows_must_come_in_order(t_s: float) -> None:
    made = engine()
    made.on_estimate(window(5.0))
    with pytest.raises(ValueError, match=f"a window ending at {t_s} s came after one ending at 5.0 s"):
        made.on_estimate(window(t_s))


# --- restart ---


def restart(made: AlarmEngine, policy) -> AlarmEngine:
    return AlarmEngine.restore(policy, hop_s=HOP_S, snapshot=json.loads(json.dumps(made.snapshot())))


def test_a_restored_engine_goes_on_in_the_middle_of_everything() -> None:
    made = elevated(SMALL)
    made.on_lead(26.0, "V1", on=False)
    made.acknowledge(27.0, condition=ELEVATED, user="a")
    twin = restart(made, SMALL)
    assert twin.active() == made.active()
    assert twin.snapshot() == made.snapshot()
    estimates = windows("MMMM", first_s=30.0)
    assert play(twin, estimates) == play(made, estimates)
    assert twin.advance(1000.0) == made.advance(1000.0) != []


def test_a_snapshot_is_refused_under_another_policy_or_hop() -> None:
    saved = engine().snapshot()
    with pytest.raises(ValueError, match="another alarm policy"):
        AlarmEngine.restore(replace(SMALL, threshold_mmhg=15.0), hop_s=HOP_S, snapshot=saved)
    with pytest.raises(ValueError, match="another alarm policy or hop"):
        AlarmEngine.restore(SMALL, hop_s=2.5, snapshot=saved)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("state"), "missing key 'snapshot.state'"),
        (lambda s: s.update(format=1), "snapshot format 1 is of another version; this one reads 6"),
        (lambda s: s.update(format=7), "snapshot format 7"),
        (lambda s: s.update(extra=1), "unknown key 'snapshot.extra'"),
        (lambda s: s["state"].update(connected="yes"), "snapshot.state.connected"),
        (lambda s: s["state"]["conditions"].pop("LEAD_OFF"), "expected the conditions"),
        (lambda s: s["state"]["conditions"]["LEAD_OFF"].update(signal="loud"), "LEAD_OFF.signal"),
    ],
)
def test_a_damaged_snapshot_is_refused(damage, message: str) -> None:
    saved = json.loads(json.dumps(engine().snapshot()))
    damage(saved)
    with pytest.raises(ValueError, match=message):
        AlarmEngine.restore(SMALL, hop_s=HOP_S, snapshot=saved)


def test_events_carry_the_contract_fields() -> None:
    alarm = engine(LONG).on_feed(3.0, connected=False)[0]
    assert event_to_dict(alarm) == {
        "type": "alarm",
        "t_s": 3.0,
        "condition": "FEED_LOST",
        "kind": "technical",
        "priority": "low",
        "presence": "on",
        "signal": "on",
        "text": "the feed was lost: no monitoring",
    }
