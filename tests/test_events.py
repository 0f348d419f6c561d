"""Events as JSON lines: names, order, and never a number that JSON does not have."""

import asyncio
import dataclasses
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.events import (
    Alarm,
    AudioEvent,
    Estimate,
    FeedEvent,
    SelfCheck,
    Summary,
    event_from_dict,
    event_to_dict,
    event_to_json,
)
from ecgedge.schema import SchemaError
from ecgedge.sinks import TextSink, format_event

ESTIMATE = Estimate(
    t_s=12.0,
    mpcwp_mmhg=17.2,
    interval_mmhg=(11.0, 23.4),
    p_gt_15=0.71,
    p_gt_18=0.44,
    validity="valid",
    reason=None,
    sqi=0.93,
    leads=("I", "II"),
    variant="I,II/int8",
    latency_ms=1.9,
)
ALARM = Alarm(
    t_s=400.0,
    condition="MPCWP_ELEVATED",
    kind="physiological",
    priority="medium",
    presence="on",
    signal="on",
    text="mPCWP above 18 mmHg (estimate)",
)
FEED = FeedEvent(t_s=3.0, state="lead_off", lead="V3")
PAUSE = AudioEvent(60.0, "paused", 120.0, "audio paused for 60 s by nurse 7", "nurse 7")
SUMMARY = Summary(
    windows=3,
    valid=2,
    dropped_samples=7,
    latency_ms={"p50": 1.0, "p99": 2.0},
    alarms={"LEAD_OFF": 1},
    journal="bed.jsonl",
)
# The lines of the interface's description, with these values put in.
LINES = [
    (
        ESTIMATE,
        '{"type":"estimate","t_s":12.0,"mpcwp_mmhg":17.2,"interval_mmhg":[11.0,23.4],"p_gt_15":0.71,'
        '"p_gt_18":0.44,"validity":"valid","reason":null,"sqi":0.93,"leads":["I","II"],"variant":"I,II/int8",'
        '"latency_ms":1.9,"mode":"real"}',
    ),
    (
        ALARM,
        '{"type":"alarm","t_s":400.0,"condition":"MPCWP_ELEVATED","kind":"physiological","priority":"medium",'
        '"presence":"on","signal":"on","text":"mPCWP above 18 mmHg (estimate)"}',
    ),
    (
        dataclasses.replace(ALARM, audible="paused"),
        '{"type":"alarm","t_s":400.0,"condition":"MPCWP_ELEVATED","kind":"physiological","priority":"medium",'
        '"presence":"on","signal":"on","text":"mPCWP above 18 mmHg (estimate)","audible":"paused"}',
    ),
    (
        dataclasses.replace(ALARM, signal="acknowledged", user="nurse 7"),
        '{"type":"alarm","t_s":400.0,"condition":"MPCWP_ELEVATED","kind":"physiological","priority":"medium",'
        '"presence":"on","signal":"acknowledged","text":"mPCWP above 18 mmHg (estimate)","user":"nurse 7"}',
    ),
    (
        PAUSE,
        '{"type":"audio","t_s":60.0,"state":"paused","ends_s":120.0,"text":"audio paused for 60 s by nurse 7",'
        '"user":"nurse 7"}',
    ),
    (
        AudioEvent(120.0, "on", None, "audio on again: the pause is over"),
        '{"type":"audio","t_s":120.0,"state":"on","ends_s":null,"text":"audio on again: the pause is over"}',
    ),
    (
        SelfCheck(35.0, 7, 5.0, None),
        '{"type":"self_check","t_s":35.0,"count":7,"period_s":5.0,"audio_pause_left_s":null}',
    ),
    (FEED, '{"type":"feed","t_s":3.0,"state":"lead_off","lead":"V3","age_s":null}'),
    (
        SUMMARY,
        '{"type":"summary","windows":3,"valid":2,"dropped_samples":7,"latency_ms":{"p50":1.0,"p99":2.0},'
        '"alarms":{"LEAD_OFF":1},"journal":"bed.jsonl"}',
    ),
    (
        dataclasses.replace(SUMMARY, dropped_commands={"no_user": 2}),
        '{"type":"summary","windows":3,"valid":2,"dropped_samples":7,"latency_ms":{"p50":1.0,"p99":2.0},'
        '"alarms":{"LEAD_OFF":1},"journal":"bed.jsonl","dropped_commands":{"no_user":2}}',
    ),
]


@pytest.mark.parametrize(("event", "line"), LINES, ids=[event.type for event, _ in LINES])
def test_each_event_is_this_line(event, line):
    assert event_to_json(event) == line


@pytest.mark.parametrize(("event", "line"), LINES, ids=[event.type for event, _ in LINES])
def test_each_line_is_this_event(event, line):
    assert event_from_dict(json.loads(line)) == event


@pytest.mark.parametrize(
    "plain", [{}, {"type": "dance"}, {"type": "feed"}, {"type": "feed", "t_s": "1", "state": "lost"}]
)
def test_what_is_no_event_is_refused(plain):
    with pytest.raises(SchemaError):
        event_from_dict(plain)


def test_further_outputs_stand_last_and_only_where_there_are_some():
    event = dataclasses.replace(ESTIMATE, outputs={"p_MI": 0.25})
    assert list(event_to_dict(event))[-1] == "outputs"
    assert json.loads(event_to_json(event))["outputs"] == {"p_MI": 0.25}
    assert "outputs" not in event_to_dict(ESTIMATE)


@pytest.mark.parametrize(
    ("signal", "audible", "sounds"),
    [("on", None, True), ("on", "paused", False), ("latched", None, False), ("acknowledged", None, False)],
)
def test_what_is_heard_follows_from_the_signal_and_the_pause(signal, audible, sounds):
    assert dataclasses.replace(ALARM, signal=signal, audible=audible).sounds == sounds


@given(st.floats(), st.floats(), st.none() | st.floats(), st.text())
def test_a_line_is_one_line_of_strict_json(number, bound, probability, text):
    event = dataclasses.replace(
        ESTIMATE,
        mpcwp_mmhg=number,
        interval_mmhg=(bound, number),
        p_gt_18=probability,
        reason=text,
        outputs={"p_MI": number},
    )
    line = event_to_json(event)
    assert "\n" not in line

    def refuse(name):
        pytest.fail(f"{name} is not JSON")

    plain = json.loads(line, parse_constant=refuse)
    assert plain["mpcwp_mmhg"] == (number if math.isfinite(number) else None)
    assert plain["reason"] == text


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ESTIMATE, ["0:00:12.0", "17.2 mmHg (estimate)", "[11 to 23]", "p(>18) 0.44", "I,II/int8", "1.9 ms"]),
        (dataclasses.replace(ESTIMATE, mode="demo"), ["[DEMO]"]),
        (dataclasses.replace(ESTIMATE, mode="test"), ["[TEST]"]),
        (
            dataclasses.replace(ESTIMATE, validity="questionable", reason="signal settling"),
            ["questionable: signal settling"],
        ),
        (ALARM, ["0:06:40.0", "** ", "MPCWP_ELEVATED", "(medium)"]),
        (dataclasses.replace(ALARM, audible="paused"), ["signal on, audio paused"]),
        (PAUSE, ["0:01:00.0  audio paused for 60 s by nurse 7, until 0:02:00.0"]),
        (AudioEvent(120.0, "on", None, "audio on again: the pause is over"), ["0:02:00.0  audio on again"]),
        (SelfCheck(35.0, 7, 5.0, None), ["0:00:35.0  self-check 7"]),
        (SelfCheck(35.0, 7, 5.0, 44.6), ["self-check 7, audio paused for 45 s more"]),
        (FEED, ["lead off V3"]),
        (dataclasses.replace(SUMMARY, dropped_commands={"no_user": 2}), ["; 2 control lines dropped; "]),
        (SUMMARY, ["3 windows", "2 valid", "7 samples dropped", "LEAD_OFF 1", "Research use only"]),
    ],
)
def test_text_for_a_person(event, words):
    for word in words:
        assert word in format_event(event)


def test_an_invalid_estimate_shows_no_number():
    event = dataclasses.replace(
        ESTIMATE, validity="invalid", reason="off: I", mpcwp_mmhg=None, interval_mmhg=None
    )
    shown = format_event(event)
    assert "--" in shown
    assert "invalid: off: I" in shown
    assert "mmHg" not in shown


@pytest.mark.parametrize(
    ("t_s", "shown"),
    [(0.0, "0:00:00.0"), (59.96, "0:01:00.0"), (3599.99, "1:00:00.0"), (90_061.5, "25:01:01.5")],
)
def test_time_never_shows_sixty_seconds(t_s, shown):
    assert format_event(dataclasses.replace(FEED, t_s=t_s)).startswith(f"{shown} ")


def test_a_person_reads_no_self_checks_but_the_countdown_of_a_pause():
    out = io.StringIO()
    for event in (SelfCheck(5.0, 1, 5.0, None), SelfCheck(10.0, 2, 5.0, 20.0), SelfCheck(15.0, 3, 5.0, 15.0)):
        asyncio.run(TextSink(out).send(event))
    assert out.getvalue().splitlines() == [
        "0:00:10.0  self-check 2, audio paused for 20 s more",
        "0:00:15.0  self-check 3, audio paused for 15 s more",
    ]
