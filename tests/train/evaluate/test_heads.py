from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.evaluate import evaluate_pressure, sections
from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit
from ecgedge_train.evaluate.common import group_labels, group_names
from ecgedge_train.evaluate.metrics import auroc, point

SHARP = LeadSetCalibration((1.0, 0.0), (1.0, 0.0), 4.0, 0.9, 12)


@dataclass(frozen=True)
class More:
    """The simulated dataset with further label columns."""

    base: object
    info: object
    index: dict

    def __getattr__(self, name):
        return getattr(self.base, name)

    def labels(self, names, rows):
        return np.stack([self.index[n][rows] for n in names], axis=1).astype(np.float32)


@pytest.fixture
def more(simulated):
    mpap = (simulated.index["mpcwp_mmhg"] + 8).astype(np.float32)
    mpap[::5] = np.nan
    columns = {**simulated.index, "mpap_mmhg": mpap, "pvr_wu": np.full(len(mpap), 2.0, np.float32)}
    labels = {**simulated.info.labels, "mpap_mmhg": "float", "pvr_wu": "float"}
    return More(simulated, replace(simulated.info, labels=labels), columns)


def predictor(data, error_mmhg: float):
    def predict(rows, lead_set):
        mmhg = data.labels(("mpcwp_mmhg",), rows)[:, 0]
        hidden = np.random.default_rng(0).normal(size=len(rows))
        return {
            "embedding": mmhg[:, None],
            "mpcwp_mmhg": mmhg,
            "logit_gt_15": mmhg - 15,
            "logit_gt_18": mmhg - 18,
            "mpap_mmhg": mmhg + 8 + error_mmhg,
            "logit_mpap_mmhg_gt_20": mmhg - 12 + 10 * hidden,
            "logit_pvr_wu_gt_3": np.full(len(rows), -9.0),
            "logit_unknown_gt_4": hidden,
        }

    return predict


def test_further_outputs_are_scored_where_their_truth_is_known(more):
    found = evaluate_pressure(
        more, predictor(more, 2.5), lead_sets=("12",), calibration={"12": SHARP}, resamples=20
    )
    rows = {row.metric: row for row in found.rows}
    test, train = (more.select(split=s) for s in ("test", "train"))
    truth = more.index["mpap_mmhg"][test].astype(float)
    known = ~np.isnan(truth)
    assert rows["rmse_mpap_mmhg"].value == pytest.approx(2.5, abs=1e-5)
    assert rows["rmse_mpap_mmhg"].baseline == pytest.approx(
        np.sqrt(np.mean((truth[known] - np.nanmean(more.index["mpap_mmhg"][train])) ** 2)), rel=1e-5
    )
    logit = predictor(more, 2.5)(test, "12")["logit_mpap_mmhg_gt_20"]
    assert rows["auroc_mpap_mmhg_gt_20"].value == point(auroc, truth[known] > 20, logit[known])
    assert not any("unknown" in name for name in rows)
    assert "auroc_pvr_wu_gt_3" not in rows  # one outcome only


def test_contradicting_answers_are_told_apart(more):
    found = evaluate_pressure(
        more, predictor(more, 0.0), lead_sets=("12",), calibration={"12": SHARP}, resamples=20
    )
    rows = {row.metric: row for row in found.rows if "unreliable" in row.metric}
    test = more.select(split="test")
    outputs = predictor(more, 0.0)(test, "12")
    p_mpap, p_mpcwp, p_pvr = (
        1 / (1 + np.exp(-outputs[name].astype(float)))
        for name in ("logit_mpap_mmhg_gt_20", "logit_gt_15", "logit_pvr_wu_gt_3")
    )
    # p(PH) = p1 + p2 - p1 p2, U = |p(mPAP) - p(PH)|.
    u = np.abs(p_mpap - (p_mpcwp + p_pvr - p_mpcwp * p_pvr))
    order, tenth = np.argsort(u), int(np.ceil(0.1 * len(u)))
    expected = {}
    for name, chosen in (("least", order[:tenth]), ("most", order[-tenth:])):
        above = outputs["mpcwp_mmhg"][chosen] > 15
        if above.any() and not above.all():
            expected[f"auroc_gt_15 | {name} unreliable 10 %"] = point(auroc, above, p_mpcwp[chosen])
    assert {name: row.value for name, row in rows.items()} == pytest.approx(expected)
    assert expected


def test_devices_and_sites_are_groups_and_unknown_ones_are_not(more):
    n = len(more.index["patient_id"])
    device = np.array(["CS-12", "", "AT-6 C", None], object)[np.arange(n) % 4]
    site = np.array([1.0, np.nan], np.float32)[np.arange(n) % 2]
    more.index.update(device=device, site=site)
    found = group_labels(more, np.arange(n))
    assert list(found) == ["sex", "age", "device", "site"]
    assert group_names(found["device"]) == ["device=AT-6 C", "device=CS-12"]
    assert group_names(found["site"]) == ["site=1"]
    assert (found["device"][1::4] == "").all()
    rows = evaluate_pressure(
        more, predictor(more, 0.0), lead_sets=("12",), calibration={"12": SHARP}, resamples=5
    ).rows
    assert "rmse_mmhg | site=1" in {row.metric for row in rows}


def test_of_many_classes_only_the_commonest_are_drawn():
    rng = np.random.default_rng(0)
    binary = []
    for c in range(12):
        p = rng.random(100)
        side = BinarySplit(np.arange(100) < 5 * c, p, p, np.arange(100))
        binary.append(BinaryScores("12", f"C{c:02d}", side, side))
    roc, pr = sections.discrimination(None, binary, "12").charts
    drawn = {series.name.split(":")[0] for series in roc.series if series.name}
    assert drawn == {f"C{c:02d}" for c in range(4, 12)}
    assert len(pr.series) == 8
    part = sections.operating(binary, "12", pressure=False, resamples=5)
    assert len(part.charts) == 8
    assert {row[1] for row in part.section.tables[0].rows} == {f"C{c:02d}" for c in range(12)}
