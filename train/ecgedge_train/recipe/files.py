"""Recipes as files: TOML to the frozen dataclasses and back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ecgedge.errors import RecipeError
from ecgedge.schema import SchemaError, from_plain, to_plain
from ecgedge_train.recipe.encoders import ENCODERS, EdgeNetRecipe, EncoderRecipe
from ecgedge_train.recipe.objectives import OBJECTIVES, ObjectiveRecipe
from ecgedge_train.recipe.sections import (
    DataRecipe,
    DevicesRecipe,
    EvaluateRecipe,
    InputRecipe,
    MaskingRecipe,
    OptimizerRecipe,
    ScheduleRecipe,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class PretrainRecipe:
    """A first stage, whose encoder starts the main one; a section left out is that of the main stage.

    But for `optimizer.encoder_lr_factor`, which then is 1.
    """

    objective: ObjectiveRecipe
    schedule: ScheduleRecipe
    data: DataRecipe | None = None
    input: InputRecipe | None = None
    masking: MaskingRecipe | None = None
    optimizer: OptimizerRecipe | None = None
    evaluate: EvaluateRecipe | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole training run; `seed` decides weights, order, masks and augmentation."""

    name: str
    data: DataRecipe
    objective: ObjectiveRecipe
    schedule: ScheduleRecipe
    seed: int = 926
    input: InputRecipe = field(default_factory=InputRecipe)
    encoder: EncoderRecipe = field(default_factory=EdgeNetRecipe)
    masking: MaskingRecipe = field(default_factory=MaskingRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    devices: DevicesRecipe = field(default_factory=DevicesRecipe)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)
    pretrain: PretrainRecipe | None = None

    def stages(self) -> tuple[Recipe | None, Recipe]:
        """Return the first stage, if there is one, and the main one, each a recipe without a first stage."""
        first = self.pretrain
        main = replace(self, pretrain=None)
        if first is None:
            return None, main
        sections = {f.name: getattr(first, f.name) for f in fields(first)}
        if first.optimizer is None:
            # A stage that freezes its encoder does so because the first one has trained it.
            sections["optimizer"] = replace(self.optimizer, encoder_lr_factor=1.0)
        given = {name: section for name, section in sections.items() if section is not None}
        return replace(main, name=f"{self.name}_pretrain", **given), main


_BY_NAME: Mapping[str, Mapping[str, type[Any]]] = {"encoder": ENCODERS, "objective": OBJECTIVES}
"""Sections whose dataclass follows from their `name`."""


def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    folder = resources.files("ecgedge_train") / "recipes"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name, with `key=value` overrides.

    Parameters
    ----------
    path_or_name
        A TOML file, or one of `shipped_recipes()`.
    overrides
        Such as "optimizer.lr=3e-4"; values are TOML, a bare word is a string.

    Raises
    ------
    RecipeError
        On a missing file, damaged TOML, unknown keys or values that cannot work.
    """
    source, text = _read(path_or_name)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{source} is no valid TOML: {error}") from error
    for override in overrides:
        override_key(data, override)
    return recipe_from_plain(data, source=source)


def recipe_from_plain(data: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
    """Build a recipe from plain tables.

    Raises
    ------
    RecipeError
        On unknown keys or values that cannot work.
    """
    try:
        for section, classes in _BY_NAME.items():
            if section in data:
                _check_named_section(section, data[section], classes)
        first = data.get("pretrain")
        if isinstance(first, Mapping) and "objective" in first:
            _check_named_section("pretrain.objective", first["objective"], OBJECTIVES)
        return from_plain(Recipe, data)
    except SchemaError as error:
        raise RecipeError(f"{source}: {error}") from error


def _check_named_section(section: str, table: object, classes: Mapping[str, type[Any]]) -> None:
    """Decode the section by its own class first: a union could not name the nearest key."""
    if not isinstance(table, Mapping):
        raise SchemaError(f"{section}: expected a table, found {table!r}")
    name = str(table.get("name"))
    if name not in classes:
        raise SchemaError(f"{section}.name: {name!r} is not one of {', '.join(classes)}")
    for i, part in enumerate(_parts(table)):
        _check_named_section(f"{section}.parts[{i}]", part, classes)
    from_plain(classes[name], table, where=section)


def _parts(table: Mapping[str, Any]) -> Sequence[Any]:
    parts = table.get("parts", ())
    return parts if isinstance(parts, (list, tuple)) else ()


def _read(path_or_name: str | Path) -> tuple[str, str]:
    path = Path(path_or_name)
    if path.is_file():
        return str(path), path.read_text(encoding="utf-8")
    name = str(path_or_name)
    if name in shipped_recipes():
        return name, (resources.files("ecgedge_train") / "recipes" / f"{name}.toml").read_text(
            encoding="utf-8"
        )
    raise RecipeError(
        f"no recipe file {name!r}, and no shipped recipe of that name; shipped: {', '.join(shipped_recipes())}"
    )


_SECTIONS: Mapping[str, type[Any]] = {
    "data": DataRecipe,
    "input": InputRecipe,
    "masking": MaskingRecipe,
    "optimizer": OptimizerRecipe,
    "schedule": ScheduleRecipe,
    "devices": DevicesRecipe,
    "evaluate": EvaluateRecipe,
}


def _section_of(key: str) -> str | None:
    """Return the section that has a key which no recipe has at its top; None if it is known there, or nowhere."""
    if key in {f.name for f in fields(Recipe)}:
        return None
    return next((name for name, cls in _SECTIONS.items() if key in {f.name for f in fields(cls)}), None)


def override_key(data: dict[str, Any], override: str) -> None:
    """Apply one "section.key=value" to plain tables, in place; values are TOML, a bare word is a string.

    Raises
    ------
    RecipeError
        If it is no such text, or the section is a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override!r}: expected key=value, for example optimizer.lr=3e-4")
    try:
        value: Any = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *path, last = key.strip().split(".")
    if not path and (section := _section_of(last)) is not None:
        raise RecipeError(f"--set {override!r}: '{last}' stands in a section; give {section}.{last}={text}")
    table = data
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override!r}: '{part}' is a value, not a section")
    table[last] = value


def to_toml(recipe: Recipe) -> str:
    """Write the resolved recipe; `load_recipe` reads it back to an equal one."""
    plain = to_plain(recipe)
    top = {k: v for k, v in plain.items() if not isinstance(v, dict) and v is not None}
    sections = {k: v for k, v in plain.items() if isinstance(v, dict)}
    first = sections.pop("pretrain", None) or {}
    sections |= {f"pretrain.{name}": table for name, table in first.items() if table is not None}
    lines = _toml_lines(top)
    for name, table in sections.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def _toml_lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml_value(value)}" for key, value in table.items()]


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml_value(v)}" for key, v in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    raise TypeError(f"no TOML form for {value!r}")


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
