"""A ward's process looks for cycles of dead objects rarely, and still finds them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from ecgedge.runtime.memory import collect_rarely


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_a_wards_objects_of_one_step_begin_no_search() -> None:
    collect_rarely()
    gc.collect()
    before = collections()
    alive = [[k] for k in range(50_000)]
    assert collections() == before, f"{len(alive)} lists"


def test_cycles_are_found_after_more_of_them() -> None:
    collect_rarely()
    gc.collect()
    dead = weakref.ref(Knot())
    assert dead() is not None
    alive = [[k] for k in range(150_000)]
    assert dead() is None, f"{len(alive)} lists"
