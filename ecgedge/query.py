"""The settings of an address: what stands behind its `?` or `#`."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl


def read_query(query: str, known: Collection[str]) -> dict[str, str]:
    """Return settings by name, values decoded.

    Parameters
    ----------
    query
        `NAME=VALUE&NAME=VALUE`, or nothing.
    known
        The names that may stand there, as an error lists them.

    Raises
    ------
    ValueError
        Naming a setting that is unknown or stands twice, or saying that it is something else.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ValueError(f"'{query}' is not NAME=VALUE&NAME=VALUE") from error
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise ValueError(f"the setting {name} is unknown; known are {', '.join(known) or 'none'}")
        if name in values:
            raise ValueError(f"the setting {name} stands twice")
        values[name] = value
    return values
