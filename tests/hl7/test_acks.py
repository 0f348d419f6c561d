"""Acknowledgements that other packages read, and what other packages answer."""

from datetime import datetime, timezone

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message as ApyMessage
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.errors import Hl7Error
from ecgedge.hl7.acks import Acknowledgement, acknowledge, read_acknowledgement
from ecgedge.hl7.header import Envelope
from ecgedge.hl7.message import parse

NOW = datetime(2026, 1, 24, tzinfo=timezone.utc)
SENT = parse(b"MSH|^~\\&|Monitor|Ward 3|||20260124||ORU^R01^ORU_R01|4711|T|2.6\rPID|1\r")


@pytest.mark.parametrize("code", ["AA", "AE", "AR"])
def test_an_acknowledgement_is_read_by_others_and_back(code):
    text = None if code == "AA" else "OBX[1]-6: a unit | none"
    data = acknowledge(SENT, Envelope(NOW, "9"), code, text)
    assert read_acknowledgement(data) == Acknowledgement(code, "4711", text or "")
    strict = parse_message(data.decode(), validation_level=VALIDATION_LEVEL.STRICT)
    assert strict.validate()
    assert (strict.msh.msh_5.value, strict.msh.msh_6.value, strict.msh.msh_11.value) == (
        "Monitor",
        "Ward 3",
        "T",
    )
    other = hl7.parse(data.decode())
    assert [str(other.segment("MSA")[n]) for n in (1, 2)] == [code, "4711"]
    assert read_acknowledgement(data).accepted == (code == "AA")


@pytest.mark.parametrize("code", ["AA", "AE", "AR", "CA", "CE", "CR"])
def test_answers_of_others(code):
    for data in (hl7.parse(SENT_TEXT).create_ack(code).__str__(), from_hl7apy(code)):
        answer = read_acknowledgement(data.encode())
        assert (answer.code, answer.control_id) == (code, "4711")
        assert answer.accepted == (code in ("AA", "CA"))


SENT_TEXT = "MSH|^~\\&|A|B|||20260124||ORU^R01^ORU_R01|4711|T|2.6\r"


def from_hl7apy(code):
    built = ApyMessage("ACK", version="2.6")
    built.msh.msh_9 = "ACK"
    built.add_segment("MSA")
    built.msa.msa_1, built.msa.msa_2 = code, "4711"
    return built.to_er7()


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", r"MSH\[1\]"),
        (b"MSH|^~\\&|A\r", "MSA"),
        (b"MSH|^~\\&|A\rMSA|OK|1\r", r"MSA\[1\]-1: the code 'OK'"),
    ],
)
def test_what_is_no_acknowledgement_is_named(data, place):
    with pytest.raises(Hl7Error, match=place):
        read_acknowledgement(data)


def test_a_message_without_id_trigger_or_mode_is_answered():
    answer = acknowledge(parse(b"MSH|^~\\&|A\r"), Envelope(NOW, "9"), "AR", "what is that")
    assert read_acknowledgement(answer) == Acknowledgement("AR", "", "what is that")
    assert parse(answer).field("MSH", 9) == "ACK"


@given(st.integers(0, 200), st.binary(max_size=6), st.integers(0, 9))
def test_mutated_acknowledgements_are_read_or_named(at, new, gone):
    data = acknowledge(SENT, Envelope(NOW, "9"), "AE", "wrong")
    try:
        found = read_acknowledgement(data[:at] + new + data[at + gone :]).code
    except Hl7Error as error:
        found = error.place
    assert found
