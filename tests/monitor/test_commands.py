"""What a viewer's messages ask for; garbage asks for nothing and is named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.control import Acknowledge, PauseAudio, ResumeAudio
from ecgedge.monitor.commands import Asked, Garbled, Watch, WatchWard, read_message

ACK = {"do": "ack", "id": 7, "bed": "a", "condition": "LEAD_OFF", "user": "Nurse Seven"}


def read(message, user=None):
    return read_message(json.dumps(message), user=user)


def test_what_can_be_asked():
    assert read({"do": "watch", "bed": "a"}) == Watch("a")
    assert read({"do": "watch_ward"}) == WatchWard()
    assert read(ACK) == Asked(7, "a", Acknowledge("LEAD_OFF", "Nurse Seven"))
    pause = {"do": "pause", "id": 0, "bed": "a", "duration_s": 60, "user": "N"}
    assert read(pause) == Asked(0, "a", PauseAudio(60.0, "N"))
    assert read({"do": "resume", "id": 1, "bed": "a", "user": " N "}) == Asked(1, "a", ResumeAudio("N"))


def test_who_has_logged_in_cannot_act_in_anothers_name():
    assert read(ACK, user="Dr Eight").command.user == "Dr Eight"


@pytest.mark.parametrize(
    ("change", "fault", "number"),
    [
        ({"do": "drain"}, "unknown_command", None),
        ({"do": ["ack"]}, "unknown_command", None),
        ({"do": "watch", "bed": 7}, "bad_command", None),
        ({"id": "7"}, "bad_command", None),
        ({"id": True}, "bad_command", None),
        ({"id": -1}, "bad_command", None),
        ({"id": 2**60}, "bad_command", None),
        ({"bed": None}, "bad_command", 7),
        ({"user": None}, "bad_command", 7),
        ({"user": " "}, "bad_command", 7),
        ({"user": "a\nb"}, "bad_command", 7),
        ({"user": "x" * 101}, "bad_command", 7),
        ({"condition": "NONE_SUCH"}, "bad_command", 7),
        ({"condition": 3}, "bad_command", 7),
        ({"do": "pause", "duration_s": 0}, "bad_command", 7),
        ({"do": "pause", "duration_s": 121}, "bad_command", 7),
        ({"do": "pause", "duration_s": True}, "bad_command", 7),
        ({"do": "pause", "duration_s": "60"}, "bad_command", 7),
        ({"do": "pause"}, "bad_command", 7),
    ],
)
def test_what_cannot(change, fault, number):
    found = read({**ACK, **change})
    assert isinstance(found, Garbled)
    assert (found.fault, found.number) == (fault, number)
    assert found.reason


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "\x00", '{"do":' * 3000, '{"do":NaN}', "[" * 100_000])
def test_what_is_no_object(text):
    assert read_message(text, user=None).fault in ("not_json", "unknown_command")


@settings(max_examples=30)
@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x))
)
def test_no_message_raises(value):
    read_message(json.dumps(value), user=None)
    base = value if isinstance(value, dict) else {}
    for key in ACK:
        read_message(json.dumps({**ACK, **base, key: value}), user=None)


def test_nan_seconds_are_no_pause():
    text = '{"do":"pause","id":1,"bed":"a","user":"N","duration_s":NaN}'
    assert read_message(text, user=None).fault == "bad_command"
