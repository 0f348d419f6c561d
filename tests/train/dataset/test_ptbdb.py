"""PTB Diagnostic: the real header s0010_re, and variants of it that other headers of the set show."""

from __future__ import annotations

import math
from pathlib import Path

import needs
import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.cohorts.pressure import plausible, read_l_min, read_mmhg
from ecgedge_train.cohorts.ptbdb import (
    catheter_labels,
    days_to_catheter,
    header_comments,
    load_record,
    open_ptbdb,
)
from ecgedge_train.dataset.shards import window_counts

WEDGE = "Pulmonary capillary wedge pressure (at rest)"
CMH2O_MMHG = 98.0665 / 133.322387
"""1 cmH2O = 98.0665 Pa, 1 mmHg = 133.322387 Pa."""


@pytest.fixture
def folder(ecg_data, tmp_path) -> Path:
    """One real record in the published layout."""
    add(ecg_data, tmp_path, "patient001")
    return tmp_path


def add(ecg_data: Path, folder: Path, patient: str, **values: str) -> None:
    """Add the real record as `patient`, with header values replaced (`old=new`, keys as below)."""
    keys = {"wedge": WEDGE, "mean": "Pulmonary artery pressure (at rest) (mean)", "output": "Cardiac output (at rest)",
            "load": "Pulmonary capillary wedge pressure (load)", "lvedp": "Left ventricular enddiastolic pressure",
            "ecg": "ECG date", "catheter": "Catheterization date", "age": "age", "sex": "sex"}  # fmt: skip
    source = ecg_data / "ptbdb_15lead"
    (folder / patient).mkdir(parents=True)
    lines = (source / "s0010_re.hea").read_bytes().decode().split("\r\n")
    for name, value in values.items():
        lines = [f"# {keys[name]}: {value}" if x.startswith(f"# {keys[name]}:") else x for x in lines]
    (folder / patient / "s0010_re.hea").write_bytes("\r\n".join(lines).encode())
    for suffix in ("dat", "xyz"):
        (folder / patient / f"s0010_re.{suffix}").symlink_to(source / f"s0010_re.{suffix}")


def test_the_real_header(folder):
    (unit,) = open_ptbdb(folder, {"max_days": "all"}).units
    labels = unit.entry.labels
    # Read by eye: 81, female, ECG 01/10/1990, catheter 16-Oct-90, 11 cmH2O, infero-latera (sic).
    assert labels["lvedp_mmhg"] == pytest.approx(11 * CMH2O_MMHG, abs=1e-4)
    assert (labels["age"], labels["sex"], labels["infarct"]) == (81.0, "female", "infero-latera")
    assert labels["days_to_catheter"] == 15.0
    assert all(math.isnan(labels[name]) for name in ("mpcwp_mmhg", "mpap_mmhg", "co_l_min"))
    assert (unit.entry.patient_id, unit.entry.record_id) == ("patient001", "patient001/s0010_re")


def test_all_keys_of_the_real_header_are_read(ecg_data):
    comments = header_comments((ecg_data / "ptbdb_15lead/s0010_re.hea").read_bytes().decode())
    # 48 lines with a colon (grep -c), of which "Catheterization date" is two.
    assert len(comments) == 47
    assert comments["smoker"] == "no"
    assert comments["echocardiography"] == ""
    assert not any("\r" in value for value in comments.values())


def test_a_catheter_weeks_away_says_nothing_about_the_ecg(folder):
    labels = open_ptbdb(folder, {}).units[0].entry.labels
    assert math.isnan(labels["lvedp_mmhg"])
    assert labels["days_to_catheter"] == 15.0
    assert not math.isnan(open_ptbdb(folder, {"max_days": "15"}).units[0].entry.labels["lvedp_mmhg"])


def test_decimal_commas_units_and_values_under_load(ecg_data, tmp_path):
    add(ecg_data, tmp_path, "patient007", wedge="18,5 mmHg", mean="30 cmH2O", output="4,34 l/min", load="33 mmHg",
        catheter="02-Oct-90")  # fmt: skip
    labels = open_ptbdb(tmp_path, {"labelled": "1"}).units[0].entry.labels
    assert labels["mpcwp_mmhg"] == 18.5
    assert labels["mpap_mmhg"] == pytest.approx(30 * CMH2O_MMHG, abs=1e-4)
    assert labels["co_l_min"] == 4.34


def test_what_cannot_be_used_is_counted(ecg_data, tmp_path):
    add(ecg_data, tmp_path, "patient001", wedge="18", lvedp="300 mmHg", mean="22/9 mmHg", output="5 gallons")
    cohort = open_ptbdb(tmp_path, {"max_days": "all"})
    assert cohort.identity["values_dropped"] == "4"
    assert all(
        math.isnan(cohort.units[0].entry.labels[name]) for name in ("mpcwp_mmhg", "lvedp_mmhg", "mpap_mmhg")
    )


@pytest.mark.parametrize(
    ("text", "mmhg"),
    [("11 cmH2O", 8.0911), ("11cmH2O", 8.0911), (" 7,5 mmHg ", 7.5), ("2 kPa", 15.0012), ("n/a", math.nan),
     ("", math.nan), ("140/80 mmHg", math.nan), ("12", math.nan), ("12 bar", math.nan)],
)  # fmt: skip
def test_pressures_in_text(text, mmhg):
    assert read_mmhg(text) == pytest.approx(mmhg, abs=1e-3, nan_ok=True)


def test_flows_and_what_no_heart_does():
    assert read_l_min("4,34 l/min") == 4.34
    assert read_l_min("5200 ml/min") == pytest.approx(5.2)
    assert math.isnan(read_l_min("4,34"))
    assert plausible("mpcwp_mmhg", 60.0) == 60.0
    assert math.isnan(plausible("mpcwp_mmhg", 60.1))
    assert math.isnan(plausible("mpcwp_mmhg", math.nan))


@pytest.mark.parametrize(
    ("ecg", "catheter", "days"),
    [("01/10/1990", "16-Oct-90", 15), ("01/03/1992", "28-Feb-92", -2), ("31/12/1995", "01-Jan-1996", 1),
     ("13/01/1991", "13-Jan-91", 0), ("", "16-Oct-90", None), ("01/10/1990", "", None),
     ("30/02/1990", "16-Oct-90", None), ("01/10/1990", "16-Okt-90", None)],
)  # fmt: skip
def test_days_between(ecg, catheter, days):
    found = days_to_catheter({"ecg date": ecg, "catheterization date": catheter})
    assert found == pytest.approx(math.nan if days is None else days, nan_ok=True)


def test_the_second_catheter_date_serves_where_the_first_is_unknown():
    comments = header_comments("# Catheterization date: n/a\r\n# Catheterization date: 16-Oct-90\r\n")
    assert comments == {"catheterization date": "16-Oct-90"}
    first = header_comments("# Catheterization date: 14-Oct-90\n# Catheterization date: 16-Oct-90\n")
    assert first["catheterization date"] == "14-Oct-90"


def test_an_unknown_day_counts_as_far_unless_all_is_asked():
    comments = {"left ventricular enddiastolic pressure": "20 mmHg"}
    assert math.isnan(catheter_labels(comments, max_days=2.0)[0]["lvedp_mmhg"])
    assert catheter_labels(comments, max_days=math.inf)[0]["lvedp_mmhg"] == 20.0


def test_windows_are_the_ends_of_the_record_and_agree_with_wfdb(folder, ecg_data):
    wfdb = needs.wfdb()
    (unit,) = open_ptbdb(folder, {"windows": "9"}).units
    rows = list(load_record(unit))
    assert [entry.record_id for entry, _ in rows] == [
        f"patient001/s0010_re@{s}" for s in ("28.4", "18.4", "8.4")
    ]
    theirs = wfdb.rdrecord(str(ecg_data / "ptbdb_15lead/s0010_re")).p_signal[:, :12].T.astype(np.float32)
    for (_, window), end in zip(rows, (38_400, 28_400, 18_400), strict=True):
        assert (window.leads, window.rate_hz) == (STANDARD_LEADS, 1000.0)
        np.testing.assert_array_equal(window.samples_mv[:, -10_000:], theirs[:, end - 10_000 : end])
    # With all of the record before it, the window is the same but for what a filter remembers after 10 s.
    whole = window_counts(type(rows[0][1])(theirs, 1000.0, STANDARD_LEADS), FrontEndSpec())
    assert np.abs(whole - window_counts(rows[0][1], FrontEndSpec())).max() <= 1


def test_one_window_is_the_default_and_labels_are_the_records(folder):
    (unit,) = open_ptbdb(folder, {}).units
    ((entry, _),) = load_record(unit)
    assert entry.labels is unit.entry.labels
    assert entry.patient_id == "patient001"


def test_a_patient_keeps_its_split_when_the_folder_grows(ecg_data, tmp_path):
    add(ecg_data, tmp_path, "patient001")
    before = open_ptbdb(tmp_path, {}).units[0].entry
    for number in range(2, 40):
        add(ecg_data, tmp_path, f"patient{number:03d}")
    units = open_ptbdb(tmp_path, {}).units
    assert units[0].entry.split == before.split
    assert {u.entry.split for u in units} == {"train", "tune", "test"}


def test_wrong_folders_and_options(folder, tmp_path):
    with pytest.raises(RecordError, match=r"no headers patient\*/\*\.hea here; --from must name"):
        open_ptbdb(tmp_path / "nothing", {})
    with pytest.raises(RecordError, match="no record has a catheter value within max_days=1; widen it"):
        open_ptbdb(folder, {"labelled": "1"})
    with pytest.raises(UsageError, match="--from DIR with patient001"):
        open_ptbdb(None, {})
    for options, says in (
        ({"max_days": "soon"}, "max_days='soon' is not a whole number"),
        ({"labelled": "yes"}, "labelled is 0 or 1"),
        ({"windows": "0"}, "windows=0 is too small"),
        ({"window": "2"}, "has no option 'window'; it knows: max_days=1"),
    ):
        with pytest.raises(UsageError, match=says):
            open_ptbdb(folder, options)
