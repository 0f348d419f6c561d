"""Whole recordings: the rows are what a bed says, and the CSV says what each row is."""

import csv
import dataclasses

import numpy as np
import pytest
from hand_made import make_stream_bundle

from ecgedge.bundle import load_bundle
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError, UsageError
from ecgedge.events import Estimate
from ecgedge.leads import STANDARD_LEADS
from ecgedge.prediction import Prediction, predict, write_csv
from ecgedge.records import read
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("embedded")


def _simulated(seconds, *, seed=1, leads=STANDARD_LEADS, rate_hz=250.0):
    samples_mv = Simulator("stable", seed=seed, rate_hz=rate_hz).read(round(seconds * rate_hz))
    rows = [STANDARD_LEADS.index(lead) for lead in leads]
    return Recording(samples_mv[rows], rate_hz, leads, f"patient {seed}", mode="demo")


def test_rows_are_what_a_bed_says_however_it_is_fed(bundle):
    recording = _simulated(31.0, rate_hz=500.0)
    rows = predict(bundle, [recording])
    bed = Bed(bundle, leads=recording.leads, rate_hz=500.0, mode="demo")
    said = []
    for start in range(0, 15_500, 997):
        said += bed.push(recording.samples_mv[:, start : start + 997], t_s=start / 500.0)
    assert [row.estimate for row in rows] == [e for e in said if isinstance(e, Estimate)]
    assert [row.estimate.t_s for row in rows] == [10.0, 15.0, 20.0, 25.0, 30.0]


def test_recordings_do_not_know_of_each_other(bundle):
    one, two = _simulated(20.0, seed=1), _simulated(15.0, seed=2, leads=("I", "II"))
    together = predict(bundle, [one, two])
    assert together == predict(bundle, [one]) + predict(bundle, [two])
    assert [row.source for row in together] == ["patient 1"] * 3 + ["patient 2"] * 2
    assert {row.estimate.leads for row in together[3:]} == {("I", "II")}


def test_a_real_recording_stays_marked_by_what_the_bundle_was_trained_on(bundle, ecg_data):
    (row,) = predict(bundle, [read(ecg_data / "ludb" / "data" / "1.hea")])
    assert bundle.simulated
    assert row.estimate.mode == "demo"


def test_a_recording_shorter_than_a_window_is_refused(bundle):
    with pytest.raises(RecordError, match=r"patient 1: 9\.90 s is shorter than the model's window of 10 s"):
        predict(bundle, [_simulated(9.9)])


def test_no_recording_gives_no_row(bundle):
    assert predict(bundle, []) == []


def test_missing_samples_give_a_row_without_a_number(bundle):
    recording = _simulated(30.0)
    samples_mv = recording.samples_mv.copy()
    samples_mv[:, 3000:3500] = np.nan
    rows = predict(bundle, [dataclasses.replace(recording, samples_mv=samples_mv)])
    assert [row.estimate.validity == "invalid" for row in rows] == [False, True, True, False, False]
    assert all((row.estimate.mpcwp_mmhg is None) == (row.estimate.validity == "invalid") for row in rows)


def _csv(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_csv_holds_every_digit_and_says_what_it_is(bundle, tmp_path):
    rows = predict(bundle, [_simulated(20.0)])
    write_csv(tmp_path / "x.csv", rows)
    read_back = _csv(tmp_path / "x.csv")
    assert len(read_back) == len(rows)
    for row, plain in zip(rows, read_back, strict=True):
        e = row.estimate
        assert (plain["source"], plain["mode"], plain["use"]) == ("patient 1", "demo", "research use only")
        assert (float(plain["low_mmhg"]), float(plain["high_mmhg"])) == e.interval_mmhg
        for name in ("t_s", "mpcwp_mmhg", "p_gt_15", "p_gt_18", "sqi"):
            assert float(plain[name]) == getattr(e, name)
        assert (plain["validity"], plain["variant"]) == (e.validity, e.variant)


def test_absent_numbers_are_empty_and_other_heads_have_columns(tmp_path):
    classes = Estimate(
        10.0, None, None, None, None, "valid", None, 1.0, ("I",), "I/fp32", outputs={"p_MI": 0.5}
    )
    nothing = Estimate(15.0, None, None, None, None, "invalid", 'off: "I", II', 0.0, (), None)
    write_csv(tmp_path / "x.csv", [Prediction("a,b", classes), Prediction("a,b", nothing)])
    first, second = _csv(tmp_path / "x.csv")
    assert (first["source"], first["mpcwp_mmhg"], first["low_mmhg"], first["p_MI"]) == ("a,b", "", "", "0.5")
    assert (second["p_MI"], second["reason"], second["variant"]) == ("", 'off: "I", II', "")


def test_movement_is_a_column_and_the_rest_stays(bundle, tmp_path):
    recording = _simulated(16.0)
    plain, moved = (predict(bundle, [recording], movement=movement) for movement in (False, True))
    names = {f"{name}_movement" for name in ("mpcwp_mmhg", "p_gt_15", "p_gt_18")}
    for before, after in zip(plain, moved, strict=True):
        assert set(after.estimate.outputs) == {*before.estimate.outputs, *names}
        assert dataclasses.replace(after.estimate, outputs=before.estimate.outputs) == before.estimate
        assert 0.0 < after.estimate.outputs["mpcwp_mmhg_movement"] < 5.0
    write_csv(tmp_path / "moved.csv", moved)
    with (tmp_path / "moved.csv").open() as handle:
        assert names <= set(csv.DictReader(handle).fieldnames)
    assert predict(bundle, [recording], movement=True) == moved


def test_streaming_forms_have_no_movement(tmp_path):
    streaming = make_stream_bundle(tmp_path / "s.ecgb")
    with pytest.raises(UsageError, match="window form"):
        Variants(streaming, form="stream", movement=True)
