"""A folder laid out as PTB-XL, with samples that the tests know (and that wfdb reads back, see test_cohorts)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

NAMES = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
STATEMENTS = {"NORM": "NORM", "IMI": "MI", "AMI": "MI", "NDT": "STTC", "LBBB": "CD", "LVH": "HYP", "SR": ""}
COLUMNS = ["ecg_id", "patient_id", "age", "sex", "recording_date", "report", "scp_codes", "strat_fold"]


def samples_mv(ecg_id: int, rate_hz: int) -> np.ndarray:
    """(10 s, 12) millivolts on the 1 uV grid: a different chirp in each record and lead."""
    t_s = np.arange(10 * rate_hz) / rate_hz
    rng = np.random.default_rng(ecg_id)
    phase, frequency_hz = rng.uniform(0, 6, 12), rng.uniform(1, 20, 12)
    return np.round(np.sin(2 * np.pi * frequency_hz * t_s[:, None] + phase), 3)


def write_wfdb16(
    stem: Path, signal_mv: np.ndarray, rate_hz: int, names: list[str], gain: int = 1000, zero: int = 0
) -> None:
    """Write a WFDB record of format 16; NaN becomes the mark of a sample that was not recorded."""
    counts = np.where(np.isnan(signal_mv), -32768, np.round(np.nan_to_num(signal_mv) * gain + zero)).astype(
        "<i2"
    )
    counts.tofile(stem.with_name(stem.name + ".dat"))
    lines = [f"{stem.name} {len(names)} {rate_hz} {len(counts)}"]
    lines += [f"{stem.name}.dat 16 {gain}({zero})/mV 16 0 0 0 0 {name}" for name in names]
    stem.with_name(stem.name + ".hea").write_text("\n".join(lines) + "\n")


def write_folder(folder: Path, *, records: int = 30, rate_hz: int = 100) -> Path:
    """Write a small PTB-XL: two records a patient, folds 1-10 by patient."""
    rows = []
    for ecg_id in range(1, records + 1):
        patient = (ecg_id + 1) // 2
        stem = f"records100/00000/{ecg_id:05d}_lr"
        (folder / stem).parent.mkdir(parents=True, exist_ok=True)
        write_wfdb16(folder / stem, samples_mv(ecg_id, rate_hz), rate_hz, NAMES)
        code = list(STATEMENTS)[ecg_id % len(STATEMENTS)]
        rows.append(
            {"ecg_id": ecg_id, "patient_id": f"{patient}.0", "age": 300 if ecg_id == 1 else 40 + patient,
             "sex": patient % 2, "recording_date": f"1990-01-{patient:02d} 10:00:00", "report": 'a "b",\nc',
             "scp_codes": repr({code: 0.0, "SR": 0.0}), "strat_fold": patient % 10 + 1,
             "filename_lr": stem, "filename_hr": stem.replace("100", "500").replace("_lr", "_hr")}
        )  # fmt: skip
    with (folder / "ptbxl_database.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "filename_lr", "filename_hr"])
        writer.writeheader()
        writer.writerows(rows)
    lines = [f"{code},text,{1.0 if cls else ''},{cls}" for code, cls in STATEMENTS.items()]
    (folder / "scp_statements.csv").write_text(
        "\n".join([",description,diagnostic,diagnostic_class", *lines])
    )
    return folder


@pytest.fixture
def ptbxl_folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "ptbxl")


@pytest.fixture
def write_record() -> Callable[..., None]:
    return write_wfdb16


@pytest.fixture
def edit_table(ptbxl_folder: Path) -> Callable[[int, str, str], None]:
    """Return a function that changes one cell of ptbxl_database.csv."""

    def edit(ecg_id: int, column: str, value: str) -> None:
        path = ptbxl_folder / "ptbxl_database.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        rows[ecg_id - 1][column] = value
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return edit
