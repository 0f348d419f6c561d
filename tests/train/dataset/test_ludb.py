from __future__ import annotations

import csv
import hashlib
import math
import shutil
from collections import Counter

import needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS, order_leads
from ecgedge.signal import condition
from ecgedge_train import cohorts
from ecgedge_train.cohorts.brugada import open_brugada
from ecgedge_train.cohorts.ludb import STATEMENTS, class_labels, open_ludb
from ecgedge_train.cohorts.split import FOLDS, fold_of_patient, split_of_fold
from ecgedge_train.cohorts.tables import age_years, read_table, sex, truth
from ecgedge_train.dataset import build_dataset, open_dataset


def ludb_rows(ecg_data):
    with (ecg_data / "ludb/ludb.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def blank_row(**cells):
    return {**dict.fromkeys((column for column, _ in STATEMENTS.values()), ""), **cells}


def test_real_classes_match_a_count_of_the_words(ecg_data):
    text = {row["ID"]: {k: v.lower().splitlines() for k, v in row.items()} for row in ludb_rows(ecg_data)}
    units = open_ludb(ecg_data / "ludb", {}).units
    assert len(units) == len(text) == 160
    counts = Counter(name for u in units for name in STATEMENTS if u.entry.labels[name] == 1.0)
    conduction = [line for row in text.values() for line in row["Conduction abnormalities"]]
    rhythms = [line for row in text.values() for line in row["Rhythms"]]
    assert counts["NSR"] == rhythms.count("sinus rhythm") == 112
    assert counts["AF"] == rhythms.count("atrial fibrillation") == 13
    assert counts["SB"] == rhythms.count("sinus bradycardia") == 20
    assert counts["IAVB"] == conduction.count("i degree av block") == 7
    assert counts["CHB"] == conduction.count("iii degree av-block") == 4
    assert counts["CRBBB|RBBB"] == conduction.count("complete right bundle branch block") == 3
    assert counts["IRBBB"] == conduction.count("incomplete right bundle branch block") == 23
    assert counts["NSIVCB"] == 3
    assert counts["LAD"] == sum(
        "left axis" in "".join(r["Electric axis of the heart"]) for r in text.values()
    )
    assert counts["PR"] == sum(bool(row["Cardiac pacing"]) for row in text.values())
    assert counts["LVH"] == 86
    assert set(counts) == set(STATEMENTS)


def test_no_class_counts_more_records_than_the_readme_of_all_200(ecg_data):
    # README: sinus bradycardia 25, tachycardia 4, atrial fibrillation 15, flutter 3, LAnFB 16, IAVB 10, LVH 108.
    published = {"SB": 25, "STach": 4, "AF": 15, "AFL": 3, "LAnFB": 16, "IAVB": 10, "LVH": 108, "RAD": 3}
    units = open_ludb(ecg_data / "ludb", {}).units
    for name, most in published.items():
        assert 0 < sum(u.entry.labels[name] for u in units) <= most


def test_a_statement_matches_as_a_whole():
    row = blank_row(**{"Rhythms": "Sinus rhythm", "Conduction abnormalities": "Iii degree av-block"})
    found = {name for name, value in class_labels(row).items() if value}
    assert found == {"NSR", "CHB"}
    unlabelled = class_labels(blank_row())
    assert set(unlabelled) == set(STATEMENTS)
    assert all(math.isnan(value) for value in unlabelled.values())


def test_age_sex_and_rhythm_of_known_records(ecg_data):
    # Read by eye in ludb.csv: 34 is F, ">89", sinus rhythm, paced; 109 is in fibrillation with aberrant conduction.
    entries = {u.entry.record_id: u.entry for u in open_ludb(ecg_data / "ludb", {}).units}
    assert (entries["34"].labels["age"], entries["34"].labels["sex"], entries["34"].labels["PR"]) == (
        90.0,
        "female",
        1.0,
    )
    assert entries["109"].labels["rhythm"] == "atrial fibrillation, aberrant conduction"


def test_real_windows_are_what_the_front_end_makes_of_wfdb(ecg_data, tmp_path, monkeypatch):
    wfdb = needs.wfdb()
    monkeypatch.setattr(cohorts, "COHORTS", {"ludb": open_ludb})
    info = build_dataset("ludb", out=tmp_path / "d", from_dir=ecg_data / "ludb", options={"jobs": "1"})
    data = open_dataset(tmp_path / "d", verify=True)
    assert (info.records, info.patients, info.refused) == (160, 160, ())
    assert info.classes == tuple(STATEMENTS)
    row = list(data.index["record_id"]).index("109")
    record = wfdb.rdrecord(str(ecg_data / "ludb/data/109"))
    order = [record.sig_name.index(lead.lower()) for lead in STANDARD_LEADS]
    signal = Recording(record.p_signal.T[order].astype(np.float32), 500.0, order_leads(STANDARD_LEADS))
    assert np.array_equal(
        data.gather([row], np.int16)[0], condition(signal, FrontEndSpec()).counts[:, -2500:]
    )
    assert data.labels(("AF", "NSR"), [row]).tolist() == [[1.0, 0.0]]


def test_a_seed_moves_patients_and_the_same_seed_does_not(ecg_data):
    def splits(options):
        return {u.entry.patient_id: u.entry.split for u in open_ludb(ecg_data / "ludb", options).units}

    assert splits({}) == splits({"seed": "0"}) != splits({"seed": "1"})
    assert set(Counter(splits({}).values())) == {"train", "tune", "test"}


def test_what_is_no_ludb_is_refused(ecg_data, tmp_path):
    with pytest.raises(RecordError, match="--from must name the folder of LUDB"):
        open_ludb(tmp_path, {})
    with pytest.raises(UsageError, match="needs a folder"):
        open_ludb(None, {})
    with pytest.raises(UsageError, match="no option 'sed'"):
        open_ludb(tmp_path, {"sed": "1"})
    (tmp_path / "data").mkdir()
    shutil.copy(ecg_data / "ludb/ludb.csv", tmp_path)
    with pytest.raises(RecordError, match=r"160 of 160 records .* the first is 1\.hea; finish the download"):
        open_ludb(tmp_path, {})


@given(st.text(max_size=20), st.integers(0, 2**40))
def test_a_fold_depends_on_patient_and_seed_alone(patient, seed):
    fold = fold_of_patient(patient, seed=seed)
    assert fold == fold_of_patient(patient, seed=seed)
    assert 1 <= fold <= FOLDS
    assert split_of_fold(fold) in ("train", "tune", "test")


def test_folds_are_of_equal_size_and_the_split_is_70_15_15():
    splits = Counter(split_of_fold(fold_of_patient(str(n), seed=3)) for n in range(20_000))
    # Binomial: standard deviations are 65, 50 and 50 of 20,000; four of them.
    assert abs(splits["train"] - 14_000) < 260
    assert abs(splits["tune"] - 3_000) < 200
    assert abs(splits["test"] - 3_000) < 200
    with pytest.raises(ValueError, match=r"not in 1\.\.20"):
        split_of_fold(0)


def test_the_hash_is_the_documented_one():
    # printf '0:15709' | sha256sum -> first 16 hex digits as a big-endian number, modulo 20, plus 1.
    head = int(hashlib.sha256(b"0:15709").hexdigest()[:16], 16)
    assert fold_of_patient("15709", seed=0) == head % 20 + 1


def test_tables_and_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffa,b\n 1 ,"x\ny"\n\n'.encode())
    columns, rows, _ = read_table(path, required=("a",), hint="do so")
    assert (columns, rows) == (["a", "b"], [{"a": "1", "b": "x\ny"}])
    for text, says in (("a,b\n1\n", "row 2 has 1 cells, the header 2"), ("a,a\n", "column twice"),
                       ("b\n", "no column a; it has b; do so"), ("", "no column a")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(RecordError, match=says):
            read_table(path, required=("a",), hint="do so")
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(RecordError, match="no CSV table in UTF-8"):
        read_table(path, required=("a",), hint="do so")
    assert [age_years(t) for t in (">89", "300", "56", "0.5")] == [90.0, 90.0, 56.0, 0.5]
    assert all(math.isnan(age_years(t)) for t in ("NaN", "-1", "Unknown", "", "inf", "200"))
    assert [sex(t) for t in ("Male", "F\n", "female", "Unknown")] == ["male", "female", "female", ""]
    assert [truth(t) for t in ("True", "0", "False", "1.0")] == [1.0, 0.0, 0.0, 1.0]
    assert math.isnan(truth(""))


def test_brugada_records_and_labels(ecg_data, tmp_path, monkeypatch):
    monkeypatch.setattr(cohorts, "COHORTS", {"brugada": open_brugada})
    folder = ecg_data / "brugada_huca"
    info = build_dataset("brugada", out=tmp_path / "d", from_dir=folder, options={"jobs": "1"})
    data = open_dataset(tmp_path / "d")
    assert (info.records, info.patients) == (8, 8)
    assert "CC BY-SA 4.0" in info.attribution
    row = list(data.index["record_id"]).index("188981")
    # metadata.csv: 188981,1,0,1
    assert [data.index[n][row] for n in ("basal_pattern", "sudden_death", "brugada", "BRUGADA")] == [
        1,
        0,
        1,
        1,
    ]
    assert data.gather([row]).std(axis=2).min() > 0.0
    with pytest.raises(RecordError, match="folder of Brugada-HUCA"):
        open_brugada(tmp_path, {})
