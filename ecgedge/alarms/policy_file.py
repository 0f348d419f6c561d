"""Read an alarm policy from a TOML file."""

from __future__ import annotations

from pathlib import Path

from ecgedge.alarms.rules import require_fires
from ecgedge.errors import RecipeError
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import read_toml


def load_policy(path: str | Path, *, hop_s: float | None = None) -> AlarmPolicy:
    """Read an alarm policy; keys that are not in the file keep their defaults.

    Parameters
    ----------
    path
        TOML file whose keys are the fields of `AlarmPolicy`.
    hop_s
        Time from window to window, where it is known: spans shorter than it are then refused here.

    Raises
    ------
    RecipeError
        If the file cannot be read, is no TOML, has an unknown key (the nearest known key is named) or a value
        of the wrong type, or a limit that can never fire.
    """
    policy = read_toml(AlarmPolicy, Path(path), what="alarm policy")
    if hop_s is not None:
        try:
            require_fires(policy, hop_s=hop_s)
        except ValueError as error:
            raise RecipeError(f"alarm policy {path}: {error}") from error
    return policy
