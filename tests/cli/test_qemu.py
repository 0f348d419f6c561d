"""Firmware on an emulated Cortex-M4 at one end of a line, `ecgedge stream` as a user starts it at the other."""

import itertools

import pytest
import qemu_firmware
from qemu_device import LEADS, LineFaults, electrode_off
from qemu_firmware import RATE_HZ, real_counts, to_mv, uri

from ecgedge.ecg import Recording
from ecgedge.records import write_npz

FRAME = 10


@pytest.fixture(scope="module")
def firmware(tmp_path_factory):
    qemu_firmware.require_programs()
    return qemu_firmware.Firmware(tmp_path_factory.mktemp("firmware"))


def streamed(cli, firmware, folder, counts, *options, **faults):
    """Stream what the firmware plays; return the events and the firmware's report."""
    speed = () if faults.get("stepped", True) else ("--speed", "1")
    with firmware.start(folder, counts, **faults) as device:
        events = cli.stream(uri(device), "--sink", "bridge", *speed, *options)
        return events, device.report()


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
    assert report["received"]["result"] == report["wire"]["frames"] == len(estimates)
    assert shown["sample_index"] == round(last["t_s"] * RATE_HZ) - 1
    assert (shown["has_number"], shown["validity"]) == (1, {"valid": 0, "questionable": 3}[last["validity"]])
    assert shown["mpcwp_cmmhg"] == pytest.approx(last["mpcwp_mmhg"] * 100, abs=0.51)


def test_the_firmwares_samples_give_what_the_file_gives_and_each_result_reaches_it(
    cli, firmware, tmp_path, ecg_data
):
    counts = real_counts(ecg_data, 15)
    events, report = streamed(cli, firmware, tmp_path, counts, wait_results=2)
    same_estimates(events, from_file(cli, tmp_path, counts))
    results_arrived(events, report)
    assert events[-1]["dropped_samples"] == 0
    assert report["sent"]["samples"] == len(counts)


def test_an_electrode_that_is_off_is_an_alarm_until_it_is_on_again(cli, firmware, tmp_path, ecg_data):
    faults = {"lead_off": electrode_off("V3"), "lead_off_from": 2000, "lead_off_to": 4000}
    events, report = streamed(cli, firmware, tmp_path, real_counts(ecg_data, 12), **faults)
    states = [(e["state"], e["lead"], e["t_s"]) for e in of(events, "feed") if e["lead"]]
    assert states == [("lead_off", "V3", 4.0), ("lead_on", "V3", 8.0)]
    alarms = [(e["condition"], e["presence"], e["t_s"]) for e in of(events, "alarm")]
    assert alarms == [("LEAD_OFF", "on", 5.0), ("LEAD_OFF", "off", 8.0)]
    assert report["sent"]["samples"] == 6000


def test_one_byte_in_a_hundred_lost_is_holes_in_time_and_no_estimate(cli, firmware, tmp_path, ecg_data):
    faults = {"sent": LineFaults(dropped=0.01), "wait_results": 1}
    events, report = streamed(cli, firmware, tmp_path, real_counts(ecg_data, 12), **faults)
    gaps = [e for e in of(events, "feed") if e["state"] == "gap"]
    holes = sum(round(e["age_s"] * RATE_HZ) for e in gaps)
    assert events[-1]["dropped_samples"] == holes > 3000
    assert all(round(e["age_s"] * RATE_HZ) % FRAME == 0 for e in gaps)
    assert all(a["t_s"] < b["t_s"] for a, b in itertools.pairwise(gaps))
    assert {e["validity"] for e in of(events, "estimate")} == {"invalid"}
    assert report["display"]["has_number"] == 0, "the device must not go on showing a number"
    assert report["received"]["result"] == 1


@pytest.mark.slow
def test_a_minute_in_real_time(cli, firmware, tmp_path, ecg_data):
    counts = real_counts(ecg_data, 60)
    events, report = streamed(cli, firmware, tmp_path, counts, stepped=False, wait_results=11)
    same_estimates(events, from_file(cli, tmp_path, counts))
    results_arrived(events, report)
    assert [e["t_s"] for e in of(events, "estimate")] == [10.0 + 5.0 * k for k in range(11)]
    assert report["sent"]["samples"] == len(counts) == 60 * RATE_HZ
    assert events[-1]["dropped_samples"] == 0
    assert not any(report["not_sent"].values())
