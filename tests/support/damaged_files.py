"""What may come out of a damaged file: a recording, or RecordError, and nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import strategies as st

from ecgedge import records
from ecgedge.errors import RecordError

_PIECES = st.tuples(
    st.integers(min_value=0, max_value=2**31),
    st.sampled_from(["replace", "insert", "delete"]),
    st.binary(min_size=1, max_size=8)
    | st.sampled_from([b"\x00", b"0", b"9" * 8, b"-1", b"nan", b"<", b"&x;"]),
)
DAMAGE = st.lists(_PIECES, min_size=1, max_size=4)
"""A few places, each with what is done there."""


def damaged(data: bytes, damage: list[tuple[int, str, bytes]], *, within: int | None = None) -> bytes:
    """Return `data` with the damage done, in its first `within` bytes if told."""
    for place, kind, piece in damage:
        at = place % (within or len(data) or 1)
        kept = at if kind == "insert" else at + len(piece)
        data = data[:at] + (b"" if kind == "delete" else piece) + data[kept:]
    return data


def read_or_refuse(path: Path, data: bytes) -> None:
    """Read `data` as a file called `path`."""
    path.write_bytes(data)
    with contextlib.suppress(RecordError):
        records.read(path, gaps="keep")
