"""MPCWP_ELEVATED by example: every time below was reckoned by hand from the docstring of AlarmPolicy.

The stream starts at 0 s, window 1 ends at 5 s, window n at 5 n s. Letters are explained in helpers.WINDOWS.
"""

import math
from dataclasses import replace

import pytest

from ecgedge.alarms import AlarmEngine
from ecgedge.alarms.rules import windows_due
from ecgedge.policy import AlarmPolicy

from .helpers import HOP_S, SMALL, brief, engine, play, window, windows

ELEVATED = "MPCWP_ELEVATED"
ONSETS = [
    # five windows are due in 25 s
    ("HHHH", None, "the stream is younger than persistence_s"),
    ("HHHHH", 25, "the span is covered"),
    (".HHHH", 25, "4 of 5 is 0.8"),
    ("HHHH.", 25, "the newest may be the one that does not exceed"),
    ("..HHH...", None, "never more than 3 of 5"),
    ("H.H.HHHH", 35, "10-35: H.HHH"),
    # too few, or just enough, valid ones
    ("xxHHH", 25, "3 valid of 5 due is over 0.5, and all exceed"),
    ("xxxHH", None, "2 valid of 5 are too few"),
    ("xxxHHH", 30, "10-30: xxHHH"),
    ("xx.HHHH", 35, "at 25 2 of 3, at 30 3 of 4 (3.2 are needed), at 35 4 of 5"),
    ("--HHH", 25, "a window that never came counts as one that is not valid"),
    ("-----HHH", 40, "only 30, 35 and 40 in the span"),
    ("??HHH", 25, "questionable windows do not count against"),
    ("qqqqqqqq", None, "nor for"),
    ("HHHHxH", 30, "an invalid window decides nothing itself, so not at 25"),
    # what exceeds
    ("BBBBB", 25, "lower bound 18.5, p 0.7"),
    ("eeeeeeee", None, "lower bound 18.0 is not above 18, p 0.7 is not 0.8"),
    ("HBHBH", 25, "both reasons add up"),
]


@pytest.mark.parametrize(("letters", "t_s", "why"), ONSETS)
def test_onset(letters: str, t_s: float | None, why: str) -> None:
    expected = [] if t_s is None else [(t_s, "low", "on", "on")]
    assert brief(play(engine(), windows(letters)), condition=ELEVATED) == expected, why


def test_onset_at_the_shipped_defaults() -> None:
    """300 s and a hop of 5 s: 60 due; 30 must be valid; first window at 10 s, so 59 by 300 s."""
    made = AlarmEngine(AlarmPolicy(), hop_s=5.0)
    made.on_feed(0.0, connected=True)
    estimates = windows("H" * 59, first_s=10.0)
    assert play(made, estimates[:-1]) == []
    assert brief(made.on_estimate(estimates[-1]), condition=ELEVATED) == [(300.0, "low", "on", "on")]


def test_a_stream_told_of_by_its_first_window_starts_there() -> None:
    made = AlarmEngine(SMALL, hop_s=HOP_S)
    assert brief(play(made, windows("HHHHHH"))) == [(30.0, ELEVATED, "low", "on", "on")]


def test_the_probability_limit_is_at_least() -> None:
    for p, expected in ((0.8, 1), (0.7999, 0)):
        estimates = [window(5.0 * i, p=p, mpcwp=None) for i in range(1, 6)]
        assert len(play(engine(), estimates)) == expected


@pytest.mark.parametrize("p", [None, math.nan, math.inf])
def test_a_window_without_a_finite_number_does_not_count(p: float | None) -> None:
    estimates = [window(5.0 * i, p=p, mpcwp=None) for i in range(1, 6)]
    assert play(engine(), estimates) == []
    wide = [window(5.0 * i, p=0.99, mpcwp=40.0, half=math.inf) for i in range(1, 6)]
    assert play(engine(), wide) == []


MEDIUMS = [
    ("MMMMM", [(25, "medium")], "lower bound 25 throughout"),
    ("HMMMM", [(25, "medium")], "4 of 5"),
    ("HHMMM", [(25, "low")], "3 of 5"),
    ("HHMMMM", [(25, "low"), (30, "medium")], "10-30: HMMMM"),
    ("HHHHHHHM", [(25, "low")], "one window raises nothing"),
    ("MMMMMHHHHH", [(25, "medium")], "it does not fall while the condition is present"),
    ("HHHHHMMMMxxxxx", [(25, "low"), (45, "medium")], "25-45: HMMMM"),
]


@pytest.mark.parametrize(("letters", "expected", "why"), MEDIUMS)
def test_medium_by_lower_bound(letters: str, expected: list, why: str) -> None:
    alarms = play(engine(), windows(letters))
    assert brief(alarms, condition=ELEVATED) == [(t, priority, "on", "on") for t, priority in expected], why


RECOVERIES = [
    # eight windows are due in 40 s, four must be valid
    ("HHHHH ........", 50, "at 45 HHHH.... has median 17 mmHg; at 50 HHH..... has 12"),
    ("HHHHH mmmmmmmmmmmm", None, "median 15 is not under 18 - 3"),
    ("HHHHH nnnnnnnnnnnn", None, "median p 0.5 is not under 0.5"),
    ("HHHHH xxxxxxxxxxxxxxxx", None, "invalid windows never clear"),
    ("HHHHH ????????????????", None, "nor do questionable ones"),
    ("HHHHH xxxxxxxx ....", 85, "50-85: xxxx....; at 80 only 3 valid"),
    ("HHHHH -------- ....", 85, "windows that never came"),
    ("HHHHH ...?.", 50, "15-50: HHH...?. has four low of seven"),
    ("HHHHH ...HHHH", None, "it stays"),
]


@pytest.mark.parametrize(("letters", "t_s", "why"), RECOVERIES)
def test_recovery(letters: str, t_s: float | None, why: str) -> None:
    expected = [(25.0, "low", "on", "on")] + ([] if t_s is None else [(t_s, "low", "off", "latched")])
    alarms = play(engine(replace(SMALL, medium_after_s=1000.0)), windows(letters))
    assert brief(alarms, condition=ELEVATED) == expected, why


def test_recovery_needs_a_stream_as_old_as_its_span() -> None:
    """At 45 s 4 of 7 windows are low, and of the 12 due in 60 s 7 are valid; but the stream is 45 s old."""
    policy = replace(SMALL, recovery_window_s=60.0)
    alarms = play(engine(policy), windows("xxHHH......."))
    assert brief(alarms, condition=ELEVATED) == [(25.0, "low", "on", "on"), (60.0, "low", "off", "latched")]


def test_it_does_not_go_while_the_onset_rule_holds() -> None:
    """One exceeding window of five is enough here, so medians alone would let it go at 40 s and come again."""
    policy = replace(SMALL, onset_fraction=0.2)
    alarms = play(engine(policy), windows("H.... H......"))
    assert brief(alarms, condition=ELEVATED) == [(25.0, "low", "on", "on"), (55.0, "low", "off", "latched")]


@pytest.mark.parametrize(("absent", "goes"), [("p", True), ("mpcwp", True)])
def test_an_output_that_the_bundle_lacks_is_left_out(absent: str, goes: bool) -> None:
    def without(t_s: float, *, high: bool):
        numbers = {"p": 0.9 if high else 0.1, "mpcwp": 26.0 if high else 12.0}
        return window(t_s, **{**numbers, absent: None})

    estimates = [without(5.0 * i, high=i <= 5) for i in range(1, 12)]
    alarms = play(engine(), estimates)
    assert [(a.t_s, a.presence) for a in alarms] == [(25.0, "on"), (50.0, "off")]


def test_it_comes_again_after_it_went() -> None:
    alarms = play(engine(replace(SMALL, medium_after_s=1000.0)), windows("HHHHH ........ HHHH"))
    assert [(a.t_s, a.presence, a.signal) for a in alarms] == [
        (25.0, "on", "on"),
        (50.0, "off", "latched"),
        (85.0, "on", "on"),  # 65-85: .HHHH
    ]


def test_texts_say_what_was_seen() -> None:
    on, worse = play(engine(), windows("HHHHxMMMMM"))
    assert on.text == (
        "mPCWP estimate elevated: 4 of 4 valid windows in 25 s, median 22.0 mmHg; an estimate, not a measurement"
    )
    assert worse.text == (
        "mPCWP estimate elevated: 4 of 4 valid windows in 25 s, median 31.0 mmHg; an estimate, not a measurement "
        "(lower bound at least 25 mmHg)"
    )


@pytest.mark.parametrize(
    ("span_s", "hop_s", "due"),
    [(300.0, 5.0, 60), (0.3, 0.1, 3), (0.7, 0.1, 7), (299.9, 5.0, 59), (4.0, 5.0, 0)],
)
def test_windows_due_is_a_floor_without_rounding_loss(span_s: float, hop_s: float, due: int) -> None:
    assert windows_due(span_s, hop_s=hop_s) == due


def test_window_times_that_do_not_add_up_exactly() -> None:
    """0.1 + 0.1 + 0.1 > 0.3: the window at the far edge of the span must not slip in or out."""
    policy = replace(SMALL, persistence_s=0.5, recovery_window_s=0.8)
    made = AlarmEngine(policy, hop_s=0.1)
    made.on_feed(0.0, connected=True)
    t_s, alarms = 0.0, []
    for i in range(200):
        t_s += 0.1
        alarms += made.on_estimate(window(t_s, p=0.9 if i % 5 else 0.1, mpcwp=None))
    assert [round(a.t_s, 3) for a in alarms] == [0.5]  # 4 of the first 5, and 4 of 5 ever after


@pytest.mark.parametrize("hop_s", [0.0, -5.0, math.nan, math.inf])
def test_a_hop_that_is_none_is_refused(hop_s: float) -> None:
    with pytest.raises(ValueError, match="hop_s"):
        AlarmEngine(SMALL, hop_s=hop_s)


def test_a_span_that_holds_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="persistence_s 25 is shorter"):
        AlarmEngine(SMALL, hop_s=30.0)


def test_memory_is_bounded_however_fast_windows_come() -> None:
    made = engine()
    play(made, [window(1.0 + i * 0.001) for i in range(5000)])
    assert len(made.snapshot()["windows"]) == 9  # 8 due in 40 s, and one


def test_windows_that_no_span_reaches_are_forgotten() -> None:
    made = engine()
    play(
        made, windows("....- ......", first_s=5.0)
    )  # the newest ends at 55 s; 40 s reach back to 15 s, not included
    assert [w["t_s"] for w in made.snapshot()["windows"]] == [20.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0]
