"""MIMIC-IV-ECG: small files of the published layout (12 leads, 500 Hz, 5,000 samples, format 16)."""

from __future__ import annotations

import gzip
import math
from datetime import datetime, timedelta
from pathlib import Path

import needs
import numpy as np
import pytest

from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.cohorts import mimic_iv_ecg
from ecgedge_train.cohorts.mimic_iv_ecg import Events, load_record, nearest, open_mimic, read_events

LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
"""The order of MIMIC-IV-ECG's files: aVF before aVL."""
EVENT_HEADER = (
    "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,warning"
)
NOON = datetime(2150, 5, 10, 12)  # noqa: DTZ001 - shifted local times, as in the tables


def event(subject: int, hours: float, item: int, value: float | str) -> str:
    time = NOON + timedelta(hours=hours)
    return f'{subject},2,3,4,{time},{time},{item},"{value}",{value},mmHg,0'


def write(
    folder: Path, subjects: list[int], events: list[str] | None, *, name: str = "chartevents.csv.gz"
) -> Path:
    lines = ["subject_id,study_id,file_name,ecg_time,path"]
    for number, subject in enumerate(subjects):
        study = 40_000_000 + number
        lines.append(
            f"{subject},{study},{study},{NOON},files/p{subject // 10000}/p{subject}/s{study}/{study}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record_list.csv").write_text("\n".join(lines) + "\n")
    if events is not None:
        (folder / "icu").mkdir(exist_ok=True)
        text = "\n".join([EVENT_HEADER, *events]) + "\n"
        path = folder / "icu" / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return folder


def labels(cohort) -> list[tuple[float, ...]]:
    return [unit.values for unit in cohort.units]


def test_the_nearest_value_in_time_is_joined(tmp_path):
    folder = write(
        tmp_path, [10_000_032, 10_000_980],
        [event(10_000_032, -3.0, 223771, 14), event(10_000_032, 2.0, 223771, 21), event(10_000_032, 30.0, 223771, 9),
         event(10_000_032, -1.0, 220061, 33), event(10_000_032, 0.5, 220088, 4.5), event(10_000_032, 0.2, 224842, 5.5),
         event(10_000_032, 0.0, 220045, 80), event(10_000_999, 0.0, 223771, 40)],
    )  # fmt: skip
    first, second = labels(open_mimic(folder, {}))
    assert first == (21.0, 33.0, 5.5, 2.0)
    assert all(math.isnan(value) for value in second)


def test_a_value_out_of_the_window_is_none(tmp_path):
    folder = write(tmp_path, [10_000_032], [event(10_000_032, -25.0, 223771, 14)])
    assert math.isnan(labels(open_mimic(folder, {}))[0][0])
    assert labels(open_mimic(folder, {"window_h": "25"}))[0][0] == 14.0
    assert labels(open_mimic(folder, {"window_h": "25"}))[0][3] == -25.0


def test_values_that_no_heart_has_are_dropped_and_counted(tmp_path):
    folder = write(
        tmp_path, [10_000_032],
        [event(10_000_032, 0.0, 223771, 0), event(10_000_032, 0.5, 223771, 312), event(10_000_032, 4.0, 223771, 17),
         event(10_000_032, 0.0, 220061, -8), "10000032,2,3,4,2150-05-10 12:00:00,,223771,unable,,mmHg,0"],
    )  # fmt: skip
    cohort = open_mimic(folder, {})
    assert labels(cohort)[0][:2] == pytest.approx((17.0, math.nan), nan_ok=True)
    assert cohort.identity["values_dropped"] == "3"


def test_a_mean_pressure_follows_from_systolic_and_diastolic_of_the_same_minute(tmp_path):
    folder = write(
        tmp_path, [10_000_032, 10_000_980],
        [event(10_000_032, 0.0, 220059, 40), event(10_000_032, 0.0, 220060, 16), event(10_000_032, 1.0, 220061, 31),
         event(10_000_980, 0.0, 220059, 40), event(10_000_980, 1.0, 220060, 16)],
    )  # fmt: skip
    first, second = labels(open_mimic(folder, {}))
    assert first[1] == pytest.approx(24.0)  # (40 + 2 x 16) / 3, nearer than the charted 31
    assert math.isnan(second[1])


@pytest.mark.parametrize("name", ["chartevents.csv", "chartevents.csv.gz"])
def test_chartevents_is_streamed_and_found_in_either_form(tmp_path, monkeypatch, name):
    """In blocks of 4 kB a file of 1 MB goes through; only the wanted rows are ever kept."""
    real = mimic_iv_ecg.csv.ReadOptions
    monkeypatch.setattr(mimic_iv_ecg.csv, "ReadOptions", lambda **_: real(block_size=4096))
    noise = [event(10_000_032, k / 60, 220045, 80) for k in range(12_000)]
    noise[7_000:7_000] = [event(10_000_032, 1.0, 223771, 19)]
    folder = write(tmp_path, [10_000_032], noise, name=name)
    batches = [batch.num_rows for batch in mimic_iv_ecg._blocks(folder / "icu" / name)]
    assert len(batches) > 100
    assert max(batches) < 200
    assert labels(open_mimic(folder, {}))[0][0] == 19.0
    events, dropped = read_events(folder / "icu" / name, subjects=np.array([10_000_032]))
    assert (len(events["mpcwp_mmhg"].key), dropped) == (1, 0)


def test_nearest_is_what_a_plain_search_finds():
    rng = np.random.default_rng(3)
    subjects, seconds = rng.integers(1, 6, 300), rng.integers(5_600_000_000, 5_600_090_000, 300)
    key = np.sort(subjects * mimic_iv_ecg._SUBJECT_S + seconds)
    events = Events(key, rng.normal(size=300))
    asked = rng.integers(1, 7, 100) * mimic_iv_ecg._SUBJECT_S + rng.integers(
        5_600_000_000, 5_600_090_000, 100
    )
    value, apart = nearest(events, asked, window_s=300.0)
    for k, q in enumerate(asked):
        near = [
            (abs(t - q), t, v) for t, v in zip(events.key, events.value, strict=True) if abs(t - q) <= 300
        ]
        if near:
            distance, t, v = min(near)
            assert (abs(apart[k]), value[k]) == (distance, v)
            assert t // mimic_iv_ecg._SUBJECT_S == q // mimic_iv_ecg._SUBJECT_S
        else:
            assert math.isnan(value[k])
    assert np.isfinite(value).sum() > 10


def test_nothing_charted_gives_nothing():
    value, apart = nearest(Events(np.zeros(0, np.int64), np.zeros(0)), np.array([5]), window_s=1.0)
    assert np.isnan(value).all()
    assert np.isnan(apart).all()


def test_only_labelled_records_are_kept_on_request(tmp_path):
    folder = write(tmp_path, [10_000_032, 10_000_980], [event(10_000_980, 0.0, 223771, 25)])
    assert [u.patient_id for u in open_mimic(folder, {"labelled": "1"}).units] == ["10000980"]
    assert len(open_mimic(folder, {"limit": "1"}).units) == 1


def test_without_chartevents_every_label_is_unknown(tmp_path):
    folder = write(tmp_path, [10_000_032], None)
    assert all(math.isnan(value) for value in labels(open_mimic(folder, {}))[0])
    with pytest.raises(RecordError, match=r"no record has a wedge pressure .* chartevents=PATH"):
        open_mimic(folder, {"labelled": "1"})


def test_a_file_elsewhere_can_be_named_and_its_path_stays_private(tmp_path):
    write(tmp_path / "clinical", [1], [event(10_000_032, 0.0, 223771, 12)])
    folder = write(tmp_path / "ecg", [10_000_032], None)
    cohort = open_mimic(folder, {"chartevents": str(tmp_path / "clinical/icu/chartevents.csv.gz")})
    assert labels(cohort)[0][0] == 12.0
    assert str(tmp_path) not in str(cohort.identity)


def test_other_pressures_make_another_dataset(tmp_path):
    folder = write(tmp_path, [10_000_032], [event(10_000_032, 0.0, 223771, 12)])
    before = open_mimic(folder, {}).identity
    write(tmp_path, [10_000_032], [event(10_000_032, 0.0, 223771, 13)])
    assert open_mimic(folder, {}).identity != before


def test_a_record_of_the_published_layout_is_read_in_standard_order(tmp_path, write_record):
    folder = write(tmp_path, [10_000_032], [event(10_000_032, 1.5, 223771, 22)])
    (unit,) = open_mimic(folder, {}).units
    stem = Path(unit.header).with_suffix("")
    stem.parent.mkdir(parents=True)
    signal_mv = np.arange(12)[None, :] * 0.1 + np.sin(np.arange(5000) / 50)[:, None]
    write_record(stem, np.round(signal_mv, 2), 500, LEADS, gain=200)
    wfdb = needs.wfdb()
    theirs = wfdb.rdrecord(str(stem))
    assert (theirs.fs, theirs.sig_len, theirs.fmt[0], theirs.sig_name) == (500, 5000, "16", LEADS)
    ((entry, recording),) = load_record(unit)
    assert recording.leads == STANDARD_LEADS
    order = [LEADS.index(lead) for lead in STANDARD_LEADS]
    np.testing.assert_array_equal(recording.samples_mv, theirs.p_signal.T[order].astype(np.float32))
    assert (entry.record_id, entry.patient_id, entry.time) == ("40000000", "10000032", "2150-05-10 12:00:00")
    assert entry.labels["mpcwp_mmhg"] == 22.0
    assert entry.labels["hours_apart"] == 1.5


def test_both_records_of_a_subject_are_in_one_split(tmp_path, write_record):
    subjects = [10_000_000 + n // 2 for n in range(80)]
    cohort = open_mimic(write(tmp_path, subjects, None), {})
    splits: dict[str, set[str]] = {}
    for unit in cohort.units:
        stem = Path(unit.header).with_suffix("")
        stem.parent.mkdir(parents=True)
        write_record(stem, np.zeros((1, 1)), 500, ["I"])
        ((entry, _),) = load_record(unit)
        splits.setdefault(entry.patient_id, set()).add(entry.split)
    assert {len(found) for found in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "tune", "test"}


def test_wrong_folders_files_and_options(tmp_path):
    with pytest.raises(RecordError, match=r"record_list\.csv: cannot be read .* --from must name"):
        open_mimic(tmp_path, {})
    with pytest.raises(UsageError, match=r"--from DIR with record_list\.csv"):
        open_mimic(None, {})
    folder = write(tmp_path / "a", [10_000_032], [event(10_000_032, 0.0, 223771, 12)])
    for options, says in (
        ({"window_h": "0"}, "window_h=0 is too small"),
        ({"labelled": "2"}, "labelled is 0 or 1"),
        ({"chartevents": "/no/such.csv"}, r"/no/such\.csv: no such file; name icu/chartevents"),
        ({"windows": "1"}, "has no option 'windows'"),
    ):
        with pytest.raises(UsageError, match=says):
            open_mimic(folder, options)
    (folder / "icu/chartevents.csv.gz").write_bytes(gzip.compress(b"subject_id,charttime\n1,2\n"))
    with pytest.raises(RecordError, match=r"cannot be read as MIMIC-IV's chartevents .*itemid"):
        open_mimic(folder, {})
    (folder / "record_list.csv").write_text("subject_id,study_id\n1,2\n")
    with pytest.raises(RecordError, match="columns subject_id, study_id, ecg_time, path"):
        open_mimic(folder, {})
