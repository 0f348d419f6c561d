"""docs/alarms.md says what the code does: every condition, every key with its default, every field."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from ecgedge.alarms import CONDITIONS
from ecgedge.control import LONGEST_LINE, CommandReader, Dropped, Fault
from ecgedge.events import Alarm, AudioEvent, SelfCheck, Signal
from ecgedge.policy import AlarmPolicy

TEXT = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text("utf-8")


def cells(first: str) -> list[str]:
    (line,) = re.findall(rf"^\| `{first}`.*\|$", TEXT, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("field", fields(AlarmPolicy), ids=lambda f: f.name)
def test_every_key_with_its_default_and_unit(field) -> None:
    _, default, unit, _ = cells(field.name)
    shown = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default:g}"
    assert default == shown
    unit_of = {"s": "s", "mmhg": "mmHg", "windows": "windows", "onsets": "onsets"}
    assert unit == unit_of.get(field.name.rpartition("_")[2], "")


def test_no_key_that_is_none() -> None:
    table = TEXT.partition("## Policy")[2]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [f.name for f in fields(AlarmPolicy)]


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_with_its_kind(name: str) -> None:
    assert cells(name)[1] == CONDITIONS[name].kind


@pytest.mark.parametrize("signal", get_args(Signal))
def test_every_signal(signal: str) -> None:
    assert len(cells(signal)) == 4


@pytest.mark.parametrize("kind", [Alarm, AudioEvent, SelfCheck])
def test_every_field_of_the_events_in_order(kind) -> None:
    (line,) = re.findall(rf'^{{"type":"{kind.type}",.*}}$', TEXT, re.MULTILINE)
    assert re.findall(r'"(\w+)"\*?:', line) == ["type", *(f.name for f in fields(kind))]


def test_the_commands_shown_are_commands() -> None:
    block = TEXT.partition("standard input:\n\n```text\n")[2].partition("```")[0]
    found = CommandReader(AlarmPolicy()).push(block.encode())
    assert len(found) == 5
    assert not any(isinstance(item, Dropped) for item in found)


def test_every_fault_of_a_command() -> None:
    assert all(f"`{fault}`" in TEXT for fault in get_args(Fault))
    assert f"over {LONGEST_LINE} bytes" in TEXT


def test_it_claims_nothing() -> None:
    text = TEXT.replace("\n", " ")
    assert "Research use only" in text
    assert "complies with nothing" in text
    assert "compliant" not in text
