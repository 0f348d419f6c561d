"""Hum, muscle noise and rails before the filters: tones and plateaus of known size, and rows that do not mix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.signal import COMPILED
from ecgedge.signal.raw import RawBlock, at_rails, raw_block, raw_spec, window_hum_mv

RATES_HZ = (128.0, 250.0, 257.0, 360.0, 400.0, 500.0, 1000.0)
NAMES = ("hum_mv", "muscle_mv", "mean_mv", "high_mv", "low_mv", "top", "bottom")


def block(row, rate_hz=500.0):
    return raw_block(np.atleast_2d(np.asarray(row, np.float32)), raw_spec(rate_hz))


def times(rate_hz=500.0):
    return np.arange(raw_spec(rate_hz).block_samples) / rate_hz


def stacked(rows_mv, rate_hz=500.0):
    """Seconds of (rows, samples) as the arrays of a window."""
    spec = raw_spec(rate_hz)
    n = spec.block_samples
    blocks = [raw_block(rows_mv[:, i : i + n], spec) for i in range(0, rows_mv.shape[1], n)]
    return RawBlock(*(np.stack([getattr(each, name) for each in blocks]) for name in NAMES))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_a_tone_has_its_amplitude(rate_hz, mains_hz):
    """On an electrode's offset of 300 mV, which float32 carries to 30 nV."""
    row = 300.0 + 0.3 * np.cos(2 * np.pi * mains_hz * times(rate_hz) + 1.0)
    seen = mains_hz < 0.45 * rate_hz
    assert block(row, rate_hz).hum_mv[0] == pytest.approx(0.3 if seen else 0.0, abs=2e-4)


@pytest.mark.parametrize("other_hz", [10.0, 20.0, 40.0, 70.0, 100.0])
def test_other_tones_are_no_hum(other_hz):
    assert block(np.sin(2 * np.pi * other_hz * times())).hum_mv[0] < 1e-4


@pytest.mark.parametrize("drift_hz", [-0.5, 0.5])
def test_mains_that_drifts_is_still_seen(drift_hz):
    """Half a second of it: a factor of sinc(0.25), 0.90."""
    row = np.sin(2 * np.pi * (50.0 + drift_hz) * times())
    assert block(row).hum_mv[0] == pytest.approx(0.90, abs=0.05)


def test_slow_rates_have_no_mains_to_see():
    assert raw_spec(100.0).tones.shape[0] == 0
    assert block(np.random.default_rng(0).normal(0, 1, 100), 100.0).hum_mv.tolist() == [0.0]


@pytest.mark.parametrize("rate_hz", [250.0, 360.0, 500.0, 1000.0])
def test_white_noise_has_its_rms_but_for_the_quietest_fifth(rate_hz):
    """The least of five means of squares is a fifth to a quarter too low."""
    n = raw_spec(rate_hz).block_samples
    rows = np.random.default_rng(1).normal(0.0, 0.1, (200, n)).astype(np.float32)
    assert raw_block(rows, raw_spec(rate_hz)).muscle_mv.mean() == pytest.approx(0.1 * 0.82, rel=0.12)


def test_a_qrs_complex_is_no_muscle():
    """1 mV and 16 ms wide at half its height, steeper than most; and a T wave."""
    t_s = times()
    row = np.exp(-(((t_s - 0.2) / 0.0096) ** 2)) + 0.4 * np.exp(-(((t_s - 0.42) / 0.06) ** 2))
    assert block(row).muscle_mv[0] < 0.001
    assert block(np.random.default_rng(2).normal(row, 0.05)).muscle_mv[0] > 0.03


def test_muscle_is_not_judged_at_rates_that_lost_it():
    assert block(np.random.default_rng(3).normal(0, 1, 128), 128.0).muscle_mv.tolist() == [0.0]


def heart(n_seconds, rate_hz=500.0, *, amplitude_mv=1.5):
    t_s = np.arange(round(n_seconds * rate_hz)) / rate_hz
    size = amplitude_mv * (1.0 + 0.05 * np.sin(2 * np.pi * 0.27 * t_s))
    return size * np.exp(-((((t_s % 0.83) - 0.3) / 0.02) ** 2)) + 0.01 * np.sin(2 * np.pi * 0.31 * t_s)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_rail_is_where_a_lead_comes_back_to(sign):
    clean, clipped = sign * heart(10.0), np.clip(sign * heart(10.0), -1.0, 1.0)
    rows = np.stack([clean, clipped, np.rint(clean / 0.005) * 0.005]).astype(np.float32)
    assert at_rails(stacked(rows)).tolist() == [False, True, False]


def test_the_silent_line_between_beats_is_no_rail():
    """As a simulator without noise has it; nor where the beats point down."""
    rows = np.stack([np.where(heart(10.0) > 0.05, heart(10.0), 0.0)] * 2).astype(np.float32)
    rows[1] *= -1.0
    found = stacked(rows)
    assert found.bottom[:, 0].all()
    assert not at_rails(found).any()


def test_one_plateau_is_no_rail():
    row = heart(10.0).astype(np.float32)
    row[700:760] = 2.0
    assert not at_rails(stacked(row[None])).any()
    row[1700:1760] = 2.0
    assert at_rails(stacked(row[None])).all()


def test_plateaus_of_another_height_do_not_count():
    row = heart(10.0).astype(np.float32)
    row[700:760], row[1700:1760] = 2.0, 2.1
    assert not at_rails(stacked(row[None])).any()


@pytest.mark.parametrize(
    ("first", "is_plateau"), [(0, True), (496, True), (497, True), (498, False), (499, False)]
)
def test_a_plateau_ends_with_its_block(first, is_plateau):
    """Three samples at 500 Hz."""
    row = np.zeros(500, np.float32)
    row[first:] = 1.0
    assert bool(block(row).top[0]) == is_plateau
    assert block(row).high_mv[0] == 1.0


def test_a_gap_holds_nothing_against_a_lead():
    rows = np.clip(heart(10.0), -1.0, 1.0).astype(np.float32)[None].repeat(2, axis=0)
    rows[0, 1200:1300] = np.nan
    found = stacked(rows)
    assert np.isnan(found.hum_mv[2, 0])
    assert at_rails(found).tolist() == [False, True]


def test_one_loud_second_is_not_the_window_s_hum():
    assert window_hum_mv(np.array([[0.1], [5.0], [0.2], [0.3]], np.float32)).tolist() == [np.float32(0.3)]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1), rate_hz=st.sampled_from((100.0, *RATES_HZ)), n_rows=st.integers(1, 200)
)
def test_a_row_says_what_it_says_alone(seed, rate_hz, n_rows):
    rng = np.random.default_rng(seed)
    spec = raw_spec(rate_hz)
    rows = (rng.normal(0, 0.2, (n_rows, spec.block_samples)) + rng.uniform(-300, 300, (n_rows, 1))).astype(
        np.float32
    )
    together = raw_block(rows, spec)
    row = int(rng.integers(n_rows))
    alone = raw_block(rows[row : row + 1].copy(), spec)
    for name in NAMES:
        assert getattr(together, name)[row] == getattr(alone, name)[0]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rate_hz=st.sampled_from((100.0, *RATES_HZ)), n_rows=st.integers(1, 30))
def test_compiled_loops_say_the_same_to_the_bit(seed, rate_hz, n_rows):
    """Of plateaus, zeros of both signs, rows with gaps, and extremes at the very end, too."""
    rng = np.random.default_rng(seed)
    spec = raw_spec(rate_hz)
    n = spec.block_samples
    rows = (rng.normal(0, 0.2, (n_rows, n)) + rng.uniform(-300, 300, (n_rows, 1))).astype(np.float32)
    coarse = rng.random(n_rows) < 0.5
    rows[coarse] = np.round(rows[coarse] * 4.0) / np.float32(4.0) * rng.choice([1.0, 0.0, -0.0])
    row, first = rng.integers(n_rows), rng.integers(n)
    rows[row, first : first + rng.integers(1, 9)] = rng.choice([np.nan, 400.0, -400.0])
    COMPILED.off()
    plain = raw_block(rows, spec)
    assert COMPILED.on() is None
    compiled = raw_block(rows, spec)
    for name in NAMES:
        here, there = getattr(plain, name), getattr(compiled, name)
        assert here.dtype == there.dtype
        assert here.tobytes() == there.tobytes()
