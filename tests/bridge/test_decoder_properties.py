"""Properties of the decoder: chunking never matters, garbage never raises, errors are found, sync returns."""

import itertools
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from eeb_messages import MESSAGES
from eeb_partner import line_of, lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge_bridge import Data, Decoder, FrameType, Result, SampleFormat, Validity, cobs, pack, to_wire
from ecgedge_bridge.control_codec import SIZES
from ecgedge_bridge.crc import crc32c


def unsigned(bits):
    return st.integers(0, 2**bits - 1)


@st.composite
def data_frames(draw):
    fmt = draw(st.sampled_from(SampleFormat))
    n_channels = draw(st.integers(1, 16))
    n_samples = draw(st.integers(1, min(255, 608 // (n_channels * fmt.width))))
    limit = 2 ** (8 * fmt.width - 1)
    # Few distinct counts, zero among them: zeros and long runs without any are what COBS is about.
    pool = draw(st.lists(st.integers(-limit, limit - 1), min_size=1, max_size=4))
    pick = draw(st.randoms(use_true_random=False))
    counts = tuple(pick.choice([*pool, 0]) for _ in range(n_channels * n_samples))
    return Data(
        seq=draw(unsigned(16)),
        sample_index=draw(unsigned(32)),
        t_us=draw(unsigned(64)),
        n_channels=n_channels,
        counts=counts,
        fmt=fmt,
        lead_off=draw(unsigned(32)),
        gain_id=draw(unsigned(8)),
        simulated=draw(st.booleans()),
    )


@st.composite
def result_frames(draw):
    validity = draw(st.sampled_from(Validity))
    pressures = (None, None, None)
    if validity.carries_value and draw(st.booleans()):
        low, mid, high = sorted(draw(st.tuples(*[st.integers(-32767, 32767)] * 3)))
        pressures = (mid, low, high) if draw(st.booleans()) else (mid, None, None)
    return Result(
        seq=draw(unsigned(16)),
        sample_index=draw(unsigned(32)),
        validity=validity,
        mpcwp_cmmhg=pressures[0],
        low_cmmhg=pressures[1],
        high_cmmhg=pressures[2],
        p_elevated_u16=draw(unsigned(16)) if validity.carries_value else 0,
        sqi_u8=draw(unsigned(8)),
        model_id=draw(unsigned(32)),
        latency_ms=draw(unsigned(16)),
        simulated=draw(st.booleans()),
    )


FRAMES = st.one_of(data_frames(), result_frames(), MESSAGES)


@st.composite
def dirty_streams(draw):
    """Frames with garbage between them and bytes changed, lost and gained."""
    parts = draw(
        st.lists(st.one_of(FRAMES.map(to_wire), st.binary(max_size=40), st.just(b"\x55" * 700)), max_size=6)
    )
    stream = bytearray(b"".join(parts))
    for where, how in draw(st.lists(st.tuples(unsigned(16), unsigned(9)), max_size=4)):
        at = where % (len(stream) + 1)
        if how < 256:
            stream[at : at + 1] = bytes([how])
        else:
            stream[at : at + how % 3] = bytes(how % 2)
    return bytes(stream)


def decode(wire):
    decoder = Decoder()
    return decoder.push(wire), decoder.counters


@given(FRAMES)
def test_round_trip(frame):
    frames, counters = decode(to_wire(frame))
    assert frames == [frame]
    assert counters.frames == 1
    assert sum(vars(counters).values()) == 1


@given(st.binary(max_size=1200))
def test_cobs_round_trip(data):
    encoded = cobs.encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + 1 + len(data) // 254
    assert cobs.decode(encoded) == data


def test_cobs_refuses_a_zero():
    with pytest.raises(cobs.CobsError, match="zero"):
        cobs.decode(b"\3\0\1")


@given(dirty_streams(), st.lists(unsigned(9), max_size=12))
@settings(max_examples=150)
def test_chunking_never_matters(stream, cuts):
    whole = decode(stream)
    bytewise, portions = Decoder(), Decoder()
    frames = [f for i in range(len(stream)) for f in bytewise.push(stream[i : i + 1])]
    assert (frames, bytewise.counters) == whole
    edges = [0, *sorted(c % (len(stream) + 1) for c in cuts), len(stream)]
    frames = [f for a, b in itertools.pairwise(edges) for f in portions.push(stream[a:b])]
    assert (frames, portions.counters) == whole


@given(st.binary(max_size=3000))
def test_garbage_never_raises_and_is_never_a_frame(garbage):
    # With 2**-32 for a chance hit, a frame here would be an error of ours.
    frames, _ = decode(garbage + b"\0")
    assert frames == []


@given(st.binary(max_size=200), FRAMES, FRAMES)
def test_sync_returns_within_two_frames(garbage, first, second):
    frames, _ = decode(garbage + to_wire(first) + to_wire(second))
    assert frames[-1] == second


@given(garbage=st.binary(max_size=1500), first=FRAMES, second=FRAMES)
@settings(max_examples=200)
def test_sync_returns_within_two_frames_in_c_too(c_decoder, garbage, first, second):
    *lines, _ = c_decoder.decode(garbage + to_wire(first) + to_wire(second))
    assert lines[-1] == line_of(second)


@given(st.binary(max_size=200), FRAMES)
def test_a_leading_delimiter_brings_sync_at_once(garbage, frame):
    frames, _ = decode(garbage + b"\0" + to_wire(frame))
    assert frames == [frame]


def test_memory_stays_bounded_without_delimiters():
    decoder = Decoder()
    for _ in range(100):
        decoder.push(b"\x55" * 1000)
    assert len(decoder._pending) <= 644


def small_frame():
    return Data(seq=7, sample_index=1000, t_us=2_000_000, n_channels=2, counts=(5, -5, 300, 0, 1, -1))


def largest_frame():
    return Data(seq=7, sample_index=1, t_us=9, n_channels=16, counts=tuple(range(-152, 152)))


def flip(data, bits):
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def one_of_each_type():
    """Return a frame of each type, of the vectors, by its name; the C tests damage all of them."""
    path = Path(__file__).parents[2] / "firmware_bridge" / "vectors" / "frames.json"
    vectors = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    wires = {vector["frame"]["type"]: bytes.fromhex(vector["wire_hex"]) for vector in reversed(vectors)}
    return {"small": small_frame(), **{name: decode(wire)[0][0] for name, wire in wires.items()}}


ONE_OF_EACH = one_of_each_type()


@pytest.mark.parametrize("frame", [*ONE_OF_EACH.values(), largest_frame()], ids=[*ONE_OF_EACH, "largest"])
def test_every_single_bit_error_on_the_wire_is_found(frame):
    wire = to_wire(frame)
    for bit in range(8 * len(wire)):
        assert decode(flip(wire, [bit]) + b"\0")[0] == [], bit


@pytest.mark.parametrize("n_bits", [2, 3, 4])
@pytest.mark.parametrize("frame", [*ONE_OF_EACH.values(), largest_frame()], ids=[*ONE_OF_EACH, "largest"])
def test_sampled_errors_of_a_few_bits_on_the_wire_are_found(frame, n_bits):
    wire = to_wire(frame)
    pick = np.random.default_rng(n_bits)
    for _ in range(500):
        bits = pick.choice(8 * len(wire) - 8, n_bits, replace=False).tolist()
        # An error that makes a delimiter may leave a whole frame only by chance; none may be changed.
        assert decode(flip(wire, bits))[0] == [], bits


def what_single_bits_change(size):
    """Return by how much each bit of the last `size` bytes, and of the check value after them, changes that."""
    changes = [1 << bit for bit in range(32)]
    for bit in range(8):
        with_it, without = crc32c(bytes([1 << bit])), crc32c(b"\0")
        for _ in range(size):
            changes.append(with_it ^ without)
            with_it, without = crc32c(b"\0", with_it), crc32c(b"\0", without)
    return np.array(changes, np.uint32)


def test_crc_finds_every_error_of_up_to_four_bits_of_the_decoded_frame():
    # The CRC is linear: errors of several bits change it by the exclusive-or of what each of them does. All pairs
    # differ from nothing, from every single bit and from every other pair: so no two, three or four bits cancel out.
    single = what_single_bits_change(636)
    assert single[32 + 635] == crc32c(flip(bytes(636), [0])) ^ crc32c(bytes(636))
    assert np.all(single)
    pairs = np.concatenate([one ^ single[k + 1 :] for k, one in enumerate(single)])
    pairs.sort()
    assert len(pairs) == 5120 * 5119 // 2
    assert pairs[0] > 0
    assert np.all(pairs[1:] != pairs[:-1])
    at = np.searchsorted(pairs, single).clip(max=len(pairs) - 1)
    assert not np.any(pairs[at] == single)


# ---------------------------------------------------------------------------------- the C library beside


@given(frames=st.lists(FRAMES, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_c_and_python_write_the_same_bytes(c_decoder, c_recoder, frames):
    wire = b"".join(map(to_wire, frames))
    *lines, _ = c_decoder.decode(wire)
    assert lines == [line_of(frame) for frame in frames]
    *sent, _ = c_recoder.decode(wire)
    assert "".join(sent) == wire.hex()


@given(stream=dirty_streams())
@settings(max_examples=300, deadline=None)
def test_c_and_python_agree_on_dirty_streams(c_decoder, stream):
    assert c_decoder.decode(stream) == lines_of(*decode(stream))


@given(stream=st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_c_and_python_agree_on_garbage(c_decoder, stream):
    assert c_decoder.decode(stream) == lines_of(*decode(stream))


def sealed(version, kind, seq, payload, length=None, flags=0):
    length = len(payload) if length is None else length
    body = (
        bytes([version, kind])
        + b"".join(number.to_bytes(2, "little") for number in (seq, length, flags))
        + payload
    )
    return cobs.encode(body + crc32c(body).to_bytes(4, "little")) + b"\0"


SEALED = st.builds(
    sealed,
    st.sampled_from([1, 1, 1, 1, 2]),
    st.sampled_from([*FrameType, 0x05, 0xFF]),
    unsigned(16),
    st.one_of(
        st.binary(max_size=40),
        FRAMES.map(lambda f: pack(f)[8:-4] + b"\1" * (f.seq % 3)).filter(lambda p: len(p) <= 628),
    ),
)


@given(parts=st.lists(SEALED, max_size=8))
@settings(max_examples=300, deadline=None)
def test_c_and_python_agree_on_sealed_frames_of_any_content(c_decoder, parts):
    # The check value is right, so what follows it in the order of checks is reached.
    stream = b"".join(parts)
    assert c_decoder.decode(stream) == lines_of(*decode(stream))


@st.composite
def nearly_right(draw):
    """A message with a few bytes changed, under its own type: mostly a field outside its range, or one just inside."""
    frame = draw(MESSAGES)
    decoded = pack(frame)
    payload = bytearray(decoded[8:-4])
    for at, value in draw(st.lists(st.tuples(unsigned(6), st.integers(0, 5) | unsigned(8)), max_size=3)):
        payload[at % len(payload)] = value
    return sealed(1, decoded[1], frame.seq, bytes(payload), flags=draw(unsigned(1)))


@given(parts=st.lists(nearly_right(), max_size=8))
@settings(max_examples=500, deadline=None)
def test_c_and_python_agree_on_messages_that_are_nearly_right(c_decoder, parts):
    stream = b"".join(parts)
    assert c_decoder.decode(stream) == lines_of(*decode(stream))


@given(frame=MESSAGES, cut=unsigned(6))
def test_a_message_cut_short_is_counted_and_a_longer_one_is_taken(frame, cut):
    decoded = pack(frame)
    payload = decoded[8:-4]
    size = SIZES[decoded[1]]
    assert len(payload) == size
    flags = int(frame.simulated)
    frames, counters = decode(sealed(1, decoded[1], frame.seq, payload[: cut % size], flags=flags))
    assert (frames, counters.bad_length) == ([], 1)
    frames, counters = decode(sealed(1, decoded[1], frame.seq, payload + bytes(cut + 1), flags=flags))
    assert (frames, counters.long_payload) == ([frame], 1)


FATES = st.sampled_from(["whole", "damaged", "lost", "unknown", "short", "bad_field"])


@given(first=unsigned(16), fates=st.lists(FATES, max_size=30))
def test_every_number_that_was_used_is_counted_once(first, fates):
    # PROTOCOL.md section 7: what was sent adds up.
    ping = bytes(12)
    stream = b""
    for ahead, fate in enumerate(["whole", *fates, "whole"]):
        seq = (first + ahead) % 2**16
        kind, payload = {
            "unknown": (0x05, b""),
            "short": (FrameType.PING, ping[1:]),
            "bad_field": (FrameType.ERROR, bytes(8)),
        }.get(fate, (FrameType.PING, ping))
        gone = {"lost": b"", "damaged": b"\x10" + b"x" * 15 + b"\0"}
        stream += gone.get(fate, sealed(1, kind, seq, payload))
    _, c = decode(stream)
    assert c.frames + c.unknown_type + c.bad_field + c.bad_length + c.lost_frames == len(fates) + 2
    assert c.bad_length == fates.count("short")
    assert (c.bad_crc, c.seq_back) == (fates.count("damaged"), 0)


def test_the_c_library_needs_nothing_but_what_every_compiler_assumes(c_tests):
    names = subprocess.run(
        ["nm", "-u", str(c_tests / "eeb.o")], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(names) - {"U"} <= {"memcpy", "memset", "memmove", "memcmp"}
    symbols = subprocess.run(
        ["nm", str(c_tests / "eeb.o")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    writable = [line for line in symbols if line.split()[-2] in "BbDdC"]
    assert writable == [], "the library holds state of its own"


def test_the_c_source_has_one_header_and_one_file():
    folder = Path(__file__).parents[2] / "firmware_bridge" / "c"
    text = (folder / "eeb.c").read_text() + (folder / "eeb.h").read_text()
    includes = {line.split()[1] for line in text.splitlines() if line.startswith("#include")}
    assert includes == {'"eeb.h"', "<stdbool.h>", "<stddef.h>", "<stdint.h>"}
