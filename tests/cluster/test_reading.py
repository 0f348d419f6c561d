"""However a bed takes what comes, and wherever it is restored, each sample is read once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.cluster.checkpoint import JournalPlace, Position
from ecgedge.cluster.journal_part import Entries, read_part
from ecgedge.cluster.reading import Reading
from ecgedge.cluster.said import Said


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=20), data=st.data())
def test_who_goes_on_from_a_position_reads_the_rest(sizes, data):
    """A size of 0 is a command, or what was dropped."""
    reading, position, taken = Reading(), Position(), 0
    for _ in range(3):
        came = 0
        for sequence, n in enumerate(sizes, 1):
            if sequence > position.sequence and data.draw(st.integers(0, 5)) > 0:
                begun = reading.begun(sequence)
                reading.came(sequence, n - begun, begun=begun)
                came += n - begun
            elif sequence > position.sequence:
                break
        waiting = data.draw(st.integers(0, came))
        taken += came - waiting
        position = reading.up_to(waiting=waiting)
        assert sum(sizes[: position.sequence]) + position.partial == taken
        reading = Reading(position)


def test_entries_go_before_lines_and_only_with_a_checkpoint():
    said = Said("icu-1")
    said.say("before there is a bed")
    with pytest.raises(ValueError, match="no journal"):
        said.take_all()
    assert [(m.to, m.text, m.mode) for m in said.take()] == [("events", "before there is a bed", None)]
    said.begin(Entries("icu-1", "j", "a", {}, 4), "demo")
    said.say("one")
    said.entries.append({"type": "alarm"})
    assert [m.text for m in said.take()] == ["one"]
    said.say("two")
    messages, journal = said.take_all()
    assert [(m.to, m.mode) for m in messages] == [("journal", None), ("events", "demo")]
    assert read_part(messages[0].text.encode()).first == 4
    assert journal == JournalPlace("j", 5)
