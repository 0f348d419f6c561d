"""A checkpoint that is kept is the one that is read; a damaged one is refused."""

import hashlib

import pytest
from bus_lines import QUICK, RATE_HZ
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.cluster.checkpoint import _MAGIC, Checkpoint, JournalPlace, Message, Position
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.pace import Quickest
from ecgedge.sim import Simulator
from ecgedge.stream import Bed


@pytest.fixture(scope="module")
def snapshot(formula_bundle, variants):
    bed = Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, policy=QUICK)
    bed.push(Simulator("stable", seed=1, rate_hz=RATE_HZ).read(3000), t_s=0.0)
    return bed.snapshot()


SEQUENCES = st.integers(0, 2**63)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["events", "journal"]),
    st.text(max_size=50),
    st.sampled_from([None, "real", "demo"]),
)
FIRST = JournalPlace("j", 0)


@given(
    position=st.builds(Position, SEQUENCES, SEQUENCES, SEQUENCES),
    messages=st.lists(MESSAGES, max_size=5).map(tuple),
    journal=st.builds(JournalPlace, st.text(max_size=32), SEQUENCES),
    quickest=st.none() | st.builds(Quickest, st.floats(-1e9, 1e9), st.floats(0.0, 1e10)),
)
def test_what_is_kept_is_read(snapshot, position, messages, journal, quickest):
    data = Checkpoint(position, messages, snapshot, "a", journal, quickest, 12.5).to_bytes()
    found = Checkpoint.from_bytes(data, source="here")
    assert (found.position, found.messages, found.owner) == (position, messages, "a")
    assert (found.journal, found.quickest, found.published_s) == (journal, quickest, 12.5)
    assert found.snapshot.to_bytes() == snapshot.to_bytes()


@given(data=st.data())
def test_a_bit_that_flips_is_noticed(snapshot, data):
    kept = bytearray(Checkpoint(Position(5), (Message("events", "a"),), snapshot, "a", FIRST).to_bytes())
    kept[data.draw(st.integers(0, len(kept) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(RecordError, match="here is no checkpoint of this version, or damaged"):
        Checkpoint.from_bytes(bytes(kept), source="here")


@given(garbage=st.binary(max_size=200))
def test_garbage_is_refused(garbage):
    with pytest.raises(RecordError):
        Checkpoint.from_bytes(garbage, source="here")


def test_it_fits_into_a_message_of_the_bus(snapshot):
    lines = (Message("events", "x" * 300, "real"),) * 100
    assert len(Checkpoint(Position(5), lines, snapshot, "a", FIRST).to_bytes()) < 200_000


def test_a_digest_alone_makes_no_checkpoint():
    body = b"[" * 3000
    with pytest.raises(RecordError, match="here is no checkpoint"):
        Checkpoint.from_bytes(_MAGIC + hashlib.sha256(body).hexdigest().encode() + body, source="here")
