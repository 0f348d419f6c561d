from __future__ import annotations

import math
import shutil
from collections import Counter

import numpy as np
import pytest
from scipy.io import loadmat

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import condition
from ecgedge_train import cohorts
from ecgedge_train.cohorts.cinc2021 import SCORED, class_labels, open_cinc2021
from ecgedge_train.cohorts.recordings import read_comments
from ecgedge_train.dataset import build_dataset, open_dataset


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(cohorts, "COHORTS", {"cinc2021": open_cinc2021})

    def make(folder, **options):
        build_dataset("cinc2021", out=tmp_path / "d", from_dir=folder, options={"jobs": "1", **options})
        return open_dataset(tmp_path / "d")

    return make


def test_the_26_scored_classes():
    # weights_abbreviations.csv of the Challenge: 26 columns, four of them pairs; 30 codes.
    assert len(SCORED) == 26
    assert [name for name in SCORED if "|" in name] == ["CLBBB|LBBB", "CRBBB|RBBB", "PAC|SVPB", "PVC|VPB"]
    codes = [code for same in SCORED.values() for code in same]
    assert len(codes) == len(set(codes)) == 30


def test_either_code_of_a_pair_gives_the_class():
    for dx in ("713427006", "59118001", "426783006, 59118001"):
        assert class_labels(dx)["CRBBB|RBBB"] == 1.0
    one = class_labels("164889003")
    assert (one["AF"], one["NSR"], sum(one.values())) == (1.0, 0.0, 1.0)
    # Left ventricular hypertrophy is not scored: labelled, and 0 in all classes.
    assert set(class_labels("164873001").values()) == {0.0}
    assert all(math.isnan(v) for v in class_labels("Unknown").values())


def test_real_counts_match_the_codes_in_the_headers(ecg_data):
    cohort = open_cinc2021(ecg_data / "cinc2021", {})
    text = "".join(path.read_text() for path in (ecg_data / "cinc2021").rglob("*.hea"))
    assert len(cohort.units) == 40
    for name, codes in (("STach", ["427084000"]), ("NSR", ["426783006"]), ("PAC|SVPB", ["284470004"])):
        assert sum(u.entry.labels[name] for u in cohort.units) == sum(text.count(code) for code in codes) > 0
    assert Counter(u.entry.labels["subset"] for u in cohort.units) == {
        "georgia": 16, "chapman_shaoxing": 16, "ptbxl": 8}  # fmt: skip


def test_real_windows_are_what_the_front_end_makes_of_the_mat_file(ecg_data, build):
    data = build(ecg_data / "cinc2021")
    assert (data.info.records, data.info.refused) == (40, ())
    assert "no patient ids" in data.info.attribution
    for record, subset in (("E07501", "georgia"), ("JS20002", "chapman_shaoxing"), ("HR06001", "ptbxl")):
        row = list(data.index["record_id"]).index(record)
        # The headers of these records say 1000 units per mV, baseline 0, 500 Hz, standard order.
        val = loadmat(ecg_data / "cinc2021" / subset / f"{record}.mat")["val"]
        signal = Recording((val / 1000.0).astype(np.float32), 500.0, STANDARD_LEADS)
        expected = condition(signal, FrontEndSpec()).counts[:, -2500:]
        assert np.array_equal(data.gather([row], np.int16)[0], expected)
        assert data.index["subset"][row] == subset
    row = list(data.index["record_id"]).index("E07501")
    # Its header: Age 65, Male, 253352002 (left atrial abnormality, unscored) and 427084000.
    assert (data.index["age"][row], data.index["sex"][row]) == (65, "male")
    assert data.index["dx"][row] == "253352002,427084000"
    assert [n for n in SCORED if data.index[n][row]] == ["STach"]


def test_subsets_can_be_chosen_and_groups_of_1000_are_no_subsets(ecg_data, tmp_path):
    nested = tmp_path / "training" / "georgia" / "g1"
    shutil.copytree(ecg_data / "cinc2021" / "georgia", nested)
    shutil.copytree(ecg_data / "cinc2021" / "ptbxl", tmp_path / "training" / "ptb-xl" / "g7")
    for folder in (tmp_path / "training", tmp_path):
        units = open_cinc2021(folder, {"subsets": "georgia"}).units
        assert {u.entry.labels["subset"] for u in units} == {"georgia"}
        assert len(units) == 16
    assert {u.entry.labels["subset"] for u in open_cinc2021(nested, {}).units} == {"georgia"}
    with pytest.raises(RecordError, match="no subset ningbo; it has georgia, ptb-xl"):
        open_cinc2021(tmp_path, {"subsets": "ningbo,georgia"})


def ptbxl_csv(path, ids, patient):
    path.write_text("ecg_id,patient_id,report\n" + "".join(f'{i},{patient(i)}.0,"a,\nb"\n' for i in ids))
    return {"ptbxl_csv": str(path)}


def test_ptbxl_csv_tells_the_patients_of_its_subset(ecg_data, tmp_path):
    options = ptbxl_csv(tmp_path / "x.csv", range(6000, 6010), lambda i: 500 + i // 4)
    units = open_cinc2021(ecg_data / "cinc2021", options).units
    patients = {u.entry.record_id: (u.entry.patient_id, u.entry.split) for u in units}
    assert patients["HR06002"][0] == patients["HR06003"][0] == "2000"
    assert patients["HR06002"][1] == patients["HR06003"][1]
    assert patients["E07501"][0] == "E07501"


def test_the_table_decides_the_identity_and_its_path_does_not(ecg_data, tmp_path):
    first = open_cinc2021(ecg_data / "cinc2021", ptbxl_csv(tmp_path / "a.csv", range(6000, 6010), int))
    again = open_cinc2021(ecg_data / "cinc2021", ptbxl_csv(tmp_path / "b.csv", range(6000, 6010), int))
    other = open_cinc2021(
        ecg_data / "cinc2021", ptbxl_csv(tmp_path / "c.csv", range(6000, 6010), lambda _: 1)
    )
    assert first.identity == again.identity != other.identity
    assert str(tmp_path) not in repr(first.identity)


def test_a_table_without_the_record_is_refused(ecg_data):
    # The excerpt of ptbxl_database.csv ends before ecg_id 6001.
    options = {"ptbxl_csv": str(ecg_data / "ptbxl/ptbxl_database.csv")}
    with pytest.raises(RecordError, match=r"HR06001: ecg_id 6001 is not in ptbxl_csv; give the whole"):
        open_cinc2021(ecg_data / "cinc2021", options)


def test_a_short_record_is_refused_or_padded(ecg_data, tmp_path, build, write_record):
    signal = np.random.default_rng(0).normal(0, 0.3, (3000, 12)).round(3)
    write_record(tmp_path / "A0001", signal, 500, list(STANDARD_LEADS))
    with pytest.raises(RecordError, match=r"1 of 1 records cannot be used.*6\.00 s long.*short=pad"):
        build(tmp_path)
    shutil.rmtree(tmp_path / "d")
    data = build(tmp_path, short="pad")
    expected = condition(Recording(signal.T.astype(np.float32), 500.0, STANDARD_LEADS), FrontEndSpec()).counts
    window = data.gather([0], np.int16)[0]
    assert np.array_equal(window[:, 1000:], expected)
    assert not window[:, :1000].any()


def test_wrong_input(ecg_data, tmp_path):
    with pytest.raises(RecordError, match="no WFDB header"):
        open_cinc2021(tmp_path, {})
    with pytest.raises(UsageError, match="short is refuse or pad, not 'repeat'"):
        open_cinc2021(tmp_path, {"short": "repeat"})
    with pytest.raises(UsageError, match="needs --from DIR"):
        open_cinc2021(None, {})
    for copy in ("a", "b"):
        shutil.copytree(ecg_data / "cinc2021" / "ptbxl", tmp_path / copy)
    with pytest.raises(RecordError, match="8 record ids stand twice, the first is 'HR06001'"):
        open_cinc2021(tmp_path, {})


def test_comments_of_both_spellings(tmp_path):
    path = tmp_path / "a.hea"
    path.write_text(
        "a 1 500 5000\na.dat 16 1000/mV\n#<age>: 51\n# Sex: Male\n#Dx: 1,2\n# Dx: 3\n#free text\n"
    )
    assert read_comments(path) == {"age": "51", "sex": "Male", "dx": "1,2"}
    with pytest.raises(RecordError, match="download complete"):
        read_comments(tmp_path / "b.hea")
