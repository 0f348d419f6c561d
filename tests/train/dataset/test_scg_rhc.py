"""SCG-RHC: small procedures of the published layout, written with wfdb."""

from __future__ import annotations

import csv
import json
import math
import warnings
from pathlib import Path

import needs
import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.scg_rhc import Wedge, load_wedge, open_scg_rhc, output_l_min, wedges
from ecgedge_train.dataset.shards import window_counts

RATE_HZ = 500
CHANNELS = ["patch_ECG", "patch_ACC_lat", "RHC_pressure", "ECG_lead_II", "ECG_lead_I", "ECG_lead_V1"]
UNITS = ["mV", "mg", "mmHg", "mV", "mV", "mV"]
COLUMNS = ["Study ID", "RHC Phase", "PCWM", "PAM", "Avg. COmL/min", "Physiological Score"]
EVENTS = {"RA": 4.0, "RV": 8.0, "PA": 12.0, "PCW": 20.0, "PCW_2": 46.0}


def write(folder: Path, record: str, *, events: object = EVENTS, seconds: int = 62, challenge: int = 0,
          rows: tuple[tuple[str, ...], ...] = (("Baseline", "17", "28", "5210", "x"),)) -> Path:  # fmt: skip
    """Add one procedure; channel c at t holds c + t / 100 in its unit."""
    wfdb = needs.wfdb()
    data, meta = folder / "processed_data", folder / "meta_information"
    data.mkdir(parents=True, exist_ok=True)
    meta.mkdir(exist_ok=True)
    t_s = np.arange(seconds * RATE_HZ) / RATE_HZ
    signal = np.arange(len(CHANNELS))[None, :] + t_s[:, None] / 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 against pandas 3
        wfdb.wrsamp(
            record, fs=RATE_HZ, units=UNITS, sig_name=CHANNELS, p_signal=signal, fmt=["16"] * 6, write_dir=str(data)
        )  # fmt: skip
    about = {
        "MacStTime": "12-Mar-2021 10:00:00", "MacEndTime": f"12-Mar-2021 10:01:{seconds - 60:02d}",
        "ChamEvents_in_s": events, "IsChallenge": challenge, "age": 61, "gender": "F",
        "maclabMeas": {"TDCOL/min ": "5.2", "PCWM   ": "17"},
    }  # fmt: skip
    (data / f"{record}.json").write_text(json.dumps(about))
    path = meta / "RHC_values.csv"
    known = path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if not known:
            writer.writerow(COLUMNS)
        writer.writerows([record.replace("-", ".") + " ", *row] for row in rows)
    return folder


def test_a_row_for_each_window_of_the_wedge_position(tmp_path):
    cohort = open_scg_rhc(write(tmp_path, "TRM107-RHC1"), {})
    (unit,) = cohort.units
    assert unit.wedge == Wedge("PCW", 20.0, 46.0, "baseline")
    rows = list(load_wedge(unit))
    # 26 s hold two windows, counted from the end.
    assert [entry.record_id for entry, _ in rows] == ["TRM107-RHC1/PCW@36", "TRM107-RHC1/PCW@26"]
    entry, recording = rows[0]
    assert (entry.patient_id, entry.time) == ("TRM107", "12-Mar-2021 10:00:00")
    assert entry.labels == {"mpcwp_mmhg": 17.0, "mpap_mmhg": 28.0, "co_l_min": 5.21, "age": 61.0, "sex": "female",
                            "phase": "baseline"}  # fmt: skip
    assert recording.leads == ("I", "II", "V1")
    window = recording.samples_mv[:, -10 * RATE_HZ :]
    t_s = 36.0 + np.arange(10 * RATE_HZ) / RATE_HZ
    # Channels 4, 3 and 5 of the file; one step of format 16 over this range is 1e-5 mV.
    np.testing.assert_allclose(window, np.array([[4.0], [3.0], [5.0]]) + t_s / 100, atol=1e-4)
    assert window_counts(recording, FrontEndSpec()).shape == (12, 2500)


def test_the_patch_is_one_lead(tmp_path):
    (unit,) = open_scg_rhc(write(tmp_path, "TRM107-RHC1"), {"ecg": "patch"}).units
    (_, recording), _ = load_wedge(unit)
    assert recording.leads == ("II",)
    np.testing.assert_allclose(recording.samples_mv[0, -1], (46 - 1 / RATE_HZ) / 100, atol=1e-4)


def test_no_patient_is_in_two_splits(tmp_path):
    for number in range(100, 140):
        write(tmp_path, f"TRM{number}-RHC1")
        write(tmp_path, f"TRM{number}-RHC2")
    splits: dict[str, set[str]] = {}
    for unit in open_scg_rhc(tmp_path, {}).units:
        for entry, _ in load_wedge(unit):
            splits.setdefault(entry.record_id[:6], set()).add(entry.split)
            assert entry.patient_id == entry.record_id[:6]
    assert len(splits) == 40
    assert {len(found) for found in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "tune", "test"}


BASE, NITRO = "baseline", "nitroprusside"


@pytest.mark.parametrize(
    ("events", "phases", "challenge", "expected"),
    [
        (EVENTS, (BASE,), False, [("PCW", 20.0, 46.0, BASE)]),
        (EVENTS, (BASE,), True, [("PCW", 20.0, 46.0, BASE)]),
        (EVENTS, (BASE, NITRO), False, [("PCW", 20.0, 46.0, BASE)]),
        (EVENTS, (BASE, NITRO), True, [("PCW", 20.0, 46.0, BASE), ("PCW_2", 46.0, 62.0, NITRO)]),
        (EVENTS, (BASE, NITRO, "milrinone"), True, [("PCW", 20.0, 46.0, BASE)]),
        (EVENTS, (NITRO,), True, [("PCW_2", 46.0, 62.0, NITRO)]),
        ({**EVENTS, "PCW_3": 50.0}, (BASE, NITRO), True, [("PCW", 20.0, 46.0, BASE)]),
        ({"PCW ": " 20 ", "PA": 9, "RA": "nd"}, (BASE,), False, [("PCW", 20.0, 62.0, BASE)]),
        ({"PCW_2": 5.0, "PCW": 30.0}, (BASE,), False, [("PCW_2", 5.0, 30.0, BASE)]),
        ({"PA": 5.0}, (BASE,), False, []),
        ([], (BASE,), False, []),
        (EVENTS, (), False, []),
    ],
)
def test_which_phase_a_wedge_position_belongs_to(events, phases, challenge, expected):
    found = wedges(events, phases=phases, challenge=challenge, end_s=62.0)
    assert found == [Wedge(*each) for each in expected]


def test_the_phase_after_a_challenge_is_taken_on_request_only(tmp_path):
    rows = (("Baseline", "24", "40", "nd", ""), ("Nitroprusside", "12", "25", "6,1", ""))
    folder = write(tmp_path, "TRM200-RHC1", challenge=1, rows=rows)
    assert [u.entry.labels["mpcwp_mmhg"] for u in open_scg_rhc(folder, {}).units] == [24.0]
    both = open_scg_rhc(folder, {"phases": "all"}).units
    assert [(u.entry.record_id, u.entry.labels["mpcwp_mmhg"], u.windows) for u in both] == [
        ("TRM200-RHC1/PCW", 24.0, 2),
        ("TRM200-RHC1/PCW_2", 12.0, 1),
    ]
    assert len({u.entry.split for u in both}) == 1


def test_a_wedge_without_end_is_cut_after_max_s(tmp_path):
    folder = write(tmp_path, "TRM107-RHC1", events={"PA": 3.0, "PCW": 11.0})
    (unit,) = open_scg_rhc(folder, {"max_s": "20"}).units
    assert (unit.wedge.end_s, unit.windows) == (31.0, 2)
    assert [e.record_id for e, _ in load_wedge(unit)] == ["TRM107-RHC1/PCW@21", "TRM107-RHC1/PCW@11"]


def test_what_gives_no_row_is_counted(tmp_path):
    write(tmp_path, "TRM101-RHC1")
    write(tmp_path, "TRM102-RHC1", rows=(("Baseline", "nd", "28", "nd", ""),))
    write(tmp_path, "TRM103-RHC1", events=[])
    write(tmp_path, "TRM104-RHC1", events={"PCW": 20.0, "PA": 29.0})
    write(tmp_path, "TRM105-RHC1", rows=(("Nitroprusside", "18", "28", "nd", ""),))
    cohort = open_scg_rhc(tmp_path, {})
    assert [u.entry.patient_id for u in cohort.units] == ["TRM101"]
    assert cohort.identity["wedges_left_out"] == "4"


@pytest.mark.parametrize(
    ("text", "litres"), [("5210", 5.21), ("4.3", 4.3), ("nd", math.nan), ("50", math.nan), ("", math.nan)]
)
def test_cardiac_output_in_millilitres_or_litres(text, litres):
    assert output_l_min(text) == pytest.approx(litres, nan_ok=True)


def test_a_record_cut_short_gives_no_window_from_before_the_wedge(tmp_path):
    folder = write(tmp_path, "TRM107-RHC1")
    write(tmp_path / "short", "TRM107-RHC1", seconds=60)
    for suffix in ("hea", "dat"):
        path = tmp_path / "short/processed_data" / f"TRM107-RHC1.{suffix}"
        (folder / "processed_data" / path.name).write_bytes(path.read_bytes())
    (unit,) = open_scg_rhc(folder, {"phases": "all"}).units
    cut = type(unit)(unit.entry, unit.record, unit.ecg, Wedge("PCW", 45.0, 75.0, "baseline"), 3)
    assert [e.record_id for e, _ in load_wedge(cut)] == ["TRM107-RHC1/PCW@50"]
    late = type(unit)(unit.entry, unit.record, unit.ecg, Wedge("PCW", 55.0, 75.0, "baseline"), 2)
    with pytest.raises(RecordError, match="samples end at 60 s, the wedge position begins at 55 s"):
        list(load_wedge(late))


def test_a_missing_channel_or_file_is_named(tmp_path):
    folder = write(tmp_path, "TRM107-RHC1")
    (unit,) = open_scg_rhc(folder, {}).units
    header = folder / "processed_data/TRM107-RHC1.hea"
    header.write_text(header.read_text().replace("ECG_lead_V1", "ECG_lead_V9"))
    with pytest.raises(
        RecordError, match="ECG_lead_I, ECG_lead_II, ECG_lead_V1 cannot be read from 10 to 46 s"
    ):
        list(load_wedge(unit))
    header.unlink()
    with pytest.raises(RecordError, match="is the download complete"):
        list(load_wedge(unit))


def test_wrong_folders_tables_and_options(tmp_path):
    with pytest.raises(RecordError, match="--from must name the folder of SCG-RHC"):
        open_scg_rhc(tmp_path, {})
    with pytest.raises(UsageError, match="--from DIR with processed_data/"):
        open_scg_rhc(None, {})
    folder = write(tmp_path / "a", "TRM107-RHC1")
    for options, says in (
        ({"ecg": "holter"}, "ecg is catheter or patch"),
        ({"phases": "first"}, "phases is baseline or all"),
        ({"max_s": "5"}, "max_s=5 is too small; the least is 10"),
    ):
        with pytest.raises(UsageError, match=says):
            open_scg_rhc(folder, options)
    twice = write(
        tmp_path / "b", "TRM107-RHC1", rows=(("Baseline", "17", "", "", ""), ("Baseline", "18", "", "", ""))
    )
    with pytest.raises(RecordError, match=r"TRM107\.RHC1 has the phase 'Baseline' twice"):
        open_scg_rhc(twice, {})
    (folder / "processed_data/TRM107-RHC1.json").write_text("{")
    with pytest.raises(RecordError, match=r"TRM107-RHC1\.json: damaged"):
        open_scg_rhc(folder, {})
    (folder / "processed_data/TRM107-RHC1.json").unlink()
    with pytest.raises(RecordError, match=r"no processed_data/TRM\*\.json here"):
        open_scg_rhc(folder, {})
