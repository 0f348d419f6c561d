from __future__ import annotations

import ast
import csv
import math
from collections import Counter
from pathlib import Path

import needs
import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import RecordError, UsageError
from ecgedge.signal import condition
from ecgedge.sim import ideal_observer, simulate_patient_recordings
from ecgedge_train.cohorts import open_cohort
from ecgedge_train.cohorts.ptbxl import class_labels, superclasses
from ecgedge_train.cohorts.sim import split_of_patient
from ecgedge_train.cohorts.wfdb16 import parse_header, read_record
from ecgedge_train.dataset import build_dataset, open_dataset


def test_superclasses_of_the_real_table(ecg_data):
    table = superclasses(ecg_data / "ptbxl/scp_statements.csv")
    # Wagner 2020, table 3: 44 diagnostic statements in five superclasses.
    assert len(table) == 44
    assert Counter(table.values()) == {"MI": 14, "STTC": 13, "CD": 11, "HYP": 5, "NORM": 1}


def test_a_statement_counts_whatever_its_likelihood(ecg_data):
    table = superclasses(ecg_data / "ptbxl/scp_statements.csv")
    found = class_labels("{'IMI': 0.0, 'ABQRS': 0.0, 'LVH': 50.0, 'SR': 0.0}", table)
    assert found == {"NORM": 0.0, "MI": 1.0, "STTC": 0.0, "CD": 0.0, "HYP": 1.0}
    assert all(math.isnan(v) for v in class_labels("{'SR': 0.0, 'PVC': 100.0}", table).values())


def test_scp_codes_are_not_executed(ecg_data):
    with pytest.raises(ValueError, match="malformed"):
        class_labels("__import__('os').getcwd()", {})


def test_real_class_counts_match_a_count_with_csv_alone(ecg_data):
    cohort = open_cohort("ptbxl", from_dir=ecg_data / "ptbxl", options={})
    with (ecg_data / "ptbxl/ptbxl_database.csv").open(newline="") as file:
        infarcts = sum(
            any(code.endswith("MI") or code in ("INJAS", "INJAL", "INJIN", "INJLA", "INJIL")
                for code in ast.literal_eval(row["scp_codes"]))
            for row in csv.DictReader(file)
        )  # fmt: skip
    assert sum(u.entry.labels["MI"] == 1.0 for u in cohort.units) == infarcts
    assert len(cohort.units) == 1561


def test_age_above_89_and_unknown_age(ptbxl_folder, edit_table):
    edit_table(2, "age", "")
    units = open_cohort("ptbxl", from_dir=ptbxl_folder, options={}).units
    assert units[0].entry.labels["age"] == 90.0
    assert math.isnan(units[1].entry.labels["age"])


def test_the_published_split_can_be_had(ptbxl_folder):
    options = {"tune": "9", "test": "10", "holdout": ""}
    units = open_cohort("ptbxl", from_dir=ptbxl_folder, options=options).units
    assert {(u.entry.fold, u.entry.split) for u in units if u.entry.split != "train"} == {
        (9, "tune"),
        (10, "test"),
    }


def test_missing_files_are_refused_or_skipped(ptbxl_folder):
    (ptbxl_folder / "records100/00000/00003_lr.hea").unlink()
    with pytest.raises(RecordError, match=r"1 of 30 records .* rate=100.*missing=skip"):
        open_cohort("ptbxl", from_dir=ptbxl_folder, options={})
    assert len(open_cohort("ptbxl", from_dir=ptbxl_folder, options={"missing": "skip"}).units) == 29


def test_best_takes_500_hz_where_it_is(ecg_data):
    units = open_cohort("ptbxl", from_dir=ecg_data / "ptbxl", options={"rate": "best"}).units
    assert sum("_hr" in u.header.name for u in units) == 380
    assert len(units) == 1561


def test_a_folder_that_is_not_ptbxl(tmp_path):
    with pytest.raises(RecordError, match="--from must name the folder of PTB-XL"):
        open_cohort("ptbxl", from_dir=tmp_path, options={})
    with pytest.raises(UsageError, match="--from DIR"):
        open_cohort("ptbxl", from_dir=None, options={})


@pytest.mark.parametrize("name", ["records100/00000/00017_lr", "records500/00000/00001_hr"])
def test_the_fast_reader_agrees_with_wfdb(ecg_data, name):
    wfdb = needs.wfdb()
    theirs = wfdb.rdrecord(str(ecg_data / "ptbxl" / name))
    ours = read_record(ecg_data / "ptbxl" / f"{name}.hea")
    assert parse_header((ecg_data / "ptbxl" / f"{name}.hea").read_text()) is not None
    assert [lead.upper() for lead in ours.leads] == theirs.sig_name
    assert ours.rate_hz == theirs.fs
    np.testing.assert_array_equal(ours.samples_mv, theirs.p_signal.T.astype(np.float32))


def test_the_fast_reader_marks_samples_that_were_not_recorded(tmp_path, write_record):
    wfdb = needs.wfdb()
    signal = np.tile(np.linspace(-1, 1, 100)[:, None], (1, 2))
    signal[40:50, 1] = np.nan
    write_record(tmp_path / "a", signal, 250, ["V1", "II"], gain=200, zero=7)
    ours = read_record(tmp_path / "a.hea")
    theirs = wfdb.rdrecord(str(tmp_path / "a")).p_signal
    assert ours.leads == ("II", "V1")
    np.testing.assert_allclose(ours.samples_mv, theirs.T[::-1], rtol=1e-6)
    assert np.isnan(ours.samples_mv[0, 40:50]).all()


@pytest.mark.parametrize(
    "line",
    [
        "a.dat 212 200/mV 12 0 0 0 0 I",
        "a.dat 16x2 200/mV 12 0 0 0 0 I",
        "a.dat 16:3 200/mV 12 0 0 0 0 I",
        "a.dat 16+24 200/mV 12 0 0 0 0 I",
        "a.dat 16 200/mmHg 12 0 0 0 0 I",
        "a.dat 16 200/mV 12 0 0 0 0 ABP",
        "a.dat 16 0/mV 12 0 0 0 0 I",
        "a.dat 16",
    ],
)
def test_what_is_not_plain_goes_to_the_general_reader(line):
    assert parse_header(f"a 1 250 1000\n{line}\n") is None


def test_baseline_falls_back_to_adc_zero():
    header = parse_header("# comment\na 1 250 1000\na.dat 16 200/mV 12 5 0 0 0 MLII\n")
    assert header is not None
    assert (header.baseline.tolist(), header.gain.tolist(), header.leads) == ([5.0], [200.0], ("II",))


def test_simulated_patients_split_six_two_two():
    counts = Counter(split_of_patient(n) for n in range(100))
    assert counts == {"train": 60, "tune": 20, "test": 20}
    with pytest.raises(UsageError, match="reads no folder"):
        open_cohort("sim", from_dir=Path("x"), options={})


def test_simulated_rows_carry_the_truth_and_the_settled_end_of_the_recording(tmp_path):
    options = {
        "patients": "11",
        "recordings": "2",
        "seed": "3",
        "rate_hz": "250",
        "jobs": "1",
        "shard_rows": "6",
    }
    info = build_dataset("sim", out=tmp_path / "d", options=options)
    data = open_dataset(tmp_path / "d")
    assert info.simulated
    assert "SIMULATED" in info.attribution
    assert [s.rows for s in info.shards] == [6, 6, 6, 4]
    # Patient number 8 of seed 3; its last digit makes it a test patient.
    (_, _), (recording, label) = simulate_patient_recordings(
        30_000_008, rate_hz=250.0, recordings=2, duration_s=12.0
    )
    row = list(data.index["record_id"]).index("sim000008-1")
    assert data.index["split"][row] == "test"
    assert data.index["mpcwp_mmhg"][row] == np.float32(label.mpcwp_mmhg)
    assert (data.index["sex"][row], data.index["age"][row]) == (label.sex, label.age)
    counts = condition(recording, FrontEndSpec()).counts
    assert counts.shape == (12, 3000)
    assert np.array_equal(data.gather([row], np.int16)[0], counts[:, 500:])
    ideal = ideal_observer(label.traits, label.correlates)
    assert data.index["ideal_p_gt_18"][row] == np.float32(ideal.p_gt_18)


def test_a_larger_simulated_cohort_begins_with_the_smaller_one():
    small, large = (open_cohort("sim", from_dir=None, options={"patients": n}).units for n in ("3", "9"))
    assert large[:3] == small
    other = open_cohort("sim", from_dir=None, options={"patients": "3", "seed": "2"}).units
    assert not {u.seed for u in other} & {u.seed for u in large}


def test_an_unusual_header_is_read_by_the_general_reader(tmp_path, ecg_data):
    wfdb = needs.wfdb()
    source = ecg_data / "long_2lead"
    header = next(path for path in sorted(source.rglob("*.hea")) if parse_header(path.read_text()) is None)
    theirs = wfdb.rdrecord(str(header.with_suffix("")), sampto=1000)
    ours = read_record(header)
    assert ours.rate_hz == theirs.fs
    assert len(ours.leads) >= 1
