"""`ecgedge ward` and `ecgedge tell`, each in a process of its own."""

import asyncio
import json
import os
import signal
import socket
import time

import pytest

from ecgedge.wards.control import ask

BED = '[[bed]]\nname = "a"\nfeed = "sim:lead-off?seed=1&rate_hz=250&chunk_ms=500"\n'
CONTROL = '[ward]\ncontrol = "w.sock"\n'


@pytest.fixture
def ward(cli, tmp_path):
    """Start a ward with this file; killed at the end, whatever happens."""
    started = []

    def start(text, *options, **how):
        (tmp_path / "beds.toml").write_text(text)
        started.append(cli.start("ward", "--beds", "beds.toml", "--speed", "200", *options, **how))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def until(is_so):
    end_s = time.monotonic() + 60.0
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def listens(path):
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


def status_of(folder):
    return asyncio.run(ask(folder / "w.sock", {"do": "status"}))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_ward_is_told_what_to_do_and_drained(cli, ward, tmp_path):
    events = tmp_path / "events.jsonl"
    process = ward(
        CONTROL
        + 'events = "events.jsonl"\nstate = "state"\njournals = "deep/journals"\nmost_beds = 2\n'
        + BED
    )
    until(lambda: any(e.get("condition") == "LEAD_OFF" for e in read(events)))
    status = json.loads(cli("tell", "w.sock", "status").stdout)
    assert status["research_use_only"] is True
    assert status["beds"]["a"]["connected"] is True
    added = cli("tell", "w.sock", "add", "name=b", "feed=sim:stable?rate_hz=250&chunk_ms=500")
    assert added.stdout == "done\n"
    full = cli("tell", "w.sock", "add", "name=c", "feed=sim:stable", exits=1)
    assert "the ward is full: it takes 2 beds" in full.stderr
    cli("tell", "w.sock", "pause_audio", "name=a", "duration_s=60", "user=Nurse Seven")
    cli("tell", "w.sock", "resume_audio", "name=a", "user=Nurse Seven")
    cli("tell", "w.sock", "acknowledge", "name=a", "condition=LEAD_OFF", "user=Nurse Seven")
    swapped = json.loads(cli("tell", "w.sock", "swap", "bundle=embedded").stdout)
    assert swapped["bundle"] == status["bundle"]
    until(lambda: any(e["bed"] == "b" for e in read(events)))
    cli("tell", "w.sock", "remove", "name=b")
    assert cli("tell", "w.sock", "drain").stdout == "done\n"
    done = cli.finish(process)
    assert "research use only" in done.stderr.lower()
    lines = read(events)
    assert [e["bed"] for e in lines if e["type"] == "summary"] == ["b", "a"]
    assert [e["state"] for e in lines if e["type"] == "audio"] == ["paused", "on"]
    assert sorted(p.name for p in (tmp_path / "deep" / "journals").iterdir()) == ["a.jsonl", "b.jsonl"]
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["a.bed"]
    assert "no ward listens on w.sock" in cli("tell", "w.sock", "status", exits=2).stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(cli, ward, number):
    process = ward('[ward]\nevents = "-"\n' + BED)
    first = process.stdout.readline()
    process.send_signal(number)
    done = cli.finish(process)
    lines = [json.loads(line) for line in [first, *done.stdout.splitlines()]]
    assert (lines[0]["bed"], lines[0]["state"], lines[-1]["type"]) == ("a", "connected", "summary")


def test_a_reader_who_does_not_read_holds_up_neither_the_ward_nor_its_end(cli, ward, tmp_path):
    process = ward(CONTROL + 'events = "-"\n' + BED, "--speed", "2000")
    process.stdout.readline()
    until(lambda: status_of(tmp_path)["beds"]["a"]["t_s"] > 3000.0)  # more lines than a pipe holds
    cli("tell", "w.sock", "drain")
    assert process.wait(30.0) == 0
    stderr = process.stderr.read()
    assert "lines of events that were never written" in stderr
    assert "Fatal" not in stderr
    assert "Traceback" not in stderr


def test_a_reader_who_goes_does_not_end_the_ward(cli, ward, tmp_path):
    process = ward(CONTROL + 'events = "-"\n' + BED)
    process.stdout.readline()
    process.stdout.close()
    until(lambda: status_of(tmp_path)["events_trouble"])
    assert status_of(tmp_path)["dropped_lines"]
    assert status_of(tmp_path)["beds"]["a"]["connected"] is True
    cli("tell", "w.sock", "drain")
    assert process.wait(30.0) == 0
    stderr = process.stderr.read()
    assert stderr.count("nobody reads the events any more") == 1
    assert "Traceback" not in stderr


def test_a_torn_last_line_of_the_events_takes_no_other_with_it(cli, ward, tmp_path):
    events = tmp_path / "events.jsonl"
    events.write_text('{"bed":"a","type":"al')
    process = ward('[ward]\nevents = "events.jsonl"\n' + BED)
    until(lambda: events.read_text().count("\n") > 2)
    process.send_signal(signal.SIGTERM)
    cli.finish(process)
    torn, *whole = events.read_text().splitlines()
    assert torn == '{"bed":"a","type":"al'
    assert json.loads(whole[0])["state"] == "connected"


def test_a_second_ward_on_the_same_socket_is_refused(cli, ward, tmp_path):
    process = ward(CONTROL + BED)
    until(lambda: listens(tmp_path / "w.sock"))
    again = cli("ward", "--beds", "beds.toml", exits=2)
    assert "another ward listens on" in again.stderr
    assert list(status_of(tmp_path)["beds"]) == ["a"]
    process.send_signal(signal.SIGTERM)
    cli.finish(process)


def test_someone_who_stays_connected_does_not_hold_up_the_end(cli, ward, tmp_path):
    process = ward(CONTROL + BED)
    until(lambda: listens(tmp_path / "w.sock"))
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(tmp_path / "w.sock"))
        idle.sendall(b'{"do":"status"}\n{"do":')
        assert idle.recv(10).startswith(b'{"ok":true')
        cli("tell", "w.sock", "drain")
        cli.finish(process)


def test_a_policy_that_can_never_fire_stops_the_ward_at_its_start(cli, ward, tmp_path):
    (tmp_path / "p.toml").write_text("onset_probability = 1.5\n")
    done = cli.finish(ward(CONTROL + BED + BED.replace('"a"', '"b"') + 'policy = "p.toml"\n'), exits=1)
    assert "p.toml" in done.stderr
    assert "onset_probability" in done.stderr


def test_a_device_that_is_no_file_takes_events(cli, ward, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = ward(CONTROL + 'events = "pipe"\n' + BED)
    with (tmp_path / "pipe").open() as stream:
        assert json.loads(stream.readline())["state"] == "connected"
        process.send_signal(signal.SIGTERM)
        while json.loads(stream.readline())["type"] != "summary":
            pass
    cli.finish(process)
