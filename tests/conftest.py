"""Shared fixtures: where the real recordings and the reference numbers are."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def ecg_data() -> Path:
    """Folder of real recordings (environment variable ECGEDGE_DATA)."""
    folder = Path(os.environ.get("ECGEDGE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no real recordings at {folder}; set ECGEDGE_DATA to a folder laid out as docs/data.md says"
        )
    return folder


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Folder of numbers made by running the reference code (environment variable ECGEDGE_ORACLES)."""
    folder = Path(os.environ.get("ECGEDGE_ORACLES", REPO.parent / "shared" / "oracles"))
    if not folder.is_dir():
        pytest.skip(f"no reference numbers at {folder}; set ECGEDGE_ORACLES")
    return folder
