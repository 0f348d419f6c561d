"""What a target is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A parser and how it is tried.

    Attributes
    ----------
    open_
        Imports the parser and returns what takes an input; a temporary folder is its own. What the parser raises on
        purpose is caught there, and anything else is a finding.
    seeds
        Valid inputs, of the folder of real recordings if there is one.
    longest
        Bytes of an input.
    """

    open_: Callable[[Path], Callable[[bytes], None]]
    seeds: Callable[[Path | None], list[bytes]]
    longest: int = 120_000
