"""Plain data to dataclasses: unknown keys are named, types are held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from ecgedge.errors import RecipeError
from ecgedge.schema import SchemaError, from_plain, read_toml, to_plain


@dataclass(frozen=True)
class Inner:
    lr: float
    name: Literal["adam", "sgd"] = "adam"


@dataclass(frozen=True)
class Outer:
    optimizer: Inner
    steps: int = 10
    tags: tuple[str, ...] = ()
    pair: tuple[float, float] | None = None
    table: Mapping[str, Inner] = field(default_factory=dict)


def test_round_trip():
    value = Outer(Inner(0.1, "sgd"), 3, ("a", "b"), (1.0, 2.0), {"x": Inner(1.0)})
    assert from_plain(Outer, to_plain(value)) == value


def test_integers_serve_as_floats_but_not_as_booleans():
    assert from_plain(Outer, {"optimizer": {"lr": 1}}).optimizer.lr == 1.0
    with pytest.raises(SchemaError, match=r"optimizer\.lr: expected float, found True"):
        from_plain(Outer, {"optimizer": {"lr": True}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"optimizer": {"lrr": 1.0}}, r"unknown key 'optimizer\.lrr'; did you mean 'lr'"),
        ({}, "missing key 'optimizer'"),
        ({"optimizer": 3}, "optimizer: expected a table"),
        ({"optimizer": {"lr": 1.0, "name": "adamw"}}, "'adamw' is not one of 'adam', 'sgd'"),
        ({"optimizer": {"lr": 1.0}, "steps": "10"}, "steps: expected int, found '10'"),
        ({"optimizer": {"lr": 1.0}, "tags": ["a", 1]}, r"tags\[1\]: expected str"),
        ({"optimizer": {"lr": 1.0}, "pair": [1.0]}, "pair: expected 2 values, found 1"),
        ({"optimizer": {"lr": 1.0}, "table": {"k": {}}}, r"missing key 'table\.k\.lr'"),
    ],
)
def test_what_does_not_fit_is_named(data, message):
    with pytest.raises(SchemaError, match=message):
        from_plain(Outer, data)


def test_what_is_nested_too_deeply_is_no_toml(tmp_path):
    (tmp_path / "deep.toml").write_text("a = " + "[" * 3000)
    with pytest.raises(RecipeError, match=r"ward .*deep\.toml: maximum recursion depth"):
        read_toml(Outer, tmp_path / "deep.toml", what="ward")
