"""DTW against dtaidistance and the reference numbers, on synthetic and on real ECGs."""

import json
import threading
import time

import numpy as np
import pytest
from dtaidistance import dtw_ndim
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.records import read
from ecgedge.signal import condition, counts_to_mv
from ecgedge_train.distances.dtw import band_radius, dtw_matrix, dtw_pair, piecewise_mean
from ecgedge_train.distances.l2 import l2_matrix


def reference(a, b, radius):
    """(leads, T) each; dtaidistance wants (time, leads) and counts its window one more."""
    first, second = (np.ascontiguousarray(x.T, dtype=np.float64) for x in (a, b))
    return dtw_ndim.distance_fast(first, second, window=radius + 1)


def windows_of(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def published(oracles):
    return json.loads((oracles / "dtw_axis.json").read_text("utf-8"))


def bumps(shift):
    c, t = np.arange(3)[:, None], np.arange(60)
    wave = np.sin(0.2 * (c + 1) * (t - shift) / 3)
    return wave + 0.5 * np.exp(-0.5 * ((t - 20 - shift) / 2) ** 2) * (c - 1)


def test_time_is_warped_and_leads_are_not(published):
    a, b = bumps(0), bumps(5)
    batch = np.stack([a, b, 0.2 * a + 0.3]).astype(np.float32)
    found = dtw_matrix(batch, band_fraction=1.0, paa=1)
    expected = published["dtw_ndim_time_lead_shape_(time,leads)"]
    assert [found[0, 1], found[0, 2], found[1, 2]] == pytest.approx(
        [expected["ab"], expected["ac"], expected["bc"]], rel=1e-6
    )
    # The published axes gave the Euclidean distance; ours is far below it for a shifted copy.
    assert l2_matrix(batch)[0, 1] == pytest.approx(published["frobenius_euclidean"]["ab"], rel=1e-6)
    assert found[0, 1] < 0.3 * l2_matrix(batch)[0, 1]


def test_one_lead_with_and_without_a_band(published):
    numbers = published["dtw1d"]
    x, y = (np.array(numbers[name], np.float32)[None] for name in "xy")
    assert dtw_pair(x, y) == pytest.approx(numbers["dist"], rel=1e-6)
    assert dtw_pair(x, y, band_fraction=1 / 9) == pytest.approx(numbers["dist_window2"], rel=1e-6)


@pytest.mark.parametrize(
    ("batch", "leads", "samples", "band_fraction"),
    [
        (2, 1, 30, 1.0),
        (5, 3, 60, 0.0),
        (5, 4, 61, 0.1),
        (9, 12, 50, 0.33),
        (66, 2, 20, 0.2),
        (67, 5, 20, 1.0),
    ],
)
def test_every_pair_is_dtaidistances(batch, leads, samples, band_fraction):
    """Odd and even rings, more pairs an anchor than lanes, leads that fill no whole pass."""
    windows = windows_of(batch, (batch, leads, samples))
    radius = band_radius(samples, band_fraction)
    expected = np.array([[reference(a, b, radius) for b in windows] for a in windows])
    found = dtw_matrix(windows, band_fraction=band_fraction, paa=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def real(ecg_data):
    """Three windows of 12 x 2500 from people, through the front end."""
    spec = FrontEndSpec()
    records = [read(ecg_data / "ludb" / "data" / f"{k}.hea") for k in (1, 2, 8)]
    return np.stack([counts_to_mv(condition(r, spec).counts, spec) for r in records])


@pytest.mark.parametrize(("band_fraction", "paa"), [(1.0, 1), (0.1, 1), (0.05, 4), (0.05, 7)])
def test_real_ecgs(real, band_fraction, paa):
    assert real.shape == (3, 12, 2500)
    starts = range(0, 2500, paa)
    frames = np.stack([real[..., s : s + paa].astype(np.float64).mean(axis=-1) for s in starts], axis=-1)
    radius = band_radius(len(starts), band_fraction)
    found = dtw_matrix(real, band_fraction=band_fraction, paa=paa)
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        expected = np.sqrt(paa) * reference(frames[a], frames[b], radius)
        assert found[a, b] == pytest.approx(expected, rel=1e-5)


def test_a_shifted_ecg_is_near_itself(real):
    """Four times nearer than by the Euclidean distance, and nearer than anybody (a path's two ends cannot slide)."""
    ecg, shifted, other = real[0][:, 20:2420], real[0][:, :2400], real[1][:, :2400]
    found, euclid = (f(np.stack([ecg, shifted, other])) for f in (dtw_matrix, l2_matrix))
    assert found[0, 1] < 0.25 * euclid[0, 1]
    assert found[0, 1] < 0.5 * found[0, 2]


def test_a_pair_is_compared_on_its_common_leads():
    windows = windows_of(3, (7, 6, 40))
    presence = (np.random.default_rng(4).random((7, 6)) < 0.6).astype(np.float32)
    presence[0], presence[1] = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]
    found = dtw_matrix(windows, presence, band_fraction=0.2, paa=1)
    alone = []
    for a in range(7):
        for b in range(7):
            both = (presence[a] > 0) & (presence[b] > 0)
            if a != b and both.any():
                expected = np.sqrt(6 / both.sum()) * reference(windows[a][both], windows[b][both], 8)
                assert found[a, b] == pytest.approx(expected, rel=1e-5)
            elif a != b:
                alone.append((a, b))
    assert (0, 1) in alone
    assert all(found[pair] == found.max() for pair in alone)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 12),
    leads=st.integers(1, 5),
    samples=st.integers(2, 30),
    bands=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_invariants(seed, batch, leads, samples, bands):
    windows = windows_of(seed, (batch, leads, samples))
    narrow, wide = (dtw_matrix(windows, band_fraction=f, paa=1) for f in sorted(bands))
    assert (narrow == narrow.T).all()
    assert (np.diag(narrow) == 0).all()
    assert np.isfinite(narrow).all()
    assert (wide <= narrow * (1 + 1e-6)).all()
    assert (narrow <= l2_matrix(windows) * (1 + 1e-5)).all()
    order = np.random.default_rng(seed).permutation(batch)
    np.testing.assert_allclose(
        dtw_matrix(windows[order], band_fraction=max(bands), paa=1), wide[order][:, order], rtol=1e-5
    )


def test_threads_do_not_change_the_result():
    windows = windows_of(0, (34, 3, 50))
    once = dtw_matrix(windows)
    assert all((dtw_matrix(windows, threads=k) == once).all() for k in (2, 3, 50))


def test_a_copy_is_at_distance_zero():
    windows = windows_of(1, (3, 12, 100))
    assert dtw_pair(windows[0], windows[0].copy()) == 0.0


def test_means_of_a_last_shorter_group():
    assert piecewise_mean(np.array([[1, 3, 5, 7, 10]], np.float32), 2).tolist() == [[2, 6, 10]]


def test_other_threads_run_meanwhile():
    """A loader thread that held the interpreter would stop training."""
    windows = windows_of(2, (64, 12, 1250))
    dtw_matrix(windows[:2])  # compiled before the clock starts
    worker = threading.Thread(target=lambda: dtw_matrix(windows, band_fraction=0.2, paa=1))
    worker.start()
    ticks = 0
    while worker.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert ticks > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"band_fraction": 1.5}, "band_fraction is 1.5"),
        ({"band_fraction": -0.1}, "band_fraction is -0.1"),
        ({"paa": 0}, "paa is 0"),
        ({"paa": 21}, "paa is 21"),
        ({"presence": np.ones((4, 2), np.float32)}, "presence has shape"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        dtw_matrix(windows_of(0, (4, 3, 20)), **arguments)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="batch, leads, samples"):
        dtw_matrix(windows_of(0, (3, 20)))
    with pytest.raises(ValueError, match="one shape"):
        dtw_pair(windows_of(0, (3, 20)), windows_of(0, (3, 21)))
