"""Two detectors on beats of known times, on noise, on people's ECGs; and blocks against whole windows."""

from itertools import pairwise

import needs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import FrontEnd
from ecgedge.signal.beats import (
    BEND_SHARE,
    LEAD_IN,
    SLOPE_SHARE,
    BeatEnergies,
    agreement,
    beat_energies,
    find_beats,
    frame_length,
    window_energies,
)

SPEC = FrontEndSpec()
N, SECOND, FRAME = 2500, 250, 10
SHARES = {"slope": SLOPE_SHARE, "bend": BEND_SHARE}


def ecg(beat_s, *, n=N, seed=0, noise_mv=0.005, t_wave_mv=0.3, heights=None):
    """Counts of beats at these times: QRS complexes 20 ms wide, and T waves."""
    t_s = np.arange(n) / 250.0
    heights = np.ones(len(beat_s)) if heights is None else heights
    row = np.random.default_rng(seed).normal(0.0, noise_mv, n)
    for at_s, height in zip(beat_s, heights, strict=True):
        row += height * np.exp(-(((t_s - at_s) / 0.012) ** 2))
        row += t_wave_mv * np.exp(-(((t_s - at_s - 0.28) / 0.05) ** 2))
    return np.rint(row * 4096.0).astype(np.int16)


def share(rows):
    rows = np.atleast_2d(rows)
    return agreement(window_energies(rows, frame_samples=FRAME), second_frames=SECOND // FRAME)


@pytest.mark.parametrize("period_s", [2.0, 1.3, 0.83, 0.6, 0.4, 0.3])
@pytest.mark.parametrize("detector", ["slope", "bend"])
def test_every_beat_is_found_once(period_s, detector):
    """From 30 to 200 a minute, within a frame of a constant delay."""
    beat_s = np.arange(0.1, 10.0, period_s)
    energies = window_energies(ecg(beat_s)[None], frame_samples=FRAME)
    found = find_beats(getattr(energies, detector), share=SHARES[detector], second_frames=25)
    found_s = np.flatnonzero(found[:, 0]) * FRAME / 250.0
    searched_s = beat_s[(beat_s > 0.35) & (beat_s < 9.7)]
    late_s = [found_s[np.abs(found_s - at_s - 0.03).argmin()] - at_s for at_s in searched_s]
    assert np.ptp(late_s) <= 0.081
    assert 0 <= len(found_s) - len(searched_s) <= 1  # one at the edge of what is searched


def test_beats_agree_and_noise_does_not():
    rng = np.random.default_rng(1)
    beats = np.stack([ecg(np.arange(0.1 + 0.05 * k, 10.0, 0.8), seed=k) for k in range(20)])
    noise = rng.normal(0.0, 1000.0, (200, N)).astype(np.int16)
    assert np.median(share(beats)) == 1.0
    assert share(beats).min() > 0.9  # one detector may meet a beat at the edge of what is searched
    assert np.median(share(noise)) < 0.6


def test_noise_that_comes_and_goes_is_noticed():
    """For three seconds of ten, which leaves the median slope of the window as it is."""
    clean = ecg(np.arange(0.1, 10.0, 0.8))
    burst = np.zeros(N)
    burst[1000:1750] = np.random.default_rng(2).normal(0.0, 1500.0, 750)
    assert share(clean + burst.astype(np.int16))[0] < 0.7


def test_a_silent_lead_has_no_beats():
    assert share(np.zeros((1, N), np.int16)).tolist() == [0.0]
    assert share(np.full((1, N), -700, np.int16)).tolist() == [0.0]


def test_two_artefacts_do_not_move_the_threshold():
    beat_s = np.arange(0.1, 10.0, 0.8)
    heights = np.ones(len(beat_s))
    heights[[3, 8]] = 4.0
    energies = window_energies(ecg(beat_s, heights=heights)[None], frame_samples=FRAME)
    assert find_beats(energies.slope, share=SLOPE_SHARE, second_frames=25).sum() >= len(beat_s) - 1


def test_energies_by_the_formula():
    """Against loops over samples, every other one, of one row."""
    rng = np.random.default_rng(3)
    counts = rng.integers(-20480, 20480, LEAD_IN + 40).astype(np.int16)
    found = beat_energies(counts[None], frame_samples=FRAME)
    for frame in range(4):
        at = [LEAD_IN + frame * FRAME + 2 * k for k in range(FRAME // 2)]
        x = counts.astype(float)
        assert found.slope[frame, 0] == pytest.approx(sum((x[i] - x[i - 8]) ** 2 for i in at), rel=1e-6)
        assert found.bend[frame, 0] == pytest.approx(
            sum(abs(x[i] - 2 * x[i - 2] + x[i - 4]) for i in at), rel=1e-6
        )


@pytest.mark.parametrize(
    ("block", "frame"), [(250, 10), (1250, 10), (256, 8), (640, 10), (125, None), (251, None)]
)
def test_frames_divide_blocks_or_there_are_none(block, frame):
    assert frame_length(block) == frame


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.sets(st.integers(1, 9), max_size=9), start=st.integers(0, 40))
def test_blocks_of_a_stream_say_what_the_window_says(seed, cuts, start):
    """However many seconds a block has, and whatever came before the window."""
    rng = np.random.default_rng(seed)
    stream = np.rint(np.cumsum(rng.normal(0.0, 300.0, (3, 400 + N)), axis=1) % 9000).astype(np.int16)
    first = 10 * start
    window = stream[:, first : first + N]
    padded = np.concatenate([np.zeros((3, LEAD_IN), np.int16), stream], axis=1)
    edges = [first + SECOND * k for k in (0, *sorted(cuts), 10)]
    blocks = [beat_energies(padded[:, a : LEAD_IN + b], frame_samples=FRAME) for a, b in pairwise(edges)]
    joined = BeatEnergies(*(np.concatenate([getattr(b, name) for b in blocks]) for name in ("slope", "bend")))
    expected = share(window)
    assert (agreement(joined, second_frames=25) == expected).all()
    assert share(window[1:2])[0] == expected[1]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # wfdb reads annotations so, under pandas 3
@pytest.mark.parametrize(
    ("record", "lead", "sensitivity", "ppv"),
    [
        ("mitdb/100", 0, 0.999, 0.999),
        ("mitdb/100", 1, 0.99, 0.998),
        ("mitdb/105", 0, 0.98, 0.98),
        ("stdb/300", 0, 0.998, 0.998),
        ("svdb/800", 0, 0.99, 0.96),
    ],
)
def test_they_find_the_beats_of_people(ecg_data, record, lead, sensitivity, ppv):
    """Ten minutes, against the annotations, within 150 ms of the detector's constant delay."""
    wfdb = needs.wfdb()
    path = str(ecg_data / "long_2lead" / record)
    read = wfdb.rdrecord(path)
    notes = wfdb.rdann(path, "atr")
    counts = (
        FrontEnd(SPEC, n_leads=1, rate_hz=float(read.fs))
        .push(np.ascontiguousarray(read.p_signal.T[[lead], : round(600 * read.fs)], np.float32))
        .counts
    )
    beat = np.isin(notes.symbol, list("NLRBAaJSVrFejnE/fQ?"))
    true_s = notes.sample[beat] / read.fs
    true_s = true_s[(true_s > 10.0) & (true_s < 598.0)]
    windows = np.lib.stride_tricks.sliding_window_view(counts[0], N)[::SECOND]
    energies = window_energies(windows, frame_samples=FRAME)
    for detector, part in SHARES.items():
        beats = find_beats(getattr(energies, detector), share=part, second_frames=25)
        frame, window = np.nonzero(beats[-30:-5])  # the newest second of each window
        found_s = np.sort(window + (frame + N // FRAME - 30) * 0.04)
        nearest = found_s[np.abs(found_s[:, None] - true_s - 0.1).argmin(axis=0)]
        found_s = found_s - np.median(nearest - true_s)
        found_s = found_s[(found_s > 10.0) & (found_s < 598.0)]
        near = np.abs(found_s[:, None] - true_s) <= 0.15
        assert near.any(axis=0).mean() >= sensitivity
        assert near.any(axis=1).mean() >= ppv
