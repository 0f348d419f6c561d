from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgedge.errors import RecordError
from ecgedge_train.dataset import EcgDataset, build_dataset, open_dataset


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


def test_gather_refuses_other_types(data):
    with pytest.raises(ValueError, match="float32"):
        data.gather([0], np.float64)


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
    with pytest.raises(RecordError, match="no label 'sex' to learn; it has: NORM, MI, STTC, CD, HYP, age"):
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
