"""Each reason by a window made for it, and noise against the numbers that theory gives."""

import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import MEASURED, MISSING, SETTLING, Window, assess
from ecgedge.signal.quality import CLEAN_SPREAD, NOISE_SPREAD, slope_spread

SPEC = FrontEndSpec()
N = 2500


def beats(n=N, amplitude_mv=1.0):
    """A train of narrow triangles, one a second: steep a tenth of the time, as an ECG is."""
    t = np.arange(n) % 250
    return amplitude_mv * np.clip(1.0 - np.abs(t - 100) / 10.0, 0.0, None)


def window(*rows_mv, status=None):
    counts = np.rint(np.array(rows_mv) * 4096.0).astype(np.int16)
    return Window(N, counts, np.zeros(counts.shape, np.uint8) if status is None else status)


def with_status(n_leads, lead, where, value):
    status = np.full((n_leads, N), MEASURED, np.uint8)
    status[lead, where] = value
    return status


def noise(rms_mv, seed=0):
    return np.random.default_rng(seed).normal(0.0, rms_mv, N)


def test_clean_leads_are_usable():
    quality = assess(window(beats(), beats(amplitude_mv=3.0)), SPEC)
    assert quality.reasons == (None, None)
    assert list(quality.usable) == [True, True]
    assert quality.sqi == 1.0
    assert not quality.settling


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (slice(0, 1251), "off"),  # one more than half
        (slice(0, 1250), "gap"),
        (slice(700, 701), "gap"),
        (slice(N - 1, N), "off"),  # it is off now
        (slice(N - 2, N - 1), "gap"),
    ],
)
def test_missing_samples(where, reason):
    quality = assess(window(beats(), beats(), status=with_status(2, 1, where, MISSING)), SPEC)
    assert quality.reasons == (None, reason)
    assert list(quality.usable) == [True, False]
    assert quality.sqi == (1.0 if reason == "off" else 0.5)  # a lead that is off is not in the mean


def test_all_leads_off():
    quality = assess(window(beats(), status=np.full((1, N), MISSING, np.uint8)), SPEC)
    assert quality.reasons == ("off",)
    assert quality.sqi == 0.0
    assert not quality.settling


def silent_half():
    row = beats()
    row[N // 2 :] = 0.0
    return row


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (np.zeros(N), "flat"),
        (beats(amplitude_mv=0.029), "flat"),
        (beats(amplitude_mv=0.05), None),
        (silent_half(), "flat"),
        (silent_half()[::-1], "flat"),
        (np.where(np.arange(N) < 26, 5.0, beats()), "clipped"),
        (np.where(np.arange(N) < 26, -5.0, beats()), "clipped"),
        (np.where(np.arange(N) < 25, 5.0, beats()), None),
        (noise(1.0), "noise"),
        (np.sin(2 * np.pi * 45.0 / 250.0 * np.arange(N)), "noise"),
        (beats() + noise(0.01), None),
        (beats() + noise(0.5), "noise"),
    ],
)
def test_reasons(row, reason):
    quality = assess(window(row), SPEC)
    assert quality.reasons == (reason,)
    assert list(quality.usable) == [reason is None]


def test_settling_is_that_of_leads_that_are_on():
    settling = with_status(2, 0, slice(0, 300), SETTLING)
    assert assess(window(beats(), beats(), status=settling), SPEC).settling
    settling[0, -1] = MISSING
    assert not assess(window(beats(), beats(), status=settling), SPEC).settling


def test_spread_has_its_theoretical_values():
    """Gaussian noise: 0.6745 (its median over its standard deviation); a sine: 1; a constant: 0."""
    white = np.random.default_rng(4).normal(0, 3000, 200_000).astype(np.int16)
    sine = np.rint(20_000 * np.sin(2 * np.pi * np.arange(100_000) / 1000)).astype(np.int16)
    spread = [float(slope_spread(row[None])[0]) for row in (white, sine, np.zeros(100, np.int16))]
    assert spread == pytest.approx([0.6745, 1.0, 0.0], abs=0.01)


def test_spread_does_not_overflow():
    """Full swings from rail to rail are 40960 counts, more than int16 holds."""
    square = np.where(np.arange(N) % 2, 20480, -20480).astype(np.int16)
    assert slope_spread(square[None])[0] == pytest.approx(1.0)


def test_sqi_falls_from_clean_to_noise():
    levels = [0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 1.0]
    rows = [beats() + noise(level, seed=9) for level in levels]
    sqi = [assess(window(row), SPEC).sqi for row in rows]
    assert sqi == sorted(sqi, reverse=True)
    assert sqi[0] == 1.0
    assert sqi[-1] == 0.0
    for row, value in zip(rows, sqi, strict=True):
        spread = float(slope_spread(window(row).counts)[0])
        expected = np.clip((NOISE_SPREAD - spread) / (NOISE_SPREAD - CLEAN_SPREAD), 0, 1)
        assert value == pytest.approx(expected)
    assert assess(window(*rows), SPEC).sqi == pytest.approx(np.mean(sqi))
