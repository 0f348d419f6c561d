"""Fixtures for the readers: the reference library, and a writer of small WFDB records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import needs
import numpy as np
import pytest


@pytest.fixture(scope="session")
def wfdb_library() -> ModuleType:
    """The wfdb package."""
    return needs.wfdb()


@pytest.fixture
def put_wfdb(tmp_path: Path) -> Callable[..., Path]:
    """Write `r.hea` and `r.dat` (format 16) and return the header's path.

    Samples are (n_signals, n_samples) integers; fields of the header can be replaced by name.
    """

    def put(
        *,
        names: tuple[str, ...] = ("I", "II"),
        gain: str | tuple[str, ...] = "200/mV",
        first_line: str | None = None,
        storage: str = "16",
        samples: np.ndarray | None = None,
        info: str = "",
        dat: bytes | None = None,
        write_dat: bool = True,
        checksums: bool = False,
    ) -> Path:
        if samples is None:
            samples = np.arange(len(names) * 300, dtype="<i2").reshape(len(names), 300)
        gains = (gain,) * len(names) if isinstance(gain, str) else gain
        sums = [int(row.astype(np.int64).sum() % 65536) if checksums else 0 for row in samples]
        lines = [first_line or f"r {len(names)} 250 {samples.shape[1]}"]
        lines += [
            f"r.dat {storage} {g} 16 0 {row[0]} {total} 0 {name}"
            for name, g, row, total in zip(names, gains, samples, sums, strict=True)
        ]
        (tmp_path / "r.hea").write_text("\n".join(lines) + "\n" + info, encoding="utf-8")
        if write_dat:
            (tmp_path / "r.dat").write_bytes(samples.T.astype("<i2").tobytes() if dat is None else dat)
        return tmp_path / "r.hea"

    return put
