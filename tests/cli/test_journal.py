"""The journal through the command line: what a killed stream leaves, and what a later one makes of it."""

import json
import signal
import time

import pytest

FEED = "sim:lead-off?seed=1&rate_hz=250"


def _entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _wait_for(path, text, *, timeout_s=60.0):
    """Wait until `text` stands in the file, as an operator would look at it while it grows."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    pytest.fail(f"{text!r} did not come into {path} within {timeout_s:g} s")


def _kill_after_first_alarm(cli, path):
    options = ("--speed", "50", "--format", "jsonl", "--journal", path)
    process = cli.start("stream", "--feed", FEED, *options)
    try:
        _wait_for(path, '"type":"alarm"')
    finally:
        process.send_signal(signal.SIGKILL)
    return cli.finish(process, exits=-signal.SIGKILL)


def test_a_killed_stream_leaves_a_good_journal_that_the_next_continues(cli, tmp_path):
    path = tmp_path / "bed.jsonl"
    killed = _kill_after_first_alarm(cli, path)
    assert "chain intact" in cli("journal", "verify", path).stdout
    before = _entries(path)
    # The journal is written first: it holds at least what the screen has shown.
    shown = [json.loads(line) for line in killed.stdout.splitlines() if line.endswith("}")]
    assert [e["event"] for e in before[1:]][: len(shown)] == shown

    events = cli.stream(FEED, "--journal", path, "--duration", "30")
    assert events[-1]["journal"] == str(path)
    after = _entries(path)
    assert after[: len(before)] == before
    (reopened,) = [e["event"] for e in after if e["event"]["type"] in ("reopened", "recovered")]
    assert reopened["facts"]["feed"] == FEED
    assert reopened["facts"]["mode"] == "demo"
    assert [e["event"] for e in after[len(before) + 1 :] if e["event"]["type"] != "input"] == events
    assert f"{len(after)} entries, chain intact" in cli("journal", "verify", path).stdout


def test_a_line_torn_by_a_power_loss_is_moved_aside_and_said(cli, tmp_path):
    path = tmp_path / "bed.jsonl"
    cli.stream(FEED, "--journal", path, "--duration", "20")
    good = path.read_bytes()
    path.write_bytes(good[:-25])
    assert "unfinished" in cli("journal", "verify", path, exits=1).stderr
    cli.stream(FEED, "--journal", path, "--duration", "20")
    (recovered,) = [e["event"] for e in _entries(path) if e["event"]["type"] == "recovered"]
    (torn,) = recovered["torn"]
    assert good[:-25].endswith((tmp_path / torn["file"]).read_bytes())
    assert "chain intact" in cli("journal", "verify", path).stdout


def test_one_changed_digit_is_found_and_the_file_is_left_alone(cli, tmp_path):
    path = tmp_path / "bed.jsonl"
    cli.stream(FEED, "--journal", path, "--duration", "20")
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace('"t_s":10.0', '"t_s":11.0')
    path.write_text("\n".join(lines) + "\n")
    changed = path.read_bytes()
    assert "line 3" in cli("journal", "verify", path, exits=1).stderr
    assert "write to a new file" in cli("stream", "--feed", FEED, "--journal", path, exits=1).stderr
    assert path.read_bytes() == changed


def test_two_streams_cannot_write_one_journal(cli, tmp_path):
    path = tmp_path / "bed.jsonl"
    first = cli.start("stream", "--feed", FEED, "--journal", path)
    try:
        _wait_for(path, '"connected"')
        refused = cli("stream", "--feed", FEED, "--journal", path, exits=1)
        assert "another process" in refused.stderr
    finally:
        first.kill()
    cli.finish(first, exits=-signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_service_manager_ends_the_stream_in_good_order(cli, tmp_path, number):
    path = tmp_path / "bed.jsonl"
    process = cli.start("stream", "--feed", FEED, "--speed", "50", "--journal", path)
    try:
        _wait_for(path, '"type":"estimate"')
        process.send_signal(number)
        done = cli.finish(process, exits=0, timeout_s=20.0)
    finally:
        process.kill()
    assert "Research use only" in done.stdout.splitlines()[-1]
    assert _entries(path)[-1]["event"]["type"] == "summary"
    assert "chain intact" in cli("journal", "verify", path).stdout
