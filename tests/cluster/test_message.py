"""A chunk that is sent is the chunk that comes; anything else is dropped under a name, and nothing raises."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.cluster.message import MODES, BedChunk, decode_chunk, encode_chunk
from ecgedge.errors import UsageError
from ecgedge.leads import STANDARD_LEADS, order_leads

LEADS = st.lists(st.sampled_from(STANDARD_LEADS), min_size=1, unique=True).map(order_leads)


@st.composite
def chunks(draw):
    leads, n = draw(LEADS), draw(st.integers(1, 40))
    values = st.one_of(st.just(np.nan), st.floats(-1000.0, 1000.0, width=32))
    rows = draw(st.lists(values, min_size=len(leads) * n, max_size=len(leads) * n))
    return BedChunk(
        leads,
        draw(st.floats(90.0, 20_000.0)),
        draw(st.sampled_from(MODES)),
        draw(st.floats(-1e12, 1e12)),
        draw(st.integers(0, 2**64 - 1)),
        np.array(rows, np.float32).reshape(len(leads), n),
    )


def facts(chunk):
    return chunk.leads, chunk.rate_hz, chunk.mode, chunk.t_s, chunk.sequence


def signed(head, body=b""):
    """A message whose checksum is right, whatever stands in it."""
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


def head(*, magic=b"ECG1", mode=0, n_leads=1, bits=2, rate_hz=250.0, t_s=0.0, sequence=0, n=1):
    return struct.pack("<4sBBHddQI", magic, mode, n_leads, bits, rate_hz, t_s, sequence, n)


@given(chunk=chunks())
def test_what_is_sent_comes(chunk):
    found = decode_chunk(encode_chunk(chunk))
    assert facts(found) == facts(chunk)
    np.testing.assert_array_equal(found.samples_mv, chunk.samples_mv)


@given(chunk=chunks(), data=st.data())
def test_a_bit_that_flips_is_noticed(chunk, data):
    message = bytearray(encode_chunk(chunk))
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert isinstance(decode_chunk(bytes(message)), str)


@given(message=st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: b"ECG1" + tail)))
def test_garbage_has_a_name(message):
    assert decode_chunk(message) in ("format", "length", "checksum")


def test_the_layout_is_as_the_head_says():
    body = np.array([0.5, np.nan], "<f4").tobytes()
    found = decode_chunk(signed(head(mode=2, bits=1 << 6, rate_hz=500.0, t_s=7.5, sequence=9, n=2), body))
    assert facts(found) == (("V1",), 500.0, "demo", 7.5, 9)
    np.testing.assert_array_equal(found.samples_mv, np.array([[0.5, np.nan]], np.float32))
    assert not found.live
    live = decode_chunk(signed(head(mode=128 + 1), body[:4]))
    assert (live.mode, live.live) == ("test", True)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"magic": b"ECG2"}, "format"),
        ({"n": 2}, "length"),
        ({"mode": 3}, "mode"),
        ({"mode": 128 + 3}, "mode"),
        ({"bits": 3}, "leads"),
        ({"bits": 1 << 12}, "leads"),
        ({"rate_hz": 10.0}, "rate"),
        ({"rate_hz": float("nan")}, "rate"),
        ({"t_s": float("inf")}, "time"),
    ],
)
def test_what_no_bed_takes_has_a_name(changes, fault):
    assert decode_chunk(signed(head(**changes), np.zeros(1, "<f4").tobytes())) == fault


def test_samples_that_no_bed_takes():
    assert decode_chunk(signed(head(n=0))) == "samples"
    assert decode_chunk(signed(head(n_leads=0, bits=0, n=2**32 - 1))) == "leads"
    for value in (np.inf, -1001.0):
        assert decode_chunk(signed(head(), np.array([value], "<f4").tobytes())) == "samples"


def test_a_checksum_that_is_wrong():
    assert decode_chunk(head() + bytes(8)) == "checksum"


@pytest.mark.parametrize(
    ("leads", "shape", "why"),
    [
        (("II", "I"), (2, 5), "standard order"),
        (("I",), (2, 5), "one row a lead"),
        (("I",), (1, 0), "its samples is wrong"),
        (STANDARD_LEADS, (12, 30_000), "its length is wrong"),
    ],
)
def test_what_cannot_be_sent_is_refused(leads, shape, why):
    with pytest.raises(UsageError, match=why):
        encode_chunk(BedChunk(leads, 250.0, "demo", 0.0, 0, np.zeros(shape, np.float32)))
