"""Firmware on an emulated Cortex-M4 at one end of a line, `ecgedge stream` as a user starts it at the other."""

import itertools
import json
import re

import pytest
from qemu_device import LEADS, LineFaults, electrode_off
from qemu_firmware import RATE_HZ, real_counts, to_mv, uri

from ecgedge.ecg import Recording
from ecgedge.records import write_npz

FRAME = 10


def streamed(cli, firmware, folder, counts, *options, **faults):
    """Stream what the firmware plays; return the events, what was said beside them, and the firmware's report."""
    speed = "max" if faults.get("stepped", True) else "1"
    with firmware.start(folder, counts, **faults) as device:
        feed = ("--feed", uri(device), "--sink", "bridge", "--speed", speed)
        done = cli("stream", *feed, "--format", "jsonl", *options)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr, device.report()


def of(events, kind):
    return [event for event in events if event["type"] == kind]


def from_file(cli, folder, counts):
    """Return what the same samples give when they come from a file."""
    path = folder / "played.npz"
    write_npz(Recording(to_mv(counts), float(RATE_HZ), LEADS, mode="demo"), path)
    return cli.stream(f"file:{path}")


def same_estimates(wired, played):
    """All but the time that they took is the same to the last bit: so every sample was."""
    without_latency = [
        [{key: value for key, value in e.items() if key != "latency_ms"} for e in of(events, "estimate")]
        for events in (wired, played)
    ]
    assert without_latency[0] == without_latency[1] != []


def results_arrived(events, report):
    """Each estimate is a RESULT that the firmware has heard, and the last one stands on its display."""
    estimates = of(events, "estimate")
    last, shown = estimates[-1], report["display"]
    assert report["received"]["result"] == len(estimates)
    assert report["received"]["ping"] == report["sent"]["pong"] > 0
    assert report["wire"]["frames"] == sum(report["received"][kind] for kind in ("result", "alert", "ping"))
    assert shown["sample_index"] == round(last["t_s"] * RATE_HZ) - 1
    assert (shown["has_number"], shown["validity"]) == (1, {"valid": 0, "questionable": 3}[last["validity"]])
    assert shown["mpcwp_cmmhg"] == pytest.approx(last["mpcwp_mmhg"] * 100, abs=0.51)


def test_the_firmwares_samples_give_what_the_file_gives_and_each_result_reaches_it(
    cli, firmware, tmp_path, ecg_data
):
    counts = real_counts(ecg_data, 15)
    events, _, report = streamed(cli, firmware, tmp_path, counts, wait_results=2)
    same_estimates(events, from_file(cli, tmp_path, counts))
    results_arrived(events, report)
    assert events[-1]["dropped_samples"] == 0
    assert report["sent"]["samples"] == len(counts)


def test_an_electrode_that_is_off_is_an_alarm_there_and_here_and_the_button_acknowledges_it(
    cli, firmware, tmp_path, ecg_data
):
    faults = {"lead_off": electrode_off("V3"), "lead_off_from": 500, "lead_off_to": 1800, "ack_after_ms": 200}
    events, said, report = streamed(
        cli, firmware, tmp_path, real_counts(ecg_data, 5), stepped=False, **faults
    )
    states = [(e["state"], e["lead"], e["t_s"]) for e in of(events, "feed") if e["lead"]]
    assert states == [("lead_off", "V3", 1.0), ("lead_on", "V3", 3.6)]
    alarms = [e for e in of(events, "alarm") if e["condition"] == "LEAD_OFF"]
    assert [(e["presence"], e["signal"]) for e in alarms] == [
        ("on", "on"), ("on", "acknowledged"), ("off", "off"),
    ]  # fmt: skip
    assert (alarms[0]["t_s"], alarms[2]["t_s"]) == (2.0, 3.6)
    assert 2.2 <= alarms[1]["t_s"] < 3.6
    assert report["sent"]["ack"] >= report["received"]["acks_granted"] == 1
    assert report["received"]["alert"] >= 3
    assert report["display"]["signals"] == {}
    assert "lost" not in said


def test_a_reset_is_a_hole_and_results_then_count_from_it(cli, firmware, tmp_path, ecg_data):
    faults = {"reset_at": 6000, "reset_gap": 100, "wait_results": 3}
    events, said, report = streamed(cli, firmware, tmp_path, real_counts(ecg_data, 27), **faults)
    (gap,) = [e for e in of(events, "feed") if e["state"] == "gap"]
    assert gap["t_s"] - gap["age_s"] == pytest.approx(12.0, abs=0.08)
    assert "started anew" in said
    assert "restarts 1" in said
    assert report["boots"] == 2
    assert events[-1]["dropped_samples"] == round(gap["age_s"] * RATE_HZ)
    estimates = of(events, "estimate")
    assert estimates[0]["validity"] != "invalid"
    assert {e["validity"] for e in estimates if gap["t_s"] < e["t_s"] < gap["t_s"] + 10.0} == {"invalid"}
    assert (estimates[-1]["t_s"], estimates[-1]["validity"]) == (25.0, "valid")
    shown_s = gap["t_s"] + (report["display"]["sample_index"] + 1) / RATE_HZ
    assert shown_s in [pytest.approx(e["t_s"]) for e in estimates]


def test_one_byte_in_a_hundred_lost_is_holes_in_time_and_no_estimate(cli, firmware, tmp_path, ecg_data):
    faults = {"sent": LineFaults(dropped=0.01), "wait_results": 1}
    events, said, report = streamed(cli, firmware, tmp_path, real_counts(ecg_data, 12), **faults)
    gaps = [e for e in of(events, "feed") if e["state"] == "gap"]
    holes = sum(round(e["age_s"] * RATE_HZ) for e in gaps)
    assert events[-1]["dropped_samples"] == holes > 3000
    assert all(round(e["age_s"] * RATE_HZ) % FRAME == 0 for e in gaps)
    assert all(a["t_s"] < b["t_s"] for a, b in itertools.pairwise(gaps))
    assert {e["validity"] for e in of(events, "estimate")} == {"invalid"}
    assert report["display"]["has_number"] == 0, "the device must not go on showing a number"
    assert report["received"]["result"] == 1
    counted = {name: int(n) for name, n in re.findall(r"\b([a-z_]+) (\d+)", said.splitlines()[-1])}
    assert counted["lost_samples"] == holes
    assert counted["lost_frames"] >= holes // FRAME
    assert counted["bad_crc"] > 0


def test_a_device_is_set_before_its_samples_are_taken(cli, firmware, tmp_path, ecg_data):
    """CONFIG: frames of 5 samples in place of 10; those of before are dropped, so the record begins later."""
    with firmware.start(tmp_path, real_counts(ecg_data, 12), wait_results=1) as device:
        feed = f"{uri(device).split('?')[0]}?set_samples=5"
        done = cli("stream", "--feed", feed, "--sink", "bridge", "--speed", "max", "--format", "jsonl")
        events, report = [json.loads(line) for line in done.stdout.splitlines()], device.report()
    assert report["received"]["config"] == report["sent"]["config_ack"] == 1
    assert report["sent"]["data"] * FRAME > 1.5 * report["sent"]["samples"]
    assert re.search(r"before_config [1-9]", done.stderr)
    assert of(events, "estimate")


def test_a_device_that_cannot_be_set_so_ends_the_feed(cli, firmware, tmp_path, ecg_data):
    with firmware.start(tmp_path, real_counts(ecg_data, 5)) as device:
        feed = f"{uri(device).split('?')[0]}?set_rate_hz=250"
        done = cli("stream", "--feed", feed, "--speed", "max", exits=3)
    assert "does not follow set_rate_hz=250: unsupported, because of set_rate_hz=250" in done.stderr
    assert "8 channels at 500 Hz" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("drift_ppm", [0, 2000])
def test_a_minute_in_real_time_and_a_clock_that_drifts(cli, firmware, tmp_path, ecg_data, drift_ppm):
    counts = real_counts(ecg_data, 60)
    faults = {"drift_ppm": drift_ppm, "wait_results": 11}
    events, said, report = streamed(cli, firmware, tmp_path, counts, stepped=False, **faults)
    same_estimates(events, from_file(cli, tmp_path, counts))
    results_arrived(events, report)
    assert [e["t_s"] for e in of(events, "estimate")] == [10.0 + 5.0 * k for k in range(11)]
    assert report["sent"]["samples"] == len(counts) == 60 * RATE_HZ
    assert events[-1]["dropped_samples"] == 0
    assert not any(report["not_sent"].values())
    assert ("device_clock_drift" in said) == (drift_ppm != 0)
