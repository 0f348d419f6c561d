"""The simulated patients' other pressures: a stream of their own, so nothing else changes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ecgedge.errors import UsageError
from ecgedge_train.cohorts import open_cohort
from ecgedge_train.cohorts.sim import haemodynamics, load_patient
from ecgedge_train.dataset import build_dataset, open_dataset

SMALL = {"patients": "12", "recordings": "2", "rate_hz": "250", "jobs": "1"}


def test_without_the_option_nothing_tells_that_it_exists():
    """What decides the content of a dataset (and so every hash of one built before) is as it was."""
    for options in ({"patients": "3"}, {"patients": "3", "haemodynamics": "0"}):
        cohort = open_cohort("sim", from_dir=None, options=options)
        assert dict(cohort.identity) == {"patients": "3", "seed": "1", "recordings": "4", "rate_hz": "500"}
        assert list(cohort.labels) == [
            "mpcwp_mmhg", "age", "sex", "rhythm", "ideal_mpcwp_mmhg", "ideal_p_gt_15", "ideal_p_gt_18"
        ]  # fmt: skip


def test_with_the_option_the_samples_and_the_other_labels_stay(tmp_path):
    without = build_dataset("sim", out=tmp_path / "a", options=SMALL)
    more = build_dataset("sim", out=tmp_path / "b", options={**SMALL, "haemodynamics": "1"})
    assert [s.sha256 for s in more.shards] == [s.sha256 for s in without.shards]
    old, new = open_dataset(tmp_path / "a").index, open_dataset(tmp_path / "b").index
    assert set(new) - set(old) == {"mpap_mmhg", "co_l_min", "pvr_wu", "site", "device"}
    for name, column in old.items():
        np.testing.assert_array_equal(new[name], column)
    assert "haemodynamics" not in json.loads((tmp_path / "a/build.json").read_text())["options"]
    assert more.sha256 != without.sha256


def test_off_is_the_default(tmp_path):
    info = build_dataset("sim", out=tmp_path / "a", options=SMALL)
    again = build_dataset("sim", out=tmp_path / "b", options={**SMALL, "haemodynamics": "0"})
    assert again == info
    for name in ("build.json", "dataset.json", "index.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_pressure_is_wedge_plus_resistance_times_output():
    units = open_cohort("sim", from_dir=None, options={"patients": "4", "haemodynamics": "1"}).units
    for unit in units:
        rows = [entry.labels for entry, _ in load_patient(unit)]
        for row in rows:
            implied = row["mpcwp_mmhg"] + row["pvr_wu"] * row["co_l_min"]
            assert row["mpap_mmhg"] == pytest.approx(implied, rel=1e-12)
        assert len({row["site"] for row in rows}) == 1


def test_the_population_is_that_of_a_catheter_laboratory():
    rng = np.random.default_rng(0)
    wedge = 3.0 + rng.gamma(2.19, 5.95, 4000)
    rows = [haemodynamics(seed, [mmhg])[0] for seed, mmhg in enumerate(wedge)]
    mpap, output, pvr = (np.array([r[name] for r in rows]) for name in ("mpap_mmhg", "co_l_min", "pvr_wu"))
    # Above 20 mmHg is pulmonary hypertension, above 2 Wood units its precapillary part (ESC/ERS 2022).
    assert 0.4 < (mpap > 20.0).mean() < 0.8
    assert 0.3 < (pvr > 2.0).mean() < 0.6
    assert np.percentile(output, 5) > 3.0
    assert np.percentile(output, 95) < 7.5
    assert np.corrcoef(wedge, mpap)[0, 1] > 0.7
    assert np.corrcoef(wedge, output)[0, 1] < -0.2
    assert abs(np.corrcoef(wedge, np.log(pvr))[0, 1]) < 0.05
    shares = {site: np.mean([r["site"] == site for r in rows]) for site in ("north", "south", "west")}
    assert shares == pytest.approx({"north": 0.5, "south": 0.3, "west": 0.2}, abs=0.03)
    assert {r["device"] for r in rows} == {"cart-a", "cart-b"}


def test_a_patient_is_the_same_every_time():
    assert haemodynamics(7, [12.0, 20.0]) == haemodynamics(7, [12.0, 20.0])
    assert haemodynamics(7, [12.0])[0] == haemodynamics(7, [12.0, 20.0])[0]
    assert haemodynamics(7, [12.0])[0]["pvr_wu"] != haemodynamics(8, [12.0])[0]["pvr_wu"]


def test_a_wrong_value_is_named():
    with pytest.raises(UsageError, match="haemodynamics is 0 or 1; seen: 'yes'"):
        open_cohort("sim", from_dir=None, options={"haemodynamics": "yes"})
