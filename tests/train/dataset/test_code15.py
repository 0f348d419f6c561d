from __future__ import annotations

import csv
import math
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import condition
from ecgedge_train import cohorts
from ecgedge_train.cohorts.code15 import CLASSES, open_code15, strip_zeros
from ecgedge_train.cohorts.recordings import fit_window
from ecgedge_train.dataset import build_dataset, open_dataset
from ecgedge_train.dataset.shards import window_counts

LAYOUT = (4096, 12)
"""Samples and leads of one exam in exams_part*.hdf5."""


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(cohorts, "COHORTS", {"code15": open_code15})

    def make(folder, **options):
        build_dataset("code15", out=tmp_path / "d", from_dir=folder, options={"jobs": "1", **options})
        return open_dataset(tmp_path / "d")

    return make


def real_exams(ecg_data):
    """Exam id to (row of exams.csv, (12, n) millivolts), from the excerpt's other layout."""
    with (ecg_data / "code15_ecgfm/meta.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["exam_id"]: (row, loadmat(ecg_data / "code15_ecgfm/org" / row["save_file"])["feats"])
        for row in rows
    }


@pytest.fixture
def published(ecg_data, tmp_path):
    """The real exams laid out as on Zenodo: exams.csv, and HDF5 files with zeros around and a last row of zeros."""
    exams = real_exams(ecg_data)
    folder = tmp_path / "code15"
    folder.mkdir()
    names = [
        n
        for n in next(iter(exams.values()))[0]
        if n not in ("idx", "save_file", "lead_order", "sample_rate", "sample_size")
    ]
    with (folder / "exams.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row, _ in exams.values())
    for trace_file in {row["trace_file"] for row, _ in exams.values()}:
        inside = [(exam, mv) for exam, (row, mv) in exams.items() if row["trace_file"] == trace_file]
        with h5py.File(folder / trace_file, "w") as file:
            tracings = np.zeros((len(inside) + 1, *LAYOUT), np.float32)
            for i, (_, mv) in enumerate(inside):
                start = (LAYOUT[0] - mv.shape[1]) // 2
                tracings[i, start : start + mv.shape[1]] = mv.T
            file["tracings"] = tracings
            file["exam_id"] = np.array([int(exam) for exam, _ in inside] + [0])
    return folder


def test_real_exams_in_the_published_layout(ecg_data, published, build):
    data = build(published, short="pad")
    exams = real_exams(ecg_data)
    assert sorted(data.index["record_id"]) == sorted(exams)
    for row, exam in enumerate(data.index["record_id"]):
        told, mv = exams[exam]
        counts = condition(Recording(mv.astype(np.float32), 400.0, STANDARD_LEADS), FrontEndSpec()).counts
        kept = min(2500, counts.shape[1])
        window = data.gather([row], np.int16)[0]
        assert np.array_equal(window[:, -kept:], counts[:, -kept:])
        assert not window[:, :-kept].any() or kept == 2500
        assert data.index["patient_id"][row] == told["patient_id"]
        assert data.labels(CLASSES, [row])[0].tolist() == [told[n] == "True" for n in CLASSES]
        assert data.index["sex"][row] == ("male" if told["is_male"] == "True" else "female")
        assert data.index["age"][row] == float(told["age"])
    assert data.info.classes == CLASSES
    row = list(data.index["record_id"]).index("795649")  # death True after 1.208218 years
    assert (data.index["death"][row], data.index["timey"][row]) == (1.0, np.float32(1.208218))
    row = list(data.index["record_id"]).index("438277")  # not this patient's first exam
    assert math.isnan(data.index["death"][row])
    assert math.isnan(data.index["timey"][row])


def test_short_exams_are_refused_with_the_way_out(published, build):
    with pytest.raises(RecordError, match=r"6 of 8 records cannot be used, over 5%.*7\.33 s long.*short=pad"):
        build(published)


def test_missing_exams_are_refused_or_skipped(published, build):
    (published / "exams_part14.hdf5").unlink()
    with pytest.raises(RecordError, match=r"2 of 8 exams listed in exams\.csv.*missing=skip"):
        open_code15(published, {})
    assert len(open_code15(published, {"missing": "skip"}).units) == 6


def test_chagas_labels_beside_exams(published):
    (published / "code15_chagas_labels.csv").write_text(
        "exam_id,patient_id,chagas\n438277,1,True\n9,9,False\n"
    )
    cohort = open_code15(published, {})
    chagas = {u.name: u.entry.labels["chagas"] for u in cohort.units}
    assert chagas.pop("438277") == 1.0
    assert all(math.isnan(v) for v in chagas.values())
    assert cohort.classes == (*CLASSES, "chagas")


def test_real_wfdb_records_with_labels_in_the_header(ecg_data, build):
    data = build(ecg_data / "code15_samitrop", short="pad")
    # Record 1000618 has 1926 samples: 4.8 s, under half a window.
    assert (data.info.records, [r.record_id for r in data.info.refused]) == (158, ["1000618"])
    assert data.info.classes == ("chagas",)
    assert "SaMi-Trop" in data.info.attribution
    assert "name no patient" in data.info.attribution
    index = data.index
    samitrop = index["origin"] == "SaMi-Trop"
    assert samitrop.sum() == 14
    assert set(index["chagas"][samitrop]) == {1.0}
    row = list(index["record_id"]).index("1000001")
    assert (index["age"][row], index["sex"][row], index["chagas"][row]) == (22, "female", 0.0)
    row = list(index["record_id"]).index("samitrop-100726")
    assert (index["age"][row], index["sex"][row], index["rate_hz"][row]) == (64, "male", 400)


def test_wfdb_records_with_the_table_beside_them(ecg_data, tmp_path):
    folder = tmp_path / "wfdb"
    folder.mkdir()
    for name in ("1000001", "100003"):
        for suffix in (".hea", ".dat"):
            shutil.copyfile(ecg_data / f"code15_samitrop/code15/{name}{suffix}", folder / f"{name}{suffix}")
    head = "exam_id,patient_id,age,is_male,trace_file," + ",".join(CLASSES)
    (folder / "exams.csv").write_text(
        f"{head}\n1000001,77,22,False,exams_part0.hdf5,True,False,False,True,False,False\n"
    )
    with pytest.raises(RecordError, match=r"100003 is not in exams\.csv; skip"):
        open_code15(folder, {})
    (unit,) = open_code15(folder, {"missing": "skip"}).units
    assert unit.entry.patient_id == "77"
    assert [unit.entry.labels[n] for n in CLASSES] == [1, 0, 0, 1, 0, 0]
    assert unit.entry.labels["chagas"] == 0.0


def test_the_newer_headers_tell_the_patient(ecg_data, tmp_path):
    text = (ecg_data / "code15_samitrop/code15/1000001.hea").read_text()
    (tmp_path / "1000001.hea").write_text(text + "# Patient ID: 4711\n")
    cohort = open_code15(tmp_path, {})
    assert cohort.units[0].entry.patient_id == "4711"
    assert "name no patient" not in cohort.attribution


def test_all_exams_of_a_patient_are_in_one_split(published):
    path = published / "exams.csv"
    rows = path.read_text().splitlines()
    column = rows[0].split(",").index("patient_id")
    cells = [row.split(",") for row in rows]
    for row in cells[1:]:
        row[column] = "5"
    path.write_text("\n".join(",".join(row) for row in cells) + "\n")
    assert len({u.entry.split for u in open_code15(published, {}).units}) == 1


def test_damaged_and_foreign_files_are_named(published, tmp_path):
    with h5py.File(published / "exams_part99.hdf5", "w") as file:
        file["tracings"] = np.zeros((2, 100, 8), np.float32)
    with pytest.raises(RecordError, match="no dataset exam_id"):
        open_code15(published, {})
    with h5py.File(published / "exams_part99.hdf5", "a") as file:
        file["exam_id"] = np.array([1, 2])
    with pytest.raises(RecordError, match=r"shape \(2, 100, 8\), expected \(2, samples, 12\)"):
        open_code15(published, {})
    (published / "exams_part99.hdf5").write_bytes(b"not this")
    with pytest.raises(RecordError, match="cannot be read as HDF5"):
        open_code15(published, {})
    (published / "exams_part99.hdf5").unlink()
    (published / "exams.csv").unlink()
    with pytest.raises(RecordError, match="it tells the patients"):
        open_code15(published, {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="no WFDB header"):
        open_code15(tmp_path / "empty", {})
    with pytest.raises(UsageError, match="needs a folder"):
        open_code15(None, {})
    with pytest.raises(UsageError, match="missing is refuse or skip"):
        open_code15(published, {"missing": "ignore"})


def test_an_exam_of_zeros_alone_is_refused():
    with pytest.raises(RecordError, match="every sample is zero"):
        strip_zeros(np.zeros((12, 50), np.float32), source="x")


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_stripping_gives_back_what_was_padded(before, after, n, seed):
    signal = np.random.default_rng(seed).integers(-3, 4, (12, n)).astype(np.float32)
    signal[0, [0, -1]] = 1.0  # the ends are signal; zeros in between stay
    padded = np.pad(signal, ((0, 0), (before, after)))
    assert np.array_equal(strip_zeros(padded, source="x"), signal)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([100.0, 250.0, 257.0, 360.0, 400.0, 500.0, 1000.0]),
    st.floats(5.0, 9.9),
    st.integers(0, 999),
)
def test_padding_leaves_every_count_of_the_signal_as_it_is(rate_hz, seconds, seed):
    n = int(np.ceil(seconds * rate_hz))
    mv = np.cumsum(np.random.default_rng(seed).normal(0, 0.05, (2, n)), axis=1).astype(np.float32)
    recording = Recording(mv, rate_hz, ("I", "II"))
    padded = fit_window(recording, "pad")
    assert padded.duration_s >= 10.0
    assert np.array_equal(padded.samples_mv[:, -n:], mv)
    assert np.isnan(padded.samples_mv[:, :-n]).all()
    alone = condition(recording, FrontEndSpec()).counts
    window = window_counts(padded, FrontEndSpec())[:2]
    kept = min(alone.shape[1], 2500)
    assert np.array_equal(window[:, -kept:], alone[:, -kept:])
    # A resampling filter needs its first inputs before it answers: the sample before may be half in the signal.
    assert not window[:, : 2500 - kept - 1].any()


def test_what_is_long_enough_is_not_touched_and_what_is_too_short_not_padded():
    def recording(seconds):
        return Recording(np.ones((1, int(seconds * 400)), np.float32), 400.0, ("I",))

    for seconds, short in ((10.0, "refuse"), (12.5, "pad"), (9.95, "refuse")):
        whole = recording(seconds)
        assert fit_window(whole, short) is whole
    with pytest.raises(RecordError, match=r"4\.80 s long, under 5 s"):
        fit_window(recording(4.8), "pad")
    with pytest.raises(RecordError, match=r"9\.80 s long; a window needs 10 s"):
        fit_window(recording(9.8), "refuse")
