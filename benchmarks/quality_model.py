"""What a model itself says of bad windows: its embedding's distance, and how far its outputs move under small noise.

    ECGEDGE_DATA=... OMP_NUM_THREADS=1 python benchmarks/quality_model.py [--out benchmarks/results/quality_model.json]

The embedded bundle's 12-lead network, which was trained on SIMULATED patients, on real ECGs. Where its embeddings lie
is taken from PTB-XL's 100 Hz records of the choosing patients, three of four of them, the bound from the fourth; the
line for movement is the 99 % quantile of the choosing patients' records at 500 Hz. Shares are of the reporting
patients' records (`quality.py` splits them), corrupted in all leads.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, write_json
from numpy.typing import NDArray
from quality import SPEC, WINDOW, load, rate, reports
from quality_noise import RATE_HZ, corruptions

from ecgedge.bundle import load_bundle
from ecgedge.embedding import embedding_distance, fit_envelope
from ecgedge.records import read
from ecgedge.runtime import MOVEMENT, Runner, WithMovement, open_runner
from ecgedge.signal import FrontEnd, counts_to_mv

CASES = (
    "none", "white noise, 0.1 mV rms", "white noise, 0.5 mV rms", "muscle noise for 2 s of 10, 0.5 mV rms",
    "electrode motion (0.5 to 5 Hz), 1 mV rms", "baseline, 0.3 Hz, 2 mV", "hum, 50 Hz, 1 mV", "noise alone, 0.5 mV rms",
    "flat", "clipped at 0.5 mV", "leads I and II mixed up", "electrodes RA and LA mixed up",
)  # fmt: skip
MOVED = "mpcwp_mmhg" + MOVEMENT
AT_ONCE = 16


def windows_mv(samples_mv: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """Condition (records, 12, samples) and return the last 10 s of each."""
    rows = np.ascontiguousarray(samples_mv.reshape(-1, samples_mv.shape[2]))
    counts = FrontEnd(SPEC, n_leads=len(rows), rate_hz=rate_hz).push(rows).counts[:, -WINDOW:]
    return counts_to_mv(counts, SPEC).reshape(len(samples_mv), 12, WINDOW)


def outputs_of(runner: Runner, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run all windows, some at a time."""
    said = [runner.run(ecg_mv[start : start + AT_ONCE]) for start in range(0, len(ecg_mv), AT_ONCE)]
    return {name: np.concatenate([each[name] for each in said]) for name in said[0]}


def archive(data: Path) -> tuple[NDArray[np.float32], list[str]]:
    """Return the windows of PTB-XL's 100 Hz records of choosing patients, mirrored ahead, and their patients."""
    with (data / "ptbxl" / "ptbxl_database.csv").open(newline="") as handle:
        patient = {int(row["ecg_id"]): f"ptbxl {row['patient_id']}" for row in csv.DictReader(handle)}
    paths = sorted((data / "ptbxl" / "records100").glob("*/*.hea"))
    chosen = [path for path in paths if not reports(patient[int(path.name[:5])])]
    samples = np.stack([read(path).samples_mv for path in chosen])
    mirrored = np.pad(samples, ((0, 0), (0, 0), (300, 0)), mode="reflect")
    return windows_mv(mirrored, 100.0), [patient[int(path.name[:5])] for path in chosen]


def measure(data: Path) -> dict[str, Any]:
    """Return bounds and, by corruption, the shares of records beyond them."""
    ecgs = load(data)
    half = np.array([reports(patient) for patient in ecgs.patients])
    own = [patient for patient, reported in zip(ecgs.patients, half, strict=True) if reported]
    seen_mv, patients = archive(data)
    fourth = np.array([sorted(set(patients)).index(patient) % 4 == 3 for patient in patients])
    bundle = load_bundle("embedded")
    spec = next(v for v in bundle.manifest.variants if v.name == "12/fp32")
    with open_runner(bundle, spec, runtime="ort") as plain:
        embeddings = outputs_of(plain, seen_mv)["embedding"]
        envelope = fit_envelope(embeddings[~fourth], embeddings[fourth])
        moving = WithMovement(plain)
        still = outputs_of(moving, windows_mv(ecgs.samples_mv[~half], RATE_HZ))[MOVED]
        line = float(np.quantile(still, 0.99))
        rows = []
        for k, name in enumerate(CASES):
            changed = corruptions()[name].change(ecgs.samples_mv[half], np.random.default_rng((1, k)))
            said = outputs_of(moving, windows_mv(changed, RATE_HZ))
            beyond = embedding_distance(envelope, said["embedding"]) > envelope.bound
            row = {
                "corruption": name,
                "distance": _share(beyond, own),
                "movement": _share(said[MOVED] > line, own),
            }
            print(name, row["distance"]["share"], row["movement"]["share"], flush=True)
            rows.append(row)
    return {
        "records": {"training": int((~fourth).sum()), "bound": int(fourth.sum()), "reporting": len(own)},
        "distance_bound": envelope.bound,
        "movement_line_mmhg": line,
        "rows": rows,
    }


def _share(held: NDArray[np.bool_], patients: Sequence[str]) -> dict[str, float]:
    return rate(held[:, np.newaxis], np.ones((len(held), 1), np.bool_), patients, np.random.default_rng(1))


def markdown(result: dict[str, Any]) -> str:
    """Return the table of docs/quality.md."""
    lines = [
        "| what was done to the record | embedding beyond the bound | output moves more |",
        "|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [
            f"{100 * row[each]['share']:.0f} ({100 * row[each]['low']:.0f} to {100 * row[each]['high']:.0f})"
            for each in ("distance", "movement")
        ]
        lines.append(f"| {row['corruption']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure; write it where `--out FILE` is given."""
    if arguments and (arguments[0] != "--out" or len(arguments) != 2):
        raise SystemExit("usage: quality_model.py [--out FILE.json]")
    result = {
        "benchmark": "quality_model",
        **machine("ecgedge", "numpy", "scipy", "onnxruntime"),
        **measure(Path(os.environ["ECGEDGE_DATA"])),
    }
    print(markdown(result))
    if arguments:
        write_json(Path(arguments[1]), result)


if __name__ == "__main__":
    main(sys.argv[1:])
