from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import needs
import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import condition
from ecgedge_train.dataset import build_dataset, describe_dataset, open_dataset, shards
from ecgedge_train.dataset.shards import window_counts, write_atomically

ONE = {"jobs": "1", "shard_rows": "8"}


def build(folder: Path, out: Path, **options: str):
    return build_dataset("ptbxl", from_dir=folder, out=out, options={**ONE, **options})


def content(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


def test_real_windows_are_what_the_front_end_makes_of_an_independent_reader(ecg_data, tmp_path):
    wfdb = needs.wfdb()
    info = build_dataset(
        "ptbxl", from_dir=ecg_data / "ptbxl", out=tmp_path / "d", options={"limit": "60", "jobs": "1"}
    )
    data = open_dataset(tmp_path / "d", verify=True)
    assert info.records == len(data) == 60
    assert not info.simulated
    assert "CC BY 4.0" in info.attribution
    for row in (0, 17, 59):
        number = int(data.index["record_id"][row])
        record = wfdb.rdrecord(str(ecg_data / f"ptbxl/records100/00000/{number:05d}_lr"))
        recording = Recording(record.p_signal.T.astype(np.float32), float(record.fs), STANDARD_LEADS)
        expected = condition(recording, FrontEndSpec()).counts
        assert np.array_equal(data.gather([row], np.int16)[0], expected)
        assert np.array_equal(data.gather([row])[0], expected.astype(np.float32) * 2.0**-12)


def test_real_labels_of_known_records(ecg_data, tmp_path):
    # Read by eye in ptbxl_database.csv: 1 NORM+LVOLT, 8 IMI, 17 patient 13619; scp_statements.csv maps them.
    build_dataset(
        "ptbxl", from_dir=ecg_data / "ptbxl", out=tmp_path / "d", options={"limit": "60", "jobs": "1"}
    )
    data = open_dataset(tmp_path / "d")
    index = data.index
    row = list(index["record_id"]).index("1")
    assert (index["patient_id"][row], index["time"][row]) == ("15709", "1984-11-09 09:17:34")
    assert (index["age"][row], index["sex"][row], index["fold"][row], index["split"][row]) == (
        56,
        "female",
        3,
        "train",
    )
    assert data.labels(data.info.classes, [row]).tolist() == [[1, 0, 0, 0, 0]]
    assert data.labels(data.info.classes, [list(index["record_id"]).index("8")]).tolist() == [[0, 1, 0, 0, 0]]


def test_samples_reach_the_shard_row_that_the_index_names(ptbxl_folder, tmp_path):
    info = build(ptbxl_folder, tmp_path / "d")
    data = open_dataset(tmp_path / "d")
    assert [s.rows for s in info.shards] == [8, 8, 8, 6]
    for row in range(30):
        shard = np.load(tmp_path / "d" / f"shard-{data.index['shard'][row]:05d}.npy")
        header = wfdb_recording(ptbxl_folder, int(data.index["record_id"][row]))
        assert np.array_equal(shard[data.index["row"][row]], condition(header, FrontEndSpec()).counts)


def wfdb_recording(folder: Path, ecg_id: int) -> Recording:
    wfdb = needs.wfdb()
    record = wfdb.rdrecord(str(folder / f"records100/00000/{ecg_id:05d}_lr"))
    return Recording(record.p_signal.T.astype(np.float32), float(record.fs), STANDARD_LEADS)


def test_counts_splits_and_envelope(ptbxl_folder, tmp_path):
    info = build(ptbxl_folder, tmp_path / "d")
    data = open_dataset(tmp_path / "d")
    # 15 patients, fold = patient % 10 + 1: folds 2-6 have two patients each, folds 1 and 7-10 one.
    assert {s: (c.records, c.patients) for s, c in info.splits.items()} == {
        "train": (24, 12), "tune": (2, 1), "test": (2, 1), "holdout": (2, 1)}  # fmt: skip
    windows_mv = data.gather(data.select(split="train")).astype(np.float64)
    low, high = np.percentile(windows_mv.std(axis=2), (0.5, 99.5), axis=0)
    assert info.envelope.leads == STANDARD_LEADS
    np.testing.assert_allclose(info.envelope.sd_low_mv, low, rtol=1e-5)
    np.testing.assert_allclose(info.envelope.sd_high_mv, high, rtol=1e-5)
    kept = info.for_run()
    assert (kept["records"], kept["patients"]) == (24, 12)
    assert kept["attribution"] == info.attribution


def test_every_number_of_processes_gives_the_same_bytes(ptbxl_folder, tmp_path):
    seen = []
    one = build(ptbxl_folder, tmp_path / "one")
    two = build_dataset("ptbxl", from_dir=ptbxl_folder, out=tmp_path / "two", options={**ONE, "jobs": "2"},
                        progress=lambda done, total: seen.append((done, total)))  # fmt: skip
    assert one == two
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert seen[-1] == (30, 30)
    assert seen == sorted(seen)


def test_a_second_build_of_the_same_does_nothing(ptbxl_folder, tmp_path):
    first = build(ptbxl_folder, tmp_path / "d")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "d").iterdir()}
    assert build(ptbxl_folder, tmp_path / "d") == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "d").iterdir()} == before


class StopError(Exception):
    """Stands for whatever ends a build."""


def test_an_interrupted_build_keeps_its_finished_shards_and_ends_the_same(ptbxl_folder, tmp_path):
    whole = build(ptbxl_folder, tmp_path / "whole")

    def stop(done: int, _total: int) -> None:
        if done == 20:  # in the middle of the third shard
            raise StopError

    out = tmp_path / "d"
    with pytest.raises(StopError):
        build_dataset("ptbxl", from_dir=ptbxl_folder, out=out, options=ONE, progress=stop)
    assert sorted(p.name for p in out.glob("*.npy")) == ["shard-00000.npy", "shard-00001.npy"]
    kept = {p: p.stat().st_mtime_ns for p in out.glob("*.npy")}
    with pytest.raises(RecordError, match="did not finish"):
        open_dataset(out)
    assert build(ptbxl_folder, out) == whole
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert content(out) == content(tmp_path / "whole")


def test_a_killed_build_continues(ptbxl_folder, tmp_path):
    whole = build(ptbxl_folder, tmp_path / "whole", shard_rows="1")
    out = tmp_path / "d"
    code = (
        "import time\nfrom pathlib import Path\nfrom ecgedge_train.dataset import build_dataset\n"
        "def hold(done, total):\n    print(done, flush=True)\n    time.sleep(600 if done == 7 else 0)\n"
        f"build_dataset('ptbxl', from_dir=Path({str(ptbxl_folder)!r}), out=Path({str(out)!r}), "
        "options={'jobs': '1', 'shard_rows': '1'}, progress=hold)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        # The build holds still in its seventh record; the ones before it are on the disk.
        while process.stdout.readline().strip() != "7":
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list(out.glob("parts/*.json"))
    assert not (out / "dataset.json").exists()
    assert build(ptbxl_folder, out, shard_rows="1") == whole
    assert content(out) == content(tmp_path / "whole")


def test_a_shard_damaged_before_the_end_is_written_again(ptbxl_folder, tmp_path):
    whole = build(ptbxl_folder, tmp_path / "whole")

    def stop(done: int, _total: int) -> None:
        if done == 20:
            raise StopError

    out = tmp_path / "d"
    with pytest.raises(StopError):
        build_dataset("ptbxl", from_dir=ptbxl_folder, out=out, options=ONE, progress=stop)
    damaged = bytearray((out / "shard-00000.npy").read_bytes())
    damaged[5000] ^= 1
    (out / "shard-00000.npy").write_bytes(damaged)
    assert build(ptbxl_folder, out) == whole
    assert content(out) == content(tmp_path / "whole")


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")

    def write(path: Path) -> None:
        path.write_text("half")
        raise StopError

    with pytest.raises(StopError):
        write_atomically(tmp_path / "a", write)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_a_folder_built_otherwise_is_refused(ptbxl_folder, tmp_path):
    build(ptbxl_folder, tmp_path / "d")
    with pytest.raises(RecordError, match=r"other options .*limit '' -> '10'.*choose another --out"):
        build(ptbxl_folder, tmp_path / "d", limit="10")


def test_a_folder_with_other_things_is_refused(ptbxl_folder, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("important")
    with pytest.raises(RecordError, match="is not empty and no dataset build"):
        build(ptbxl_folder, tmp_path / "d")


def test_a_patient_in_two_splits_is_refused(ptbxl_folder, tmp_path, edit_table):
    edit_table(1, "strat_fold", "9")
    with pytest.raises(RecordError, match="patient 1 would be in both 'test' and 'train'"):
        build(ptbxl_folder, tmp_path / "d")
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_a_record_that_cannot_be_read_is_left_out_and_named(ptbxl_folder, tmp_path):
    path = ptbxl_folder / "records100/00000/00007_lr.dat"
    path.write_bytes(path.read_bytes()[:-100])
    info = build(ptbxl_folder, tmp_path / "d")
    assert info.records == 29
    assert [r.record_id for r in info.refused] == ["7"]
    assert "incomplete" in info.refused[0].reason
    assert "7" not in open_dataset(tmp_path / "d").index["record_id"]


def test_too_many_unreadable_records_stop_the_build(ptbxl_folder, tmp_path):
    for number in (7, 8):
        (ptbxl_folder / f"records100/00000/{number:05d}_lr.dat").write_bytes(b"")
    with pytest.raises(RecordError, match=r"2 of 30 records cannot be used, over 5%.*00007_lr.dat"):
        build(ptbxl_folder, tmp_path / "d")


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("ptblx", {}, "unknown data source 'ptblx'; known sources: brugada, cinc2021"),
        ("ptbxl", {"limt": "3"}, "has no option 'limt'; it knows: rate=100"),
        ("ptbxl", {"limit": "few"}, "limit='few' is not a whole number"),
        ("ptbxl", {"jobs": "0"}, "jobs=0 is too small"),
        ("ptbxl", {"rate": "250"}, "rate is 100, 500 or best"),
        ("ptbxl", {"tune": "9"}, "each once"),
    ],
)
def test_wrong_options_are_named(ptbxl_folder, tmp_path, source, options, says):
    with pytest.raises(UsageError, match=says):
        build_dataset(source, from_dir=ptbxl_folder, out=tmp_path / "d", options=options)
    assert not (tmp_path / "d").exists()


def recording(seconds: float, leads: tuple[str, ...] = ("I", "II")) -> Recording:
    n = int(seconds * 250)
    wave = np.sin(np.arange(n) / 10).astype(np.float32)
    return Recording(np.tile(wave, (len(leads), 1)), 250.0, leads)


def test_leads_that_were_not_recorded_stay_zero_and_a_long_recording_gives_its_end():
    long = recording(14.0)
    window = window_counts(long, FrontEndSpec())
    assert window.shape == (12, 2500)
    assert not window[2:].any()
    assert np.array_equal(window[:2], condition(long, FrontEndSpec()).counts[:, -2500:])


def test_a_recording_shorter_than_the_window_is_refused():
    with pytest.raises(RecordError, match=r"9\.00 s long; a window needs 10 s"):
        window_counts(recording(9.0), FrontEndSpec())


def test_a_recording_a_few_samples_short_holds_its_last(tmp_path):
    window = window_counts(recording(9.96), FrontEndSpec())
    assert np.all(window[0, -11:] == window[0, -11])


def test_the_plan_on_disk_names_no_path(ptbxl_folder, tmp_path):
    build(ptbxl_folder, tmp_path / "d")
    for name in ("build.json", "dataset.json"):
        text = (tmp_path / "d" / name).read_text()
        assert str(tmp_path) not in text
        assert json.loads(text)["options"]["rate"] == "100"


def test_describe_says_what_is_there(ptbxl_folder, tmp_path):
    (ptbxl_folder / "records100/00000/00007_lr.dat").write_bytes(b"")
    text = describe_dataset(build(ptbxl_folder, tmp_path / "d"))
    assert "ptbxl: 29 records of 15 patients" in text
    assert "4 shards, 12 leads x 10 s at 250 Hz" in text
    assert "left out 1 records; the first: 7:" in text
    assert "CC BY 4.0" in text
    assert "SIMULATED" not in text


def test_a_bar_is_drawn_on_a_terminal_only(ptbxl_folder, tmp_path, monkeypatch, capsys):
    build(ptbxl_folder, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    build(ptbxl_folder, tmp_path / "bar")
    captured = capsys.readouterr()
    assert "building ptbxl" in captured.err
    assert captured.out == ""


def test_a_script_without_the_guard_is_told(ptbxl_folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom ecgedge_train.dataset import build_dataset\n"
        f"build_dataset('ptbxl', from_dir=Path({str(ptbxl_folder)!r}), out=Path({str(tmp_path / 'd')!r}), "
        "options={'jobs': '2', 'shard_rows': '8'})"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs the guard: if __name__ == '__main__'" in done.stderr


def test_a_shard_of_the_compiled_front_end_holds_the_same_bytes(ptbxl_folder, tmp_path, monkeypatch):
    slow = build(ptbxl_folder, tmp_path / "slow")
    monkeypatch.setattr(shards, "WORTH_COMPILING", 8)
    used = []
    monkeypatch.setattr(shards, "condition", lambda *_: used.append(1) or condition(*_))
    assert build(ptbxl_folder, tmp_path / "quick") == slow
    assert content(tmp_path / "quick") == content(tmp_path / "slow")
    assert len(used) == 6  # the last shard is shorter
