"""The signal's state machine: every pair of state and input, by name."""

import itertools
from typing import get_args

import pytest

from ecgedge.alarms.table import COME_ON, CONDITIONS, PRIORITIES, TRANSITIONS, Input, step
from ecgedge.events import Priority, Signal

# Written from the rules, not from the table: None where the input cannot happen.
EXPECTED = """
state         condition_on  condition_off  condition_off_latch  escalate  acknowledge   acknowledge_timeout
off           on            -              -                    -         off           -
on            -             off            latched              on        acknowledged  -
latched       on            -              -                    -         off           -
acknowledged  -             off            off                  on        acknowledged  on
"""
HEAD, *BODY = [line.split() for line in EXPECTED.strip().splitlines()]
PAIRS = [(row[0], given, to) for row in BODY for given, to in zip(HEAD[1:], row[1:], strict=True)]


@pytest.mark.parametrize(("state", "given", "to"), PAIRS)
def test_every_pair(state: str, given: str, to: str) -> None:
    if to == "-":
        with pytest.raises(ValueError, match=f"a signal that is {state} cannot take {given}"):
            step(state, given)
    else:
        assert step(state, given) == to


def test_the_test_names_every_pair() -> None:
    assert {(s, i) for s, i, _ in PAIRS} == set(itertools.product(get_args(Signal), get_args(Input)))
    assert set(TRANSITIONS) == {(s, i) for s, i, to in PAIRS if to != "-"}


def test_every_state_is_reached_and_left_again() -> None:
    for state in get_args(Signal):
        assert any(to == state and frm != state for (frm, _), to in TRANSITIONS.items())
        assert any(frm == state and to != state for (frm, _), to in TRANSITIONS.items())


def test_acknowledge_can_be_given_in_every_state() -> None:
    assert {s for s, i in TRANSITIONS if i == "acknowledge"} == set(get_args(Signal))


def test_what_comes_on_is_on_and_nothing_else_turns_a_signal_on() -> None:
    assert {to for (_, given), to in TRANSITIONS.items() if given in COME_ON} == {"on"}
    assert {given for (frm, given), to in TRANSITIONS.items() if to == "on"} == COME_ON


def test_time_gives_its_input_to_an_acknowledged_signal_only() -> None:
    assert {s for s, i in TRANSITIONS if i == "acknowledge_timeout"} == {"acknowledged"}


def test_every_priority_has_its_place() -> None:
    assert get_args(Priority) == PRIORITIES


def test_only_physiological_conditions_latch() -> None:
    physiological = {"MPCWP_ELEVATED", "MPCWP_RISING"}
    assert {n for n, c in CONDITIONS.items() if c.latches} == physiological
    assert {n for n, c in CONDITIONS.items() if c.kind == "physiological"} == physiological
