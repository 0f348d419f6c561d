"""The QRS detector against annotations of people's ECGs, and the distance against a change of phase."""

import needs
import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import FrontEnd, counts_to_mv
from ecgedge_train.distances.l2 import l2_matrix
from ecgedge_train.distances.median_beat import (
    AFTER,
    BEFORE,
    W_MEAN_PER_S,
    W_SD_PER_S,
    median_beat_matrix,
    median_beats,
    r_peaks,
)

wfdb = needs.wfdb()

# wfdb's annotation reader uses what pandas is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

SPEC = FrontEndSpec()
TOLERANCE_S = 0.1


def conditioned(path, seconds=None):
    """Return (leads, m) mV at 250 Hz and the front end's delay in seconds."""
    record = wfdb.rdrecord(str(path))
    stop = None if seconds is None else int(seconds * record.fs)
    samples = np.ascontiguousarray(record.p_signal.T[:, :stop], dtype=np.float32)
    front_end = FrontEnd(SPEC, n_leads=len(samples), rate_hz=float(record.fs))
    return counts_to_mv(front_end.push(samples).counts, SPEC), front_end.delay_s


def annotated_s(path, extension, symbols):
    rate_hz = wfdb.rdheader(str(path)).fs
    annotation = wfdb.rdann(str(path), extension)
    pairs = zip(annotation.sample, annotation.symbol, strict=True)
    return np.array([sample for sample, symbol in pairs if symbol in symbols]) / rate_hz


def count(found_s, truth_s, first_s, last_s):
    """Return (hits, missed, extra) among what lies between the two times."""

    def unmatched(some, others):
        inside = some[(some >= first_s) & (some <= last_s)]
        nearest = np.abs(inside[:, None] - others).min(axis=1, initial=np.inf)
        return len(inside), int((nearest > TOLERANCE_S).sum())

    n_true, missed = unmatched(truth_s, found_s)
    return np.array([n_true - missed, missed, unmatched(found_s, truth_s)[1]])


def test_mit_bih_100(ecg_data):
    """Half an hour cut into windows of 10 s: sensitivity and precision of 0.99 at least."""
    path = ecg_data / "long_2lead" / "mitdb" / "100"
    ecg, delay_s = conditioned(path)
    truth_s = annotated_s(path, "atr", "NAV") + delay_s
    windows = ecg[:, : 180 * 2500].reshape(2, 180, 2500).swapaxes(0, 1)
    total = np.zeros(3, int)
    for k, peaks in enumerate(r_peaks(windows)[1:], start=1):  # the filters settle in the first
        total += count(10 * k + peaks / 250, truth_s, 10 * k + 0.5, 10 * k + 9.5)
    hits, missed, extra = total
    assert hits > 2000
    assert hits / (hits + missed) >= 0.99
    assert hits / (hits + extra) >= 0.99


def test_ludb_12_leads(ecg_data):
    """Many of these people have bundle branch blocks, hypertrophy or fibrillation."""
    total = np.zeros(3, int)
    for header in (ecg_data / "ludb" / "data").glob("*.hea"):
        path = header.with_suffix("")
        ecg, delay_s = conditioned(path)
        truth_s = annotated_s(path, "ii", "N") + delay_s
        # The first and last beats of a record are not annotated.
        total += count(r_peaks(ecg[None])[0] / 250, truth_s, truth_s.min() - 0.05, truth_s.max() + 0.05)
    hits, missed, extra = total
    assert hits > 500
    assert hits / (hits + missed) >= 0.99
    assert hits / (hits + extra) >= 0.99


def test_the_phase_of_the_window_hardly_counts(ecg_data):
    """Three people, three windows each, cut at another phase: everybody's nearest is himself; not so by L2."""
    windows = []
    for record in ("mitdb/100", "mitdb/105", "stdb/300"):
        ecg, _ = conditioned(ecg_data / "long_2lead" / record, seconds=90)
        windows += [ecg[:, start : start + 2500] for start in (5000, 5090, 15050)]
    batch = np.stack(windows)
    person = np.arange(9) // 3
    beat, euclid = median_beat_matrix(batch), l2_matrix(batch)
    nearest = [np.argmin(d + np.diag(np.full(9, np.inf)), axis=1) for d in (beat, euclid)]
    assert (person[nearest[0]] == person).all()
    assert (person[nearest[1]] != person).any()
    shifted = ([0, 3, 6], [1, 4, 7])
    others = beat[person[:, None] != person].min()
    assert (beat[shifted] < 0.1 * others).all()
    assert (euclid[shifted] > 0.5 * np.median(euclid[person[:, None] != person])).all()


def train_of_beats(starts, *, amplitude=1.0, samples=2500):
    """(3, samples): a QRS-like pair of flanks at each start, of three gains."""
    t = np.arange(samples)
    ecg = sum(amplitude * np.exp(-0.5 * ((t - s) / 4.0) ** 2) for s in starts)
    return (np.array([[1.0], [-0.5], [0.2]]) * ecg).astype(np.float32)


REGULAR, SLOW = range(150, 2400, 200), range(150, 2400, 250)


def test_peaks_are_where_the_beats_are():
    peaks = r_peaks(train_of_beats(REGULAR)[None])[0]
    np.testing.assert_allclose(peaks, list(REGULAR), atol=1)


def test_median_beat_leaves_one_strange_beat_out():
    ecg = train_of_beats(REGULAR)
    ecg[:, 1130:1170] *= 1.5
    found = median_beats(ecg[None])
    assert found.beats_mv.shape == (1, 3, BEFORE + AFTER)
    np.testing.assert_allclose(found.beats_mv[0], ecg[:, 550 - BEFORE : 550 + AFTER], atol=0.03)
    assert found.rr_mean_s[0] == pytest.approx(0.8, abs=1e-3)
    assert found.rr_sd_s[0] < 0.005
    assert found.n_beats[0] == len(REGULAR)


def test_the_formula():
    batch = np.stack([train_of_beats(REGULAR), train_of_beats(SLOW, amplitude=1.2)])
    found = median_beats(batch)
    shape = np.linalg.norm(found.beats_mv[0] - found.beats_mv[1])
    mean, spread = (np.diff(x)[0] for x in (found.rr_mean_s, found.rr_sd_s))
    expected = np.sqrt(shape**2 + (W_MEAN_PER_S * mean) ** 2 + (W_SD_PER_S * spread) ** 2)
    assert median_beat_matrix(batch)[0, 1] == pytest.approx(expected, rel=1e-5)
    assert abs(mean) == pytest.approx(0.2, abs=1e-3)


def test_an_absent_lead_neither_detects_nor_counts():
    noise = np.random.default_rng(0).normal(size=2500).astype(np.float32)
    batch = np.stack([train_of_beats(REGULAR), train_of_beats(REGULAR), train_of_beats(SLOW)])
    spoiled = batch.copy()
    spoiled[0, 2] = noise
    presence = np.ones((3, 3), np.float32)
    presence[0, 2] = 0
    zeroed = batch * presence[:, :, None]
    np.testing.assert_array_equal(median_beat_matrix(spoiled, presence), median_beat_matrix(zeroed, presence))
    assert median_beat_matrix(spoiled, presence)[0, 1] == pytest.approx(0.0, abs=1e-3)


def test_windows_without_beats_are_compared_as_they_are():
    flat, two_beats = np.zeros((3, 2500), np.float32), train_of_beats([500, 1500])
    batch = np.stack([flat, two_beats, train_of_beats(REGULAR), train_of_beats(SLOW)])
    found = median_beat_matrix(batch)
    plain = l2_matrix(batch) * ((BEFORE + AFTER) / 2500) ** 0.5
    np.testing.assert_allclose(found[:2], plain[:2], rtol=1e-6)
    assert found[2, 3] != pytest.approx(plain[2, 3], rel=0.1)
    assert np.isfinite(found).all()
    assert (found == found.T).all()
    assert (np.diag(found) == 0).all()
