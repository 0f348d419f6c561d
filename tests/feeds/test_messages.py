"""Samples in messages: what a device declares, binary frames, JSON; garbage is dropped and counted under a name."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import FeedError
from ecgedge.feeds.declared import Declared, from_object, to_object
from ecgedge.feeds.messages import MAX_MESSAGE, MessageReader, read_declared, write_declared, write_json
from ecgedge_bridge import Data, Validity, make_result, pack, unpack

TWO = Declared(channels=("II", "I"), rate_hz=500.0, lsb_nv=1000.0)


def reader(declared=TWO):
    return MessageReader(declared, uri="mqtt://host/topic")


def frame(index=0, counts=(1000, -2000), n_channels=2, **more):
    return pack(
        Data(seq=0, sample_index=index, t_us=index * 2000, n_channels=n_channels, counts=counts, **more)
    )


@pytest.mark.parametrize(
    "declared",
    [
        TWO,
        Declared(
            channels=("V1", "-", "aVR"),
            rate_hz=250.0,
            lsb_nv=286.1,
            mode="test",
            chunk_s=0.05,
            band_hz=(0.05, 150.0),
            calibrated=False,
        ),
    ],
)
def test_what_a_device_declares_is_read_as_it_was_written(declared):
    assert read_declared(write_declared(declared), uri="") == declared
    assert from_object({**to_object(declared), "firmware": "1.2"}) == declared
    assert declared.info("x").resolution_mv == declared.lsb_nv * 1e-6


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "cannot be used"),
        (b"[]", "'leads' is missing"),
        (b'{"leads": ["I"], "rate_hz": 500}', "'lsb_nv' is missing"),
        (b'{"leads": ["X"], "rate_hz": 500, "lsb_nv": 1}', "unknown lead"),
        (b'{"leads": ["I", "I"], "rate_hz": 500, "lsb_nv": 1}', "stands twice"),
        (b'{"leads": [], "rate_hz": 500, "lsb_nv": 1}', "lead"),
        (b'{"leads": ["I"], "rate_hz": 5, "lsb_nv": 1}', "5 Hz is not usable"),
        (b'{"leads": ["I"], "rate_hz": "fast", "lsb_nv": 1}', "rate_hz is 'fast'"),
        (b'{"leads": ["I"], "rate_hz": 500, "lsb_nv": NaN}', "NaN is not JSON"),
        (b'{"leads": ["I"], "rate_hz": 500, "lsb_nv": 1, "mode": "live"}', "mode 'live'"),
        (b'{"leads": ["I"], "rate_hz": 500, "lsb_nv": 1, "band_hz": [40, 1]}', "band_hz"),
        (b'{"leads": ["I"], "rate_hz": 500, "lsb_nv": 1, "calibrated": "yes"}', "calibrated"),
        (b"[" * 100_000, "cannot be used"),
        (b" " * (MAX_MESSAGE + 1), "too many"),
    ],
)
def test_what_cannot_be_used_is_refused_with_an_example(message, words):
    with pytest.raises(FeedError, match=words) as caught:
        read_declared(message, uri="mqtt://host/topic")
    assert '"rate_hz": 500' in str(caught.value)


def test_binary_and_json_carry_the_same_samples():
    binary = reader().binary(frame(7, counts=(1000, -2000, 500, 0)))
    text = b'{"index": 7, "unit": "uV", "samples": [[1000, 500], [-2000, 0]]}'
    for packet in (binary, reader().json(text)):
        assert packet.index == 7
        np.testing.assert_allclose(packet.samples_mv, [[-2.0, 0.0], [1.0, 0.5]], rtol=1e-6)  # I, II


def test_json_round_trip_is_exact_and_keeps_what_was_not_measured():
    samples_mv = np.array([[0.1, np.nan, -1e-7], [3.25, 4.5, np.nan]], np.float32)
    packet = reader(Declared(channels=("I", "II"), rate_hz=500.0, lsb_nv=1.0)).json(
        write_json(samples_mv, index=3)
    )
    np.testing.assert_array_equal(packet.samples_mv, samples_mv)


@pytest.mark.parametrize(
    ("text", "counter"),
    [
        ('{"index": 1, "samples": [[1], [2]]}', "bad_unit"),
        ('{"index": 1, "unit": "mmHg", "samples": [[1], [2]]}', "bad_unit"),
        ('{"index": 1, "unit": "mV", "samples": [[1]]}', "bad_shape"),
        ('{"index": 1, "unit": "mV", "samples": [[1], [2, 3]]}', "bad_shape"),
        ('{"index": 1, "unit": "mV", "samples": [[], []]}', "bad_shape"),
        ('{"index": 1, "unit": "mV", "samples": [1, 2]}', "bad_shape"),
        ('{"index": 1, "unit": "mV", "samples": [["1"], ["2"]]}', "bad_json"),
        ('{"index": 1, "unit": "mV", "samples": [[true], [false]]}', "bad_json"),
        ('{"index": 1, "unit": "mV", "samples": [[1e999], [0]]}', "bad_json"),
        ('{"index": 1, "unit": "mV", "samples": [[1' + "0" * 400 + "], [0]]}", "bad_json"),
        ('{"index": -1, "unit": "mV", "samples": [[1], [2]]}', "bad_json"),
        ('{"index": 1.5, "unit": "mV", "samples": [[1], [2]]}', "bad_json"),
        ('{"index": 1, "unit": "mV", "samples": [[NaN], [2]]}', "bad_json"),
        ("[1, 2", "bad_json"),
        ("[]", "bad_json"),
        ("[" * 100_000, "bad_json"),
    ],
)
def test_json_that_cannot_be_used_is_counted(text, counter):
    one = reader()
    assert one.json(text.encode()) is None
    assert one.dropped == {counter: 1}


@pytest.mark.parametrize(
    ("message", "counter"),
    [
        (b"", "bad_length"),
        (bytes(2000), "oversize"),
        (frame()[:-1] + b"\xff", "bad_crc"),
        (frame(counts=(1, 2, 3), n_channels=3), "wrong_channels"),
        (pack(make_result(seq=0, sample_index=0, validity=Validity.INV)), "not_data"),
    ],
)
def test_a_binary_message_that_cannot_be_used_is_counted(message, counter):
    one = reader()
    assert one.binary(message) is None
    assert one.dropped == {counter: 1}


def test_simulated_samples_never_pass_as_real():
    with pytest.raises(FeedError, match="simulated"):
        reader().binary(frame(simulated=True))


@given(st.binary(max_size=700))
@settings(deadline=None)
def test_garbage_is_counted_and_never_raises(garbage):
    one = reader()
    assert one.binary(garbage) is None
    assert one.json(garbage) is None
    assert sum(one.dropped.values()) == 2


@given(st.data())
@settings(deadline=None)
def test_a_damaged_message_never_passes_as_a_sound_one(data):
    sound = frame(counts=tuple(range(40)))
    bad = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    packet = reader().binary(bytes(bad))
    assert packet is None or bytes(bad) == sound


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values, json_values)
@settings(deadline=None)
def test_any_json_is_read_or_counted(index, unit, samples):
    one = reader()
    text = json.dumps({"index": index, "unit": unit, "samples": samples}).encode()
    packet = one.json(text)
    assert (packet is None) == (sum(one.dropped.values()) == 1)
    with_unit = reader()
    with_unit.json(json.dumps({"index": 1, "unit": "mV", "samples": samples}).encode())


def test_unpack_is_what_pack_was():
    data = Data(seq=3, sample_index=9, t_us=18, n_channels=1, counts=(5, -6))
    assert unpack(pack(data)) == data
