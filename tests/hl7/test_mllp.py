"""Framing: the bytes' cut never matters, garbage is counted, memory is bounded."""

import itertools
import tracemalloc

import hl7
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import UsageError
from ecgedge.hl7.mllp import MllpCounters, MllpDecoder, frame

# Few distinct bytes, those of frames among them: what matters is how these meet.
WIRE = st.lists(
    st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\x1c\r", b"\x1c\r\x0b", b"MSH|", b"a", b"\x00", b"abcdefgh"])
).map(b"".join)


def decode(pieces, **limits):
    decoder = MllpDecoder(**limits)
    messages = [message for piece in pieces for message in decoder.push(piece)]
    return messages, decoder.counters


def by_hand(wire, max_bytes):
    """The same rules, read byte by byte."""
    messages, held, outside, oversized, unfinished = [], None, 0, 0, 0
    at = 0
    while at < len(wire):
        if held is None:
            if wire[at : at + 1] == b"\x0b":
                held = b""
            else:
                outside += 1
            at += 1
        elif wire[at : at + 2] == b"\x1c\r":
            messages += [held] if len(held) <= max_bytes else []
            oversized += len(held) > max_bytes
            held = None
            at += 2
        elif wire[at : at + 1] == b"\x0b":
            unfinished += len(held) <= max_bytes
            oversized += len(held) > max_bytes
            held = b""
            at += 1
        else:
            held += wire[at : at + 1]
            at += 1
    # What is open at the end is too long already, or waits; a last 0x1C may be half of an end.
    if held is not None:
        oversized += len(held.removesuffix(b"\x1c") if wire.endswith(b"\x1c") else held) > max_bytes
    return messages, MllpCounters(len(messages), outside, oversized, unfinished)


@given(WIRE, st.lists(st.integers(0, 200)), st.integers(1, 12))
@settings(deadline=None, max_examples=300)
def test_any_cut_gives_what_the_rules_say(wire, cuts, max_bytes):
    places = [0, *sorted(cuts), len(wire)]
    pieces = [wire[a:b] for a, b in itertools.pairwise(places)]
    expected = by_hand(wire, max_bytes)
    assert decode(pieces, max_bytes=max_bytes) == expected
    assert decode([wire[i : i + 1] for i in range(len(wire))], max_bytes=max_bytes) == expected


@given(st.binary(max_size=400), st.binary(max_size=50))
def test_a_message_comes_through_after_garbage(garbage, message):
    message = message.replace(b"\x0b", b"").replace(b"\x1c", b"")
    messages, _ = decode([garbage, frame(message)])
    assert messages[-1] == message


def test_counters_name_what_was_dropped():
    wire = (
        b"xx" + frame(b"one") + b"\n" + b"\x0bcut short" + frame(b"two") + frame(b"x" * 20) + frame(b"three")
    )
    messages, counters = decode([wire], max_bytes=16)
    assert messages == [b"one", b"two", b"three"]
    assert counters == MllpCounters(messages=3, bytes_outside=3, oversized=1, unfinished=1)


def test_frames_are_those_of_the_hl7_package():
    text = "MSH|^~\\&|A|B|||20260101||ACK|1|P|2.6\rMSA|AA|1\r"
    assert frame(text.encode()) == hl7.parse(text).__str__().join(("\x0b", "\x1c\r")).encode()


@pytest.mark.parametrize("inside", [b"\x0b", b"a\x1c\rb", b"a\x1c"])
def test_a_message_that_would_break_its_frame_is_refused(inside):
    with pytest.raises(UsageError, match="bytes that frame it"):
        frame(inside)


def test_memory_stays_bounded_and_a_later_message_is_read():
    decoder = MllpDecoder(max_bytes=1 << 16)
    decoder.push(b"\x0bMSH|")
    piece = b"1^" * 2048
    tracemalloc.start()
    for _ in range(2560):  # 10 MiB of one field.
        assert decoder.push(piece) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 16
    assert decoder.push(b"\x1c\r" + frame(b"next")) == [b"next"]
    assert decoder.counters == MllpCounters(messages=1, oversized=1)


def test_many_starts_in_a_row_cost_no_more_than_their_bytes():
    wire = b"\x0b" * 20_000
    messages, counters = decode([wire + b"m\x1c\r"])
    assert messages == [b"m"]
    assert counters.unfinished == 19_999


def test_a_limit_below_one_byte_is_refused():
    with pytest.raises(UsageError, match="max_bytes is 0"):
        MllpDecoder(max_bytes=0)
