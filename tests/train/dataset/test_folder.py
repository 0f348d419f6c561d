from __future__ import annotations

import csv
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import records
from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import condition
from ecgedge_train import cohorts
from ecgedge_train.cohorts.folder import open_folder
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.dataset import build_dataset, open_dataset


def write_table(folder, text):
    (folder / "labels.csv").write_text(text)
    return folder


@pytest.fixture
def mixed(ecg_data, tmp_path):
    """Four real recordings in three formats, and one table of them."""
    folder = tmp_path / "mine"
    (folder / "a").mkdir(parents=True)
    for suffix in (".hea", ".dat"):
        shutil.copyfile(ecg_data / f"ptbxl/records100/00000/00001_lr{suffix}", folder / f"a/00001_lr{suffix}")
    for suffix in (".hea", ".mat"):
        shutil.copyfile(ecg_data / f"cinc2021/georgia/E07501{suffix}", folder / f"E07501{suffix}")
    dicom = next((ecg_data / "format_samples/dicom").glob("cardio*"))
    shutil.copyfile(dicom, folder / "x.dcm")
    records.write_npz(records.read(ecg_data / "ludb/data/1.hea"), folder / "y.npz")
    return write_table(
        folder,
        "file,patient_id,time,LVH,ef,ward\n"
        "a/00001_lr.hea,p1,2020-01-01,1,55.5,B\nE07501.mat,p2,,0,,A\nx.dcm,p3,,,40,\ny.npz,p1,,1,nan,7\n",
    )


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(cohorts, "COHORTS", {"folder": open_folder})

    def make(folder, **options):
        build_dataset("folder", out=tmp_path / "d", from_dir=folder, options={"jobs": "1", **options})
        return open_dataset(tmp_path / "d")

    return make


def test_any_format_with_labels_of_any_kind(mixed, build):
    data = build(mixed, classes="LVH")
    assert data.info.labels == {"LVH": "float", "ef": "float", "ward": "text"}
    assert (data.info.classes, data.info.records, data.info.patients) == (("LVH",), 4, 3)
    assert not data.info.simulated
    for row, file in enumerate(["a/00001_lr.hea", "E07501.mat", "x.dcm", "y.npz"]):
        expected = condition(records.read(mixed / file), FrontEndSpec()).counts[:, -2500:]
        window = data.gather([row], np.int16)[0]
        assert np.array_equal(window[:, : expected.shape[1]], expected)
    assert list(data.index["record_id"]) == ["a/00001_lr.hea", "E07501.mat", "x.dcm", "y.npz"]
    assert list(data.index["patient_id"]) == ["p1", "p2", "p3", "p1"]
    np.testing.assert_array_equal(data.index["LVH"], [1, 0, np.nan, 1])
    np.testing.assert_array_equal(data.index["ef"], [55.5, np.nan, 40, np.nan])
    assert list(data.index["ward"]) == ["B", "A", "", "7"]
    assert data.index["time"][0] == "2020-01-01"


def test_without_a_split_column_patients_are_hashed(mixed):
    for seed in (0, 7):
        for unit in open_folder(mixed, {"seed": str(seed)}).units:
            assert unit.entry.split == split_of_fold(fold_of_patient(unit.entry.patient_id, seed=seed))


def test_a_split_column_rules(mixed, build):
    rows = (mixed / "labels.csv").read_text().splitlines()
    splits = ["split", "train", "tune", "holdout", "train"]
    write_table(mixed, "".join(f"{row},{split}\n" for row, split in zip(rows, splits, strict=True)))
    data = build(mixed)
    assert list(data.index["split"]) == splits[1:]
    assert {name: count.records for name, count in data.info.splits.items()} == {
        "train": 2,
        "tune": 1,
        "holdout": 1,
    }


def test_a_patient_in_two_splits_is_refused(mixed):
    rows = (mixed / "labels.csv").read_text().splitlines()
    splits = ["split", "train", "tune", "test", "test"]
    write_table(mixed, "".join(f"{row},{split}\n" for row, split in zip(rows, splits, strict=True)))
    with pytest.raises(RecordError, match="patient p1 is in both 'train' and 'test'"):
        open_folder(mixed, {})


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("file,patient\ny.npz,1\n", {}, "no column patient_id; it has file, patient; csv= must name"),
        ("file;patient_id\ny.npz;1\n", {}, "has semicolons between its cells; save it with commas"),
        ("file\tpatient_id\ny.npz\t1\n", {}, "has tabs between its cells"),
        ("file,patient_id\n", {}, "lists no recording"),
        ("file,patient_id\nz.npz,1\ny.npz,2\n", {}, r"1 of 2 files are not there, the first is .*z\.npz"),
        ("file,patient_id\ny.npz,\n", {}, "row 2 leaves file or patient_id empty"),
        ("file,patient_id\ny.npz,1\ny.npz,2\n", {}, r"1 record ids stand twice, the first is 'y\.npz'"),
        ("file,patient_id,record_id\ny.npz,1,a\nx.dcm,2,a\n", {}, "first is 'a'"),
        ("file,patient_id,split\ny.npz,1,valid\n", {}, "row 2 has split 'valid'; expected train, tune"),
        ("file,patient_id,rate_hz\ny.npz,1,500\n", {}, "a label cannot be called 'rate_hz'"),
        ("file,patient_id,A\ny.npz,1,2\n", {"classes": "A"}, "A is no class, .* it holds 2"),
        ("file,patient_id,A\ny.npz,1,yes\n", {"classes": "A"}, "A is no class, .* it holds yes"),
        ("file,patient_id,A\ny.npz,1,1\n", {"classes": "A,B"}, "no label 'B' .*; it has: A"),
        ("file,patient_id\ny.npz,1\n", {"csv": "other.csv"}, r"other\.csv: cannot be read .*csv= must name"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_written(mixed, tmp_path, build, table, options, says):
    write_table(mixed, table)
    with pytest.raises(RecordError, match=says):
        build(mixed, **options)
    assert not (tmp_path / "d").exists()


def test_wrong_options_are_named(mixed):
    for options, says in (({"simulated": "maybe"}, "yes or no"), ({"short": "x"}, "refuse or pad"),
                          ({"class": "A"}, "no option 'class'")):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            open_folder(mixed, options)
    with pytest.raises(UsageError, match="needs --from DIR"):
        open_folder(None, {})


def test_a_file_that_declares_no_unit_is_refused_by_its_reader(mixed, build):
    header = mixed / "E07501.hea"
    header.write_text(header.read_text().replace("1000.0(0)/mV", "0"))
    with pytest.raises(RecordError, match=r"1 of 4 records cannot be used.*uncalibrated"):
        build(mixed)


def test_a_simulated_recording_needs_a_simulated_dataset(tmp_path, build):
    folder = tmp_path / "sim"
    folder.mkdir()
    wave = np.random.default_rng(1).normal(0, 0.2, (2, 2500)).astype(np.float32)
    records.write_npz(Recording(wave, 250.0, ("I", "II"), mode="demo"), folder / "s.npz")
    write_table(folder, "file,patient_id\ns.npz,1\n")
    with pytest.raises(RecordError, match=r"mode 'demo'.*simulated=yes"):
        build(folder)
    shutil.rmtree(tmp_path / "d")
    data = build(folder, simulated="yes", name="bench", attribution="ours")
    assert data.info.simulated
    assert (data.info.name, data.info.attribution) == ("bench", "ours")
    assert data.presence([0])[0].tolist() == [1, 1] + [0] * 10


def test_a_short_recording_can_be_padded(tmp_path, build):
    folder = tmp_path / "short"
    folder.mkdir()
    wave = np.random.default_rng(1).normal(0, 0.2, (12, 2000)).astype(np.float32)
    records.write_npz(Recording(wave, 250.0, STANDARD_LEADS), folder / "s.npz")
    write_table(folder, "file,patient_id\ns.npz,1\n")
    window = build(folder, short="pad").gather([0], np.int16)[0]
    assert not window[:, :500].any()
    assert np.array_equal(
        window[:, 500:], condition(Recording(wave, 250.0, STANDARD_LEADS), FrontEndSpec()).counts
    )


def test_the_plan_names_no_path(mixed, tmp_path):
    table = tmp_path / "elsewhere.csv"
    table.write_text((mixed / "labels.csv").read_text())
    cohort = open_folder(mixed, {"csv": str(table)})
    assert str(tmp_path) not in repr(cohort.identity)
    assert cohort.identity["csv"] == "elsewhere.csv"


# csv itself writes the table; cells are what a spreadsheet may hold, line breaks and quotes too.
CELLS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(str),
    st.just(""),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=6),
)


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(CELLS, min_size=1, max_size=6))
def test_a_label_is_a_number_if_all_its_cells_are(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("h")
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient_id", "value"])
        for i, cell in enumerate(cells):
            (folder / f"{i}.npz").touch()
            writer.writerow([f"{i}.npz", i, cell])
    cohort = open_folder(folder, {})
    values = [unit.entry.labels["value"] for unit in cohort.units]
    if cohort.labels["value"] == "text":
        assert values == [cell.strip() for cell in cells]
        return
    for cell, value in zip(cells, values, strict=True):
        if cell.strip().lower() in ("", "nan", "na", "n/a", "null"):
            assert math.isnan(value)
        else:
            assert value == float(cell)


def column(folder, cells):
    (folder / "y.npz").touch()
    rows = "".join(f'y.npz,{i},r{i},"{cell}"\n' for i, cell in enumerate(cells))
    return write_table(folder, f"file,patient_id,record_id,pcwp\n{rows}")


@pytest.mark.parametrize("slip", ["eleven", "11,5", "<5"])
def test_a_slip_in_a_column_of_numbers_is_shown(tmp_path, slip):
    # It would make text of the whole column, and training would find no such label.
    column(tmp_path, ["12.5"] * 6 + [slip] + ["", "14"] * 3 + ["9"] * 5)
    with pytest.raises(RecordError, match=f"row 8 has '{slip}' in pcwp, where 14 of 15 cells are numbers"):
        open_folder(tmp_path, {})


def test_text_with_some_numbers_is_text_and_no_answer_is_unknown(tmp_path):
    assert open_folder(column(tmp_path, ["7", "3B", "12", "A"]), {}).labels == {"pcwp": "text"}
    units = open_folder(column(tmp_path, ["7", "n/a", "NA", "null", "NaN"]), {}).units
    values = [unit.entry.labels["pcwp"] for unit in units]
    assert values[0] == 7
    assert all(map(math.isnan, values[1:]))
