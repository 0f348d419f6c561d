"""Streams through beds: kept, resumed, refused; the same figures in any order and by any number of processes."""

import gzip
import json

import numpy as np
import pytest

from ecgedge.bundle import load_bundle
from ecgedge.ecg import Recording
from ecgedge.errors import BundleError, EcgedgeError, RecordError, UsageError
from ecgedge.records import write_npz
from ecgedge.replay import (
    Budget,
    GridAxes,
    Question,
    Served,
    SimulatedStream,
    episodes_of,
    find_recordings,
    judge,
    make_grid,
    render_text,
    replay_streams,
    to_json,
)
from ecgedge.replay.course import CourseStore, run_beds
from ecgedge.sim import Simulator

HOURS = 0.05
AXES = GridAxes((0.55, 0.7), (10.0, 30.0), (1.0,))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("embedded")


@pytest.fixture(scope="module")
def grid(bundle):
    return make_grid(AXES, bundle.manifest.alarm_policy, hop_s=bundle.manifest.hop_s)


@pytest.fixture(scope="module")
def streams():
    return tuple(SimulatedStream("decompensating", seed, HOURS) for seed in (3, 1, 2))


@pytest.fixture
def served(bundle, tmp_path):
    return Served("embedded", bundle.id, "ort", tmp_path / "work")


def evidence(bundle, grid, replayed, *, above_mmhg=10.0, **question):
    known = episodes_of(replayed, None, above_mmhg=above_mmhg)
    asked = Question(60.0, resamples=100, **question)
    return judge(replayed, known, grid, asked, bundle=bundle, engines=(("I/fp32", "ort"),), source="a test")


def test_neither_order_nor_jobs_nor_chunks_nor_the_work_folder_change_the_evidence(
    bundle, grid, streams, served
):
    alone = replay_streams(streams, grid.replayed, Served("embedded", bundle.id, "ort", chunk_s=7.0))
    told = []
    shared = replay_streams(streams[::-1], grid.replayed, served, jobs=2, tell=told.append)
    again = replay_streams(streams, grid.replayed, served)
    assert [r.stream.seed for r in shared] == [2, 1, 3]
    assert again == alone == shared[::-1]
    assert len(told) == 3
    assert all(line.endswith("windows") for line in told)
    one, other = evidence(bundle, grid, alone), evidence(bundle, grid, shared)
    assert one == other
    assert json.dumps(to_json(one)) == json.dumps(to_json(other))
    assert render_text(one) == render_text(other)


def test_what_is_kept_is_not_made_again(monkeypatch, grid, streams, served):
    whole = replay_streams(streams, grid.replayed, served)
    files = sorted((served.work / "estimates").iterdir())
    assert [f.name for f in files] == [f"sim-decompensating-{n}-0.05h.jsonl.gz" for n in (1, 2, 3)]
    files[1].unlink()  # as if the run had been killed before the second
    left = files[0].with_name(f".{files[1].name}.123.part")
    left.write_bytes(b"half a fi")
    made = []

    def counting(streams, *rest):
        made.extend(opened.key for opened in streams)
        return run_beds(streams, *rest)

    monkeypatch.setattr("ecgedge.replay.run.run_beds", counting)
    assert replay_streams(streams, grid.replayed, served) == whole
    assert made == ["sim-decompensating-2-0.05h"]


def test_equal_streams_give_equal_files(grid, streams, served, tmp_path, bundle):
    other = Served("embedded", bundle.id, "ort", tmp_path / "other", chunk_s=5.0)
    for each in (served, other):
        replay_streams(streams[:1], grid.replayed, each)
    (one,), (two,) = ([*(s.work / "estimates").iterdir()] for s in (served, other))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("setting", ["bundle", "engines", "ecgedge", "format"])
def test_estimates_of_something_else_are_refused(bundle, tmp_path, setting):
    CourseStore(tmp_path, bundle=bundle, engines={"I/fp32": "ort"})
    CourseStore(tmp_path, bundle=bundle, engines={"I/fp32": "ort"})
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), setting: "another"}))
    with pytest.raises(UsageError, match=f"made with {setting} 'another'.*another --work"):
        CourseStore(tmp_path, bundle=bundle, engines={"I/fp32": "ort"})


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_settings_are_told(bundle, tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(EcgedgeError, match="another --work"):
        CourseStore(tmp_path, bundle=bundle, engines={"I/fp32": "ort"})


@pytest.mark.parametrize("damage", ["cut", "rubbish", "another", "a wrong line"])
def test_damaged_estimates_are_told(grid, streams, served, damage):
    replay_streams(streams[:2], grid.replayed, served)
    first, second = sorted((served.work / "estimates").iterdir())
    whole = first.read_bytes()
    lines = gzip.decompress(whole).decode().splitlines()
    first.write_bytes(
        {
            "cut": whole[:-20],
            "rubbish": b"rubbish",
            "another": second.read_bytes(),
            "a wrong line": gzip.compress("\n".join([lines[0], '{"type":"alarm"}']).encode()),
        }[damage]
    )
    with pytest.raises(EcgedgeError, match="delete it, and it is made anew"):
        replay_streams(streams, grid.replayed, served)


def test_another_bundle_than_was_checked_is_refused(streams, grid):
    with pytest.raises(BundleError, match="was changed"):
        replay_streams(streams, grid.replayed, Served("embedded", "00" * 32))


def test_no_process_is_no_way(streams, grid, served):
    with pytest.raises(UsageError, match="--jobs is 0"):
        replay_streams(streams, grid.replayed, served, jobs=0)


# --- recordings --------------------------------------------------------------------------------------


def write(path, samples_mv, *, leads=("I", "II"), rate_hz=250.0):
    write_npz(Recording(np.ascontiguousarray(samples_mv), rate_hz, leads, mode="demo"), path)


def test_a_recording_that_changed_is_made_anew(grid, served, tmp_path):
    path = tmp_path / "one.npz"
    ecg_mv = Simulator("stable", seed=1, rate_hz=250.0).read(10_000)[:2]
    write(path, ecg_mv)
    (before,) = replay_streams(find_recordings([path]), grid.replayed, served)
    gap_mv = ecg_mv.copy()
    gap_mv[:, 5_000:6_000] = np.nan  # gaps stay in, as gaps
    write(path, gap_mv)
    (after,) = replay_streams(find_recordings([path]), grid.replayed, served)
    assert before.windows == after.windows == 7
    assert after.valid < before.valid
    assert len([*(served.work / "estimates").iterdir()]) == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_recording_that_cannot_be_used_is_named(grid, served, tmp_path, jobs):
    ecg_mv = Simulator("stable", seed=1, rate_hz=250.0).read(3_000)[:2]
    write(tmp_path / "good.npz", ecg_mv)
    write(tmp_path / "short.npz", ecg_mv[:, :2_000])
    with pytest.raises(RecordError, match=r"short\.npz: 8.00 s is shorter than the model's window of 10 s"):
        replay_streams(find_recordings([tmp_path]), grid.replayed, served, jobs=jobs)


def test_real_recordings(bundle, grid, served, ecg_data, tmp_path):
    """MIT-BIH: half an hour of two leads; nobody knows the pressure, so only alarms are counted."""
    streams = find_recordings([ecg_data / "long_2lead" / "mitdb" / "100.hea"])
    replayed = replay_streams(streams, grid.replayed, served)
    (found,) = replayed
    assert found.mode == "real"
    assert found.duration_s == pytest.approx(1805.56, abs=0.01)
    assert found.windows == 360
    e = evidence(bundle, grid, replayed)
    assert e.simulated_model
    assert not e.simulated_patients
    for s in e.compared.scores:
        assert s.score.patient_days == pytest.approx(1805.56 / 86_400, rel=1e-4)
        assert s.score.false_alarms_per_patient_day.value is None
        assert s.score.alarms_per_patient_day.value is not None
    assert any("--episodes" in note for note in e.notes)
    with pytest.raises(UsageError, match="--budget needs to know"):
        evidence(bundle, grid, replayed, budget=Budget(1.0))
