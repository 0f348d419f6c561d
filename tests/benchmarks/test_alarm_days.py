"""Patient-days that are gathered in parts: nothing twice, every line made anew alike, the table that of the lines."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from ecgedge.bundle import load_bundle

FOLDER = Path(__file__).parents[2] / "benchmarks"
RESULTS = FOLDER / "results"
PAGE = FOLDER.parent / "docs" / "alarms-replay.md"


@pytest.fixture
def alarm_days(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("alarm_days")
    sys.modules.pop("alarm_days", None)


@pytest.fixture
def small(alarm_days, monkeypatch):
    """Two blocks of two short patients."""
    monkeypatch.setattr(alarm_days, "BLOCK", (("stable", 0.03), ("lead-off", 0.05)))
    monkeypatch.setattr(alarm_days, "WANTED_DAYS", 2 * 0.08 / 24.0)
    return alarm_days


def committed(name):
    return (RESULTS / name).read_text("utf-8")


def test_a_block_is_of_everyone_and_no_person_is_in_two(alarm_days):
    blocks = [alarm_days.block(number) for number in range(300)]
    assert {stream.scenario for stream in blocks[0]} == {"stable", "noisy", "lead-off", "decompensating"}
    assert len({stream.seed for block in blocks for stream in block}) == 300 * len(alarm_days.BLOCK)


def test_what_is_there_is_not_made_again(small, tmp_path, monkeypatch):
    days = tmp_path / "days.jsonl"
    small.gather(days, minutes=0.0, jobs=1)
    assert not days.exists()
    first = small.run_streams(small.block(0))
    days.write_text("".join(json.dumps(line) + "\n" for line in first))
    small.gather(days, minutes=10.0, jobs=1)
    lines = small.read_lines(days)
    assert lines[:2] == first
    assert [line["seed"] for line in lines] == [10_000, 10_001, 10_002, 10_003]
    assert small.check(lines, 3) == {"made anew": 2, "same to the last bit": 2}
    monkeypatch.setattr(small, "run_streams", lambda _: pytest.fail("made again"))
    small.gather(days, minutes=10.0, jobs=1)
    assert small.read_lines(days) == lines


def test_a_line_that_is_not_what_is_made_anew_ends_the_check(small):
    (line,) = small.run_streams(small.block(0)[:1])
    with pytest.raises(SystemExit, match="stable 10000 is"):
        small.check([line | {"windows": line["windows"] + 1}], 1)


def test_the_committed_figures_are_those_of_the_lines(alarm_days):
    bundle = load_bundle("embedded")
    said = json.loads(committed("alarm_days.json"))
    assert said["bundle"] == bundle.id
    lines = alarm_days.read_lines(RESULTS / "alarm_days.jsonl")
    assert len({line["seed"] for line in lines}) == len(lines)
    assert {line["bundle"] for line in lines} == {bundle.id[:16]}
    days = sum(line["hours"] for line in lines) / 24.0
    assert said["figures"]["all"]["patient_days"] == pytest.approx(days)
    # Of all patients it would take half a minute: those whose truth has fewest looks stand for the others.
    rising = [line for line in lines if line["scenario"] == "decompensating"]
    rising.sort(key=lambda line: line["seed"])
    assert alarm_days.figures(rising, bundle)["decompensating"] == said["figures"]["decompensating"]
    onsets = sum(len(line["spans_s"]) for line in lines)
    assert onsets == said["figures"]["all"]["onsets"]


def test_one_committed_patient_made_anew(alarm_days):
    lines = alarm_days.read_lines(RESULTS / "alarm_days.jsonl")
    line = next(line for line in lines if line["scenario"] == "decompensating" and line["spans_s"])
    assert alarm_days.check([line], 1)["made anew"] == 1


def test_the_page_shows_the_committed_figures():
    figures = json.loads(committed("alarm_days.json"))["figures"]
    page = PAGE.read_text("utf-8")
    for kind, score in figures.items():
        (row,) = re.findall(rf"^\| {kind} \|.*$", page, re.MULTILINE)
        cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
        false = score["false_alarms_per_patient_day"]
        shown = [
            str(score["patients"]),
            f"{score['patient_days']:.0f}",
            f"{score['false_alarms']}",
            f"{false['value']:.3f} ({false['low']:.3f} to {false['high']:.3f})",
        ]
        if score["episodes"]:
            found, delay = score["sensitivity"], score["delay_median_min"]
            shown += [
                f"{score['detected']} of {score['episodes']}: {found['value']:.2f} "
                f"({found['low']:.2f} to {found['high']:.2f})",
                f"{delay['value']:.0f} ({delay['low']:.0f} to {delay['high']:.0f})",
            ]
        else:
            shown += ["-", "-"]
        assert cells == shown, kind
