"""A ward that is killed again and again: no alarm that anyone has heard of is ever lost."""

import json
import signal
import socket
import time
from contextlib import suppress

import numpy as np
import pytest

from ecgedge.journal import read_journal, verify_journal

BEDS = {"a": "lead-off?seed=1", "b": "lead-off?seed=7&leads=I,II,V3", "c": "noisy?seed=3&leads=II"}
FILE = """
[ward]
journals = "journals"
journal_max_mb = 0.03
state = "state"
state_s = 0.4
events = "events.jsonl"
control = "ward.sock"
"""
# Quick, and near what these patients' estimates are: so alarms of the pressure come and go as well.
POLICY = (
    "persistence_s = 10.0\nrecovery_window_s = 10.0\nonset_probability = 0.25\nrecovery_probability = 0.25\n"
    "acknowledge_timeout_low_s = 60.0\npoor_signal_s = 10.0\n"
)
OPENINGS = ("journal", "reopened", "recovered")
OF_THE_JOURNAL = (*OPENINGS, "continued", "input", "bundle")


@pytest.mark.parametrize(
    "kills", [6, pytest.param(20, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.soak)]
)
def test_no_alarm_is_lost_however_often_the_ward_is_killed(cli, tmp_path, kills):
    _write_files(tmp_path)
    chance, told, told_anew = np.random.default_rng(kills), {name: {} for name in BEDS}, 0
    runs = dict.fromkeys(BEDS, 0)
    for _ in range(kills):
        lines, stderr = _killed(cli, tmp_path, chance)
        assert "Traceback" not in stderr
        assert "anew" not in stderr
        for name in BEDS:
            path = tmp_path / "journals" / f"{name}.jsonl"
            if not path.exists():  # killed before it was opened
                continue
            report = verify_journal(path)
            assert report.ok or report.torn_tail, report
            for run in _runs(path, report.entries)[runs[name] :]:
                runs[name] += 1
                told_anew += _check_told_anew(run, told[name])
                alarms = [e for e in run if e["type"] == "alarm" and e["condition"] != "JOURNAL_FAILED"]
                told[name].update({e["condition"]: e["signal"] for e in alarms})
            heard = [{k: v for k, v in x.items() if k != "bed"} for x in lines if x["bed"] == name]
            if heard:  # a prefix of the run's: what the kill took had been told nobody
                assert [e for e in run if e["type"] not in OF_THE_JOURNAL][: len(heard)] == heard
    assert all(count > kills // 3 for count in runs.values())
    assert told_anew > kills // 2
    assert {"LEAD_OFF", "MPCWP_ELEVATED"} <= {name for of_bed in told.values() for name in of_bed}


def _check_told_anew(run, told):
    """See that a run begins by telling of each alarm that was on whether it still is; return of how many it does."""
    shown = [e for e in run if e["type"] not in OF_THE_JOURNAL]
    first = next((k for k, e in enumerate(shown) if e["type"] != "alarm"), None)
    anew = {e["condition"] for e in shown[:first]} - {"JOURNAL_FAILED"}
    if first is not None:  # not killed while it told
        assert {condition for condition, shown_as in told.items() if shown_as != "off"} <= anew
    return len(anew)


def _write_files(folder):
    beds = "".join(
        f'[[bed]]\nname = "{name}"\npolicy = "policy.toml"\nfeed = "sim:{uri}&rate_hz=250&chunk_ms=500"\n'
        for name, uri in BEDS.items()
    )
    (folder / "beds.toml").write_text(FILE + beds)
    (folder / "policy.toml").write_text(POLICY)


def _killed(cli, folder, chance):
    """Serve, kill at some time from the start of the process on; return the events told, and what was said.

    Most are killed some events on, not some seconds: a busy machine tells as much before.
    """
    events = folder / "events.jsonl"
    before = events.stat().st_size if events.exists() else 0
    process = cli.start("ward", "--beds", "beds.toml", "--speed", "1000")
    if chance.random() < 0.9:
        end_s, wanted = time.monotonic() + 60.0, chance.integers(1, 40_000)
        while not (events.exists() and events.stat().st_size >= before + wanted):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end_s
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.02))
        if chance.random() < 0.5:
            _acknowledge(folder / "ward.sock")
            time.sleep(chance.uniform(0.0, 0.1))
    else:
        time.sleep(chance.uniform(0.0, 0.8))
    process.send_signal(signal.SIGKILL)
    with process:
        stderr = process.stderr.read()
    if not events.exists():
        return [], stderr
    with events.open("rb") as stream:
        stream.seek(before)
        whole = [line for line in stream.read().splitlines(keepends=True) if line.endswith(b"\n")]
    # The first may be the end of the line that the kill before has torn.
    return [json.loads(line) for line in whole if line.startswith(b"{")], stderr


def _acknowledge(path):
    asked = {"do": "acknowledge", "name": "a", "condition": "LEAD_OFF", "user": "Nurse Seven"}
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(5.0)
        connection.connect(str(path))
        connection.sendall(json.dumps(asked).encode() + b"\n")
        connection.recv(1000)


def _runs(path, n):
    """The events of each run in the first `n` entries; behind them there may be a torn line."""
    entries, runs = read_journal(path), []
    for event in (next(entries).event for _ in range(n)):
        if event["type"] in OPENINGS:
            runs.append([])
        runs[-1].append(event)
    return runs
