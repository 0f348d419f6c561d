from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from ecgedge.errors import RecordError
from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit
from ecgedge_train.evaluate.cinc import (
    SINUS_RHYTHM,
    CincWeights,
    cinc2021_score,
    cinc2021_terms,
    cinc_rows,
    read_weights,
)


@pytest.fixture
def case(oracles):
    return json.loads((oracles / "fairseq_signals.json").read_text())["cinc"]


def test_the_reference_code_gives_the_same_sums_and_score(case):
    labels, outputs, weights = (np.array(case[name]) for name in ("labels", "outputs", "weights"))
    sums = cinc2021_terms(labels, outputs, weights, 0).sum(axis=0)
    assert sums == pytest.approx(
        (case["observed"], case["correct"], case["inactive(class0 always)"]), abs=1e-12
    )
    assert cinc2021_score(labels, outputs, weights, 0) == pytest.approx(case["normalised"], abs=1e-12)


def looped(truth: np.ndarray, answer: np.ndarray, weights: np.ndarray) -> float:
    """The score's definition: every pair (true, answered) gets 1 / |true or answered|, times its weight."""
    total = 0.0
    for t, a in zip(truth, answer, strict=True):
        share = 1.0 / max((t | a).sum(), 1)
        total += sum(weights[j, k] * share for j in np.flatnonzero(t) for k in np.flatnonzero(a))
    return total


@given(seed=st.integers(0, 1000), n=st.integers(1, 20), c=st.integers(2, 6))
def test_the_score_is_that_of_the_definition_in_loops(seed, n, c):
    rng = np.random.default_rng(seed)
    truth, answer = rng.random((2, n, c)) < 0.4
    weights = np.eye(c) * 0.7 + 0.3 * rng.random((c, c))
    normal = np.zeros_like(truth)
    normal[:, c - 1] = True
    observed, correct, inactive = (looped(truth, a, weights) for a in (answer, truth, normal))
    expected = (observed - inactive) / (correct - inactive) if correct > inactive else np.nan
    if abs(correct - inactive) > 1e-9:
        assert cinc2021_score(truth, answer, weights, c - 1) == pytest.approx(
            expected, nan_ok=correct < inactive
        )
        assert cinc2021_score(truth, truth, weights, c - 1) == pytest.approx(1.0)
        assert cinc2021_score(truth, normal, weights, c - 1) == pytest.approx(0.0)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        cinc2021_score(np.ones((2, 3)), np.ones((2, 3)), np.eye(2), 0)


TABLE = f",164889003,{SINUS_RHYTHM},713427006|59118001\n"
ROWS = ("164889003,1,0.3,0.5", f"{SINUS_RHYTHM},0.2,1,0.4", "713427006|59118001,0.5,0.45,1")


def written(tmp_path, text: str):
    path = tmp_path / "weights.csv"
    path.write_text(text)
    return path


def test_the_published_table_is_read_with_its_joined_codes(tmp_path):
    found = read_weights(written(tmp_path, TABLE + "\n".join(ROWS) + "\n"))
    assert [found.position(code) for code in ("164889003", "713427006", "59118001", "1")] == [0, 2, 2, None]
    assert [found.position(name) for name in ("AF", "NSR", "CRBBB|RBBB", "STach")] == [0, 1, 2, None]
    assert found.rewards[0].tolist() == [1, 0.3, 0.5]


@pytest.mark.parametrize("text", ["", "a,b", TABLE + ROWS[0], TABLE + "\n".join(ROWS).replace("0.45", "x")])
def test_other_tables_are_refused(tmp_path, text):
    with pytest.raises(RecordError, match=r"weights\.csv"):
        read_weights(written(tmp_path, text))


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(RecordError, match="no table of weights"):
        read_weights(tmp_path / "weights.csv")


def binary(codes: tuple[str, ...], *, flip_test: bool = False) -> list[BinaryScores]:
    found = []
    for c, code in enumerate(codes):
        sides = []
        for seed in (1, 2):
            rng = np.random.default_rng((seed, c))
            truth = rng.random(300) < 0.4
            logit = rng.normal(3.0 * truth - 2.0, 1.0)
            shown = ~truth if flip_test and seed == 2 else truth
            sides.append(BinarySplit(shown, logit, expit(logit), np.arange(300)))
        found.append(BinaryScores("12", code, *sides))
    return found


WEIGHTS = CincWeights(
    (frozenset({"164889003"}), frozenset({SINUS_RHYTHM}), frozenset({"713427006", "59118001"})),
    np.array([[1, 0.3, 0.5], [0.2, 1, 0.4], [0.5, 0.45, 1]]),
)


def test_a_good_model_scores_between_always_normal_and_perfect():
    codes = ("164889003", SINUS_RHYTHM, "713427006", "59118001", "other")
    (row,) = cinc_rows(binary(codes), WEIGHTS, dataset="d", resamples=30)
    assert (row.metric, row.lead_set, row.baseline) == ("cinc2021_score", "12", 0.0)
    assert 0.4 < row.low < row.value < row.high < 1
    (wrong,) = cinc_rows(binary(codes, flip_test=True), WEIGHTS, dataset="d", resamples=30)
    assert wrong.value < 0.2


def test_the_score_needs_codes_and_normal_rhythm():
    with pytest.raises(RecordError, match="the classes are: MI"):
        cinc_rows(binary(("MI",)), WEIGHTS, dataset="d")
    with pytest.raises(RecordError, match="normal sinus rhythm"):
        cinc_rows(binary(("164889003",)), WEIGHTS, dataset="d")
