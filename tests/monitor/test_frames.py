"""Messages of samples, byte by byte as docs/page.md says, and back."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.monitor.frames import FINEST_NV, MISSING, decode, encode


def test_a_message_is_what_the_document_says():
    samples_mv = np.array([[1.0, -0.5, np.nan], [0.001, 0.0, np.inf]], np.float32)
    message = encode(samples_mv, t_s=12.5, sent_ms=1e12, seq=7)
    assert message[:2] == b"\x01\x01"
    assert struct.unpack_from("<HI", message, 2) == (2, 3)
    assert struct.unpack_from("<dd", message, 8) == (12.5, 1e12)
    assert struct.unpack_from("<II", message, 24) == (1000, 7)
    assert struct.unpack_from("<6h", message, 32) == (1000, -500, -32768, 1, 0, -32768)
    assert len(message) == 32 + 2 * 6


@given(
    st.lists(st.floats(-500.0, 500.0, width=32), min_size=1, max_size=50),
    st.sets(st.integers(0, 49)),
)
def test_samples_come_back_within_a_count(values, missing):
    samples_mv = np.array([values], np.float32)
    gone = [k for k in missing if k < len(values)]
    samples_mv[0, gone] = np.nan
    back = decode(encode(samples_mv, t_s=0.0, sent_ms=0.0, seq=0))
    assert np.array_equal(np.isnan(back.samples_mv), np.isnan(samples_mv))
    largest = np.nanmax(np.abs(samples_mv)) if len(gone) < len(values) else 0.0
    assert back.lsb_nv == FINEST_NV or largest * 1e6 > 32767 * back.lsb_nv / 2
    assert np.nanmax(np.abs(back.samples_mv - samples_mv), initial=0.0) <= back.lsb_nv * 0.51e-6 + 1e-4


def test_an_empty_chunk_and_no_finite_sample_are_messages_too():
    assert decode(encode(np.zeros((3, 0), np.float32), t_s=0, sent_ms=0, seq=0)).samples_mv.shape == (3, 0)
    nothing = encode(np.full((1, 4), np.nan, np.float32), t_s=0, sent_ms=0, seq=2**32 + 5)
    assert struct.unpack_from("<4h", nothing, 32) == (MISSING,) * 4
    assert decode(nothing).seq == 5, "the counter goes round"


@pytest.mark.parametrize("damage", [b"", b"\x01", b"\x02" + bytes(31), b"\x01\x01\x02\x00\x03" + bytes(27)])
def test_what_is_no_message_is_refused(damage):
    with pytest.raises(ValueError, match="bytes"):
        decode(damage)
