"""What a reader of the documentation has before the first command: recordings, a folder with a table, a run."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

from doc_blocks import REPO, Block, blocks_of, run_block

from ecgedge.ecg import Recording
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records import write_npz
from ecgedge.sim import Simulator

RECORDS = 240
"""Of PTB-XL, as the hospital of the pages; enough patients of each class in each split."""
EcgData = Callable[[], Path]


def make_recording(folder: Path, _: EcgData) -> None:
    """`record.npz`: 10 s of a simulated patient, 12 leads."""
    write_npz(
        Recording(Simulator("stable", seed=3, rate_hz=250.0).read(2500), 250.0, STANDARD_LEADS, mode="demo"),
        folder / "record.npz",
    )


def make_hospital(folder: Path, ecg_data: EcgData) -> None:
    """`hospital/`: recordings of PTB-XL below `ecg/`, and the table `labels.csv` that the pages show."""
    source = ecg_data() / "ptbxl"
    ecg = folder / "hospital" / "ecg"
    ecg.mkdir(parents=True)
    rows = []
    with (source / "ptbxl_database.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            record = source / row["filename_lr"]
            if len(rows) == RECORDS or not record.with_suffix(".hea").exists():
                continue
            for suffix in (".hea", ".dat"):
                shutil.copy(record.with_suffix(suffix), ecg)
            rows.append(_row(row, f"ecg/{record.name}.hea"))
    with (folder / "hospital" / "labels.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _row(row: dict[str, str], file: str) -> dict[str, object]:
    codes = row["scp_codes"]
    return {
        "file": file,
        "patient_id": int(float(row["patient_id"])),
        "time": row["recording_date"],
        "mi": int("MI'" in codes),
        "norm": int("'NORM'" in codes),
        "age": row["age"],
        "sex": "female" if row["sex"] == "1" else "male",
        "site": f"ward {float(row['site'] or 0):.0f}",
    }


def make_run(folder: Path, _: EcgData) -> None:
    """`out/hospital` and `runs/mi`: what "train on my data" leaves, trained for a moment."""
    page = blocks_of((REPO / "docs" / "train-on-my-data.md").read_text("utf-8"))
    (recipe,) = [block.text for block in page if block.file == "mi.toml"]
    (folder / "mi.toml").write_text(recipe)
    script = (
        "ecgedge data build folder --from hospital --out out/hospital --set classes=mi,norm --set name=hospital\n"
        "ecgedge train mi.toml --data out/hospital --out runs/mi\n"
    )
    run_block(Block("sh", script, "", 0), folder, timeout_s=600)
