from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecgedge.errors import RecordError
from ecgedge.leads import parse_lead_set
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate import ClassTask, evaluate_classes, evaluate_pressure
from ecgedge_train.evaluate.metrics import auroc, point

SHARP = LeadSetCalibration(
    platt_15=(1.0, 0.0),
    platt_18=(1.0, 0.0),
    interval_halfwidth_mmhg=4.0,
    interval_coverage=0.9,
    n_patients=12,
)


def oracle(data: EcgDataset, error_mmhg: float):
    """A model that knows the pressure up to a fixed error, alternating in sign."""

    def predict(rows, lead_set):
        mmhg = data.labels(("mpcwp_mmhg",), rows)[:, 0] + error_mmhg * (-1.0) ** np.arange(len(rows))
        logits = {f"logit_gt_{cut}": mmhg - cut for cut in (15, 18)}
        return {"embedding": mmhg[:, None], "mpcwp_mmhg": mmhg, **logits}

    return predict


def rows_by_name(found, lead_set="12"):
    return {row.metric: row for row in found.rows if row.lead_set == lead_set}


def test_a_model_with_a_known_error_gets_known_figures(simulated):
    found = evaluate_pressure(
        simulated,
        oracle(simulated, 3.0),
        lead_sets=("12", "I"),
        calibration={"12": SHARP, "I": SHARP},
        resamples=50,
    )
    rows = rows_by_name(found)
    assert rows["rmse_mmhg"].value == pytest.approx(3.0, abs=1e-5)
    assert rows["mae_mmhg"].value == pytest.approx(3.0, abs=1e-5)
    assert rows["bias_mmhg"].value == pytest.approx(0.0, abs=1e-5)
    assert rows["interval_coverage"].value == 1.0
    assert rows["interval_coverage"].baseline == 0.9
    assert rows["rmse_mmhg"].patients == 12
    assert rows["rmse_mmhg"].low == pytest.approx(3.0, abs=1e-5)


def test_baselines_are_the_training_mean_and_the_prevalence(simulated):
    found = evaluate_pressure(
        simulated, oracle(simulated, 3.0), lead_sets=("12",), calibration={"12": SHARP}, resamples=20
    )
    rows = rows_by_name(found)
    mmhg = simulated.index["mpcwp_mmhg"].astype(np.float64)
    train, test = (mmhg[simulated.select(split=s)] for s in ("train", "test"))
    assert rows["rmse_mmhg"].baseline == pytest.approx(np.sqrt(np.mean((test - train.mean()) ** 2)))
    assert rows["auprc_gt_18"].baseline == pytest.approx(np.mean(test > 18))


def test_a_perfect_model_and_an_interval_that_misses(simulated):
    narrow = replace(SHARP, interval_halfwidth_mmhg=0.5)
    perfect = evaluate_pressure(
        simulated, oracle(simulated, 0.0), lead_sets=("12",), calibration={"12": narrow}, resamples=20
    )
    missing = evaluate_pressure(
        simulated, oracle(simulated, 3.0), lead_sets=("12",), calibration={"12": narrow}, resamples=20
    )
    assert rows_by_name(perfect)["auroc_gt_15"].value == 1.0
    assert rows_by_name(perfect)["auprc_gt_18"].value == 1.0
    assert rows_by_name(perfect)["pearson_r"].value == pytest.approx(1.0)
    assert rows_by_name(missing)["interval_coverage"].value == 0.0


def test_the_ideal_observer_bounds_every_lead_set_alike(simulated):
    sets = ("12", "I,II", "I,II,V1")
    found = evaluate_pressure(
        simulated,
        oracle(simulated, 3.0),
        lead_sets=sets,
        calibration=dict.fromkeys(sets, SHARP),
        resamples=20,
    )
    test = simulated.select(split="test")
    above = simulated.index["mpcwp_mmhg"][test] > 18
    for lead_set in sets:
        expected = point(auroc, above, simulated.index["ideal_p_gt_18"][test])
        assert rows_by_name(found, lead_set)["ideal_auroc_gt_18"].value == pytest.approx(expected)


def test_no_interval_row_without_a_calibrated_interval(simulated):
    none = replace(SHARP, interval_halfwidth_mmhg=None)
    found = evaluate_pressure(
        simulated, oracle(simulated, 1.0), lead_sets=("12",), calibration={"12": none}, resamples=20
    )
    assert not any("interval" in row.metric for row in found.rows)


def test_platt_scaling_is_applied(simulated):
    steep = replace(SHARP, platt_18=(100.0, 0.0))
    found = evaluate_pressure(
        simulated, oracle(simulated, 0.0), lead_sets=("12",), calibration={"12": steep}, resamples=20
    )
    assert rows_by_name(found)["ece_gt_18"].value < 0.01
    plain = evaluate_pressure(
        simulated, oracle(simulated, 0.0), lead_sets=("12",), calibration={"12": SHARP}, resamples=20
    )
    assert rows_by_name(plain)["ece_gt_18"].value > 0.01


def test_subgroups_of_ten_patients_or_more_are_reported(simulated):
    found = evaluate_pressure(
        simulated, oracle(simulated, 3.0), lead_sets=("12",), calibration={"12": SHARP}, resamples=20
    )
    test = simulated.select(split="test")
    patients = simulated.index["patient_id"][test]
    age, sex = simulated.index["age"][test], simulated.index["sex"][test]
    groups = {f"sex={name}": sex == name for name in ("female", "male")}
    groups |= {f"age={a}-{b}": (age >= a) & (age < b) for a, b in ((18, 35), (35, 50), (50, 75))}
    groups["age>=75"] = age >= 75
    large = {name for name, mask in groups.items() if len(set(patients[mask])) >= 10}
    seen = {row.metric.split(" | ")[1] for row in found.rows if row.metric.startswith("rmse_mmhg |")}
    assert seen == large


def features(data: EcgDataset):
    """An "encoder" that gives log RMS and mean |slope| of each measured lead."""

    def predict(rows, lead_set):
        leads = [i for i, lead in enumerate(("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"))
                 if lead in parse_lead_set(lead_set)]  # fmt: skip
        x = data.gather(rows)[:, leads]
        return {"embedding": np.concatenate([np.log(x.std(axis=2)), np.abs(np.diff(x)).mean(axis=2)], axis=1)}

    return predict


def noise(rows, lead_set):
    return {"embedding": np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)}


def class_task(data: EcgDataset) -> ClassTask:
    return ClassTask(data.info.classes, data.labels(data.info.classes, data.select()))


def test_a_probe_reads_classes_out_of_real_ecgs_and_noise_does_not(ptbxl):
    found = evaluate_classes(
        ptbxl, features(ptbxl), class_task(ptbxl), lead_sets=("12", "I"), untrained=noise, resamples=50
    )
    row = rows_by_name(found)["macro_auroc"]
    assert row.value > 0.6 > row.baseline
    assert row.low < row.value < row.high
    assert set(found.probes) == {"12", "I"}
    assert found.probes["I"].weight.shape == (5, 2)
    per_class = [rows_by_name(found)[f"auroc_{c}"].value for c in ptbxl.info.classes]
    assert row.value == pytest.approx(np.mean(per_class))


def test_the_test_split_never_reaches_the_fit(ptbxl):
    seen = []

    def watch(rows, lead_set):
        seen.append(rows)
        return features(ptbxl)(rows, lead_set)

    task = class_task(ptbxl)
    shuffled = task.truth.copy()
    test = ptbxl.select(split="test")
    shuffled[test] = 1 - shuffled[test]
    first = evaluate_classes(ptbxl, watch, task, lead_sets=("12",), resamples=5)
    second = evaluate_classes(ptbxl, watch, ClassTask(task.labels, shuffled), lead_sets=("12",), resamples=5)
    np.testing.assert_array_equal(first.probes["12"].weight, second.probes["12"].weight)
    before, after = (rows_by_name(f)["macro_auroc"].value for f in (first, second))
    assert before == pytest.approx(1 - after)
    assert all(len(np.unique(ptbxl.index["split"][rows])) == 1 for rows in seen)


def test_the_models_own_head_is_scored_by_label_name(ptbxl):
    task = class_task(ptbxl)

    def predict(rows, lead_set):
        logits = np.stack([task.truth[rows, 1], 1 - task.truth[rows, 0]], axis=1)
        return {**features(ptbxl)(rows, lead_set), "class_logits": logits}

    rows = rows_by_name(
        evaluate_classes(ptbxl, predict, task, lead_sets=("12",), head_labels=("MI", "NORM"), resamples=5)
    )
    assert (rows["head_auroc_MI"].value, rows["head_auroc_NORM"].value) == (1.0, 0.0)


def test_a_test_split_without_labels_is_refused(ptbxl):
    nothing = ClassTask(("A",), np.full((len(ptbxl), 1), np.nan, np.float32))
    with pytest.raises(RecordError, match="no labelled record in the test split"):
        evaluate_classes(ptbxl, features(ptbxl), nothing, lead_sets=("12",))
