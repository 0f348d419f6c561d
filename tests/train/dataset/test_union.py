from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import records
from ecgedge.bundle import Envelope
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.schema import from_plain
from ecgedge_train import cohorts
from ecgedge_train.cohorts.cinc2021 import open_cinc2021
from ecgedge_train.cohorts.folder import open_folder
from ecgedge_train.cohorts.ptbxl import open_ptbxl
from ecgedge_train.cohorts.sim import open_sim
from ecgedge_train.dataset import build_dataset, open_dataset
from ecgedge_train.dataset.union import UnionDataset, same_people
from ecgedge_train.inference import TrainingData
from ecgedge_train.run import DataInfo

SOURCES = {"cinc2021": open_cinc2021, "folder": open_folder, "ptbxl": open_ptbxl, "sim": open_sim}


def build(monkeypatch_context, source, out, folder, **options):
    monkeypatch_context.setattr(cohorts, "COHORTS", SOURCES)
    build_dataset(source, out=out, from_dir=folder, options={"jobs": "1", **options})
    return open_dataset(out)


def write_recordings(folder, rows, *, leads=STANDARD_LEADS):
    """Noise of its own in each record; `rows` are lines of the table."""
    folder.mkdir()
    (folder / "labels.csv").write_text("\n".join(rows))
    names = rows[0].split(",")
    for i, row in enumerate(rows[1:]):
        cells = dict(zip(names, row.split(","), strict=True))
        wave = np.random.default_rng(i).normal(0, 0.1 + 0.05 * i, (len(leads), 2500)).astype(np.float32)
        records.write_npz(Recording(wave, 250.0, leads), folder / cells["file"])
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory, ecg_data):
    """A primary of own recordings, real Challenge records, and simulated patients."""
    base = tmp_path_factory.mktemp("union")
    table = ["file,patient_id,split,AF,age,note"]
    table += [
        f"{i}.npz,{i // 2},{('train', 'train', 'tune', 'test')[i // 2 % 4]},{i % 2},{40 + i},n{i}"
        for i in range(16)
    ]
    with pytest.MonkeyPatch.context() as patch:
        primary = build(
            patch, "folder", base / "a", write_recordings(base / "mine", table), classes="AF", name="mine"
        )
        other = build(patch, "cinc2021", base / "b", ecg_data / "cinc2021")
        sim = build(patch, "sim", base / "c", None, patients="4", recordings="2")
    return primary, other, sim


@pytest.fixture(scope="module")
def union(parts):
    return UnionDataset(parts[0], parts[1:])


def test_the_primary_keeps_its_rows_and_its_splits(parts, union):
    primary, other, sim = parts
    everything: TrainingData = union
    assert len(union) == len(primary) + len(other) + len(sim) == 16 + 40 + 8
    for split in ("tune", "test"):
        assert np.array_equal(everything.select(split=split), primary.select(split=split))
    train = union.select(split="train")
    assert train.tolist() == [*primary.select(split="train").tolist(), *range(16, 64)]
    assert union.select().tolist() == list(range(64))
    with pytest.raises(RecordError, match="no records in split 'holdout'; it has: train, tune, test"):
        union.select(split="holdout")


def test_no_row_of_another_dataset_is_ever_tuned_or_tested_on(parts, union):
    assert {"tune", "test"} <= set(parts[1].index["split"])
    held_out = np.concatenate([union.select(split="tune"), union.select(split="test")])
    assert set(union.index["dataset"][held_out]) == {"mine"}


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.integers(0, 63), max_size=20))
def test_a_batch_is_what_each_dataset_gives_row_by_row(parts, union, rows):
    starts = (0, 16, 56)
    owner = [max(k for k, start in enumerate(starts) if row >= start) for row in rows]
    for dtype in (np.float32, np.int16):
        expected = [parts[k].gather([row - starts[k]], dtype)[0] for k, row in zip(owner, rows, strict=True)]
        found = union.gather(rows, dtype)
        assert (found.shape, found.dtype) == ((len(rows), 12, 2500), np.dtype(dtype))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    present = union.presence(rows)
    labels = union.labels(("age", "AF", "mpcwp_mmhg"), rows) if rows else np.zeros((0, 3))
    for place, (k, row) in enumerate(zip(owner, rows, strict=True)):
        part, local = parts[k], row - starts[k]
        assert np.array_equal(present[place], part.presence([local])[0])
        for name, value in zip(("age", "AF", "mpcwp_mmhg"), labels[place], strict=True):
            told = part.labels((name,), [local])[0, 0] if name in part.info.labels else np.float32(np.nan)
            assert value == told or (np.isnan(value) and np.isnan(told))


def test_labels_that_nobody_has_are_refused(union):
    with pytest.raises(
        RecordError, match=r"mine\+cinc2021\+sim: the label 'note' is text, .*; it has: AF, age"
    ):
        union.labels(("note",), [0])
    with pytest.raises(RecordError, match=r"mine\+cinc2021\+sim: no label 'ef' to learn; it has: AF, age"):
        union.labels(("ef",), [0])


def test_ids_carry_the_dataset_and_text_that_is_lacking_is_empty(union):
    index = union.index
    assert index["patient_id"][0] == "mine:0"
    assert index["record_id"][16].startswith("cinc2021:")
    assert (index["note"][3], index["note"][20]) == ("n3", "")
    assert np.isnan(index["STach"][:16]).all()
    assert not np.isnan(index["STach"][16:56]).any()
    assert len(set(index["record_id"])) == 64
    assert "row" not in index
    assert all(len(column) == 64 for column in index.values())


def test_the_run_learns_what_it_was_trained_on(parts, union):
    kept = union.info.for_run()
    info = from_plain(DataInfo, json.loads(json.dumps(kept)))
    assert info.name == "mine+cinc2021+sim"
    assert info.simulated
    assert all(
        part.info.sha256 in info.attribution and part.info.attribution in info.attribution for part in parts
    )
    # Training records: 8 + 40 + 8; patients: 4, 40 records without a patient, 4 simulated.
    assert (info.records, info.patients) == (56, 48)
    assert not UnionDataset(parts[0], parts[1:2]).info.simulated
    assert union.info.classes[0] == "AF"
    assert union.info.sha256s == tuple(part.info.sha256 for part in parts)


def test_the_hash_follows_datasets_order_and_choice(parts):
    def sha256(*others, **options):
        return UnionDataset(parts[0], others, **options).info.sha256

    def first_out(_part, other):
        return np.arange(len(other)) == 0

    found = [
        sha256(),
        sha256(parts[1]),
        sha256(*parts[1:]),
        sha256(parts[2], parts[1]),
        sha256(parts[1], exclude=first_out),
    ]
    assert len(set(found)) == 5
    assert sha256(parts[1]) == found[1]


def test_excluded_records_are_gone_and_counted(parts):
    asked = []

    def odd(part, other):
        asked.append((part.info.name, other.info.name))
        return np.arange(len(other)) % 2 == 1

    union = UnionDataset(parts[0], parts[1:], exclude=odd)
    assert asked == [("mine", "cinc2021"), ("mine", "sim"), ("cinc2021", "sim")]
    assert union.info.left_out == (0, 20, 4)
    assert "20 records left out" in union.info.attribution
    assert np.array_equal(union.gather([17], np.int16)[0], parts[1].gather([2], np.int16)[0])


def test_the_envelope_is_the_hull(parts):
    def with_envelope(data, leads, low, high):
        return replace(data, info=replace(data.info, envelope=Envelope(leads, low, high)))

    a = with_envelope(parts[0], ("I", "V1"), (0.1, 0.3), (1.0, 2.0))
    b = with_envelope(parts[2], ("I", "II"), (0.2, 0.4), (1.5, 3.0))
    assert UnionDataset(a, [b]).info.envelope == Envelope(("I", "II", "V1"), (0.1, 0.4, 0.3), (1.5, 3.0, 2.0))


def test_what_cannot_be_joined_is_refused(parts):
    primary, other, _ = parts
    with pytest.raises(RecordError, match="two datasets have one name"):
        UnionDataset(primary, [primary])
    odd = replace(other, info=replace(other.info, front_end=replace(other.info.front_end, highpass_hz=0.05)))
    with pytest.raises(RecordError, match="cinc2021 and mine were built with different front ends"):
        UnionDataset(primary, [odd])
    text = replace(other, index={**other.index, "AF": np.array(["x"] * len(other), object)})
    with pytest.raises(RecordError, match="column 'AF' is number in mine, text in cinc2021"):
        UnionDataset(primary, [text])


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory, ecg_data):
    """Real PTB-XL, and Challenge folders with records 3, 5 and 4000 of it, with and without patients told."""
    base = tmp_path_factory.mktemp("overlap")
    headers = sorted((ecg_data / "cinc2021/ptbxl").glob("*.hea"))
    inside = base / "in" / "ptbxl"
    inside.mkdir(parents=True)
    for header, ecg_id in zip(headers, (3, 5, 4000, 4001), strict=False):
        text = header.read_text().replace(header.stem, f"HR{ecg_id:05d}")
        (inside / f"HR{ecg_id:05d}.hea").write_text(text)
        shutil.copyfile(header.with_suffix(".mat"), inside / f"HR{ecg_id:05d}.mat")
    shutil.copytree(ecg_data / "cinc2021/georgia", base / "in" / "georgia")
    with pytest.MonkeyPatch.context() as patch:
        ptbxl = build(patch, "ptbxl", base / "p", ecg_data / "ptbxl", limit="40")
        patient = dict(zip(ptbxl.index["record_id"], ptbxl.index["patient_id"], strict=True))
        # 4000 is another record of the patient of record 7, 4001 is nobody's in PTB-XL's first 40 records.
        rows = [f"{i},{patient[str(i)]}" for i in (3, 5)] + [f"4000,{patient['7']}.0", "4001,99999"]
        (base / "x.csv").write_text("\n".join(["ecg_id,patient_id", *rows]))
        told = build(patch, "cinc2021", base / "t", base / "in", ptbxl_csv=str(base / "x.csv"))
        untold = build(patch, "cinc2021", base / "u", base / "in")
    return ptbxl, told, untold


def test_ptbxl_records_in_the_challenge_are_left_out_by_record_and_by_patient(overlapping):
    ptbxl, told, untold = overlapping
    out = set(told.index["record_id"][same_people(ptbxl, told)])
    assert out == {"HR00003", "HR00005", "HR04000"}
    # Without ptbxl_csv, HR04001 may be anybody of PTB-XL's patients.
    assert set(untold.index["record_id"][same_people(ptbxl, untold)]) == out | {"HR04001"}
    assert UnionDataset(ptbxl, [told]).info.left_out == (0, 3)


def test_the_same_the_other_way_round(overlapping):
    ptbxl, told, untold = overlapping
    patients = set(ptbxl.index["patient_id"][np.isin(ptbxl.index["record_id"].astype(str), ["3", "5", "7"])])
    left = ptbxl.index["patient_id"][same_people(told, ptbxl)]
    assert set(left) == patients
    assert len(left) == sum(p in patients for p in ptbxl.index["patient_id"])
    # The patients of HR04000 and HR04001 are not told, so nobody of PTB-XL is safe.
    assert same_people(untold, ptbxl).all()


def test_datasets_of_different_origin_share_nobody(parts, overlapping):
    for part in (*parts[::2], overlapping[0]):
        for other in parts:
            if {part.info.name, other.info.name} != {"ptbxl", "cinc2021"}:
                assert not same_people(part, other).any()


def test_ptb_diagnostic_inside_the_challenge_has_no_patients(parts):
    _, challenge, sim = parts
    ids = challenge.index["record_id"].copy()
    ids[:3] = ["S0001", "S0002", "S0549"]
    challenge = replace(challenge, index={**challenge.index, "record_id": ids, "patient_id": ids})
    ptbdb = replace(sim, info=replace(sim.info, name="ptbdb"))
    assert np.flatnonzero(same_people(ptbdb, challenge)).tolist() == [0, 1, 2]
    assert same_people(challenge, ptbdb).all()
