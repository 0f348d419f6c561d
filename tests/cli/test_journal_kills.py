"""A stream that is killed again and again, and one whose disk is full: what the journal holds then."""

import asyncio
import json
import math
import os
import resource
import signal
import time

import numpy as np
import pytest

from ecgedge.feeds import open_feed
from ecgedge.journal import read_journal, verify_journal
from ecgedge.rerun import compare_run, find_runs

FEED = "sim:lead-off?seed=1&rate_hz=250"
OF_THE_JOURNAL = ("journal", "reopened", "recovered", "continued", "input")
COMMANDS = "pause 30 Nurse Seven\nack LEAD_OFF Nurse Seven\nresume Nurse Seven\n" * 20
"""Most of them are followed by an event that is on the disk before anyone hears of it."""


@pytest.mark.parametrize(
    "kills", [8, pytest.param(20, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.soak)]
)
def test_a_stream_killed_at_any_time_goes_on_in_a_good_journal(
    cli, tmp_path, bundle, variants, kills
) -> None:
    path, chance = tmp_path / "bed.jsonl", np.random.default_rng(kills)
    options = ("--speed", "300", "--format", "jsonl", "--journal", path, "--journal-max-mb", "0.01")
    heard = 0
    for _ in range(kills):
        before = verify_journal(path).entries if path.exists() else 0
        shown = _killed(cli, chance, *options)
        if not path.exists():  # killed before it was opened
            continue
        report = verify_journal(path)
        assert report.ok or report.torn_tail or report.entries == before == 0, report
        kept = [e.event for e in _entries(path, report.entries)][before:]
        said = [e for e in kept if e["type"] not in OF_THE_JOURNAL]
        assert said[: len(shown)] == shown
        heard += sum(e["type"] in ("alarm", "audio") for e in shown)
    assert heard > kills  # the kills came late enough to lose something
    assert (tmp_path / "bed.jsonl.0001").exists()
    runs = find_runs(path)
    assert kills / 2 < len(runs) <= kills
    for run in runs[-10:]:
        found = asyncio.run(_run_again(path, run, bundle, variants))
        assert found.difference is None


def _entries(path, n):
    """The first `n` entries; behind them there may be a torn line."""
    entries = read_journal(path)
    return [next(entries) for _ in range(n)]


def _killed(cli, chance, *options):
    """Stream, kill at some time from the start of the process on, and return the events that were shown.

    Most are killed some lines on, not some seconds: a busy machine shows as much before.
    """
    process = cli.start("stream", "--feed", FEED, *options, "--control", "-", stdin=-1)
    process.stdin.write(COMMANDS)
    process.stdin.flush()
    lines = []
    if chance.random() < 0.9:
        lines += [process.stdout.readline() for _ in range(chance.integers(1, 80))]
        time.sleep(chance.uniform(0.0, 0.02))
    else:
        time.sleep(chance.uniform(0.0, 0.8))
    process.send_signal(signal.SIGKILL)
    with process:
        lines += process.stdout.read().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def _run_again(path, run, bundle, variants):
    return await compare_run(
        path, run, bundle=bundle, feed=await open_feed(FEED, speed=math.inf), variants=variants
    )


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_a_stream_outlives_a_full_disk(cli, tmp_path) -> None:
    """A limit on the size of files stands for the disk: the journal's next line fails half written."""
    path = tmp_path / "bed.jsonl"
    process = cli.start("stream", "--feed", FEED, "--speed", "40", "--format", "jsonl", "--journal", path)
    shown = []

    def read_until(is_it) -> dict:
        shown.append(json.loads(process.stdout.readline()))
        return shown[-1] if is_it(shown[-1]) else read_until(is_it)

    try:
        read_until(lambda e: e["type"] == "estimate")
        _limit(process.pid, os.stat(path).st_size + 100)
        failed = read_until(lambda e: e.get("condition") == "JOURNAL_FAILED")
        for _ in range(3):
            read_until(lambda e: e["type"] == "estimate")
        assert verify_journal(path).ok
        _limit(process.pid, resource.RLIM_INFINITY)
        works = read_until(lambda e: e.get("condition") == "JOURNAL_FAILED")
        process.send_signal(signal.SIGTERM)
    except BaseException:
        process.kill()
        raise
    done = cli.finish(process)
    assert (failed["presence"], failed["signal"], works["presence"], works["signal"]) == (
        "on",
        "on",
        "off",
        "off",
    )
    assert f"the journal {path} cannot be written: File too large; monitoring goes on" == failed["text"]
    shown += [json.loads(line) for line in done.stdout.splitlines()]
    kept = [e.event for e in read_journal(path)]
    assert [e for e in kept if e["type"] not in OF_THE_JOURNAL] == shown
    assert f"{len(shown)} events equal\n" in cli("journal", "replay", path, "--feed", FEED).stdout


def _limit(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_disk_that_stays_full_is_an_error_after_the_summary(cli, tmp_path) -> None:
    done = cli(
        *("stream", "--feed", FEED, "--speed", "max", "--duration", "60", "--format", "jsonl"),
        *("--journal", "bed.jsonl"),
        exits=1,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY)),
    )
    assert "cannot be written: File too large; it lacks the last" in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert len([e for e in events if e["type"] == "estimate"]) == 11
    assert events[-2]["type"] == "summary" or events[-1]["type"] == "summary"
    assert verify_journal(tmp_path / "bed.jsonl").ok


def test_a_journal_on_a_device_is_refused(cli) -> None:
    done = cli("stream", "--feed", FEED, "--journal", "/dev/full", exits=1)
    assert "the journal /dev/full is no regular file; give it a place on a disk" in done.stderr
