"""The recipe: everything that decides a training run, as frozen dataclasses read from TOML.

Unknown keys are refused with the nearest known name. `--set optimizer.lr=3e-4` overrides one key; the run directory
keeps the resolved recipe (`to_toml`), which reads back to the same dataclass.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ecgedge.errors import RecipeError
from ecgedge.leads import parse_lead_set
from ecgedge.schema import SchemaError, from_plain, to_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class DataRecipe:
    """Which dataset the recipe is made for, and how it is read."""

    source: str
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse a batch that batch norm cannot use."""
        _require(self.batch_size >= 2, f"batch_size {self.batch_size} is below 2, which batch norm needs")


@dataclass(frozen=True)
class InputRecipe:
    """Shape of the model input, and the augmentation of training windows (never of evaluation).

    `shift_s`: uniform time shift up to this either way, edge filled with zeros. `noise_mv`: SD of added white noise.
    """

    window_samples: int = 2500
    shift_s: float = 0.0
    noise_mv: float = 0.0

    def __post_init__(self) -> None:
        """Refuse windows too short for the encoders."""
        _require(self.window_samples >= 250, f"window_samples {self.window_samples} is below 250 (1 s)")
        _require(self.shift_s >= 0 and self.noise_mv >= 0, "shift_s and noise_mv must not be negative")


@dataclass(frozen=True)
class EdgeNetRecipe:
    """Encoder for the bedside, see encoders/edgenet.py."""

    name: Literal["edgenet"] = "edgenet"
    embedding_size: int = 128
    dropout: float = 0.1


@dataclass(frozen=True)
class ResNet18Recipe:
    """Encoder of the SSL-DML paper, see encoders/resnet18.py."""

    name: Literal["resnet18"]
    embedding_size: int = 128
    dropout: float = 0.2
    init: Literal["he", "published"] = "he"


@dataclass(frozen=True)
class PclrObjective:
    """Patient contrastive learning, see losses/ntxent.py; the projection head is not deployed."""

    name: Literal["pclr"]
    temperature: float = 0.1
    projection_size: int = 128
    reduction: Literal["mean", "sum_of_means"] = "mean"


@dataclass(frozen=True)
class HemodynamicsObjective:
    """Supervised mPCWP, see losses/hemodynamics.py. `mean_mmhg` and `sd_mmhg` scale the regression."""

    name: Literal["hemodynamics"]
    label: str = "mpcwp_mmhg"
    mean_mmhg: float = 15.678
    sd_mmhg: float = 8.145
    regression: Literal["huber", "gaussian"] = "huber"
    huber_delta: float = 1.0
    bce_weight: float = 1.0
    regression_weight: float = 1.0


@dataclass(frozen=True)
class ClassesObjective:
    """Supervised multi-label classes, see losses/classes.py; outputs are called p_<label>."""

    name: Literal["classes"]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse an empty or doubled label list."""
        _require(
            len(set(self.labels)) == len(self.labels) > 0, "labels must be a non-empty list without doubles"
        )


EncoderRecipe: TypeAlias = EdgeNetRecipe | ResNet18Recipe
ObjectiveRecipe: TypeAlias = PclrObjective | HemodynamicsObjective | ClassesObjective


@dataclass(frozen=True)
class MaskingRecipe:
    """Shares of training windows by lead set: all 12, one of `lead_sets`, Bernoulli; see masking.py."""

    full_probability: float = 0.3
    device_probability: float = 0.5
    bernoulli_keep: float = 0.5
    lead_sets: tuple[str, ...] = ("limb", "I,II,V1,V5", "I,II,V2", "I,II,V1", "I,II", "I", "II")

    def __post_init__(self) -> None:
        """Refuse shares beyond 1 and unknown leads."""
        shares = (self.full_probability, self.device_probability, self.bernoulli_keep)
        _require(all(0 <= p <= 1 for p in shares), "probabilities must lie between 0 and 1")
        _require(sum(shares[:2]) <= 1 + 1e-9, "full_probability + device_probability is above 1")
        _require(bool(self.lead_sets) or self.device_probability == 0, "device_probability needs lead_sets")
        for lead_set in self.lead_sets:
            parse_lead_set(lead_set)


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW; weight decay on kernels only, not on norms and biases. `clip_norm` 0 means no clipping."""

    lr: float = 1e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuse rates that cannot train."""
        _require(0 < self.lr < 1, f"lr {self.lr:g} is not between 0 and 1")
        _require(
            self.clip_norm >= 0 and self.weight_decay >= 0, "clip_norm and weight_decay must not be negative"
        )


@dataclass(frozen=True)
class ScheduleRecipe:
    """Linear warm-up, then a cosine from lr down to lr * final_lr_fraction, by optimiser step."""

    steps: int
    warmup_steps: int = 0
    final_lr_fraction: float = 0.01

    def __post_init__(self) -> None:
        """Refuse an empty schedule."""
        _require(self.steps >= 1, "steps must be at least 1")
        _require(0 <= self.warmup_steps < self.steps, "warmup_steps must be smaller than steps")


@dataclass(frozen=True)
class DevicesRecipe:
    """Where to compute. `threads` 0 leaves torch's own choice; bf16 means autocast."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class EvaluateRecipe:
    """When the tune split is looked at and checkpoints are written, in steps; and what is calibrated after."""

    every_steps: int = 200
    log_every_steps: int = 20
    checkpoint_every_steps: int = 200
    batch_size: int = 128
    max_records: int = 2000
    keep: Literal["best", "last"] = "best"
    lead_sets: tuple[str, ...] = ("12", "I,II,V1", "I,II", "I", "II")
    interval_coverage: float = 0.9

    def __post_init__(self) -> None:
        """Refuse periods below one step and unknown leads."""
        periods = (self.every_steps, self.log_every_steps, self.checkpoint_every_steps)
        _require(min(periods) >= 1, "the *_every_steps must be at least 1")
        _require(
            self.batch_size >= 1 and self.max_records >= 1, "batch_size and max_records must be at least 1"
        )
        _require(0 < self.interval_coverage < 1, "interval_coverage must lie between 0 and 1")
        _require("12" in self.lead_sets, 'lead_sets must name "12"')
        for lead_set in self.lead_sets:
            parse_lead_set(lead_set)


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


_BY_NAME: Mapping[str, Mapping[str, type[Any]]] = {
    "encoder": {"edgenet": EdgeNetRecipe, "resnet18": ResNet18Recipe},
    "objective": {
        "pclr": PclrObjective,
        "hemodynamics": HemodynamicsObjective,
        "classes": ClassesObjective,
    },
}
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
        _override(data, override)
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
    from_plain(classes[name], table, where=section)


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


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override!r}: expected key=value, for example optimizer.lr=3e-4")
    try:
        value: Any = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *path, last = key.strip().split(".")
    table = data
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override!r}: '{part}' is a value, not a section")
    table[last] = value


def to_toml(recipe: Recipe) -> str:
    """Write the resolved recipe; `load_recipe` reads it back to an equal one."""
    plain = to_plain(recipe)
    top = {k: v for k, v in plain.items() if not isinstance(v, dict)}
    sections = {k: v for k, v in plain.items() if isinstance(v, dict)}
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
    if isinstance(value, Iterable):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    raise TypeError(f"no TOML form for {value!r}")


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
