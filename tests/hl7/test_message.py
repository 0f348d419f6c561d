"""The splitter reads what the packages hl7 and hl7apy read; what is wrong is named, and nothing else is raised."""

import hl7
import pytest
from hl7apy.core import Message as ApyMessage
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.errors import FeedError, Hl7Error
from ecgedge.hl7.message import Separators, escape, parse, split_messages, unescape, write_segment

HEADER = rb"MSH|^~\&|App^1.2^ISO|Ward|||20260102030405||ORU^R01^ORU_R01|77|P|2.6"
PRINTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters='\x7f"'), max_size=12
)
FIELDS = st.lists(
    st.lists(st.lists(PRINTABLE, min_size=1, max_size=4), min_size=1, max_size=3), min_size=1, max_size=6
)


def message(*segments, header=HEADER):
    return parse(b"\r".join([header, *segments]))


@given(FIELDS)
def test_reads_what_hl7_reads(fields):
    wire = ["~".join("^".join(map(escape, components)) for components in field) for field in fields]
    data = HEADER + b"||||||UNICODE UTF-8\r" + write_segment("ZZZ", *wire, "end")
    ours = parse(data).segment("ZZZ")
    theirs = hl7.parse(data, encoding="utf-8")
    for number, field in enumerate(fields, 1):
        for repetition, components in enumerate(field, 1):
            for component, text in enumerate(components, 1):
                read = ours.field(number, component, repetition=repetition)
                assert read == theirs.extract_field("ZZZ", 1, number, repetition, component) == text


def test_reads_what_hl7apy_builds():
    built = ApyMessage("ORU_R01", version="2.6")
    built.msh.msh_3 = "Sender"
    built.msh.msh_9 = "ORU^R01^ORU_R01"
    built.msh.msh_10 = "4711"
    built.msh.msh_11 = "T"
    result = built.add_group("ORU_R01_PATIENT_RESULT")
    patient = result.add_group("ORU_R01_PATIENT")
    patient.add_segment("PID")
    patient.pid.add_field("pid_3").value = "12345^^^Ward^MR"
    patient.pid.add_field("pid_3").value = "99^^^Other^PI"
    patient.pid.pid_5 = "Doe^Jane&van"
    ours = parse(built.to_er7().encode())
    assert (ours.kind, ours.control_id, ours.field("MSH", 11)) == ("ORU^R01", "4711", "T")
    pid = ours.segment("PID")
    assert [pid.field(3, 1, repetition=n) for n in (1, 2)] == [x.cx_1.value for x in patient.pid.pid_3]
    assert [pid.field(3, 4, repetition=n) for n in (1, 2)] == [x.cx_4.value for x in patient.pid.pid_3]
    assert pid.field(5, 2, subcomponent=2) == "van"
    assert pid.repetitions(3) == 2


def test_fields_that_are_absent_null_or_beyond():
    pid = message(b'PID|1||""|a^""^c').segment("PID")
    assert [pid.field(n) for n in (1, 2, 3, 4, 99)] == ["1", "", "", "a", ""]
    assert [pid.is_null(n) for n in (1, 2, 3, 99)] == [False, False, True, False]
    assert [pid.field(4, component) for component in (1, 2, 3, 4)] == ["a", "", "c", ""]
    assert pid.field(1, repetition=2) == ""
    assert [pid.repetitions(n) for n in (1, 2, 3)] == [1, 0, 0]
    assert message().field("PID", 3) == ""


def test_fields_of_the_header_count_from_its_separator():
    header = message().segment("MSH")
    assert header.field(1) == "|"
    assert header.raw_field(2) == b"^~\\&"
    assert header.field(3, 2) == "1.2"
    assert header.field(12) == "2.6"


def test_other_separators():
    found = parse(b"MSH#*%!$#App*2##\rPID#1##ID*x$y%second#a!F!b!S!c|^\r")
    assert found.separators == Separators(b"#", b"*", b"%", b"!", b"$")
    pid = found.segment("PID")
    assert [pid.field(3), pid.field(3, 2), pid.field(3, repetition=2)] == ["ID", "x$y", "second"]
    assert pid.field(4) == "a#b*c|^"


def test_a_truncation_mark_and_missing_separators():
    assert parse(b"MSH|^~\\&#|App\r").separators == Separators()
    assert parse(b"MSH|^|App\r").separators == Separators()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"\F\\S\\T\\R\\E\ ", "|^&~\\ "),
        (r"\X48693F\!", "Hi?!"),
        (r"\XC3A4\ ", "ä "),
        (r"one\.br\two", "one\ntwo"),
        (r"\H\bold\N\ ", "bold "),
        (r"\Zdd\ stays", r"\Zdd\ stays"),
        (r"one \ alone", r"one \ alone"),
    ],
)
def test_escapes(text, plain):
    assert unescape(text) == plain


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escape_and_back(text):
    escaped = escape(text)
    assert not set(escaped) & set("|^&~\r\n\x0b\x1c")
    assert unescape(escaped) == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    ("name", "codec", "text"),
    [
        ("8859/1", "latin-1", "Müller"),
        ("8859/15", "iso8859-15", "Œuvre €"),
        ("UNICODE UTF-8", "utf-8", "Şahin"),
        ("", "utf-8", "Ångström"),
        ("GB 18030-2000", "gb18030", "丂|郳"),
        ("BIG-5", "big5", "功|許"),
        ("~ISO IR87", "utf-8", "first repetition decides"),
    ],
)
def test_character_sets(name, codec, text):
    # 0x5C and 0x7C, bytes of the escape and the field separator, are halves of characters in GB 18030 and Big 5.
    data = HEADER + f"||||||{name}\rPID|{text}\r".encode(codec)
    left, _, right = text.partition("|")
    assert [parse(data).field("PID", n) for n in (1, 2)] == [left, right]


def test_bytes_of_another_character_set_are_named():
    with pytest.raises(Hl7Error, match=r"PID\[1\]-5: bytes that are no utf-8 .* MSH-18"):
        message("PID|||12||Müller".encode("latin-1")).field("PID", 5)
    assert message("PID|||12||Müller".encode("latin-1")).field("PID", 3) == "12"
    with pytest.raises(Hl7Error, match=r"MSH\[1\]-18: .* no big5"):
        parse(HEADER + b"||||||BIG-5\rPID|\xff\r")
    with pytest.raises(
        Hl7Error, match=r"MSH\[1\]-18: the character set 'EBCDIC' is not known; known are ASCII"
    ):
        parse(HEADER + b"||||||EBCDIC\r")


@pytest.mark.parametrize("broken", [rb"\X4\ ", rb"\XZZ\ ", rb"\XFF\ "])
def test_a_broken_escape_names_its_field(broken):
    with pytest.raises(Hl7Error, match=r"OBX\[2\]-5") as raised:
        list(message(b"OBX|1", b"OBX|2|||" + b"|" + broken).segments("OBX"))[1].field(5)
    assert raised.value.place == "OBX[2]-5"
    assert isinstance(raised.value, FeedError)


@pytest.mark.parametrize(
    "data",
    [b"", b"MSH", b"MSH|", b"PID|1", b"\x00" * 40, b"MSH|||||", b"MSHx^~\\&", b"MSH|^^\\&|", b"MSH|.~\\&|"],
)
def test_what_is_no_message_is_named(data):
    with pytest.raises(Hl7Error, match=r"MSH\[1\]"):
        parse(data)


def test_a_segment_that_is_missing_is_named():
    with pytest.raises(Hl7Error, match="PV1: the segment is missing"):
        message().segment("PV1")


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\r"])
def test_line_ends(end):
    found = parse(end.join([HEADER, b"PID|1", b"OBX|1|NM", b"OBX|2|NA", b"OBXX|3"]) + end)
    assert [(x.number, x.field(1), x.field(2)) for x in found.segments("OBX")] == [
        (1, "1", "NM"),
        (2, "2", "NA"),
    ]


def test_several_messages_in_a_row_are_cut_apart():
    one, two = HEADER + b"\rPID|MSH|1\r", HEADER + b"\nOBX|1\n"
    assert split_messages(one + two + one) == [one, two, one]
    assert split_messages(b"junk") == [b"junk"]
    assert split_messages(b"") == [b""]


def read_everything(data):
    found = parse(data)
    for name in ("MSH", "PID", "OBX"):
        for segment in found.segments(name):
            for number in range(len(segment.fields) + 1):
                segment.field(number, 2, repetition=2)
                segment.field(number, subcomponent=2)


def place_of_error(run):
    try:
        run()
    except Hl7Error as error:
        return error.place
    return None


@given(st.data())
def test_mutated_messages_raise_nothing_else(data):
    whole = HEADER + b"\rPID|||12^^^W~13||A\\S\\b&c\rOBX|1|NA|2^MDC^x||1^2^3|mV\r"
    at = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(0, 12))
    mutated = whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + cut :]
    assert place_of_error(lambda: read_everything(mutated)) != ""


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_else(data):
    for start in (b"", b"MSH|^~\\&"):
        assert place_of_error(lambda start=start: read_everything(start + data)) != ""
