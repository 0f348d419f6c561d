"""docs/cluster.md says what the code does and what was measured."""

import json
import re
from pathlib import Path

import pytest

from ecgedge.cluster import (
    bus,
    deliver,
    journal_keeper,
    journal_watch,
    publish,
    ray_wards,
    served,
    tell,
    ward_node,
)
from ecgedge.sinks import outbox

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "cluster.md").read_text()
RESULTS = REPO / "benchmarks" / "results"
BEDS = 100_000


def result(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def row(first):
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", PAGE, re.MULTILINE)
    return [cell.strip() for cell in line.split("|")]


WARD_US = "us a bed-second"
BUS_US = "us of a core a bed-second, ward with its bus client"
SERVER_US = "us of a core a bed-second, server"


@pytest.mark.parametrize(
    ("first", "us"),
    [
        ("CPU of a ward, no bus", lambda: result("ward")[WARD_US]["ward of 4000"]),
        ("CPU of a ward with its client of the bus", lambda: result("bus_cost")[BUS_US]),
        ("CPU of the NATS servers", lambda: result("bus_cost")[SERVER_US]),
    ],
)
def test_cores_follow_from_what_was_measured(first, us):
    assert row(first) == [f"{us():.0f} us/s", f"{us() * 1e-6 * BEDS:.0f} cores"]


def test_bytes_follow_from_what_was_measured():
    byte_s = result("bus_cost")["bytes a bed-second, onto the bus"]
    sent = [f"{byte_s / 1e3:.0f} kB/s", f"{byte_s * BEDS / 1e9:.1f} GB/s"]
    assert row("samples onto the bus, and again off it") == sent
    window = byte_s * bus.REPLAY_S
    assert row("replay window of 120 s, each replica") == [
        f"{window / 1e6:.1f} MB",
        f"{window * BEDS / 1e9:.0f} GB",
    ]
    checkpoint_byte_s = 0.11e6 / ward_node.STATE_S  # docs/ward.md has the size, and its test
    kept = [f"{checkpoint_byte_s / 1e3:.0f} kB/s", f"{checkpoint_byte_s * BEDS / 1e9:.1f} GB/s"]
    assert row("checkpoints, each 10 s") == kept


def test_the_killed_node_is_the_measured_one():
    found = result("cluster")
    back_s = max(found["s away, killed, max"], found["s away, killed, by the bus, max"])
    text = " ".join(PAGE.split())
    assert (found["beds"], found["nodes"], found["simulated"]) == (300, 3, True)
    assert f"every bed was back within {back_s:.1f} s" in text
    expected, alarms = found["lines expected"], found["alarm lines expected"]
    assert f"of {expected:,} lines, {alarms:,} of them alarms, none was missing" in text
    assert found["lines missing"] == found["lines that are other"] == 0


def test_numbers_are_those_of_the_code():
    text = " ".join(PAGE.split())
    assert f"| {bus.REPLAY_S:g} s (`--replay-s`) |" in text
    assert f"one message for each {publish.CHUNK_S * 1e3:g} ms" in text
    assert f"does not answer for {ray_wards.ANSWER_S:g} s is dead" in text
    assert f"is told of after {served.SILENT_S:g} s at the soonest" in text
    assert ray_wards.TAKE_S > ward_node.BACK_S
    assert f"**nobody answers** for {tell.WAIT_S:g} s (`--wait-s`" in text
    assert tell.WAIT_S > ray_wards.ANSWER_S + 5.0
    late_s, look_s = outbox.LATE_S, 2 * deliver.RENEW_S
    assert (
        f"does not take for {late_s:g} s, or has refused, is DELIVERY_FAILED on all beds, at most {look_s:g} s"
        in text
    )
    assert f"delivers no more, after {deliver.GONE_S:g} s" in text
    assert f"comes with the next checkpoint ({ward_node.STATE_S:g} s at most)" in text
    assert f"on no disk for {journal_watch.PATIENCE_S:g} s (`--journal-patience-s`" in text
    assert f"looks every {deliver.RENEW_S:g} s at what the bus has" in text
    assert f"which the writer says every {journal_keeper.SYNC_S:g} s" in text
    assert 2.0 * (deliver.RENEW_S + journal_keeper.SYNC_S) < journal_watch.SHORTEST_PATIENCE_S
    assert (bus.EVENTS_S, bus.JOURNAL_S) == (86_400.0, 7 * 86_400.0)  # a day, and a week
    assert "research use only" in PAGE.lower()
