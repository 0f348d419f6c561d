"""`ecgedge stream`: the events a program reads, feeds from simulated and real recordings, sinks, policy."""

import csv
import json
import os
import subprocess
import time

import pytest

from ecgedge.journal import read_journal

# The contract of --format jsonl: names and their order, from the command line's documentation.
FIELDS = {
    "estimate": [
        "type",
        "t_s",
        "mpcwp_mmhg",
        "interval_mmhg",
        "p_gt_15",
        "p_gt_18",
        "validity",
        "reason",
        "sqi",
        "leads",
        "variant",
        "latency_ms",
        "mode",
    ],
    "alarm": ["type", "t_s", "condition", "kind", "priority", "presence", "signal", "text"],
    "feed": ["type", "t_s", "state", "lead", "age_s"],
    "self_check": ["type", "t_s", "count", "period_s", "audio_pause_left_s"],
    "summary": ["type", "windows", "valid", "dropped_samples", "latency_ms", "alarms", "journal"],
}
LEAD_OFF = "sim:lead-off?seed=1&rate_hz=250"


def _of(events, kind, **fields):
    return [e for e in events if e["type"] == kind and all(e[k] == v for k, v in fields.items())]


def read_events(text):
    return [json.loads(line) for line in text.splitlines()]


def _without_latency(events):
    return [{key: value for key, value in event.items() if key != "latency_ms"} for event in events]


@pytest.fixture(scope="module")
def lead_off(cli_in, tmp_path_factory):
    """Events of 70 s in which V3 falls off at 60 s."""
    return cli_in(tmp_path_factory.mktemp("stream")).stream(LEAD_OFF, "--duration", "70")


def test_every_event_has_exactly_the_fields_of_the_contract(lead_off):
    assert {event["type"] for event in lead_off} == set(FIELDS)
    for event in lead_off:
        assert list(event) == FIELDS[event["type"]]


def test_a_simulated_patient_is_a_demonstration_everywhere(lead_off):
    estimates = _of(lead_off, "estimate")
    assert [e["t_s"] for e in estimates] == [10.0 + 5.0 * k for k in range(13)]
    assert {e["mode"] for e in estimates} == {"demo"}
    for e in estimates:
        low, high = e["interval_mmhg"]
        assert 0.0 <= low < e["mpcwp_mmhg"] < high
        assert 0.0 <= e["p_gt_18"] <= 1.0
        assert 0.0 <= e["p_gt_15"] <= 1.0
        assert e["latency_ms"] > 0.0


def test_a_lead_that_falls_off_is_said_and_another_variant_serves(lead_off):
    (off,) = _of(lead_off, "feed", state="lead_off")
    (alarm,) = _of(lead_off, "alarm")
    assert off["lead"] == "V3"
    assert off["t_s"] == pytest.approx(60.0, abs=0.1)
    assert (alarm["condition"], alarm["presence"], alarm["kind"]) == ("LEAD_OFF", "on", "technical")
    assert alarm["t_s"] == pytest.approx(off["t_s"] + 1.0, abs=0.01)
    by_time = {e["t_s"]: e for e in _of(lead_off, "estimate")}
    assert len(by_time[60.0]["leads"]) == 12
    assert by_time[65.0]["leads"] == ["I", "II", "V1"]
    assert by_time[65.0]["variant"].startswith("I,II,V1/")


def test_the_bed_says_each_five_seconds_that_it_is_alive(lead_off):
    checks = _of(lead_off, "self_check")
    assert [(c["count"], c["t_s"]) for c in checks] == [(n, 5.0 * n) for n in range(1, 15)]
    assert {c["audio_pause_left_s"] for c in checks} == {None}


def test_the_summary_counts_what_was_said(lead_off):
    (summary,) = _of(lead_off, "summary")
    assert summary == lead_off[-1]
    estimates = _of(lead_off, "estimate")
    latencies = [e["latency_ms"] for e in estimates]
    assert summary["windows"] == len(estimates)
    assert summary["valid"] == len([e for e in estimates if e["validity"] == "valid"])
    assert summary["alarms"] == {"LEAD_OFF": 1}
    assert min(latencies) <= summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"] <= max(latencies)


@pytest.mark.parametrize("chunk_ms", [2, 10_000])
def test_chunks_of_any_length_give_the_same_events(cli, lead_off, chunk_ms):
    # The reference came in chunks of 20 ms; 4 ms, one sample at 250 Hz, is the shortest there is.
    events = cli.stream(f"{LEAD_OFF}&chunk_ms={chunk_ms}", "--duration", "70")
    assert _without_latency(events) == _without_latency(lead_off)


@pytest.mark.parametrize("output", ["text", "jsonl"])
def test_the_banner_says_research_use_only_on_standard_error(cli, output):
    done = cli("stream", "--feed", "sim:stable?duration_s=12", "--speed", "max", "--format", output)
    assert "Research use only" in done.stderr
    assert "Mode demo" in done.stderr
    assert "SIMULATED" in done.stderr
    assert "Research use only" in done.stdout or output == "jsonl"
    assert "[DEMO]" in done.stdout or output == "jsonl"


@pytest.mark.parametrize(("duration_s", "windows"), [("9.9", 0), ("10", 1), ("14.996", 1), ("15", 2)])
def test_the_duration_is_exact_to_the_sample(cli, duration_s, windows):
    events = cli.stream("sim:stable?chunk_ms=7000", "--duration", duration_s)
    assert events[-1]["windows"] == windows == len(_of(events, "estimate"))


def test_a_policy_file_decides_when_an_alarm_comes(cli, tmp_path):
    (tmp_path / "policy.toml").write_text("lead_off_s = 5.0\n")
    events = cli.stream(LEAD_OFF, "--duration", "70", "--policy", "policy.toml")
    (off,) = _of(events, "feed", state="lead_off")
    (alarm,) = _of(events, "alarm")
    assert alarm["t_s"] == pytest.approx(off["t_s"] + 5.0, abs=0.01)


def test_a_file_sink_gets_what_the_screen_gets(cli, tmp_path):
    done = cli(
        "stream",
        *("--feed", "sim:stable?duration_s=20", "--speed", "max", "--format", "jsonl"),
        *("--sink", "jsonl:events.jsonl", "--sink", "jsonl:more.jsonl"),
    )
    assert (tmp_path / "events.jsonl").read_text() == done.stdout
    assert (tmp_path / "more.jsonl").read_text() == done.stdout


def test_speed_is_a_factor_of_real_time(cli):
    started = time.monotonic()
    cli.stream("sim:stable?rate_hz=250", "--speed", "20", "--duration", "30")
    assert time.monotonic() - started >= 1.5


def test_a_reader_that_leaves_is_no_error(cli):
    process = cli.start(
        "stream", "--feed", "sim:stable", "--speed", "200", "--duration", "600", "--format", "jsonl"
    )
    with process:
        assert process.stdout.readline()
        process.stdout.close()
        _, said = process.stderr.read(), process.wait(timeout=60)
    assert said == 0


# --- commands on standard input -------------------------------------------------------------------------


def test_a_user_acknowledges_and_pauses_on_standard_input(cli, tmp_path):
    """V3 falls off at 60 s, 1.5 s after the start at this speed; the user types when the alarm is there."""
    process = cli.start(
        *("stream", "--feed", f"{LEAD_OFF}", "--speed", "40", "--duration", "140", "--format", "jsonl"),
        *("--journal", "bed.jsonl", "--control", "-"),
        stdin=subprocess.PIPE,
    )
    for line in process.stdout:
        if '"LEAD_OFF"' in line:
            break
    typed = "ack LEAD_OFF Nurse Seven\npause 20 Nurse Seven\nack V3 Nurse Seven\nsilence!\n"
    done = cli.finish(process, typed=typed)
    events = read_events(done.stdout)
    (seen,) = _of(events, "alarm", signal="acknowledged")
    assert (seen["condition"], seen["user"]) == ("LEAD_OFF", "Nurse Seven")
    paused, over = _of(events, "audio")
    assert (paused["state"], paused["user"]) == ("paused", "Nurse Seven")
    assert paused["ends_s"] == pytest.approx(paused["t_s"] + 20.0)
    assert (over["state"], over["t_s"]) == ("on", paused["ends_s"])
    assert any(e["audio_pause_left_s"] for e in _of(events, "self_check"))
    assert events[-1]["dropped_commands"] == {"unknown_condition": 1, "unknown_command": 1}
    assert "control line dropped (unknown_condition): unknown condition 'V3'; known are MPCWP" in done.stderr
    assert "control line dropped (unknown_command): unknown command 'silence!'; expected: ack" in done.stderr
    kept = [e.event for e in read_journal(tmp_path / "bed.jsonl")]
    assert [e["type"] for e in kept if e.get("user") == "Nurse Seven"] == ["input", "alarm", "input", "audio"]


def test_the_control_option_takes_standard_input_only(cli):
    done = cli("stream", "--feed", "sim:stable", "--control", "commands.txt", exits=2)
    assert "--control is 'commands.txt'; expected - (standard input)" in done.stderr


def test_a_closed_standard_input_is_said(cli):
    process = cli.start("stream", "--feed", "sim:stable", "--control", "-", preexec_fn=lambda: os.close(0))
    assert "--control -: standard input is closed" in cli.finish(process, exits=2).stderr


@pytest.mark.parametrize("typed", ["", "pause 10 a\n", "no end", "\x00\n" * 5000])
def test_whatever_is_typed_the_stream_goes_on(cli, typed):
    done = cli(
        *("stream", "--feed", "sim:stable?duration_s=20", "--speed", "max", "--format", "jsonl"),
        *("--control", "-"),
        typed=typed,
    )
    assert read_events(done.stdout)[-1]["windows"] == 3


# --- real recordings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "windows", "variant"),
    [
        ("ptbxl/records500/00000/00001_hr.hea", 1, "12/"),
        ("ludb/data/1.hea", 1, "12/"),
        ("long_2lead/mitdb/100.hea", 5, "II/"),
    ],
)
def test_a_real_recording_is_a_feed(cli, ecg_data, record, windows, variant):
    events = cli.stream(f"file:{ecg_data / record}", "--duration", "30")
    estimates = _of(events, "estimate")
    assert len(estimates) == windows == events[-1]["windows"]
    assert all(e["variant"].startswith(variant) for e in estimates)
    # The first window holds the front end's settling; the bundle has only seen simulated patients.
    assert [e["validity"] for e in estimates] == ["questionable"] + ["valid"] * (windows - 1)
    assert {e["mode"] for e in estimates} == {"demo"}


def test_records_show_says_what_a_recording_holds(cli, ecg_data):
    shown = cli("records", "show", ecg_data / "long_2lead" / "mitdb" / "100.hea").stdout
    for words in ("360 Hz", "650000 samples", "II, V5 (2)", "mode:             real"):
        assert words in shown


def test_a_recording_is_predicted_as_it_is_streamed(cli, ecg_data, tmp_path):
    record = ecg_data / "long_2lead" / "mitdb" / "100.hea"
    cli("predict", "embedded", record, "--out", "x.csv")
    with (tmp_path / "x.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 360  # 1805.6 s: a window each 5 s from 10 s on
    streamed = _of(cli.stream(f"file:{record}", "--duration", "60"), "estimate")
    assert [float(row["mpcwp_mmhg"]) for row in rows[: len(streamed)]] == [e["mpcwp_mmhg"] for e in streamed]
    assert {row["mode"] for row in rows} == {"demo"}
    assert {row["use"] for row in rows} == {"research use only"}
