"""Each doubt by a window made for it, at both sides of its threshold; seconds against whole windows; real ECGs."""

from itertools import pairwise

import needs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.records import read
from ecgedge.signal import FrontEnd, Window, assess
from ecgedge.signal.beats import LEAD_IN, BeatEnergies, beat_energies
from ecgedge.signal.doubts import (
    AGREEMENT,
    BASELINE_MV,
    BURST_SPREAD,
    DOUBTS,
    MAINS_RATIO,
    MUSCLE_RATIO,
    compose,
    doubtful,
    first_doubts,
    measure_window,
    median_slopes,
    second_length,
)
from ecgedge.signal.raw import RawBlock, raw_block, raw_spec

SPEC = FrontEndSpec()
N, SECOND, RATE_HZ = 2500, 250, 500.0
NAMES = ("hum_mv", "muscle_mv", "mean_mv", "high_mv", "low_mv", "top", "bottom")


def raw_seconds(rows_mv):
    spec = raw_spec(RATE_HZ)
    blocks = [raw_block(rows_mv[:, i : i + 500], spec) for i in range(0, rows_mv.shape[1], 500)]
    return RawBlock(*(np.stack([getattr(block, name) for block in blocks]) for name in NAMES))


def rms_slope(counts):
    return np.sqrt(np.square(np.diff(counts.astype(np.float64))).mean(axis=1))


def judge(rows_mv):
    """Return the first doubt of each row of raw samples at 500 Hz: the newest 10 s."""
    rows_mv = np.atleast_2d(rows_mv).astype(np.float32)
    counts = FrontEnd(SPEC, n_leads=len(rows_mv), rate_hz=RATE_HZ).push(rows_mv).counts[:, -N:]
    raw = raw_seconds(np.ascontiguousarray(rows_mv[:, -5000:]))
    measures = measure_window(counts, rms_slope(counts), raw, second_samples=SECOND, spec=SPEC)
    return measures, first_doubts(doubtful(measures, counts.std(axis=1) * SPEC.lsb_mv))


def ecg(seconds=14.0):
    t_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    after_s = t_s % 0.83
    beats = np.exp(-(((after_s - 0.2) / 0.012) ** 2)) + 0.3 * np.exp(-(((after_s - 0.45) / 0.05) ** 2))
    return t_s, beats + np.random.default_rng(0).normal(0.0, 0.004, len(t_s))


def noise(rms_mv, n, seed=1):
    return np.random.default_rng(seed).normal(0.0, rms_mv, n)


def test_a_clean_lead_is_not_doubted():
    measures, first = judge(ecg()[1])
    assert first == [None]
    assert not measures.railed.any()
    assert measures.agreement[0] == 1.0


@pytest.mark.parametrize(
    ("doubt", "strength", "change"),
    [
        ("mains", 1.0, lambda t_s, k: k * np.sin(2 * np.pi * 50.0 * t_s)),
        ("mains", 1.0, lambda t_s, k: k * np.sin(2 * np.pi * 60.0 * t_s)),
        ("muscle", 0.2, lambda t_s, k: noise(k, len(t_s))),
        ("burst", 0.8, lambda t_s, k: noise(k, len(t_s)) * ((t_s > 9.0) & (t_s < 11.0))),
        ("baseline", 2.0, lambda t_s, k: k * np.sin(2 * np.pi * 0.3 * t_s)),
    ],
)
def test_each_doubt_by_what_brings_it(doubt, strength, change):
    """A tenth of it brings none."""
    t_s, row = ecg()
    assert judge(np.stack([row + change(t_s, strength), row + change(t_s, strength / 10.0)]))[1] == [
        doubt,
        None,
    ]


def test_no_beats_are_doubted():
    """Slow waves, as a lead shows that hangs in the air: nothing steep, nothing alike."""
    slow = np.cumsum(np.random.default_rng(5).normal(0.0, 1.0, (40, 7000)), axis=1)
    measures, _ = judge(0.02 * slow)
    assert np.median(measures.agreement) < 0.6
    silent, first = judge(np.zeros((1, 7000)))
    assert silent.agreement.tolist() == [0.0]
    assert first == ["beats"]


def test_a_source_that_clips_is_known_by_its_raw_samples():
    row = ecg()[1]
    both = np.stack([row, np.clip(row, -0.6, 0.6)])
    assert judge(both)[0].railed.tolist() == [False, True]


def measures_of(**numbers):
    values = {
        "hum_mv": 0.0,
        "muscle_mv": 0.0,
        "railed": False,
        "burst": 0.0,
        "baseline_mv": 0.0,
        "agreement": 1.0,
    }
    measures, _ = judge(ecg()[1])
    return type(measures)(**{name: np.array([numbers.get(name, value)]) for name, value in values.items()})


@pytest.mark.parametrize(
    ("name", "value", "doubt"),
    [
        ("hum_mv", MAINS_RATIO * 0.2, "mains"),
        ("muscle_mv", MUSCLE_RATIO * 0.2, "muscle"),
        ("burst", BURST_SPREAD, "burst"),
        ("baseline_mv", BASELINE_MV, "baseline"),
        ("agreement", AGREEMENT, "beats"),
    ],
)
def test_thresholds_are_crossed_not_met(name, value, doubt):
    """Of a lead whose standard deviation is 0.2 mV."""
    sd_mv = np.array([0.2])
    worse = value * (0.999 if name == "agreement" else 1.001)
    assert first_doubts(doubtful(measures_of(**{name: value}), sd_mv)) == [None]
    assert first_doubts(doubtful(measures_of(**{name: worse}), sd_mv)) == [doubt]
    assert first_doubts(doubtful(measures_of(**{name: np.nan}), sd_mv)) == [None]


def test_the_first_of_several_is_told():
    held = np.zeros((len(DOUBTS), 3), np.bool_)
    held[1:, 0] = held[3, 2] = True
    assert first_doubts(held) == [DOUBTS[1], None, DOUBTS[3]]


@pytest.mark.parametrize(
    ("window", "second"),
    [(2500, 250), (2560, 256), (1250, 250), (750, 250), (5000, 250), (2048, 256), (2503, None)],
)
def test_seconds_divide_windows_or_there_are_none(window, second):
    assert second_length(window, SPEC) == second


def test_median_slopes_by_numpy():
    counts = np.random.default_rng(3).integers(-20480, 20481, (4, N)).astype(np.int16)
    found = median_slopes(counts, second_samples=SECOND)
    for row in range(4):
        for second in range(10):
            inside = counts[row, second * 250 : second * 250 + 250].astype(int)
            assert found[second, row] == np.median(np.abs(np.diff(inside)))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.sets(st.integers(1, 9), max_size=9))
def test_blocks_say_what_the_window_says(seed, cuts):
    """To the bit, whatever of a stream came before, and alone what it says among others."""
    rng = np.random.default_rng(seed)
    stream = np.rint(np.cumsum(rng.normal(0.0, 300.0, (5, 8 + N)), axis=1) % 9000).astype(np.int16)
    window = np.ascontiguousarray(stream[:, LEAD_IN:])
    raw = raw_seconds(rng.normal(0.0, 1.0, (5, 5000)).astype(np.float32))
    edges = [SECOND * k for k in (0, *sorted(cuts), 10)]
    energies, medians, totals = [], [], []
    for a, b in pairwise(edges):
        energies.append(beat_energies(stream[:, a : LEAD_IN + b], frame_samples=10))
        medians.append(median_slopes(window[:, a:b], second_samples=SECOND))
        totals.append(window[:, a:b].reshape(5, -1, SECOND).sum(axis=2, dtype=np.float64).T)
    composed = compose(
        raw=raw,
        energies=BeatEnergies(
            *(np.concatenate([getattr(e, name) for e in energies]) for name in ("slope", "bend"))
        ),
        medians=np.concatenate(medians),
        totals=np.concatenate(totals),
        rms=rms_slope(window),
        second_samples=SECOND,
        spec=SPEC,
    )
    expected = measure_window(window, rms_slope(window), raw, second_samples=SECOND, spec=SPEC)
    one = RawBlock(*(getattr(raw, name)[:, 2:3] for name in NAMES))
    alone = measure_window(window[2:3], rms_slope(window[2:3]), one, second_samples=SECOND, spec=SPEC)
    for name, value in vars(expected).items():
        assert (getattr(composed, name) == value).all()
        assert getattr(alone, name)[0] == value[2]


def test_a_second_without_whole_frames_is_refused():
    measures = raw_seconds(np.zeros((1, 5000), np.float32))
    with pytest.raises(ValueError, match="125 samples holds no whole frames"):
        measure_window(np.zeros((1, N), np.int16), np.zeros(1), measures, second_samples=125, spec=SPEC)


def test_people_s_leads_are_seldom_doubted_and_short_noise_is(ecg_data):
    """PTB-XL, a quarter: what bursts of 0.2 mV are to the present index, and to this one."""
    needs.wfdb()
    paths = sorted((ecg_data / "ptbxl" / "records500").glob("*/*.hea"))[::4]
    rows = np.concatenate([read(path).samples_mv for path in paths])
    rows = np.pad(rows, ((0, 0), (1500, 0)), mode="reflect")
    noisy = rows.copy()
    noisy[:, 3500:4500] += noise(0.2, (len(rows), 1000))
    doubted = {}
    for name, samples in (("clean", rows), ("noisy", noisy)):
        counts = np.ascontiguousarray(
            FrontEnd(SPEC, n_leads=len(rows), rate_hz=RATE_HZ).push(samples).counts[:, -N:]
        )
        present = assess(Window(N, counts, np.zeros(counts.shape, np.uint8)), SPEC)
        doubted[name] = np.mean([doubt is not None for doubt in judge(samples)[1]])
        assert np.mean(present.usable) > 0.99
    assert doubted["clean"] < 0.015
    assert doubted["noisy"] > 0.6
