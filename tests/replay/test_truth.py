"""Episodes: from a latent pressure, and from a table."""

import numpy as np
import pytest

from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge.records import write_npz
from ecgedge.replay import Episode, find_recordings, read_table, simulated_streams
from ecgedge.replay.truth import latent_episodes, require_inside
from ecgedge.sim import Simulator


@pytest.mark.parametrize(
    ("latent", "expected"),
    [
        ([10, 10, 10], []),
        ([10, 18.0, 10], []),  # at the threshold is not above it
        ([10, 19, 19, 10], [(120.0, 240.0)]),
        ([19, 10], [(60.0, 120.0)]),
        ([10, 19, 19], [(120.0, 200.0)]),  # to the end of the stream
        ([19] + [10] * 10 + [19, 10], [(60.0, 780.0)]),  # away for 10 minutes: it never left
        ([19] + [10] * 11 + [19, 10], [(60.0, 120.0), (780.0, 840.0)]),
    ],
)
def test_episodes_of_a_latent_pressure(latent, expected):
    duration_s = 200.0 if latent == [10, 19, 19] else 60.0 * len(latent) + 59.0
    found = latent_episodes(latent, above_mmhg=18.0, duration_s=duration_s)
    assert found == tuple(Episode(*e) for e in expected)


def test_a_simulated_rise_is_one_episode_to_the_end():
    latent = [Simulator("decompensating", seed=4).mpcwp_mmhg(60.0 * (k + 1)) for k in range(240)]
    (found,) = latent_episodes(latent, above_mmhg=18.0, duration_s=14_400.0)
    assert 60 * 60 < found.start_s < 80 * 60  # 18 mmHg is due after 70 min, give or take the wander
    assert found.end_s == 14_400.0


# --- recordings and their table ----------------------------------------------------------------------


@pytest.fixture
def ward(tmp_path):
    for name, patient in (("a/1", "anna"), ("a/2", "bert"), ("b/1", None)):
        path = tmp_path / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        samples_mv = np.zeros((2, 5000), np.float32)
        write_npz(Recording(samples_mv, 250.0, ("I", "II"), mode="test", patient_id=patient), path)
    return tmp_path


def table(ward, text):
    path = ward / "episodes.csv"
    path.write_text(text)
    return path


def test_folders_are_searched_in_the_order_of_names(ward):
    (ward / "a" / "notes.txt").write_text("no recording")
    found = find_recordings([ward / "b", ward / "a"])
    assert [s.name for s in found] == [(ward / n).as_posix() for n in ("b/1.npz", "a/1.npz", "a/2.npz")]
    assert all(s.patient == s.name for s in found)


def test_an_empty_folder_and_a_recording_given_twice_are_refused(ward):
    (ward / "none").mkdir()
    with pytest.raises(RecordError, match="no recording in this folder"):
        find_recordings([ward / "none"])
    with pytest.raises(UsageError, match="given twice"):
        find_recordings([ward / "a", ward / "a" / "1.npz"])


def test_a_table_names_records_patients_and_episodes(ward):
    streams = find_recordings([ward / "a", ward / "b"])
    text = f"record,patient_id,start_s,end_s\n2.npz,x,5,10\n{ward}/a/1.npz,x,,\n2,x,1.5,2\n"
    found = read_table(table(ward, text), streams)
    assert [s.patient for s in found.streams] == ["x", "x", streams[2].name]
    assert found.episodes == {
        streams[0].name: (),
        streams[1].name: (Episode(1.5, 2.0), Episode(5.0, 10.0)),
        streams[2].name: (),
    }


def test_a_table_may_go_by_the_recordings_own_patient_ids(ward):
    streams = find_recordings([ward / "a", ward / "b"])
    found = read_table(table(ward, "patient_id,start_s,end_s\nbert,1,2\n"), streams)
    assert found.episodes[streams[1].name] == (Episode(1.0, 2.0),)
    assert [s.patient for s in found.streams] == [streams[0].name, "bert", streams[2].name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its columns are none"),
        ("record,begin,end\n", "expected record or patient_id"),
        ("start_s,end_s\n1,2\n", "expected record or patient_id"),
        ("record,start_s,end_s\n", "no row"),
        ("record,start_s,end_s\n9.npz,1,2\n", "line 2: record '9.npz' is none of the recordings"),
        ("record,start_s,end_s\n1.npz,1,2\n", "may be any of"),
        ("patient_id,start_s,end_s\ncarl,1,2\n", "patient_id 'carl' is none"),
        ("record,start_s,end_s\n2,one,2\n", "start_s 'one'"),
        ("record,start_s,end_s\n2,3,2\n", "0 <= start_s < end_s"),
        ("record,start_s,end_s\n2,-1,2\n", "0 <= start_s < end_s"),
        ("record,start_s,end_s\n2,1,\n", "end_s ''"),
        ("record,start_s,end_s\n2,1,inf\n", "0 <= start_s < end_s"),
        ("record,start_s,end_s\n2,1,5\n2,4,6\n", "overlap"),
        ("record,patient_id,start_s,end_s\n2,x,1,5\n2,y,6,7\n", "is of patient 'x' in another row"),
        ("record,start_s\n2\n", "expected record"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(ward, text, words):
    with pytest.raises(UsageError, match=words):
        read_table(table(ward, text), find_recordings([ward]))


def test_a_missing_table_is_refused(ward):
    with pytest.raises(UsageError, match="cannot read the episodes"):
        read_table(ward / "nowhere.csv", find_recordings([ward]))


def test_episodes_must_lie_in_their_recording():
    require_inside([Episode(0.0, 100.0)], duration_s=60.0, name="r")  # a minute over is rounding
    with pytest.raises(UsageError, match="r ends at 60 s"):
        require_inside([Episode(60.0, 61.0)], duration_s=60.0, name="r")
    with pytest.raises(UsageError, match="from the start of the recording"):
        require_inside([Episode(10.0, 121.0)], duration_s=60.0, name="r")


# --- simulated patients ------------------------------------------------------------------------------


def test_no_seed_comes_twice():
    streams = simulated_streams(["stable:2", "decompensating:3", "stable:1"], first_seed=7)
    assert [(s.scenario, s.seed, s.hours) for s in streams] == [
        ("stable", 7, 24.0), ("stable", 8, 24.0), ("decompensating", 9, 4.0), ("decompensating", 10, 4.0),
        ("decompensating", 11, 4.0), ("stable", 12, 24.0),
    ]  # fmt: skip
    assert {s.hours for s in simulated_streams(["stable:1", "decompensating:1"], hours=0.5)} == {0.5}


@pytest.mark.parametrize(
    ("wanted", "options", "words"),
    [
        (["stabel:5"], {}, "known scenarios: stable"),
        (["stable"], {}, "expected SCENARIO:PATIENTS"),
        (["stable:0"], {}, "expected SCENARIO:PATIENTS"),
        (["stable:²"], {}, "expected SCENARIO:PATIENTS"),
        (["stable:1"], {"first_seed": -1}, "--first-seed"),
        (["stable:1"], {"hours": 0.0}, "--hours"),
        (["stable:1"], {"hours": float("nan")}, "--hours"),
    ],
)
def test_a_cohort_that_cannot_be_is_refused(wanted, options, words):
    with pytest.raises(UsageError, match=words):
        simulated_streams(wanted, **options)
