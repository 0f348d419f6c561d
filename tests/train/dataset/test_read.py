from __future__ import annotations

import gc
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgedge.errors import RecordError
from ecgedge_train.dataset import EcgDataset, build_dataset, open_dataset
from ecgedge_train.dataset import read as read_module


@pytest.fixture
def built(ptbxl_folder: Path, tmp_path: Path) -> Path:
    build_dataset(
        "ptbxl", from_dir=ptbxl_folder, out=tmp_path / "d", options={"jobs": "1", "shard_rows": "7"}
    )
    return tmp_path / "d"


@pytest.fixture
def data(built: Path) -> EcgDataset:
    return open_dataset(built)


def everything(built: Path) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(built.glob("shard-*.npy"))])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 29), max_size=40))
def test_gather_is_indexing_whatever_the_order_and_repeats(built, data, rows):
    expected = everything(built)[rows]
    assert np.array_equal(data.gather(rows, np.int16), expected)
    assert np.array_equal(data.gather(rows), expected.astype(np.float32) * np.float32(2.0**-12))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_gather_fills_the_buffer_it_is_given(data, dtype):
    rows = [29, 3, 3, 14]
    out = np.full((4, 12, 2500), 77, dtype)
    assert data.gather(rows, dtype, out=out) is out
    assert np.array_equal(out, data.gather(rows, dtype))


def test_gather_fills_a_tensor(data):
    batch = torch.zeros(2, 12, 2500, dtype=torch.int16)
    data.gather([5, 0], np.int16, out=batch.numpy())
    assert np.array_equal(batch.numpy(), data.gather([5, 0], np.int16))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((3, 12, 2500), np.int16),
        np.zeros((2, 12, 2500), np.float32),
        np.zeros((2, 2500, 12), np.int16).transpose(0, 2, 1),
    ],
)
def test_gather_refuses_a_buffer_that_does_not_fit(data, out):
    with pytest.raises(ValueError, match=r"out is .* expected int16 \(2, 12, 2500\)"):
        data.gather([0, 1], np.int16, out=out)


def test_gather_refuses_other_types(data):
    with pytest.raises(ValueError, match="float32"):
        data.gather([0], np.float64)


@pytest.fixture
def cold(monkeypatch):
    """No record is in memory."""
    monkeypatch.setattr(read_module.Shard, "in_memory", lambda *_: False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 29), max_size=40))
def test_what_is_not_in_memory_is_read_the_same(built, data, cold, rows):
    assert np.array_equal(data.gather(rows, np.int16), everything(built)[rows])
    assert np.array_equal(
        data.gather(rows), everything(built)[rows].astype(np.float32) * np.float32(2.0**-12)
    )


def test_what_is_not_in_memory_is_asked_for_at_once(data, cold, monkeypatch):
    done = []
    monkeypatch.setattr(
        read_module.Shard, "will_need", lambda self, a, b: done.append((self.path.name, a, b))
    )
    monkeypatch.setattr(read_module.Shard, "read", lambda *_: done.append("read"))
    data.gather([20, 3, 9, 2, 1, 3, 29, 8], np.int16)
    # Shards of 7 rows: what is adjacent makes one request, in the order on disk; the reading comes after.
    asked = [(0, 1, 4), (1, 1, 3), (2, 6, 7), (4, 1, 2)]
    assert done == [(f"shard-{n:05d}.npy", a, b) for n, a, b in asked] + ["read"] * 8


def test_a_batch_in_memory_is_not_asked_for(data, monkeypatch):
    monkeypatch.setattr(read_module.Shard, "in_memory", lambda *_: True)
    monkeypatch.setattr(read_module.Shard, "will_need", lambda *_: pytest.fail("asked"))
    data.gather([20, 3, 9], np.int16)


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="Linux only")
def test_the_probe_tells_what_is_in_memory(built, data):
    shard = data.shards[0]
    os.pread(shard._fd, 1 << 20, 0)
    assert shard.in_memory(3)
    assert not shard.in_memory(8)  # behind the end


def test_a_read_that_stops_halfway_goes_on(built, data, cold, monkeypatch):
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, into, *rest: preadv(fd, [into[0][:7001]], *rest))
    assert np.array_equal(data.gather([12, 4], np.int16), everything(built)[[12, 4]])


def test_a_system_without_preadv_and_fadvise_reads_the_same(built, monkeypatch):
    monkeypatch.setattr(read_module, "_NOWAIT", 0)
    monkeypatch.delattr(os, "preadv")
    monkeypatch.delattr(os, "posix_fadvise")
    rows = [20, 3, 9, 2]
    with ThreadPoolExecutor(4) as pool:
        data = open_dataset(built)
        for read in pool.map(lambda _: data.gather(rows, np.int16), range(20)):
            assert np.array_equal(read, everything(built)[rows])


def test_a_shard_cut_or_lost_while_it_is_open_is_an_error_not_noise(built, data, monkeypatch):
    os.truncate(built / "shard-00001.npy", 1000)
    with pytest.raises(RecordError, match=r"shard-00001.npy: ends inside row 6"):
        data.gather([0, 13])

    def fails(*_args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(RecordError, match=r"shard-00000.npy: row 0 cannot be read .*Input/output"):
        data.gather([0])


def test_prefetch_changes_nothing_and_takes_any_rows(data):
    before = data.gather([4, 4, 21, 0], np.int16)
    data.prefetch([4, 4, 21, 0])
    data.prefetch([])
    assert np.array_equal(data.gather([4, 4, 21, 0], np.int16), before)


def test_threads_may_gather_at_once(built, data):
    jobs = [np.random.default_rng(i).integers(0, 30, 16) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for rows, got in zip(jobs, pool.map(data.gather, jobs), strict=True):
            assert np.array_equal(got, everything(built)[rows].astype(np.float32) * np.float32(2.0**-12))


def test_opening_raises_the_limit_of_open_files_as_far_as_it_may(built, monkeypatch):
    resource = pytest.importorskip("resource", reason="POSIX only")
    made = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 4096))
    open_dataset(built)
    assert made == [(5 * (1 if sys.version_info >= (3, 13) else 2) + 256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    with pytest.raises(RecordError, match="has 5 shards, and this process may open 200 files"):
        open_dataset(built)


def test_a_dataset_that_is_dropped_closes_its_files(built):
    data = open_dataset(built)
    open_files = [shard._fd for shard in data.shards]
    del data
    gc.collect()
    for fd in open_files:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_select_partitions_the_rows(data):
    parts = [data.select(split=s) for s in ("train", "tune", "test", "holdout")]
    assert sorted(np.concatenate(parts)) == list(data.select())
    with pytest.raises(
        RecordError, match="no records in split 'validation'; it has: train, tune, test, holdout"
    ):
        data.select(split="validation")


def test_labels_are_nan_where_no_diagnosis_was_made(data):
    # Record 6 (6 % 7 = 6) has the statement SR alone, which is a rhythm, not a diagnosis.
    row = list(data.index["record_id"]).index("6")
    assert np.isnan(data.labels(data.info.classes, [row])).all()
    with pytest.raises(RecordError, match=r"'sex' is text, .*; it has: NORM, MI, STTC, CD, HYP, age"):
        data.labels(("sex",), [0])


def test_presence_is_one_for_each_measured_lead(data):
    assert data.presence([0, 1]).tolist() == [[1.0] * 12] * 2


def test_verify_finds_one_flipped_bit(built):
    open_dataset(built, verify=True)
    path = built / "shard-00002.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    open_dataset(built)
    with pytest.raises(RecordError, match=r"shard-00002.npy: is missing or its SHA-256 differs"):
        open_dataset(built, verify=True)


def test_a_truncated_shard_is_refused_without_verify(built):
    path = built / "shard-00001.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(RecordError, match=r"shard-00001.npy: is .* expected int16 \(7, 12, 2500\)"):
        open_dataset(built)


@pytest.mark.parametrize("name", ["shard-00000.npy", "index.parquet"])
def test_a_missing_file_is_named(built, name):
    (built / name).unlink()
    with pytest.raises(RecordError, match=f"{name}.*build the dataset again"):
        open_dataset(built)


def test_garbage_is_refused(built):
    (built / "shard-00000.npy").write_bytes(b"hello")
    with pytest.raises(RecordError, match="cannot be read"):
        open_dataset(built)
    (built / "index.parquet").write_bytes(b"hello")
    with pytest.raises(RecordError, match="index cannot be read"):
        open_dataset(built)
    (built / "dataset.json").write_text("{")
    with pytest.raises(RecordError, match="damaged"):
        open_dataset(built)


def test_another_format_version_is_refused(built):
    plain = json.loads((built / "dataset.json").read_text())
    (built / "dataset.json").write_text(json.dumps({**plain, "format_version": 2}))
    with pytest.raises(RecordError, match="format version 2, this ecgedge reads 1"):
        open_dataset(built)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(RecordError, match="make one with `ecgedge data build"):
        open_dataset(tmp_path)


def test_a_label_that_is_not_there_is_named_beside_those_that_are(data):
    with pytest.raises(RecordError, match=r"no label 'mpcwp_mmhg' to learn; it has: .*age"):
        data.labels(("age", "mpcwp_mmhg"), [0])


def test_an_empty_split_says_how_it_comes_and_what_to_do(data):
    with pytest.raises(RecordError, match=r"no records in split 'valid'; it has: train.*a column `split`"):
        data.select(split="valid")
