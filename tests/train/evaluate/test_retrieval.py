from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.pairwise import cosine_similarity

from ecgedge_train.evaluate.embedding import embedding_figures
from ecgedge_train.evaluate.metrics import point
from ecgedge_train.evaluate.retrieval import (
    class_recall,
    class_recall_chance,
    identification_top1,
    kmeans_clusters,
    nmi,
    project_2d,
    same_patient_top1,
)

CASES = {"seed": st.integers(0, 1000), "n": st.integers(6, 40)}


def made(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, max(2, n // 3), n)
    return rng.normal(size=(n, 5)), rng.integers(0, 3, n), np.array([f"p{p}" for p in patients], object)


@given(**CASES)
def test_recall_is_that_of_a_loop_over_other_patients(seed, n):
    x, category, patients = made(seed, n)
    near = cosine_similarity(x)
    found = class_recall(x, category, patients, (1, 3))
    for i in range(n):
        others = sorted((j for j in range(n) if patients[j] != patients[i]), key=lambda j: -near[i, j])
        for column, k in enumerate((1, 3)):
            if len(others) < k:
                assert np.isnan(found[i, column])
            else:
                assert found[i, column] == any(category[j] == category[i] for j in others[:k])


@given(**CASES)
def test_chance_of_recall_is_counted_exactly(seed, n):
    _, category, patients = made(seed, n)
    each = []
    for i in range(n):
        others = [j for j in range(n) if patients[j] != patients[i]]
        different = sum(category[j] != category[i] for j in others)
        if len(others) >= 3:
            each.append(1 - comb(different, 3) / comb(len(others), 3))
    expected = np.mean(each) if each else np.nan
    assert class_recall_chance(category, patients, 3) == pytest.approx(expected, nan_ok=True)


@given(**CASES)
def test_patients_are_found_as_by_a_loop(seed, n):
    x, _, patients = made(seed, n)
    near = cosine_similarity(x)
    hits, chance = same_patient_top1(x, patients)
    named, gallery_chance = identification_top1(x, patients)
    first = {p: i for i, p in reversed(list(enumerate(patients)))}
    for i in range(n):
        mates = (patients == patients[i]).sum() - 1
        best = max((j for j in range(n) if j != i), key=lambda j: near[i, j])
        assert np.isnan(hits[i]) if mates == 0 else hits[i] == (patients[best] == patients[i])
        if i == first[patients[i]]:
            assert np.isnan(named[i])
        else:
            assert named[i] == (max(first, key=lambda p: near[i, first[p]]) == patients[i])
    assert gallery_chance == 1 / len(first)
    several = [(c - 1) / (n - 1) for p in patients if (c := (patients == p).sum()) > 1]
    assert chance == pytest.approx(np.mean(several) if several else np.nan, nan_ok=True)


@given(**CASES)
def test_nmi_is_that_of_sklearn_with_weights_as_copies(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, n), rng.integers(0, 4, n)
    a[:2] = b[:2] = (0, 1)
    counts = rng.integers(1, 4, n)
    assert point(nmi, a, b) == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-9)
    assert nmi(a, b, counts[None].astype(float))[0] == pytest.approx(
        normalized_mutual_info_score(np.repeat(a, counts), np.repeat(b, counts)), abs=1e-9
    )


def test_clusters_that_lie_apart_are_found():
    rng = np.random.default_rng(0)
    category = np.arange(90) % 3
    x = np.eye(3)[category] * 5 + rng.normal(0, 0.3, (90, 3))
    assert point(nmi, category, kmeans_clusters(x, 3)) == pytest.approx(1.0)


def test_the_picture_is_sklearns_up_to_signs():
    x = np.random.default_rng(1).normal(size=(50, 6)) * np.arange(1, 7)
    np.testing.assert_allclose(np.abs(project_2d(x)), np.abs(PCA(2).fit_transform(x)), atol=1e-9)
    np.testing.assert_array_equal(project_2d(x), project_2d(x.copy()))


@settings(max_examples=5)
@given(seed=st.integers(0, 100))
def test_an_embedding_that_knows_the_patient_is_found_out(seed):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(40), 3)
    x = rng.normal(size=(40, 16))[patients] + rng.normal(0, 0.05, (120, 16))
    found = embedding_figures(x, np.arange(120) % 2, patients, resamples=20)
    assert found.estimates["same patient, top 1"].value == 1.0
    assert found.estimates["identification, top 1"].value == 1.0
    assert found.chance["identification, top 1"] == 1 / 40
    recall = found.estimates["recall@1"]
    # What each patient's own records would answer is left out, so patients alone say nothing of the category.
    assert abs(recall.value - found.chance["recall@1"]) < 0.25


def test_intervals_of_retrieval_resample_patients():
    rng = np.random.default_rng(0)
    x, category = rng.normal(size=(80, 4)), rng.integers(0, 2, 80)
    copies = np.repeat(np.arange(80), 9)
    figures = [
        embedding_figures(x[copies], category[copies], whose, resamples=300).estimates["recall@1"]
        for whose in (copies, np.arange(720))
    ]
    assert figures[0].high - figures[0].low > 0.15
    assert (figures[1].value, figures[1].high) == (1.0, 1.0)  # copies under other names answer for each other


def test_the_interval_of_the_nmi_holds_its_value():
    rng = np.random.default_rng(0)
    nmi_row = embedding_figures(
        rng.normal(size=(120, 4)), rng.integers(0, 4, 120), np.arange(120), resamples=200
    )
    found = nmi_row.estimates["NMI of k-means"]
    assert 0 <= found.low <= found.value <= found.high
