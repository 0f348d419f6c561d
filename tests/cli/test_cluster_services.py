"""`ecgedge cluster tell`, `journal` and `deliver` beside a served bed, each a process of its own, over a real bus."""

import json
import signal
import time

import needs
import pytest
from nats_server import nats_server

from ecgedge.journal import read_journal

SIM = "sim:lead-off?seed=1&rate_hz=250&leads=I,II,V3&duration_s=60"
ACKNOWLEDGE = ["acknowledge", "name=e", "condition=LEAD_OFF", "user=Nurse Seven"]
NOBODY = "nats://127.0.0.1:1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    needs.nats()
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def start(cli, server):
    """Start a command on the bus; killed at the end, whatever happens."""
    started = []

    def start(command, *options):
        started.append(cli.start("cluster", command, "--bus", server.uri, *options))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def until(is_so):
    deadline_s = time.monotonic() + 40.0
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came about"
        time.sleep(0.05)


def text_of(path):
    return path.read_text() if path.exists() else ""


@pytest.mark.slow
def test_a_bed_is_told_journaled_and_delivered(cli, server, start, tmp_path):
    journal, estimates = tmp_path / "journals" / "e.jsonl", tmp_path / "e.ndjson"
    start("serve", "--beds", "e", "--state-s", "1")
    services = [
        start("journal", "--folder", "journals", "--max-mb", "1"),
        start("deliver", "--sink", f"fhir:{estimates}"),
    ]
    tell = ["cluster", "tell", "--bus", server.uri]
    done = cli(*tell, "--wait-s", "60", *ACKNOWLEDGE, exits=1)  # by then all of them are there
    assert "bed e has heard nothing of its feed yet" in done.stderr
    cli("cluster", "publish", "--bus", server.uri, "--bed", "e", "--from", SIM, "--speed", "20")
    done = cli(*tell, *ACKNOWLEDGE)
    assert (done.stdout, done.stderr) == ("done\n", "")
    status = json.loads(cli(*tell, "status", "name=e").stdout)["status"]
    assert (status["back"], status["t_s"] >= 60.0) == (True, True)
    until(lambda: '"call":"acknowledge"' in text_of(journal))
    until(lambda: text_of(estimates).count("Observation") >= 10)
    for service in services:
        service.send_signal(signal.SIGTERM)
        cli.finish(service)
    assert "chain intact" in cli("journal", "verify", journal).stdout
    # What a bed on the bus says can be run again from its samples, as that of a bed on one machine.
    assert "events equal" in cli("journal", "replay", journal, "--feed", SIM).stdout
    (asked,) = [e.event for e in read_journal(journal) if e.event.get("call") == "acknowledge"]
    assert (asked["condition"], asked["user"]) == ("LEAD_OFF", "Nurse Seven")


def test_a_bed_that_nobody_serves(cli, server):
    command = ["cluster", "tell", "--bus", server.uri, "--wait-s", "0.2", "status", "name=nowhere"]
    done = cli(*command, exits=1)
    assert "nobody answers for bed nowhere in 0.2 s" in done.stderr


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["tell", "--bus", NOBODY, "status", "user=x"], "name=BED is missing"),
        (["tell", "--bus", NOBODY, "status", "name=a/b"], "name is 'a/b'"),
        (["tell", "--bus", NOBODY, "status", "name"], "expected key=value"),
        (["journal", "--bus", NOBODY, "--folder", "j", "--max-mb", "0"], "--max-mb is 0"),
        (["deliver", "--bus", NOBODY], "there is no sink"),
    ],
)
def test_what_cannot_be(cli, command, why):
    assert why in cli("cluster", *command, exits=2).stderr
