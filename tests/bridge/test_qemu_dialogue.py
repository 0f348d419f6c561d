"""Firmware on an emulated Cortex-M4 as a partner: what it answers, shows and counts, as PROTOCOL.md says."""

import time

import pytest
import qemu_firmware
from qemu_device import LineFaults
from qemu_firmware import RATE_HZ, Host, real_counts

from ecgedge_bridge import (
    Ack,
    Alert,
    AlertKind,
    AlertPriority,
    Config,
    ConfigAck,
    ConfigStatus,
    Data,
    Error,
    ErrorCode,
    Exchange,
    Info,
    Mode,
    Ping,
    Pong,
    SampleFormat,
    SignalPresence,
    Validity,
    fit_clock,
    make_result,
    to_wire,
)

PRESSURE = {"mpcwp_mmhg": 17.2, "interval_mmhg": (11.0, 23.4), "p_elevated": 0.44, "sqi": 0.93,
            "model_id": 0xDEADBEEF, "latency_ms": 2.0}  # fmt: skip
LEAD_OFF = {"sample_index": 0, "condition": 5, "kind": AlertKind.TECHNICAL, "priority": AlertPriority.LOW}


@pytest.fixture(scope="module")
def counts(ecg_data):
    return real_counts(ecg_data, 1)


def exchange(host, number):
    """Ask for the device's clock, and a while later it may be asked again."""
    t1_us = time.monotonic_ns() // 1000
    host.send(Ping, ping_id=number, t1_us=t1_us)
    pong = host.wait(Pong)
    t4_us = time.monotonic_ns() // 1000
    time.sleep(0.05)
    return Exchange(t1_us=t1_us, t2_us=pong.t2_us, t3_us=pong.t3_us, t4_us=t4_us)


def uncertain_ppm(exchanges):
    """Return a bound of the drift's error: two offsets at the ends, each wrong by half its round trip at most."""
    span_us = exchanges[-1].t4_us - exchanges[0].t1_us
    return 4e6 * fit_clock(exchanges).bound_us / span_us


def result(validity=Validity.VLD, *, seq, sample_index=100, **fields):
    return make_result(seq=seq, sample_index=sample_index, validity=validity, **{**PRESSURE, **fields})


def test_a_result_is_shown_until_one_without_a_number_comes(firmware, counts, tmp_path):
    reports = []
    for validities in ([Validity.VLD], [Validity.QST, Validity.VLD, Validity.INV]):
        folder = tmp_path / str(len(validities))
        folder.mkdir()
        with firmware.start(folder, counts, wait_results=len(validities)) as device, Host(device) as host:
            for seq, validity in enumerate(validities):
                host.send_bytes(to_wire(result(validity, seq=seq, sample_index=100 + seq)))
            host.rest()
            reports.append(device.report())
    first, second = reports
    assert first["received"]["result"] == first["received"]["result_with_value"] == 1
    assert first["display"] == {
        "host_present": 1, "has_number": 1, "mpcwp_cmmhg": 1720, "sample_index": 100, "validity": 0,
        "model_id": 0xDEADBEEF, "signals": {},
    }  # fmt: skip
    assert (second["received"]["result"], second["received"]["result_with_value"]) == (3, 2)
    shown = second["display"]
    assert (shown["has_number"], shown["validity"], shown["sample_index"]) == (0, 5, 102)


def test_an_alarm_is_acknowledged_by_the_button_and_shown_so_when_the_host_says_so(
    firmware, counts, tmp_path
):
    with firmware.start(tmp_path, counts, wait_results=1, ack_after_ms=0) as device, Host(device) as host:
        host.send(Alert, present=True, signal=SignalPresence.ON, **LEAD_OFF)
        ack = host.wait(Ack)
        host.send(Alert, present=True, signal=SignalPresence.ACKNOWLEDGED, **LEAD_OFF)
        host.send(Alert, present=True, signal=SignalPresence.ON, **LEAD_OFF | {"condition": 0x8001})
        host.wait(Ack, condition=0x8001)
        host.send_bytes(to_wire(result(seq=3)))
        host.rest()
        report = device.report()
    assert (ack.condition, ack.user_id) == (5, 0)
    assert ack.sample_index < len(counts)
    assert (report["received"]["alert"], report["received"]["acks_granted"]) == (3, 1)
    assert report["display"]["signals"] == {
        "5": SignalPresence.ACKNOWLEDGED,
        str(0x8001): SignalPresence.ON,
    }


def test_no_button_no_acknowledgement_and_a_signal_that_is_off_is_gone(firmware, counts, tmp_path):
    with firmware.start(tmp_path, counts, wait_results=1) as device, Host(device) as host:
        for signal, present in ((SignalPresence.ON, True), (SignalPresence.OFF, False)):
            host.send(Alert, present=present, signal=signal, **LEAD_OFF)
        host.send_bytes(to_wire(result(seq=2)))
        assert not [frame for frame in host.rest() if isinstance(frame, Ack)]
        assert device.report()["display"]["signals"] == {}


def test_a_host_that_falls_silent_takes_its_number_and_its_alarms_along(firmware, counts, tmp_path):
    reports = []
    for linger_ms in (14_000, 16_000):
        folder = tmp_path / str(linger_ms)
        folder.mkdir()
        faults = {"wait_results": 1, "linger_ms": linger_ms}
        with firmware.start(folder, counts, **faults) as device, Host(device) as host:
            host.send(Alert, present=True, signal=SignalPresence.ON, **LEAD_OFF)
            host.send_bytes(to_wire(result(seq=1)))
            host.rest()
            reports.append(device.report())
    before, after = (report["display"] for report in reports)
    assert (before["host_present"], before["has_number"], before["signals"]) == (1, 1, {"5": 1})
    assert (after["host_present"], after["has_number"], after["signals"]) == (0, 0, {})
    counted = reports[1]["received"]
    assert (counted["host_lost"], counted["alerts_expired"]) == (1, 1)


def test_a_config_is_followed_or_refused_with_its_field(firmware, counts, tmp_path):
    asked = {"channels": 0xFF, "rate_num": 1000, "rate_den": 2, "n_samples": 25, "fmt": SampleFormat.I24,
             "gain_id": 1, "mode": Mode.DEMO}  # fmt: skip
    refused = {"rate_num": (250, 4), "channels": (0x7F, 2), "fmt": (SampleFormat.I16, 13), "gain_id": (2, 14),
               "mode": (Mode.REAL, 16)}  # fmt: skip
    faults = {"stepped": False, "play_samples": 2 * RATE_HZ, "wait_results": 1}
    with firmware.start(tmp_path, counts, **faults) as device, Host(device) as host:
        for config_id, (name, (value, field)) in enumerate(refused.items()):
            host.send(Config, config_id=config_id, **{**asked, name: value})
            answer = host.wait(ConfigAck)
            assert (answer.status, answer.field, answer.config_id) == (
                ConfigStatus.UNSUPPORTED, field, config_id,
            )  # fmt: skip
        host.send(Config, config_id=77, **asked)
        answer = host.wait(ConfigAck)
        assert (answer.status, answer.config_id) == (ConfigStatus.APPLIED, 77)
        host.wait(Info)
        host.send_bytes(to_wire(result(seq=6)))
        data = [frame for frame in host.rest() if isinstance(frame, Data)][:-1]  # the last one: what was left
    lengths = {frame.sample_index: frame.n_samples for frame in data}
    assert lengths[answer.sample_index] == 25
    assert all(n == (10 if index < answer.sample_index else 25) for index, n in lengths.items())


def test_another_major_version_is_refused_and_garbage_counted(firmware, counts, tmp_path):
    ping = to_wire(Ping(seq=0, ping_id=1, t1_us=1))
    with firmware.start(tmp_path, counts, wait_results=1) as device, Host(device) as host:
        host.send_bytes(b"\x00" + qemu_firmware.with_version(ping, 2))
        error = host.wait(Error)
        host.send_bytes(b"garbage\x00" + bytes(700 * [1]) + b"\x00\x00" + ping[:-5] + b"\x01\x00")
        host.send_bytes(to_wire(result(seq=7)))
        host.rest()
        report = device.report()
    assert (error.code, error.detail) == (ErrorCode.VERSION, 1)
    counted = {name: n for name, n in report["wire"].items() if n}
    assert counted.pop("frames") == 1
    assert counted.pop("bad_version") == 1
    assert counted == {"bad_cobs": 2, "oversize": 1}


def test_bytes_lost_on_the_way_to_the_device_are_counted_there(firmware, counts, tmp_path):
    faults = {"received": LineFaults(dropped=0.005), "wait_results": 300}
    with firmware.start(tmp_path, counts, **faults) as device, Host(device) as host:
        for seq in range(400):
            host.send_bytes(to_wire(result(seq=seq, sample_index=seq)))
        host.rest()
        report = device.report()
    wire, last = report["wire"], report["display"]["sample_index"]
    assert report["line_received"]["dropped"] > 30
    assert report["line_received"]["overrun"] == 0
    assert wire["frames"] == report["received"]["result"]
    assert wire["frames"] + wire["lost_frames"] == last + 1 > 300
    assert 0 < wire["lost_frames"] <= report["line_received"]["dropped"]
    assert wire["bad_crc"] + wire["bad_cobs"] + wire["bad_length"] > 0


def test_the_device_asks_for_the_hosts_clock(firmware, counts, tmp_path):
    with firmware.start(tmp_path, counts, stepped=False, ping_every_ms=250, wait_results=1) as device:
        with Host(device) as host:
            for _ in range(5):
                ping = host.wait(Ping)
                now_us = ping.t1_us + 7_000_000
                host.send(Pong, ping_id=ping.ping_id, t1_us=ping.t1_us, t2_us=now_us, t3_us=now_us)
            host.send_bytes(to_wire(result(seq=5)))
            host.rest()
        report = device.report()
    assert 0 < report["received"]["pong"] <= 5  # The answer to a question that is no longer open is ignored.
    clock = report["clock"]
    assert clock["round_trip_us"] >= 0
    assert abs(clock["offset_us"] - 7_000_000) <= clock["round_trip_us"]


@pytest.mark.parametrize("drift_ppm", [0, 20_000, -20_000])
def test_the_drift_of_the_devices_clock_shows_in_its_answers(firmware, counts, tmp_path, drift_ppm):
    faults = {"stepped": False, "drift_ppm": drift_ppm, "wait_results": 1}
    with firmware.start(tmp_path, counts, **faults) as device, Host(device) as host:
        exchanges = [exchange(host, number) for number in range(10)]
        # On a busy machine the way takes longer, and so must we.
        while uncertain_ppm(exchanges) > 5000 and len(exchanges) < 600:
            exchanges.append(exchange(host, len(exchanges)))
        host.send_bytes(to_wire(result(seq=len(exchanges))))
        host.rest()
    assert uncertain_ppm(exchanges) <= 5000
    assert fit_clock(exchanges).drift_ppm == pytest.approx(drift_ppm, abs=5000)
