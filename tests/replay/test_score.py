"""Every figure against one reckoned by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.replay.intervals import Measured, draw_weights, quantile, rate, ratio, share
from ecgedge.replay.score import DAY_S, Tally, add, chance_of, score, tally, windows_of
from ecgedge.replay.spans import Span
from ecgedge.replay.truth import Episode

EARLY_S = 100.0


def counted(spans, episodes, *, duration_s=10_000.0):
    return tally([Span(*s) for s in spans], episodes, duration_s=duration_s, early_s=EARLY_S)


def test_onset_in_the_episode_is_a_detection_with_its_delay():
    t = counted([(1200.0, 1500.0)], (Episode(1000.0, 2000.0),))
    assert (t.detected, t.onsets, t.false_onsets, t.delays_s) == (1, 1, 0, (200.0,))
    assert (t.alarm_s, t.elevated_s, t.alarm_elevated_s) == (300.0, 1000.0, 300.0)


@pytest.mark.parametrize(
    ("onset_s", "true"), [(899.9, False), (900.0, True), (1000.0, True), (1999.9, True), (2000.0, False)]
)
def test_the_edges_of_the_window(onset_s, true):
    t = counted([(onset_s, 5000.0)], (Episode(1000.0, 2000.0),))
    assert (t.detected, t.false_onsets) == ((1, 0) if true else (0, 1))
    assert t.delays_s == ((onset_s - 1000.0,) if true else ())


def test_an_alarm_that_stood_already_detects_nothing():
    t = counted([(100.0, 2500.0)], (Episode(1000.0, 2000.0),))
    assert (t.detected, t.standing, t.false_onsets, t.alarm_elevated_s) == (0, 1, 1, 1000.0)


def test_what_ended_before_the_window_or_came_anew_does_not_stand():
    episode = (Episode(1000.0, 2000.0),)
    assert counted([(100.0, 900.0)], episode).standing == 0
    again = counted([(100.0, 950.0), (1300.0, 1400.0)], episode)
    assert (again.detected, again.standing, again.delays_s) == (1, 0, (300.0,))


def test_later_onsets_of_an_episode_are_true_but_detect_it_once():
    t = counted([(1100.0, 1200.0), (1500.0, 1600.0), (3000.0, 3100.0)], (Episode(1000.0, 2000.0),))
    assert (t.detected, t.onsets, t.false_onsets, t.delays_s) == (1, 3, 1, (100.0,))


def test_a_window_never_reaches_into_the_episode_before_it():
    episodes = (Episode(1000.0, 2000.0), Episode(2050.0, 3000.0), Episode(50.0, 60.0))
    assert windows_of(episodes[:2], early_s=EARLY_S) == (Episode(900.0, 2000.0), Episode(2000.0, 3000.0))
    assert windows_of(episodes[2:], early_s=EARLY_S) == (Episode(0.0, 60.0),)
    t = counted([(1990.0, 2010.0)], episodes[:2])
    assert (t.detected, t.onsets, t.false_onsets, t.delays_s) == (1, 1, 0, (990.0,))


def test_without_truth_nothing_is_false_and_nothing_known():
    t = counted([(1200.0, 1500.0)], None)
    assert (t.known, t.onsets, t.false_onsets, t.episodes) == (False, 1, 0, 0)
    found = score([t], draw_weights(1, resamples=100, seed=0), chance_of([(None, 10_000.0)], early_s=EARLY_S))
    assert found.false_alarms_per_patient_day == found.ppv == Measured(None, None, None)
    assert found.sensitivity.value is found.chance_sensitivity is found.other_time_in_alarm.value is None
    assert found.alarms_per_patient_day.value == pytest.approx(8.64)


def test_the_streams_of_a_patient_are_one():
    one, other = counted([(1200.0, 1500.0)], (Episode(1000.0, 2000.0),)), counted([(50.0, 60.0)], ())
    assert add([one, other]) == Tally(True, 20_000.0, 310.0, 1000.0, 300.0, 1, 0, 2, 1, (200.0,))


def test_figures_of_a_cohort():
    """Three patients: one detected after 2 min and one not, a false alarm; two false alarms; nothing."""
    half_day = DAY_S / 2
    first = tally(
        [Span(1120.0, 1520.0), Span(9000.0, 9600.0)],
        (Episode(1000.0, 2000.0), Episode(20_000.0, 21_000.0)),
        duration_s=half_day,
        early_s=EARLY_S,
    )
    second = tally([Span(10.0, 20.0), Span(30.0, 40.0)], (), duration_s=DAY_S, early_s=EARLY_S)
    third = tally([], (), duration_s=half_day, early_s=EARLY_S)
    found = score(
        [first, second, third],
        draw_weights(3, resamples=500, seed=0),
        chance_of([((Episode(1000.0, 2000.0),), DAY_S)], early_s=EARLY_S),
    )
    assert (found.patients, found.patient_days, found.episodes, found.detected) == (3, 2.0, 2, 1)
    assert (found.onsets, found.false_alarms, found.patients_with_false_alarm) == (4, 3, 2)
    assert found.sensitivity.value == 0.5
    assert found.ppv.value == 0.25
    assert found.alarms_per_patient_day.value == 2.0
    assert found.false_alarms_per_patient_day.value == 1.5
    assert found.delay_median_min.value == found.delay_p90_min.value == 2.0
    assert found.time_in_alarm.value == pytest.approx(1020.0 / (2 * DAY_S))
    assert found.elevated_time_in_alarm.value == 400.0 / 2000.0
    assert found.other_time_in_alarm.value == pytest.approx(620.0 / (2 * DAY_S - 2000.0))


def test_chance_is_that_of_a_poisson_process():
    """Simulated: alarms at random moments over many days, and how many episodes they hit."""
    episodes = (Episode(10_000.0, 30_000.0), Episode(60_000.0, 61_000.0))
    chance = chance_of([(episodes, DAY_S), ((), DAY_S)], early_s=1000.0)
    rng = np.random.default_rng(0)
    detected = false = 0
    trials = 4000
    for _ in range(trials):
        for known in (episodes, ()):
            onsets = np.sort(rng.uniform(0, DAY_S, rng.poisson(3.0)))
            t = tally([Span(x, x) for x in onsets], known, duration_s=DAY_S, early_s=1000.0)
            detected, false = detected + t.detected, false + t.false_onsets
    assert chance.sensitivity(false / (2 * trials)) == pytest.approx(detected / (2 * trials), abs=0.015)
    assert chance.sensitivity(0.0) == 0.0
    assert chance_of([((), DAY_S)], early_s=0.0).sensitivity(1.0) is None


# --- intervals -------------------------------------------------------------------------------------


def test_a_resample_is_a_weighting_of_patients():
    weights = draw_weights(7, resamples=200, seed=1)
    assert weights.shape == (200, 7)
    assert (weights.sum(axis=1) == 7).all()
    above, below = np.array([1.0, 0, 2, 0, 0, 1, 0]), np.array([2.0, 1, 2, 0, 3, 1, 1])
    found = ratio(above, below, weights)
    drawn = [
        np.repeat(above, w).sum() / np.repeat(below, w).sum() for w in weights.astype(int) if (w @ below) > 0
    ]
    assert found.value == 0.4
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


@given(
    st.lists(st.lists(st.floats(-100, 100), max_size=4), min_size=1, max_size=6),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_quantiles_of_a_resample_are_numpys_of_the_repeated_values(values, q):
    weights = draw_weights(len(values), resamples=60, seed=0)
    found = quantile(values, weights, q)
    flat = [v for of_patient in values for v in of_patient]
    if not flat:
        assert found == Measured(None, None, None)
        return
    assert found.value == np.quantile(flat, q)
    drawn = []
    for w in weights.astype(int):
        repeated = [v for of_patient, n in zip(values, w, strict=True) for v in of_patient * n]
        drawn += [np.quantile(repeated, q)] if repeated else []
    low, high = np.quantile(drawn, [0.025, 0.975])
    if len(drawn) < 0.9 * len(weights) or low == high:
        assert found.low is found.high is None or math.isclose(found.low, found.high, abs_tol=1e-9)
    else:
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_none_or_all_have_an_exact_end():
    weights = draw_weights(10, resamples=100, seed=0)
    # Clopper and Pearson, 0 and 10 of 10: 0.3085 and 0.6915 (their tables; also R's binom.test).
    assert share([0] * 10, [3] * 10, weights).high == pytest.approx(0.3085, abs=5e-5)
    assert share([3] * 10, [3] * 10, weights).low == pytest.approx(0.6915, abs=5e-5)
    # Garwood, no event: 3.689 (R's poisson.test).
    assert rate([0] * 10, [0.5] * 10, weights) == Measured(0.0, 0.0, pytest.approx(3.6889 / 5.0, abs=1e-4))


def test_a_patient_without_an_episode_is_no_trial():
    weights = draw_weights(4, resamples=100, seed=0)
    assert share([0, 0, 0, 0], [1, 0, 0, 0], weights) == Measured(0.0, 0.0, pytest.approx(0.975))


def test_no_resamples_no_interval():
    none = draw_weights(3, resamples=100, seed=0)[:0]
    assert share([0, 0, 1], [1, 1, 1], none) == Measured(pytest.approx(1 / 3), None, None)
    assert rate([0, 0, 0], [1, 1, 1], none) == share([0, 0, 0], [1, 1, 1], none) == Measured(0.0, None, None)


def test_what_most_resamples_lack_has_no_interval():
    weights = draw_weights(2, resamples=200, seed=0)
    assert ratio([1, 0], [2, 0], weights) == Measured(0.5, None, None)
    assert quantile([[3.0], []], weights, 0.5) == Measured(3.0, None, None)
