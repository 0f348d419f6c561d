"""Sinks as a user asks for them: `ecgedge stream --sink`, a ward's `sinks`, and `ecgedge journal fhir`."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fhir.resources.observation import Observation
from free_ports import free_port
from mosquitto import broker, ready_subscriber
from sink_events import http_server

CONSUMER = Path(__file__).parents[1] / "support" / "sdc_consumer.py"


def ecgedge(*words):
    return [sys.executable, "-m", "ecgedge", *map(str, words)]


def run(*words, **more):
    return subprocess.run(ecgedge(*words), capture_output=True, text=True, timeout=300, **more)


def test_one_stream_into_every_language(tmp_path):
    fhir, jsonl, journal = tmp_path / "out.ndjson", tmp_path / "out.jsonl", tmp_path / "bed.jsonl"
    with broker(tmp_path) as running:
        reader = ready_subscriber(running, "ward/icu-3/event")

        async def main():
            async with http_server() as server:
                sinks = (
                    f"jsonl:{jsonl}", f"mqtt://127.0.0.1:{running.port}/ward", f"fhir:{fhir}",
                    f"webhook:http://127.0.0.1:{server.port}/take", f"prometheus://127.0.0.1:{free_port()}",
                )  # fmt: skip
                words = [word for sink in sinks for word in ("--sink", sink)]
                done = await asyncio.to_thread(
                    run, "stream", "--feed", "sim:lead-off", "--speed", "max", "--duration", "600",
                    "--bed", "icu-3", "--journal", journal, *words,
                )  # fmt: skip
                return done, server.requests

        done, requests = asyncio.run(main())
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in jsonl.read_text().splitlines()]
        published = [json.loads(reader.stdout.readline()) for _ in events]
        reader.kill()
        reader.communicate()
    posted = [event for _, _, body in requests for event in json.loads(body)["data"]["events"]]
    for found in (published, posted):
        assert [_bare(event) for event in found] == events
        assert {(e["bed"], e["mode"], e["research_use_only"]) for e in found} == {("icu-3", "demo", True)}
    estimates = [e for e in events if e["type"] == "estimate"]
    lines = [Observation(**json.loads(line)) for line in fhir.read_text().splitlines()]
    assert [None if o.valueQuantity is None else float(o.valueQuantity.value) for o in lines] == [
        None if e["mpcwp_mmhg"] is None else round(e["mpcwp_mmhg"], 3) for e in estimates
    ]
    assert all(o.meta.tag[0].code == "HTEST" for o in lines)

    hours = tmp_path / "hours.ndjson"
    words = ["journal", "fhir", journal, "--out", hours, "--zero", "2026-11-28T07:30:00Z", "--hours", "0.1"]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "Research use only" in done.stdout
    series = [Observation(**json.loads(line)).valueSampledData for line in hours.read_text().splitlines()]
    assert len(series) == 2
    values = [value for one in series for value in one.data.split()]
    assert values == [
        "E" if e["mpcwp_mmhg"] is None else str(round(e["mpcwp_mmhg"] * 100)) for e in estimates
    ]
    assert run(*words).returncode == 2, "never over a file that is there"


def _bare(event):
    """The event without what the sink puts around it; an estimate has a mode of its own."""
    around = {"bed", "at", "number", "run", "research_use_only"}
    around |= set() if event["type"] == "estimate" else {"mode"}
    return {k: v for k, v in event.items() if k not in around}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sink", "pigeon:home"], "cannot open sink"),
        (["--sink", "mqtt://host"], "topic"),
        (["--sink", "webhook:ftp://x"], "expected http"),
        (["--sink", "fhir:x.json"], "ndjson"),
        (["--bed", "a/b"], "--bed"),
    ],
)
def test_what_is_wrong_is_named(words, said):
    done = run("stream", "--feed", "sim:stable", *words)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("zero", ["yesterday", "2026-11-28T07:30:00"])
def test_a_time_without_a_zone_is_refused(tmp_path, zero):
    journal = tmp_path / "bed.jsonl"
    assert (
        run(
            "stream", "--feed", "sim:stable", "--speed", "max", "--duration", 30, "--journal", journal
        ).returncode
        == 0
    )
    done = run("journal", "fhir", journal, "--out", tmp_path / "o.ndjson", "--zero", zero)
    assert done.returncode == 2
    assert "its zone" in done.stderr


@pytest.mark.slow  # half a minute of waiting, most of it for the 10 s
def test_a_ward_whose_broker_dies_tells_its_beds_and_loses_nothing(tmp_path):
    """DELIVERY_FAILED comes on after 10 s, and goes when the broker is back and has all."""
    with broker(tmp_path) as running:
        config = tmp_path / "beds.toml"
        config.write_text(
            f'[ward]\nevents = "events.jsonl"\ncontrol = "ward.sock"\nsinks = ["mqtt://127.0.0.1:{running.port}/ward"]\n'
            '[[bed]]\nname = "a"\nfeed = "sim:stable"\n[[bed]]\nname = "b"\nfeed = "sim:stable?seed=2"\n'
        )
        ward = subprocess.Popen(ecgedge("ward", "--beds", config), stderr=subprocess.PIPE, text=True)
        try:
            events = tmp_path / "events.jsonl"
            _until(lambda: _alarms(events, "self_check"))
            running.kill()
            _until(lambda: len(_of(events, "on")) == 2, within_s=60.0)
            running.start()
            reader = ready_subscriber(running, "ward/+/event")  # of the broker before nothing is left
            _until(lambda: len(_of(events, "off")) == 2, within_s=60.0)
            status = json.loads(run("tell", tmp_path / "ward.sock", "status").stdout)
            (sink,) = status["channels"]["sinks"].values()
        finally:
            ward.send_signal(signal.SIGTERM)
            _, said = ward.communicate(timeout=60)
    reader.kill()
    assert sink["trouble"] is None
    assert sink["dropped"] == sink["refused"] == {}
    assert "events wait and are sent again" in said
    assert "takes events again" in said
    heard = [json.loads(line) for line in reader.communicate()[0].splitlines()]
    on = [e for e in heard if e.get("condition") == "DELIVERY_FAILED" and e["presence"] == "on"]
    assert {e["bed"] for e in on} == {"a", "b"}, "told when the broker was back"
    for bed in "ab":
        numbers = [e["number"] for e in heard if e["bed"] == bed]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "none is missing"
    assert "mqtt://127.0.0.1" in on[0]["text"]


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _alarms(path, kind):
    return [event for event in _lines(path) if event["type"] == kind]


def _of(path, presence):
    found = _alarms(path, "alarm")
    return [e for e in found if e["condition"] == "DELIVERY_FAILED" and e["presence"] == presence]


def _until(condition, *, within_s=60.0):
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came about"
        time.sleep(0.1)


def test_an_sdc_consumer_acknowledges_an_alarm_of_a_stream(tmp_path):
    """The whole way: alarm to a consumer in plain sdc11073, its acknowledgement back to the bed, and on to everyone."""
    words = ["stream", "--feed", "sim:lead-off", "--speed", "20", "--duration", "900", "--format", "jsonl"]
    stream = subprocess.Popen(
        ecgedge(*words, "--bed", "icu-3", "--sink", "sdc://127.0.0.1"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    consumer = None
    try:
        url = next(line for line in stream.stderr if "is an SDC provider" in line).split()[-1]
        consumer = subprocess.Popen(
            [sys.executable, str(CONSUMER), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        heard = (json.loads(line) for line in consumer.stdout)
        assert next(heard)["bed"] == "icu-3"
        next(e for e in heard if e.get("LEAD_OFF", {}).get("presence"))
        consumer.stdin.write("LEAD_OFF\n")
        consumer.stdin.flush()
        answer, shown = None, None
        while answer is None or shown is None:  # in either order
            event = next(heard)
            answer = event.get("answer", answer)
            signal_state = event.get("signal.LEAD_OFF", {})
            shown = signal_state if signal_state.get("presence") == "Ack" else shown
        events = (json.loads(line) for line in stream.stdout)
        told = next(e for e in events if e.get("condition") == "LEAD_OFF" and e.get("user"))
    finally:
        for process in (stream, consumer):
            if process is not None:
                process.kill()
                process.communicate()
    assert (told["signal"], told["user"]) == ("acknowledged", "SDC consumer")
    assert (answer, shown["active"]) == ("Fin", "On")
