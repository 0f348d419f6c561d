"""Small datasets and models that are plain functions of what the evaluation can check by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgedge_train.dataset import EcgDataset, build_dataset, open_dataset


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> EcgDataset:
    """60 simulated patients, two recordings each: 12 patients test."""
    out: Path = tmp_path_factory.mktemp("data") / "sim"
    build_dataset(
        "sim", out=out, options={"patients": "60", "recordings": "2", "rate_hz": "250", "jobs": "1"}
    )
    return open_dataset(out)


@pytest.fixture(scope="session")
def ptbxl(ecg_data: Path, tmp_path_factory: pytest.TempPathFactory) -> EcgDataset:
    """The first 300 records of PTB-XL."""
    out: Path = tmp_path_factory.mktemp("data") / "ptbxl"
    build_dataset("ptbxl", from_dir=ecg_data / "ptbxl", out=out, options={"limit": "300", "jobs": "1"})
    return open_dataset(out)
