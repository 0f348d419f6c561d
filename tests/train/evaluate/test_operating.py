from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_curve

from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit, pr_points, reliability, roc_points
from ecgedge_train.evaluate.operating import alert_figures, operating_points, threshold_at_sensitivity


def split(n: int, seed: int) -> BinarySplit:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    logit = rng.normal(truth * 1.5, 1.0)
    return BinarySplit(truth, logit, 1 / (1 + np.exp(-logit)), np.arange(n) // 2)


def scores(**changed: object) -> BinaryScores:
    found = BinaryScores("12", "gt_18", split(200, 1), split(300, 2))
    return replace(found, **changed)


@given(seed=st.integers(0, 500), n=st.integers(2, 80), wanted=st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_the_threshold_is_the_highest_on_sklearns_curve_that_reaches_the_sensitivity(seed, n, wanted):
    rng = np.random.default_rng(seed)
    truth, score = np.r_[True, False, rng.random(n) < 0.4], np.round(rng.random(n + 2), 1)
    _, hits, thresholds = roc_curve(truth, score, drop_intermediate=False)
    assert (
        threshold_at_sensitivity(truth, score, wanted)
        == thresholds[np.flatnonzero(hits >= wanted - 1e-12)[0]]
    )


def test_without_a_positive_there_is_no_threshold():
    assert threshold_at_sensitivity(np.zeros(4, bool), np.arange(4.0), 0.8) is None


@given(seed=st.integers(0, 500), n=st.integers(1, 60))
def test_alert_figures_agree_with_sklearns_weighted_confusion_matrix(seed, n):
    rng = np.random.default_rng(seed)
    truth, called = (
        np.r_[True, True, False, False, rng.random(n) < 0.4],
        np.r_[1, 0, 1, 0, rng.random(n) < 0.5] > 0,
    )
    weights = rng.integers(0, 4, (2, n + 4)) + np.r_[np.ones(4), np.zeros(n)]
    for found, weight in zip(alert_figures(truth, called, weights), weights, strict=True):
        (tn, fp), (fn, tp) = confusion_matrix(truth, called, sample_weight=weight)
        expected = (
            tp / (tp + fn),
            tn / (tn + fp),
            tp / (tp + fp),
            tn / (tn + fn),
            100 * (tp + fp) / weight.sum(),
        )
        assert found == pytest.approx(expected)


def test_what_is_never_called_has_no_predictive_value():
    figures = alert_figures(np.array([True, False]), np.zeros(2, bool), np.ones((1, 2)))[0]
    np.testing.assert_equal(figures, [0.0, 1.0, np.nan, 0.5, 0.0])


def test_thresholds_do_not_see_the_test_labels():
    plain = scores()
    rng = np.random.default_rng(0)
    shuffled = scores(test=replace(plain.test, truth=rng.permutation(plain.test.truth)))
    before, after = (operating_points(s, resamples=10) for s in (plain, shuffled))
    assert [p.threshold for p in before] == [p.threshold for p in after]
    assert [p.sensitivity.value for p in before] != [p.sensitivity.value for p in after]
    other_tune = operating_points(scores(tune=split(200, 9)), resamples=10)
    assert other_tune[-1].threshold != before[-1].threshold


def test_the_points_are_scored_at_their_thresholds():
    found = {p.rule: p for p in operating_points(scores(), fixed=(0.5,), sensitivities=(0.9,), resamples=10)}
    test, tune = scores().test, scores().tune
    assert found["p >= 0.5"].sensitivity.value == np.mean(test.p[test.truth] >= 0.5)
    reached = found["sensitivity 0.9 on tune"]
    assert np.mean(tune.p[tune.truth] >= reached.threshold) >= 0.9
    assert reached.alerts_per_100.value == pytest.approx(100 * np.mean(test.p >= reached.threshold))


@given(seed=st.integers(0, 500), levels=st.sampled_from([2, 10, 10**6]))
def test_the_roc_has_the_corners_of_sklearns(seed, levels):
    rng = np.random.default_rng(seed)
    truth, score = np.r_[True, False, rng.random(40) < 0.5], np.round(rng.random(42) * levels) / levels
    alarms, hits, _ = roc_curve(truth, score, drop_intermediate=False)
    x, y = roc_points(truth, score)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(np.trapezoid(hits, alarms))
    assert {(round(a, 9), round(b, 9)) for a, b in zip(x, y, strict=True)} <= {
        (round(a, 9), round(b, 9)) for a, b in zip(alarms, hits, strict=True)
    }


def test_precision_and_recall_by_hand():
    recall, precision = pr_points(np.array([1, 0, 1, 0]), np.array([0.9, 0.6, 0.3, 0.3]))
    assert recall.tolist() == [0.5, 0.5, 1.0]
    assert precision.tolist() == [1.0, 0.5, 0.5]


def test_the_calibration_curve_counts_what_it_shows_and_resamples_patients():
    test = split(400, 3)
    found = reliability(test.truth, test.p, test.patients, min_records=20, resamples=200)
    for b in found:
        inside = np.floor(test.p * 10) == np.floor(b.predicted * 10)
        assert inside.sum() >= 20
        assert b.observed.value == pytest.approx(test.truth[inside].mean())
        assert b.share == pytest.approx(inside.mean())
    assert reliability(test.truth[:5], test.p[:5], test.patients[:5]) == ()
    copies = np.repeat(np.arange(400), 4)
    by_patient = reliability(test.truth[copies], test.p[copies], copies, resamples=300)
    by_record = reliability(test.truth[copies], test.p[copies], np.arange(1600), resamples=300)
    for wide, narrow in zip(by_patient, by_record, strict=True):
        assert wide.observed.high - wide.observed.low > 1.4 * (narrow.observed.high - narrow.observed.low)
