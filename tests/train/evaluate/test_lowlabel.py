from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge_train.evaluate import lowlabel
from ecgedge_train.evaluate.chart import draw
from ecgedge_train.evaluate.lowlabel import Labelled, low_label_curve, nested_subset
from ecgedge_train.evaluate.metrics import macro_auroc, point
from ecgedge_train.evaluate.report import Report, read_rows, write_report
from ecgedge_train.evaluate.sections import few_labels


def labelled(n: int, seed: int, *, noise: float = 1.0) -> Labelled:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 20))
    y = np.stack([x[:, 0] - x[:, 1], x[:, 2] + x[:, 3]], axis=1) + noise * rng.normal(size=(n, 2)) > 0
    return Labelled(x, y.astype(np.float32), np.array([f"p{i // 2}" for i in range(n)], object))


@given(seed=st.integers(0, 1000), small=st.integers(1, 40), more=st.integers(0, 20))
def test_subsets_are_nested_and_take_patients_whole(seed, small, more):
    patients = np.random.default_rng(seed).integers(0, 15, 60)
    few, many = (nested_subset(patients, size, seed=seed) for size in (small, small + more))
    assert few.tolist() == many[:small].tolist()
    assert len(set(many.tolist())) == len(many) == small + more
    cut = [p for p in set(patients[many]) if (patients[many] == p).sum() < (patients == p).sum()]
    assert len(cut) <= 1


def test_more_labels_help_and_the_last_point_has_all():
    points = low_label_curve(
        labelled(800, 0), labelled(400, 1), labels=("A", "B"), sizes=(30, 200, 5000), resamples=50
    )
    assert [p.records for p in points] == [30, 200, 800]
    assert [len(p.draws) for p in points] == [5, 5, 1]
    values = [p.estimate.value for p in points]
    assert values == sorted(values)
    assert values[-1] - values[0] > 0.05
    for p in points:
        assert p.estimate.value == pytest.approx(np.mean(p.draws))
        assert p.estimate.low < p.estimate.value < p.estimate.high


def test_only_the_subset_pays_for_the_probe(monkeypatch):
    seen = []
    real = lowlabel.fit_linear_probe

    def watch(x, y, *, tune_embeddings, **options):
        seen.append((len(x), len(tune_embeddings)))
        return real(x, y, tune_embeddings=tune_embeddings, **options)

    monkeypatch.setattr(lowlabel, "fit_linear_probe", watch)
    low_label_curve(labelled(400, 0), labelled(60, 1), labels=("A", "B"), sizes=(100,), draws=2, resamples=5)
    assert seen == [(80, 20), (80, 20), (320, 80)]


def test_the_same_seed_gives_another_encoder_the_same_subsets():
    train, test = labelled(300, 0), labelled(100, 1)
    twice = Labelled(train.embeddings * 2, train.truth, train.patients)
    options = {"labels": ("A", "B"), "sizes": (100,), "resamples": 5}
    first = low_label_curve(train, test, **options)
    second = low_label_curve(twice, Labelled(test.embeddings * 2, test.truth, test.patients), **options)
    assert [p.draws for p in first] == [pytest.approx(p.draws, abs=1e-3) for p in second]


def test_intervals_resample_test_patients():
    train, test = labelled(300, 0), labelled(100, 1)
    copies = np.repeat(np.arange(100), 9)
    widths = []
    for whose in (copies, np.arange(900)):
        many = Labelled(test.embeddings[copies], test.truth[copies], whose)
        found = low_label_curve(train, many, labels=("A", "B"), sizes=(100,), draws=2, resamples=400)[
            0
        ].estimate
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(3.0, rel=0.25)


def test_the_full_point_separates_what_is_linear():
    train, test = labelled(2000, 0, noise=0.1), labelled(500, 1, noise=0.1)
    (found,) = low_label_curve(train, test, labels=("A", "B"), sizes=(), resamples=5)
    assert found.estimate.value > 0.98
    assert point(macro_auroc, test.truth, -test.truth) == 0.0


def test_a_test_split_with_one_outcome_only_still_gives_a_report(tmp_path):
    test = labelled(6, 1)
    test = Labelled(test.embeddings, np.zeros_like(test.truth), test.patients)
    curve = low_label_curve(labelled(60, 0), test, labels=("A", "B"), resamples=5)
    part = few_labels({"trained": curve}, "12")
    assert part.section.tables[0].rows == (("trained", 60.0, None, None, None, 1.0),)
    report = Report("t", False, "d", "0", "", (), (), sections=(part.section,), charts=part.charts)
    write_report(report, [draw(chart) for chart in part.charts], tmp_path)
    assert read_rows(tmp_path) == ()
