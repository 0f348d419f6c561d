"""However a stream is cut, counts, status and windows keep every bit."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.signal import FrontEnd, Windower, condition, push_together
from ecgedge.signal.resample import Resampler

SPEC = FrontEndSpec(settle_s=0.4)
RATES = (90.0, 100.0, 128.0, 128.5, 250.0, 257.0, 360.0, 400.0, 500.0, 1000.0)


@st.composite
def streams(draw):
    """A rate, a signal with offsets and NaN runs, and cuts."""
    rate_hz = draw(st.sampled_from(RATES))
    n = draw(st.integers(1, int(2.5 * rate_hz)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = rng.normal(0.0, 1.0, (3, n)).astype(np.float32) + np.float32(
        draw(st.sampled_from([0.0, 300.0]))
    )
    for _ in range(draw(st.integers(0, 6))):
        lead = draw(st.sampled_from([0, 1, 2, slice(None)]))
        start = draw(st.integers(0, n - 1))
        length = draw(st.integers(1, int(0.6 * rate_hz)))
        samples[lead, start : start + length] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    cuts = draw(st.lists(st.integers(0, n), max_size=30))
    return rate_hz, samples, [0, *sorted(cuts), n]


def push_in_pieces(rate_hz, samples, edges):
    front_end = FrontEnd(SPEC, n_leads=len(samples), rate_hz=rate_hz)
    pieces = [front_end.push(samples[:, a:b]) for a, b in pairwise(edges)]
    return (
        np.concatenate([piece.counts for piece in pieces], axis=1),
        np.concatenate([piece.status for piece in pieces], axis=1),
    )


@settings(deadline=None, max_examples=120)
@given(streams())
def test_any_chunking_gives_the_same_bits(stream):
    rate_hz, samples, edges = stream
    whole = FrontEnd(SPEC, n_leads=3, rate_hz=rate_hz).push(samples)
    counts, status = push_in_pieces(rate_hz, samples, edges)
    np.testing.assert_array_equal(counts, whole.counts)
    np.testing.assert_array_equal(status, whole.status)


@settings(deadline=None, max_examples=40)
@given(streams())
def test_leads_do_not_touch_each_other(stream):
    rate_hz, samples, _ = stream
    together = FrontEnd(SPEC, n_leads=3, rate_hz=rate_hz).push(samples)
    for lead in range(3):
        alone = FrontEnd(SPEC, n_leads=1, rate_hz=rate_hz).push(samples[lead : lead + 1])
        np.testing.assert_array_equal(alone.counts[0], together.counts[lead])
        np.testing.assert_array_equal(alone.status[0], together.status[lead])


@pytest.mark.parametrize("rate_hz", RATES)
def test_sample_by_sample_equals_whole(rate_hz):
    rng = np.random.default_rng(int(rate_hz))
    samples = rng.normal(0.0, 1.0, (2, int(1.5 * rate_hz))).astype(np.float32)
    samples[0, : int(0.1 * rate_hz)] = np.nan
    samples[1, int(0.3 * rate_hz) : int(0.7 * rate_hz)] = np.nan
    for rows in (samples, samples[1:]):  # one lead alone: numpy takes other inner loops for it
        whole = FrontEnd(SPEC, n_leads=len(rows), rate_hz=rate_hz).push(rows)
        counts, status = push_in_pieces(rate_hz, rows, range(rows.shape[1] + 1))
        np.testing.assert_array_equal(counts, whole.counts)
        np.testing.assert_array_equal(status, whole.status)


@pytest.mark.parametrize("rate_hz", RATES)
def test_the_resampler_keeps_every_bit_before_rounding(rate_hz):
    """Counts would hide a difference in the last place; float64 shows it."""
    samples = np.random.default_rng(8).normal(0.0, 1.0, (2, 3000))

    def resample(pieces):
        resampler = Resampler(n_leads=2, rate_in_hz=rate_hz, rate_out_hz=250.0, pass_hz=40.0)
        return np.concatenate([resampler.push(piece)[0] for piece in pieces], axis=1)

    whole = resample([samples])
    for length in (1, 7, 100, 1500):
        pieces = [samples[:, i : i + length] for i in range(0, 3000, length)]
        np.testing.assert_array_equal(resample(pieces), whole)


def test_inner_blocks_of_a_long_recording_do_not_show():
    samples = np.random.default_rng(3).normal(0.0, 1.0, (2, 30_000)).astype(np.float32)
    samples[0, 8190:8300] = np.nan  # across the border of an inner block
    recording = Recording(samples, 360.0, ("I", "II"))
    whole = condition(recording, SPEC)
    counts, status = push_in_pieces(360.0, samples, [0, 1, 7000, 8200, 29_999, 30_000])
    np.testing.assert_array_equal(counts, whole.counts)
    np.testing.assert_array_equal(status, whole.status)


@settings(deadline=None, max_examples=30)
@given(streams(), st.integers(1, 120), st.integers(1, 200))
def test_dataset_windows_equal_bed_windows(stream, window_samples, hop_samples):
    rate_hz, samples, edges = stream

    def windower():
        return Windower(n_leads=3, window_samples=window_samples, hop_samples=hop_samples)

    def windows(maker, conditioned):
        # A window is a view of the buffer until the next one is asked for.
        return [(w.end_index, w.counts.copy(), w.status.copy()) for w in maker.push(conditioned)]

    dataset = windows(windower(), FrontEnd(SPEC, n_leads=3, rate_hz=rate_hz).push(samples))
    front_end, bed_windower = FrontEnd(SPEC, n_leads=3, rate_hz=rate_hz), windower()
    bed = [w for a, b in pairwise(edges) for w in windows(bed_windower, front_end.push(samples[:, a:b]))]
    assert [w[0] for w in bed] == [w[0] for w in dataset]
    for ours, theirs in zip(bed, dataset, strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])
        np.testing.assert_array_equal(ours[2], theirs[2])


@settings(deadline=None, max_examples=40)
@given(streams(), st.data())
def test_front_ends_pushed_together_give_the_bits_of_each_alone(stream, data):
    """Beds of other ages, other leads, with gaps of their own, more than fit one batch."""
    rate_hz, samples, _ = stream
    n_beds = data.draw(st.integers(2, 9))
    rows = [data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=14)) for _ in range(n_beds)]
    beds = [np.ascontiguousarray(samples[r]) for r in rows]
    for bed in beds:
        start, length = data.draw(st.integers(0, bed.shape[1])), data.draw(st.integers(0, 400))
        bed[data.draw(st.integers(0, len(bed) - 1)), start : start + length] = np.nan
    together = [FrontEnd(SPEC, n_leads=len(r), rate_hz=rate_hz) for r in rows]
    alone = [FrontEnd(SPEC, n_leads=len(r), rate_hz=rate_hz) for r in rows]
    starts = [data.draw(st.integers(0, samples.shape[1])) for _ in rows]
    for k, start in enumerate(starts):  # some are older
        together[k].push(beds[k][:, :start])
        alone[k].push(beds[k][:, :start])
    for length in data.draw(st.lists(st.integers(0, 300), max_size=6)):
        # Who is pushed, and beside whom, changes from time to time: states move with it.
        pushed = data.draw(st.lists(st.sampled_from(range(n_beds)), unique=True, min_size=1))
        by_kind = {}
        for k in pushed:
            by_kind.setdefault(together[k].kind, []).append(k)
        for group in by_kind.values():
            chunks = [np.resize(beds[k], (len(beds[k]), length)) for k in group]
            found = push_together([together[k] for k in group], chunks)
            for k, chunk, got in zip(group, chunks, found, strict=True):
                expected = alone[k].push(chunk)
                np.testing.assert_array_equal(got.counts, expected.counts)
                np.testing.assert_array_equal(got.status, expected.status)
                assert not (got.whole and got.status.any())


def test_front_ends_that_stay_together_are_joined_once(monkeypatch):
    """What makes it cheap: as long as the same ones come in the same order, no state is copied."""
    import ecgedge.signal.front_end as module

    moved = []
    plain = module._move_together
    monkeypatch.setattr(module, "_move_together", lambda some: moved.append(len(some)) or plain(some))
    front_ends = [FrontEnd(SPEC, n_leads=12, rate_hz=500.0) for _ in range(10)]
    chunks = [np.zeros((12, 512), np.float32)] * 10
    for _ in range(3):
        push_together(front_ends, chunks)
    assert moved == [8, 2]
    push_together(front_ends[1:], chunks[1:])
    push_together(front_ends[1:], chunks[1:])
    assert moved == [8, 2, 8]
