"""Read an alarm policy from a TOML file."""

from __future__ import annotations

import sys
from pathlib import Path

from ecgedge.alarms.rules import require_fires
from ecgedge.errors import RecipeError
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import from_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
    try:
        policy = from_plain(AlarmPolicy, tomllib.loads(Path(path).read_text(encoding="utf-8")))
        if hop_s is not None:
            require_fires(policy, hop_s=hop_s)
    except OSError as error:
        raise RecipeError(f"cannot read the alarm policy {path}: {error.strerror}") from error
    except ValueError as error:  # SchemaError, TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RecipeError(f"alarm policy {path}: {error}") from error
    return policy
