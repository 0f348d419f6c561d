"""How long a gap between the stretches of a recording may be."""

from __future__ import annotations

from typing import Final

from ecgedge.errors import RecordError

MAX_MISSING_VALUES: Final = 50_000_000
"""A gap is as long as the file claims: beyond 200 MB of NaN the claim is taken for damage."""


def check_gaps(n_missing: int, *, n_leads: int, rate_hz: float, source: str) -> None:
    """Raise RecordError where so many samples a lead are missing that no file can be meant."""
    if n_missing * n_leads > MAX_MISSING_VALUES:
        raise RecordError(
            f"{source}: the gaps between records are {n_missing / rate_hz:.0f} s in all; "
            "cut the file into one file for each stretch"
        )
