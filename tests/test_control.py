"""Users' commands: every form, every fault by its name, and the same however the bytes are cut."""

import asyncio
import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.alarms import CONDITIONS, Reading
from ecgedge.control import (
    LONGEST_LINE,
    Acknowledge,
    CommandReader,
    Control,
    Dropped,
    PauseAudio,
    ResumeAudio,
    Uncalibrate,
)
from ecgedge.policy import AlarmPolicy

GOOD = [
    ("ack MPCWP_ELEVATED nurse7", Acknowledge("MPCWP_ELEVATED", "nurse7")),
    ("ack LEAD_OFF Jos\u00e9 P\u00e9rez", Acknowledge("LEAD_OFF", "Jos\u00e9 P\u00e9rez")),
    ("  ack   FEED_LOST   a  ", Acknowledge("FEED_LOST", "a")),
    ("ack FEED_LOST a\r", Acknowledge("FEED_LOST", "a")),
    ("pause 60 nurse 7", PauseAudio(60.0, "nurse 7")),
    ("pause 0.5 a", PauseAudio(0.5, "a")),
    ("pause 120 a", PauseAudio(120.0, "a")),
    ("resume nurse 7", ResumeAudio("nurse 7")),
    ("calibrate 14 Dr Eight", Reading(14.0, "Dr Eight")),
    ("calibrate 7.5 a", Reading(7.5, "a")),
    ("uncalibrate Dr Eight", Uncalibrate("Dr Eight")),
]
BAD = [
    ("acknowledge FEED_LOST a", "unknown_command", "unknown command 'acknowledge'; expected: ack CONDITION"),
    ("ACK FEED_LOST a", "unknown_command", "'ACK'"),
    ("{}", "unknown_command", "'{}'"),
    ("ack MPCWP a", "unknown_condition", "'MPCWP'; known are MPCWP_ELEVATED"),
    ("ack", "unknown_condition", "''"),
    ("ack lead_off a", "unknown_condition", "'lead_off'"),
    ("pause a", "bad_duration", "'a' seconds"),
    ("pause", "bad_duration", "'' seconds"),
    ("pause 0 a", "bad_duration", "above 0 and at most 120"),
    ("pause -1 a", "bad_duration", "above 0"),
    ("pause 120.1 a", "bad_duration", "at most 120"),
    ("pause nan a", "bad_duration", "'nan'"),
    ("pause inf a", "bad_duration", "'inf'"),
    ("calibrate a", "bad_pressure", "'a' mmHg"),
    ("calibrate 0 a", "bad_pressure", "above 0 and at most 60 mmHg"),
    ("calibrate 140 a", "bad_pressure", "at most 60 mmHg"),
    ("calibrate nan a", "bad_pressure", "'nan' mmHg"),
    ("calibrate 14", "no_user", "who does 'calibrate 14'?"),
    ("uncalibrate", "no_user", "who does 'uncalibrate'?"),
    ("ack FEED_LOST", "no_user", "who does 'ack FEED_LOST'?"),
    ("ack FEED_LOST   ", "no_user", "who does"),
    ("pause 60", "no_user", "who does 'pause 60'?"),
    ("resume", "no_user", "who does 'resume'?"),
    ("resume \x1b[31m", "not_text", "printable"),
    ("ack\tFEED_LOST\ta", "not_text", "printable"),
    ("resume " + "a" * LONGEST_LINE, "too_long", f"{LONGEST_LINE} bytes"),
]


def reader() -> CommandReader:
    return CommandReader(AlarmPolicy())


@pytest.mark.parametrize(("line", "command"), GOOD)
def test_every_form(line, command):
    assert reader().push(line.encode() + b"\n") == [command]


@pytest.mark.parametrize(("line", "fault", "reason"), BAD)
def test_every_fault_has_its_name_and_says_what_to_do(line, fault, reason):
    made = reader()
    (dropped,) = made.push(line.encode() + b"\n")
    assert isinstance(dropped, Dropped)
    assert dropped.fault == fault
    assert reason in dropped.reason
    assert made.dropped == {fault: 1}
    assert made.push(b"resume a\n") == [ResumeAudio("a")], "the next line is read as ever"


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_can_be_acknowledged(name):
    assert reader().push(f"ack {name} a\n".encode()) == [Acknowledge(name, "a")]


def test_a_policy_says_how_long_a_pause_may_be():
    made = CommandReader(AlarmPolicy(audio_pause_max_s=30.0))
    (dropped,) = made.push(b"pause 31 a\n")
    assert "at most 30" in dropped.reason


def test_blank_lines_say_nothing():
    made = reader()
    assert made.push(b"\n  \n\r\n") == []
    assert made.close() == []


def test_bytes_that_are_no_text():
    (dropped,) = reader().push(b"resume \xff\xfe\n")
    assert dropped.fault == "not_text"


def test_a_line_without_its_end_is_not_obeyed():
    """It may have been cut off: pause 12 of pause 120."""
    made = reader()
    assert made.push(b"resume a\nresume b") == [ResumeAudio("a")]
    (dropped,) = made.close()
    assert dropped.fault == "unfinished"
    assert made.close() == []


def test_a_line_that_never_ends_is_told_of_once_and_costs_no_memory():
    made = reader()
    found = [item for _ in range(1000) for item in made.push(b"x" * 1000)]
    assert [d.fault for d in found] == ["too_long"]
    assert made.push(b"\nresume a\n") == [ResumeAudio("a")]


def test_the_longest_line_there_may_be():
    line = b"resume " + b"a" * (LONGEST_LINE - 7)
    assert len(reader().push(line + b"\n")) == 1
    assert isinstance(reader().push(line + b"\n")[0], ResumeAudio)


pieces = st.sampled_from([line.encode() + b"\n" for line, *_ in GOOD + BAD] + [b"\n"]) | st.binary(
    max_size=300
)


@given(st.lists(pieces, max_size=20).map(b"".join), st.lists(st.integers(0, 3000), max_size=12))
def test_however_the_bytes_are_cut(data, cuts):
    whole, cut = reader(), reader()
    expected = whole.push(data) + whole.close()
    places = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    found = [i for a, b in itertools.pairwise(places) for i in cut.push(data[a:b])] + cut.close()
    assert found == expected
    assert cut.dropped == whole.dropped
    assert sum(cut.dropped.values()) == sum(isinstance(i, Dropped) for i in found)


# --- from a file descriptor ---


def read_all(fd, *, policy=None):
    told = []
    control = Control(fd, policy=policy or AlarmPolicy(), say=told.append)

    async def collect():
        return [command async for command in control]

    return asyncio.run(asyncio.wait_for(collect(), 30.0)), told, control.dropped


def test_a_pipe_and_a_file_are_read_alike(tmp_path):
    text = "pause 60 a\nboo\nresume a\nack"
    (tmp_path / "typed").write_text(text)
    reads, writes = os.pipe()
    os.write(writes, text.encode())
    os.close(writes)
    with (tmp_path / "typed").open("rb") as stream:
        from_file = read_all(stream.fileno())
    from_pipe = read_all(reads)
    os.close(reads)
    assert from_file == from_pipe
    commands, told, dropped = from_pipe
    assert commands == [PauseAudio(60.0, "a"), ResumeAudio("a")]
    assert dropped == {"unknown_command": 1, "unfinished": 1}
    assert told[0].startswith("control line dropped (unknown_command): unknown command 'boo'; expected: ack")
    assert told[1] == "control line dropped (unfinished): the last line has no end"


def test_an_input_that_breaks_is_said_and_ends_the_commands(tmp_path):
    with (tmp_path / "unreadable").open("wb") as stream:
        commands, told, _ = read_all(stream.fileno())
    assert commands == []
    (said,) = told
    assert said.startswith("control input lost, no more commands are taken: ")
