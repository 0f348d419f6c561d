"""Plain data (TOML, JSON) to frozen dataclasses and back, refusing what is unknown.

One decoder serves the recipe, the alarm policy and the bundle manifest: an unknown key is an error that
names the nearest known key, a missing key or a wrong type names its place (`optimizer.lr`).

A bed that starts decodes one manifest: what only TOML or an error needs is imported there.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ecgedge.errors import RecipeError

T = TypeVar("T")


class SchemaError(ValueError):
    """The data does not fit the dataclass; the message names the place."""


def from_plain(cls: type[T], data: object, *, where: str = "") -> T:
    """Build the frozen dataclass `cls` out of plain `data`.

    Parameters
    ----------
    cls
        A dataclass whose field types are str, int, float, bool, None, other dataclasses, tuples of these,
        `Mapping[str, X]`, `Literal` or unions of them.
    data
        A mapping as TOML or JSON gives it.
    where
        Dotted place, used in messages.

    Raises
    ------
    SchemaError
        On an unknown or missing key, or a value of the wrong type.
    """
    return typing.cast("T", _dataclass(cls, data, where))


def read_toml(cls: type[T], path: Path, *, what: str) -> T:
    """Build the frozen dataclass `cls` out of a TOML file; what is not in it keeps its default.

    Raises
    ------
    RecipeError
        If the file cannot be read, is no TOML, or does not fit; the message begins with `what` and the path.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return from_plain(cls, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecipeError(f"cannot read the {what} {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{what} {path} is no valid TOML: {error}") from error
    # SchemaError and UnicodeDecodeError are ValueErrors
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{what} {path}: {error}") from error


def to_plain(value: object) -> Any:
    """Turn dataclasses into dicts and tuples into lists, recursively."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    return value


def _place(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _dataclass(cls: type[Any], data: object, where: str) -> object:
    if not isinstance(data, Mapping):
        raise SchemaError(f"{where or cls.__name__}: expected a table, found {data!r}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    _refuse_unknown(data, fields, where)
    hints = _type_hints(typing.cast("Hashable", cls))
    values: dict[str, object] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], _place(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SchemaError(f"missing key '{_place(where, name)}'")
    try:
        return cls(**values)
    except ValueError as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"{where}: {error}" if where else str(error)) from error


@functools.cache
def _type_hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _refuse_unknown(data: Mapping[Any, object], known: Mapping[str, object], where: str) -> None:
    for key in data:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise SchemaError(f"unknown key '{_place(where, str(key))}'{hint}")


def _value(hint: Any, data: object, where: str) -> object:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass(typing.cast("type[Any]", hint), data, where)
    if origin in (typing.Union, types.UnionType):
        return _union(hint, data, where)
    if origin is typing.Literal:
        return _literal(hint, data, where)
    if origin is tuple:
        return _tuple(hint, data, where)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(hint, data, where)
    return _scalar(hint, data, where)


def _union(hint: Any, data: object, where: str) -> object:
    reasons: list[str] = []
    for option in typing.get_args(hint):
        try:
            return _value(option, data, where)
        except SchemaError as error:
            reasons.append(str(error))
    raise SchemaError(reasons[0])


def _literal(hint: Any, data: object, where: str) -> object:
    if data not in typing.get_args(hint):
        allowed = ", ".join(repr(a) for a in typing.get_args(hint))
        raise SchemaError(f"{where}: {data!r} is not one of {allowed}")
    return data


def _mapping(hint: Any, data: object, where: str) -> dict[str, object]:
    if not isinstance(data, Mapping):
        raise SchemaError(f"{where}: expected a table, found {data!r}")
    inner = typing.get_args(hint)[1]
    return {str(k): _value(inner, v, _place(where, str(k))) for k, v in data.items()}


def _tuple(hint: Any, data: object, where: str) -> tuple[object, ...]:
    if not isinstance(data, (list, tuple)):
        raise SchemaError(f"{where}: expected a list, found {data!r}")
    args = typing.get_args(hint)
    if len(args) == 2 and args[1] is Ellipsis:
        # Embeddings' envelopes are thousands of numbers, which need no place each unless one is wrong.
        if args[0] in (float, int, str) and all(type(v) is args[0] for v in data):
            return tuple(data)
        return tuple(_value(args[0], v, f"{where}[{i}]") for i, v in enumerate(data))
    if len(args) != len(data):
        raise SchemaError(f"{where}: expected {len(args)} values, found {len(data)}")
    return tuple(_value(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, data, strict=True)))


def _scalar(hint: Any, data: object, where: str) -> object:
    if hint is types.NoneType:
        if data is None:
            return None
        raise SchemaError(f"{where}: expected nothing, found {data!r}")
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if type(data) is hint:
        return data
    raise SchemaError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {data!r}")
