"""docs/feeds.md says what the benchmark's file says, and names what there is."""

import json
from pathlib import Path

from ecgedge.feeds import _OPENERS as FEEDS
from ecgedge.feeds.dejitter import Disorder
from ecgedge.rig import _OPENERS as SENDERS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "feeds.md").read_text()


def test_the_figures_are_those_of_the_benchmark():
    transports = json.loads((ROOT / "benchmarks" / "results" / "feeds.json").read_text())["transports"]
    for name, cost in transports.items():
        cells = [
            name,
            f"{cost['latency ms, p50']:.2f} / {cost['latency ms, p99']:.2f}",
            f"{100 * cost['CPU of a core, both ends']:.1f} %",
            f"{cost['bytes a second']:,}",
        ]
        assert f"| {' | '.join(cells)} |" in DOCS
    expected = {"tcp", "ws, binary", "sdc", "mllp", "vital, 100 Hz", "mqtt, binary", "mqtt, json", "lsl"}
    assert set(transports) == expected


def test_the_readers_ratios_are_those_of_the_benchmark():
    ratios = json.loads((ROOT / "benchmarks" / "results" / "hl7.json").read_text())["times_ours"]
    assert f"1/{ratios['hl7.parse']:.0f} of the time of the package hl7" in DOCS
    assert f"1/{ratios['hl7apy parse_message']:.0f} of that" in DOCS
    split = json.loads((ROOT / "benchmarks" / "results" / "hl7.json").read_text())["times_split"]
    assert f"takes 1/{split['hl7.parse']:.0f} and 1/{split['hl7apy parse_message']:.0f}" in DOCS


def test_every_feed_and_every_counter_is_named():
    assert all(f"`{scheme}:" in DOCS for scheme in FEEDS)
    assert set(SENDERS) <= set(FEEDS)
    assert all(f"`{name}`" in DOCS for name in vars(Disorder()))
