"""Faults on purpose: by a seed, in the shares asked for, and nothing else is touched."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import UsageError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import declared_of
from ecgedge.leads import STANDARD_LEADS
from ecgedge.rig import Faults, FaultyLine, parse_faults
from ecgedge.rig.writing import FrameWriter
from ecgedge_bridge import SampleFormat


def test_without_faults_messages_pass():
    line = FaultyLine(Faults(), ["I"])
    assert [line.messages(bytes([k])) for k in range(5)] == [[bytes([k])] for k in range(5)]
    assert line.rest() == []
    assert line.delay_s() == 0.0


def test_faults_come_by_their_seed_and_share():
    faults = parse_faults(drop=0.1, reorder=True, corrupt=0.01, jitter="20ms", seed=3)
    sent = [k.to_bytes(2, "big") * 10 for k in range(5000)]

    def run():
        line = FaultyLine(faults, ["I"])
        return [m for message in sent for m in line.messages(message)] + line.rest()

    got = run()
    assert got == run()
    assert len(got) == pytest.approx(4500, abs=100)
    whole = [int.from_bytes(m[:2], "big") for m in got if m in set(sent)]
    assert len(whole) / len(got) == pytest.approx(0.99**20, abs=0.03)
    back = sum(b < a for a, b in itertools.pairwise(whole))
    assert back / len(whole) == pytest.approx(0.05, abs=0.02)
    assert 0.0 <= FaultyLine(faults, ["I"]).delay_s() <= 0.02


def test_an_electrode_takes_its_leads_along_from_its_time_on():
    line = FaultyLine(parse_faults(lead_off=["RA@1s", "V2@2s"]), ["I", "II", "V1", "V2"])
    seen = [
        np.isnan(line.chunk(Chunk(10.0 + t, np.zeros((4, 5), np.float32), 0)).samples_mv).all(axis=1).tolist()
        for t in (0.0, 0.9, 1.0, 2.0)
    ]
    assert seen == [[False] * 4, [False] * 4, [True] * 4, [True] * 4]
    line = FaultyLine(parse_faults(lead_off=["V2@2s"]), ["I", "V2"])
    chunk = Chunk(5.0, np.zeros((2, 5), np.float32), 0)
    assert line.chunk(chunk) is chunk


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"drop": 1.0}, "--drop is 1"),
        ({"corrupt": -0.1}, "--corrupt is -0.1"),
        ({"jitter": "50"}, "--jitter is '50'"),
        ({"jitter": "-5ms"}, "--jitter"),
        ({"jitter": "1.2.3ms"}, "--jitter"),
        ({"jitter": "1000s"}, "--jitter"),
        ({"rate_drift": "2%"}, "--rate-drift"),
        ({"lead_off": ["XX@3s"]}, "electrode"),
        ({"lead_off": ["RA@soon"]}, "--lead-off"),
    ],
)
def test_a_wrong_option_says_what_it_may_be(wrong, words):
    with pytest.raises(UsageError, match=words):
        parse_faults(**wrong)


def test_a_long_time_until_a_lead_comes_off_may_be_given():
    assert parse_faults(lead_off=["II@3600s"]).lead_off == ((3600.0, ("II",)),)
    assert parse_faults(rate_drift="-200ppm").rate_drift == pytest.approx(-2e-4)


@given(st.integers(1, 400), st.integers(1, 12), st.booleans(), st.integers(0, 2**33))
@settings(deadline=None, max_examples=50)
def test_frames_hold_the_samples_to_a_count(n, n_leads, large, first):
    info = FeedInfo("x", STANDARD_LEADS[:n_leads], 500.0, "real", 0.02)
    rng = np.random.default_rng(n)
    samples_mv = (rng.integers(-30_000, 30_000, (n_leads, n)) * (100.0 if large else 1.0) / 1e3).astype(
        np.float32
    )
    writer = FrameWriter(info, declared_of(info, lsb_nv=1000.0))
    frames = writer.frames(Chunk(first / 500.0, samples_mv, 0))
    assert [f.sample_index for f in frames][:1] == [first % 2**32]
    counts = np.concatenate([np.reshape(f.counts, (-1, n_leads)) for f in frames]).T
    np.testing.assert_allclose(counts / 1e3, samples_mv, atol=5.1e-4)
    assert all(f.simulated for f in frames)  # a recording that is played back is no patient
    assert all(f.fmt is SampleFormat.I16 for f in frames) or large


def test_a_lead_that_was_not_measured_is_marked_off():
    info = FeedInfo("x", ("I", "II"), 500.0, "real", 0.02)
    samples_mv = np.array([[0.1, 0.2], [0.3, np.nan]], np.float32)
    (frame,) = FrameWriter(info, declared_of(info, lsb_nv=1000.0)).frames(Chunk(0.0, samples_mv, 0))
    assert frame.lead_off == 0b10
    assert frame.counts == (100, 0, 200, 0)


def test_lost_bytes_never_come():
    line = FaultyLine(parse_faults(lose=0.01, seed=1), ["I"])
    sent = bytes(range(256)) * 40
    (come,) = line.messages(sent)
    assert len(sent) - len(come) == pytest.approx(0.01 * len(sent), rel=0.3)
    rest = iter(sent)
    assert all(byte in rest for byte in come)


def test_a_device_is_away_for_a_second():
    line = FaultyLine(parse_faults(restart=["1s"]), ["I"])
    chunks = [Chunk(5.0 + 0.25 * k, np.zeros((1, 125), np.float32), k) for k in range(12)]
    away = []
    for chunk in chunks:
        away.append(line.is_away(chunk))
        if not away[-1]:
            line.chunk(chunk)
    assert away == [False] * 4 + [True] * 4 + [False] * 4
