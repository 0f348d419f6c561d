"""The journal through the command line: what a killed stream leaves, and what a later one makes of it."""

import json
import signal
import time

import pytest

from ecgedge.journal import Journal

FEED = "sim:lead-off?seed=1&rate_hz=250"
LATER = "sim:stable?seed=4&rate_hz=250"


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
    assert [e["event"] for e in before[1:] if e["event"]["type"] != "input"][: len(shown)] == shown

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
        done = cli.finish(process, exits=0, timeout_s=120.0)
    finally:
        process.kill()
    assert "Research use only" in done.stdout.splitlines()[-1]
    assert _entries(path)[-1]["event"]["type"] == "summary"
    assert "chain intact" in cli("journal", "verify", path).stdout


def test_a_journal_in_several_files_is_verified_and_run_again_as_one(cli, tmp_path):
    options = ("--journal", "bed.jsonl", "--journal-max-mb", "0.004", "--duration", "70")
    events = cli.stream(FEED, *options)
    files = sorted(path.name for path in tmp_path.glob("bed.jsonl*"))
    assert len(files) > 3
    (verified,) = cli("journal", "verify", "bed.jsonl").stdout.splitlines()
    assert verified.startswith("bed.jsonl: ")
    assert verified.endswith(f" entries in {len(files)} files, chain intact")
    done = cli("journal", "replay", "bed.jsonl", "--feed", f"{FEED}&chunk_ms=700")
    assert done.stdout == f"bed.jsonl: {len(events)} events equal\n"
    (tmp_path / "bed.jsonl.0001").unlink()
    assert (
        "bed.jsonl.0001: line 0: the file is missing" in cli("journal", "verify", "bed.jsonl", exits=1).stderr
    )


def test_a_difference_is_shown_from_both_sides(cli, tmp_path):
    cli.stream(FEED, "--journal", "bed.jsonl", "--duration", "20")
    other = FEED.replace("seed=1", "seed=2")
    said = cli("journal", "replay", "bed.jsonl", "--feed", other, exits=1).stderr
    assert "bed.jsonl: 3 events equal, then a difference at entry 4" in said
    journal, replay = (json.loads(line.partition(":")[2]) for line in said.splitlines()[-2:])
    assert (journal["type"], journal["t_s"]) == (replay["type"], replay["t_s"]) == ("estimate", 10.0)
    assert journal["mpcwp_mmhg"] != replay["mpcwp_mmhg"]


def test_a_killed_stream_is_run_again_as_far_as_it_came(cli, tmp_path):
    path = tmp_path / "bed.jsonl"
    _kill_after_first_alarm(cli, path)
    done = cli("journal", "replay", path, "--feed", FEED)
    assert "events equal; the journal ends at t = 6" in done.stdout
    assert "without a summary: " in done.stdout
    assert " later events not in it (of the next 60 s at most)" in done.stdout


def test_of_several_runs_one_is_named(cli, tmp_path):
    cli.stream(FEED, "--journal", "bed.jsonl", "--duration", "20")
    events = cli.stream(LATER, "--journal", "bed.jsonl", "--duration", "30")
    ask = ("journal", "replay", "bed.jsonl", "--feed", LATER)
    assert "bed.jsonl holds 2 runs; name one with --run, from 1 to 2" in cli(*ask, exits=2).stderr
    assert "--run is 3; bed.jsonl holds runs 1 to 2" in cli(*ask, "--run", "3", exits=2).stderr
    assert cli(*ask, "--run", "2").stdout == f"bed.jsonl: {len(events)} events equal\n"
    assert "then a difference" in cli(*ask, "--run", "1", exits=1).stderr


def test_another_policy_is_the_journals(cli, tmp_path):
    (tmp_path / "policy.toml").write_text("self_check_s = 2.5\nlead_off_s = 3.0\n")
    events = cli.stream(FEED, "--journal", "bed.jsonl", "--duration", "70", "--policy", "policy.toml")
    (tmp_path / "policy.toml").unlink()
    done = cli("journal", "replay", "bed.jsonl", "--feed", FEED)
    assert done.stdout == f"bed.jsonl: {len(events)} events equal\n"


def test_another_bundle_is_refused(cli, tmp_path, bundle):
    cli.stream(FEED, "--journal", "bed.jsonl", "--duration", "20")
    events = [e["event"] for e in _entries(tmp_path / "bed.jsonl")]
    facts = {**events[0]["facts"], "bundle": "ab" * 32}
    with Journal(tmp_path / "other.jsonl", facts=facts) as journal:
        for event in events[1:]:
            journal.append(event)
    said = cli("journal", "replay", "other.jsonl", "--feed", FEED, exits=4).stderr
    assert f"the journal's run had bundle {'ab' * 32}, but" in said
    assert bundle.id in said
