"""MPCWP_RISING: by example, and against the naive rule that keeps every window of a day."""

import json
import math
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.alarms import AlarmEngine
from ecgedge.alarms.trend import BLOCKS, Trend
from ecgedge.events import Alarm
from ecgedge.policy import AlarmPolicy

from .helpers import HOP_S, SMALL, brief, engine, play, window

RISING = "MPCWP_RISING"
# The span holds 4 windows, 3 of which must be there; the baseline reaches back 240 s, in parts of 10 s.
TREND = replace(
    SMALL,
    rising=True,
    rising_span_s=20.0,
    rising_baseline_s=240.0,
    rising_min_windows=3,
    medium_after_s=1000.0,
    poor_signal_s=600.0,
)


def course(*pressures: float, first_s: float = HOP_S):
    """One window a hop; far from elevated whatever the pressure."""
    return [
        replace(window(first_s + i * HOP_S, p=0.1, mpcwp=mmhg, half=30.0), p_gt_18=0.1)
        for i, mmhg in enumerate(pressures)
    ]


RISES = [
    ([12.0] * 7, None, "no rise"),
    ([12.0] * 6 + [20.0] * 3, 45.0, "at 40 the span 12 12 20 20 has median 16; at 45 12 20 20 20 has 20"),
    ([12.0] * 7 + [17.0] * 3, 50.0, "5 above is enough"),
    ([12.0] * 7 + [16.9] * 9, None, "4.9 is not"),
    ([12.0, 12.0, *[20.0] * 3], None, "at 25 one window has left the span, at most: too few for a baseline"),
    ([13.1] * 7 + [18.1] * 3, 50.0, "18.1 - 13.1 in floats is a little less than 5"),
]


@pytest.mark.parametrize(("pressures", "t_s", "why"), RISES)
def test_r5_onset(pressures: list, t_s: float | None, why: str) -> None:
    alarms = play(engine(TREND), course(*pressures))
    assert brief(alarms) == ([] if t_s is None else [(t_s, RISING, "low", "on", "on")]), why


def test_r5_it_is_off_by_default() -> None:
    assert not AlarmPolicy().rising
    assert play(engine(replace(TREND, rising=False)), course(*[12.0] * 20, *[30.0] * 20)) == []


def test_r5_the_shipped_numbers() -> None:
    policy = AlarmPolicy()
    assert (policy.rising_mmhg, policy.rising_baseline_s, policy.rising_min_windows) == (5.0, 86_400.0, 30)


def test_r5_both_sides_need_thirty_valid_windows_at_the_shipped_numbers() -> None:
    """A window each 5 s: 120 in the span of 600 s; with 29 before them the rise is not told of."""
    policy = AlarmPolicy(rising=True, poor_signal_s=600.0)
    for before, told in ((29, []), (30, [RISING])):
        made = AlarmEngine(policy, hop_s=HOP_S)
        alarms = play(made, course(*[10.0] * before, *[16.0] * 120))
        assert [a.condition for a in alarms] == told
    sparse = [e for i, e in enumerate(course(*[16.0] * 3000)) if i % 5 == 0]
    made = AlarmEngine(policy, hop_s=HOP_S)
    play(made, course(*[10.0] * 500))
    alarms = play(made, [replace(e, t_s=e.t_s + 3500.0) for e in sparse])
    assert RISING not in {a.condition for a in alarms if isinstance(a, Alarm)}, "24 windows in the span"


def test_r5_what_is_not_valid_does_not_count() -> None:
    estimates = course(*[12.0] * 6, *[20.0] * 6)
    doubtful = [replace(e, validity="questionable") if e.t_s > 30.0 else e for e in estimates]
    assert play(engine(TREND), doubtful) == []
    without = [replace(e, mpcwp_mmhg=None, interval_mmhg=None) for e in course(*[20.0] * 30)]
    assert play(engine(TREND), without) == []


def test_r5_it_goes_below_the_line_drawn_at_its_onset() -> None:
    """Baseline 12, line 12 + 5 - 3 = 14: 14 is not under it."""
    made = engine(TREND)
    assert [a.t_s for a in play(made, course(*[12.0] * 7, *[17.0] * 3))] == [50.0]
    assert play(made, course(*[14.0] * 12, first_s=55.0)) == []
    alarms = play(made, course(*[13.9] * 4, first_s=115.0))
    assert brief(alarms) == [(120.0, RISING, "low", "off", "latched")]  # 14 14 13.9 13.9 has median 13.95


def test_r5_a_rise_that_stays_is_told_of_though_the_baseline_grows_used_to_it() -> None:
    made = engine(TREND)
    play(made, course(*[12.0] * 7, *[17.0] * 200))
    assert made.active()[0].presence == "on"
    assert brief(play(made, course(*[12.0] * 4, first_s=1040.0))) == [
        (1050.0, RISING, "low", "off", "latched")
    ]
    assert play(made, course(*[17.0] * 20, first_s=1060.0)) == [], "and the next is measured from the new one"


def test_r5_texts_say_what_was_seen() -> None:
    (on,) = play(engine(TREND), course(*[12.0] * 7, *[17.5] * 3))
    assert on.text == (
        "mPCWP estimate rising: median 17.5 mmHg in 20 s, 5.5 above this patient's baseline of 12.0; an estimate, "
        "not a measurement"
    )


def test_r5_a_lost_feed_that_cuts_off_a_rise_is_medium() -> None:
    made = engine(TREND)
    play(made, course(*[12.0] * 7, *[17.0] * 3))
    assert brief(made.on_feed(51.0, connected=False)) == [(51.0, "FEED_LOST", "medium", "on", "on")]


def test_r5_a_restart_in_the_middle_of_a_rise_changes_nothing() -> None:
    estimates = course(*[12.0] * 7, *[17.0] * 20, *[11.0] * 10)
    whole = play(engine(TREND), estimates)
    assert [a.presence for a in whole] == ["on", "off"]
    for cut in range(len(estimates)):
        made = engine(TREND)
        said = play(made, estimates[:cut])
        saved = json.loads(json.dumps(made.snapshot()))
        other = AlarmEngine.restore(TREND, hop_s=HOP_S, snapshot=saved)
        assert said + play(other, estimates[cut:]) == whole


# --- against the naive rule ---


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 5.0, 5.0, 5.0, 10.0, 33.0, 300.0]),
            st.floats(0.0, 100.0) | st.sampled_from([12.0, 12.05, 17.0]),
        ),
        max_size=150,
    ),
)
def test_medians_are_those_of_every_window_kept(steps) -> None:
    made, t_s, windows = Trend(TREND, hop_s=HOP_S), 0.0, []
    for step_s, mmhg in steps:
        t_s += step_s
        windows.append((t_s, mmhg))
        made.push(t_s, mmhg)
        recent = [w for w in windows if t_s - w[0] < 20.0][-5:]
        block_s = 240.0 / BLOCKS
        oldest = (math.floor(t_s / block_s) - BLOCKS) * block_s
        before = [w for w in windows if w not in recent and w[0] >= oldest]
        # Never less than the baseline's time, and never more than a part more.
        assert {w for w in windows if w not in recent and t_s - w[0] <= 240.0} <= set(before)
        assert all(t_s - s < 250.0 for s, _ in before)
        assert made.now_mmhg() == (median(v for _, v in recent) if len(recent) >= 3 else None)
        if len(before) < 3:
            assert made.baseline_mmhg() is None
        else:
            assert made.baseline_mmhg() == pytest.approx(median(v for _, v in before), abs=0.05 + 1e-9)


@given(st.lists(st.floats(0.0, 1e9), min_size=1, max_size=80), st.floats(-1e6, 1e6))
def test_memory_is_bounded_whatever_comes(times, mmhg) -> None:
    made = Trend(TREND, hop_s=HOP_S)
    for t_s in sorted(set(times)):
        made.push(t_s, mmhg)
        assert len(made.state.recent) <= 5
        assert len(made.state.blocks) <= BLOCKS + 1


def test_a_day_of_windows_costs_what_its_spread_costs() -> None:
    """A window a second for 30 h, within 10 mmHg: 86,400 windows in 25 histograms of 101 numbers."""
    policy = AlarmPolicy(rising=True)
    made = Trend(policy, hop_s=1.0)
    for i in range(30 * 3600):
        made.push(float(i), 10.0 + (i * 7919 % 1000) / 100.0)
    state = made.state
    assert len(state.recent) == 600
    assert len(state.blocks) == BLOCKS + 1
    assert max(len(counts) for counts in state.blocks.values()) <= 101
    assert made.baseline_mmhg() == pytest.approx(15.0, abs=0.05)


def test_a_snapshot_with_a_bin_that_is_none_is_refused() -> None:
    made = engine(TREND)
    play(made, course(*[12.0] * 9))
    saved = json.loads(json.dumps(made.snapshot()))
    saved["trend"]["blocks"]["0"]["twelve"] = 1
    with pytest.raises(ValueError, match="twelve"):
        AlarmEngine.restore(TREND, hop_s=HOP_S, snapshot=saved)
