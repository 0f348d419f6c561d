"""The Python codec against the shared vectors. Their numbers come from the specification, not from our code."""

import json
from pathlib import Path

import pytest

from ecgedge_bridge import (
    Ack,
    Alert,
    AlertKind,
    AlertPriority,
    Config,
    ConfigAck,
    ConfigStatus,
    Counters,
    Data,
    Decoder,
    Error,
    FilterMode,
    FrameType,
    Info,
    Mode,
    Ping,
    Pong,
    Result,
    SampleFormat,
    SignalPresence,
    Validity,
    cobs,
    pack,
    to_wire,
)
from ecgedge_bridge.crc import crc32c

VECTORS = Path(__file__).parents[2] / "firmware_bridge" / "vectors"


MESSAGES = {
    "INFO": Info,
    "ALERT": Alert,
    "ACK": Ack,
    "CONFIG": Config,
    "CONFIG_ACK": ConfigAck,
    "PING": Ping,
    "PONG": Pong,
    "ERROR": Error,
}
ENUMS = {
    "mode": Mode,
    "filter_mode": FilterMode,
    "kind": AlertKind,
    "priority": AlertPriority,
    "signal": SignalPresence,
    "status": ConfigStatus,
}


def load(name):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["vectors"]


def cases(name):
    return [pytest.param(vector, id=vector["name"]) for vector in load(name)]


def frame_from(fields):
    values = {name: value for name, value in fields.items() if name != "type"}
    if fields["type"] == "DATA":
        values["fmt"] = SampleFormat[values["fmt"].upper()]
        values["counts"] = tuple(values["counts"])
        return Data(**values)
    if fields["type"] in MESSAGES:
        return message_from(fields["type"], values)
    values["validity"] = Validity[values["validity"]]
    return Result(**values)


def message_from(kind, values):
    for name, value in values.items():
        if name in ENUMS:
            values[name] = ENUMS[name][value]
        elif name == "fmt":
            values[name] = SampleFormat[value.upper()]
        elif isinstance(value, list):
            values[name] = tuple(value)
    return MESSAGES[kind](**values)


@pytest.mark.parametrize("vector", cases("crc32c"))
def test_crc(vector):
    data = bytes.fromhex(vector["input_hex"])
    assert crc32c(data) == int(vector["crc_hex"], 16)
    assert crc32c(data[5:], crc32c(data[:5])) == int(vector["crc_hex"], 16)


def test_the_published_check_value_is_among_the_vectors():
    assert {"name": "check", "input_hex": b"123456789".hex(), "crc_hex": "e3069283"} in load("crc32c")


@pytest.mark.parametrize("vector", cases("cobs"))
def test_cobs(vector):
    decoded, encoded = bytes.fromhex(vector["decoded_hex"]), bytes.fromhex(vector["encoded_hex"])
    assert cobs.encode(decoded) == encoded
    assert cobs.decode(encoded) == decoded


@pytest.mark.parametrize("vector", cases("frames"))
def test_frame(vector):
    frame = frame_from(vector["frame"])
    assert pack(frame).hex() == vector["decoded_hex"]
    assert to_wire(frame).hex() == vector["wire_hex"]
    decoder = Decoder()
    assert decoder.push(bytes.fromhex(vector["wire_hex"])) == [frame]
    assert decoder.counters == Counters(frames=1)


@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize("vector", cases("streams"))
def test_stream(vector, step):
    wire = bytes.fromhex(vector["wire_hex"])
    decoder = Decoder()
    frames = [f for at in range(0, len(wire), step) for f in decoder.push(wire[at : at + step])]
    assert frames == [frame_from(fields) for fields in vector["frames"]]
    assert decoder.counters == Counters(**vector["counters"])


def test_every_counter_has_a_vector():
    counted = {name for vector in load("streams") for name in vector["counters"]}
    assert counted == set(Counters.__dataclass_fields__)


def test_every_type_has_a_vector_that_is_taken_one_that_is_short_and_one_that_is_long():
    taken = {vector["frame"]["type"] for vector in load("frames")}
    assert taken == {kind.name for kind in FrameType}
    streams = {vector["name"] for vector in load("streams")}
    for kind in FrameType:
        name = "data_head" if kind is FrameType.DATA else kind.name.lower()
        assert f"short_{name}" in streams
        assert f"long_{kind.name.lower()}" in streams


def test_c_passes_the_same_vectors(c_tests):
    # The fixture ran `make test`; here only that what it ran were these files, all of them.
    lines = (c_tests / "vectors.txt").read_text().splitlines()
    names = {line.split()[1] for line in lines if line.startswith("stream")}
    assert names == {vector["name"] for name in ("frames", "streams") for vector in load(name)}


@pytest.mark.parametrize("name", ["data_i16", "result_valid"])
def test_the_examples_of_the_specification_are_vectors(name):
    text = (VECTORS.parent / "PROTOCOL.md").read_text(encoding="utf-8")
    (vector,) = [v for v in load("frames") if v["name"] == name]
    assert f"wire        {vector['wire_hex']}\n" in text
    example = text[: text.index(vector["wire_hex"])].rsplit("```text\n", 1)[1]
    words = [
        w for line in example.splitlines() for w in line.split() if w not in {"header", "payload", "check"}
    ]
    assert "".join(w for w in words if w not in {"value", "wire"}) == vector["decoded_hex"]


def test_the_specification_names_every_counter_and_type():
    text = (VECTORS.parent / "PROTOCOL.md").read_text(encoding="utf-8")
    for name in Counters.__dataclass_fields__:
        assert f"`{name}`" in text, name
    for kind in FrameType:
        assert f"| **0x{kind:02X}** | **{kind.name}** |" in text
