"""The messages beside DATA and RESULT: what is refused when one is made, and numbers that stand in three places."""

import re
from pathlib import Path
from typing import get_args

import pytest

from ecgedge.alarms.table import CONDITIONS, TRANSITIONS
from ecgedge.events import Kind, Priority, Signal
from ecgedge.leads import STANDARD_LEADS
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
    ErrorCode,
    FrameType,
    Info,
    Mode,
    Ping,
    Pong,
    SampleFormat,
    SignalPresence,
    cobs,
    pack,
    to_wire,
    unpack,
    version_error,
)
from ecgedge_bridge.control import CONDITION_IDS, LEADS, SPEC_MINOR
from ecgedge_bridge.control_codec import SIZES
from ecgedge_bridge.crc import crc32c

FIRMWARE = Path(__file__).parents[2] / "firmware_bridge"
PROTOCOL = (FIRMWARE / "PROTOCOL.md").read_text(encoding="utf-8")
HEADER = (FIRMWARE / "c" / "eeb.h").read_text(encoding="utf-8")

INFO = Info(
    seq=0,
    rate_num=500,
    rate_den=1,
    lsb_pv=286_102,
    gain_centi=600,
    leads=(1, 2, 0, 77),
    serial="EB-0042",
    firmware=(1, 2, 3),
    mode=Mode.REAL,
)
ALERT = Alert(
    seq=0,
    sample_index=0,
    condition=1,
    kind=AlertKind.PHYSIOLOGICAL,
    priority=AlertPriority.HIGH,
    present=True,
    signal=SignalPresence.ON,
)
ACK = Ack(seq=0, sample_index=0, condition=1)
CONFIG = Config(seq=0, config_id=1, channels=0xFF, rate_num=500, rate_den=1, n_samples=25)
CONFIG_ACK = ConfigAck(seq=0, sample_index=0, config_id=1, status=ConfigStatus.APPLIED)
PING = Ping(seq=0, ping_id=1, t1_us=2)
PONG = Pong(seq=0, ping_id=1, t1_us=2, t2_us=3, t3_us=4)
ERROR = Error(seq=0, code=ErrorCode.VERSION)


@pytest.mark.parametrize(
    ("message", "change", "words"),
    [
        (INFO, {"seq": 65536}, "seq is 65536"),
        (INFO, {"rate_num": 0}, "rate_num is 0"),
        (INFO, {"rate_den": 0}, "rate_den is 0"),
        (INFO, {"lsb_pv": 2**32}, "lsb_pv"),
        (INFO, {"gain_centi": 0}, "gain_centi is 0"),
        (INFO, {"leads": ()}, "0 leads"),
        (INFO, {"leads": (0,) * 17}, "17 leads"),
        (INFO, {"leads": (256,)}, "do not fit 8 bits"),
        (INFO, {"leads": (2, 1, 2)}, "stands twice"),
        (INFO, {"serial": ""}, "serial ''"),
        (INFO, {"serial": "a b"}, "serial 'a b'"),
        (INFO, {"serial": "é"}, "serial 'é'"),
        (INFO, {"serial": "x" * 17}, "1 to 16"),
        (INFO, {"firmware": (256, 0, 0)}, "firmware version"),
        (INFO, {"mode": 3}, "3 is not a valid Mode"),
        (INFO, {"filter_mode": 4}, "4 is not a valid FilterMode"),
        (INFO, {"mode": Mode.DEMO}, "contradict"),
        (INFO, {"simulated": True}, "contradict"),
        (ALERT, {"condition": 0}, "condition is 0"),
        (ALERT, {"kind": 2}, "2 is not a valid AlertKind"),
        (ALERT, {"priority": 4}, "4 is not a valid AlertPriority"),
        (ALERT, {"present": 2}, "presence 2"),
        (ALERT, {"present": False}, "ON with present=False"),
        (ALERT, {"signal": SignalPresence.LATCHED}, "LATCHED with present=True"),
        (ACK, {"condition": 0}, "condition is 0"),
        (ACK, {"user_id": 65536}, "user_id"),
        (CONFIG, {"channels": 0}, "channels is 0"),
        (CONFIG, {"n_samples": 0}, "n_samples is 0"),
        (CONFIG, {"n_samples": 26, "fmt": SampleFormat.I24}, "644 bytes; at most 628"),
        (CONFIG, {"fmt": 2}, "2 is not a valid SampleFormat"),
        (CONFIG_ACK, {"status": 4}, "4 is not a valid ConfigStatus"),
        (CONFIG_ACK, {"field": 4}, "field 4 with status APPLIED"),
        (CONFIG_ACK, {"field": 17, "status": ConfigStatus.FAILED}, "field 17"),
        (PING, {"t1_us": 2**64}, "t1_us"),
        (PONG, {"t3_us": 2}, "answered at 2 us, before"),
        (ERROR, {"code": 0}, "code is 0"),
        (ERROR, {"detail": -1}, "detail is -1"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(message, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        type(message)(**{**vars(message), **change})


def test_info_in_physical_terms():
    info = unpack(pack(INFO))
    assert info == INFO
    assert info.rate_hz == 500.0
    assert info.lead_names == ("I", "II", "-", "-")


def test_every_condition_of_the_alarms_has_a_number_and_no_number_stands_twice():
    assert set(CONDITION_IDS) == set(CONDITIONS)
    assert sorted(CONDITION_IDS.values()) == list(range(1, len(CONDITIONS) + 1))


def test_specification_and_c_header_give_conditions_the_same_numbers():
    in_text = {name: int(number) for number, name in re.findall(r"\| (\d+) \| `([A-Z_]+)`", PROTOCOL)}
    in_c = {name: int(n) for name, n in re.findall(r"#define EEB_CONDITION_(\w+) (\d+)u", HEADER)}
    assert in_text == in_c == CONDITION_IDS


def test_types_and_sizes_are_the_same_in_all_three():
    in_c = {name: int(n, 16) for name, n in re.findall(r"#define EEB_TYPE_(\w+) (0x\w+)u", HEADER)}
    assert in_c == {kind.name: int(kind) for kind in FrameType}
    for kind, size in SIZES.items():
        name = FrameType(kind).name
        assert f"#define EEB_{name}_SIZE {size}u\n" in HEADER
        assert re.search(rf"^### 5\.\d+ {name} \({size} bytes\)$", PROTOCOL, re.MULTILINE), name
    assert f"#define EEB_VERSION_MINOR {SPEC_MINOR}u\n" in HEADER
    assert f"Version 1.{SPEC_MINOR} of the written specification" in PROTOCOL


def test_the_offsets_in_the_specification_follow_from_the_sizes_of_the_fields():
    width = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "u8 x 16": 16}
    for kind, size in SIZES.items():
        section = PROTOCOL.split(f" {FrameType(kind).name} ({size} bytes)\n", 1)[1].split("\n### ", 1)[0]
        at = 0
        for offset, form in re.findall(r"^\| (\d+) \| (u\d+(?: x 16)?) \|", section, re.MULTILINE):
            assert int(offset) == at, (kind, offset)
            at += width[form]
        assert at == size


def test_names_are_those_of_the_alarms_and_of_the_leads():
    assert [kind.name.lower() for kind in AlertKind] == list(get_args(Kind))
    assert [priority.name.lower() for priority in AlertPriority] == list(get_args(Priority))
    assert {signal.name.lower() for signal in SignalPresence} == set(get_args(Signal))
    assert LEADS[1:] == STANDARD_LEADS
    text = ", ".join(f"{code} {name}" for code, name in enumerate(LEADS[1:], 1))
    assert f"Lead codes: 0 no lead, {text}." in PROTOCOL


def test_every_state_that_the_alarms_can_reach_fits_an_alert():
    reached = {(given, signal) for (_, given), signal in TRANSITIONS.items() if "condition" in given}
    assert len(reached) > 3
    for given, signal in reached:
        present = given == "condition_on"
        alert = Alert(**{**vars(ALERT), "present": present, "signal": SignalPresence[signal.upper()]})
        assert unpack(pack(alert)) == alert


def test_another_major_version_is_answered_and_nothing_is_taken_from_it():
    decoder = Decoder()
    assert version_error(Counters(), decoder.counters, seq=4) is None
    body = b"\2" + pack(INFO)[1:-4]
    assert decoder.push(cobs.encode(body + crc32c(body).to_bytes(4, "little")) + b"\0") == []
    answer = version_error(Counters(), decoder.counters, seq=4)
    assert answer == Error(seq=4, code=ErrorCode.VERSION, detail=1)
    assert version_error(decoder.counters, decoder.counters, seq=5) is None


def on_wire(n_samples, fmt):
    data = Data(seq=1, sample_index=1, t_us=1, n_channels=8, counts=(1,) * 8 * n_samples, fmt=fmt)
    # What COBS adds depends on the zeros; at most one byte and one more per 254.
    decoded = len(pack(data))
    most = decoded + 1 + decoded // 254 + 1
    assert len(to_wire(data)) <= most
    return most


def test_the_table_of_bandwidth():
    for n_samples in (10, 25):
        bit_s = on_wire(n_samples, SampleFormat.I24) * (500 // n_samples) * 10
        shares = [100 * bit_s / baud for baud in (115_200, 230_400, 921_600)]
        cells = [f"{share:.1f} %" + (": does not fit" if share > 100 else "") for share in shares]
        assert f"| {n_samples} | {' | '.join(cells)} |\n" in PROTOCOL
        assert f"{bit_s:,} |\n" in PROTOCOL


def test_the_other_figures_of_bandwidth():
    small = on_wire(25, SampleFormat.I16)
    bit_s = small * 20 * 10
    assert f"{small} bytes at most, {bit_s:,} bit/s, {100 * bit_s / 115_200:.1f} %." in PROTOCOL
    info = 12 + SIZES[FrameType.INFO] + 2
    assert f"INFO takes at most {info} bytes on the wire every 5 s, {info * 10 // 5} bit/s." in PROTOCOL
