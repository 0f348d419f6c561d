"""Target profiles as TOML files beside this module; `ecgedge.target` says what stands in them.

The profile goes into the bundle as `target.toml`: a device builds its engines from it.
"""

from __future__ import annotations

from importlib import resources

from ecgedge.errors import UsageError
from ecgedge.target import TargetProfile, parse_target


def target_names() -> tuple[str, ...]:
    """Return the names of the targets."""
    folder = resources.files(__name__)
    return tuple(sorted(f.name[: -len(".toml")] for f in folder.iterdir() if f.name.endswith(".toml")))


def target_aliases() -> dict[str, str]:
    """Return other names that are understood, each with the target that it means."""
    profiles = (_read(name) for name in target_names())
    return {alias: profile.name for profile in profiles for alias in profile.aliases}


def target_toml(name: str) -> str:
    """Return a target's TOML text, by its name or an alias.

    Raises
    ------
    UsageError
        If there is no such target.
    """
    aliases = target_aliases()
    name = aliases.get(name, name)
    if name not in target_names():
        known = ", ".join(target_names())
        also = ", ".join(f"{alias} = {meant}" for alias, meant in sorted(aliases.items()))
        raise UsageError(f"unknown target {name!r}; known targets: {known} (also {also})")
    return _text(name)


def load_target(name: str) -> TargetProfile:
    """Read a target profile, by its name or an alias.

    Raises
    ------
    UsageError
        If there is no such target, or its file is damaged.
    """
    return parse_target(target_toml(name), place=f"the target file {name}.toml")


def _read(name: str) -> TargetProfile:
    return parse_target(_text(name), place=f"the target file {name}.toml")


def _text(name: str) -> str:
    return (resources.files(__name__) / f"{name}.toml").read_text("utf-8")
