"""The embedded bundle's student as integer C on an emulated Cortex-M4: size, instructions, agreement with float.

The student was trained on SIMULATED patients; the windows are real: PTB-XL through the front end. Nothing is timed.

    python benchmarks/mcu_model.py --data data/ptbxl
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer

from ecgedge.bundle import load_bundle
from ecgedge.leads import parse_lead_set, standard_rows
from ecgedge.runtime import OrtRunner
from ecgedge_export.compare import compare
from ecgedge_export.mcu.bundled import as_values
from ecgedge_export.mcu.measure import run_on_cortex_m4
from ecgedge_export.mcu.source import McuSource
from ecgedge_export.pooling import pool_by_operator
from ecgedge_export.quantize import quantize
from ecgedge_train.dataset import open_dataset

RESULTS = Path(__file__).parent / "results" / "mcu_model.json"
WINDOWS = 100


def exact_here(source: McuSource, counts: Any) -> bool:
    """Whether the C, compiled for this machine, gives the reference's integers for all windows, in its self-test."""
    compiled = ["gcc", "-O2", "-std=c99", f"{source.prefix}.c", "selftest.c", "-o", "selftest"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in source.files(counts).items():
            (folder / file).write_text(text)
        subprocess.run(compiled, cwd=folder, check=True)
        return subprocess.run([folder / "selftest"], cwd=folder, check=False).returncode == 0


def measure(leads: tuple[str, ...], calibration_mv: Any, windows_mv: Any, lsb_mv: float) -> dict[str, Any]:
    """Return the figures of one lead set."""
    bundle, rows = load_bundle("embedded"), standard_rows(leads)
    variant = next(v for v in bundle.manifest.variants if v.leads == leads)
    exact = pool_by_operator(onnx.load_from_string(bundle.read_bytes(variant.file)))
    model = quantize(exact, calibration_mv, leads=leads, flavour="mcu")
    source = McuSource.of(model, lsb_mv=lsb_mv)
    ecg_mv = np.ascontiguousarray(windows_mv[:, rows])
    counts = np.rint(ecg_mv.transpose(0, 2, 1) / lsb_mv).astype(np.int16)
    expected, run = source.expected(counts), run_on_cortex_m4(source, counts)
    ours = as_values(source, expected)
    answers = {}
    for precision, graph in (("fp32", exact), ("int8", model)):
        with OrtRunner(graph.SerializeToString(), leads=leads, precision=precision) as runner:
            answers[precision] = runner.run(ecg_mv)
    against = {name: compare(reference, ours) for name, reference in answers.items()}
    embedding = next(o.tensor.affine for o in source.program.outputs if o.name == "embedding")
    theirs = np.clip(
        np.rint(answers["int8"]["embedding"] / embedding.scale) + embedding.zero_point, -128, 127
    )
    lsb = np.abs(theirs - expected["embedding"])
    most = max(run.instructions)
    return {
        "windows": len(counts),
        "windows_exact_on_cortex_m4": int((run.outputs == expected).sum()),
        "windows_exact_here": len(counts) if exact_here(source, counts) else 0,
        "ram_arena_bytes": source.arena_bytes,
        "ram_window_bytes": source.counts_bytes,
        "flash_constants_bytes": source.constant_bytes,
        "flash_text_bytes": run.text_bytes,
        "macs": source.program.macs,
        "instructions_most": most,
        "instructions_per_mac": round(most / source.program.macs, 3),
        "real_time_factor_100mhz_computed": round(run.real_time_factor(bundle.manifest.window_s), 5),
        "centred_cosine_fp32_median": against["fp32"].median_cosine,
        "centred_cosine_fp32_least": against["fp32"].min_cosine,
        "max_abs_fp32": {name: d.max_abs for name, d in against["fp32"].outputs.items()},
        "onnxruntime_embedding_lsb_most": int(lsb.max()),
        "onnxruntime_embedding_share_different": float((lsb > 0).mean()),
        "compiler": run.compiler,
        "emulator": run.emulator,
    }


def main(data: Annotated[Path, typer.Option(help="Prepared PTB-XL dataset.")], out: Path = RESULTS) -> None:
    """Measure and write the results."""
    dataset = open_dataset(data)
    train = dataset.gather(dataset.select(split="train")[:128])
    held = np.concatenate([dataset.select(split="tune"), dataset.select(split="test")])[:WINDOWS]
    windows = dataset.gather(held)
    lsb_mv = dataset.info.front_end.lsb_mv
    figures = {name: measure(parse_lead_set(name), train, windows, lsb_mv) for name in ("I", "II", "I,II")}
    result = {
        "student": "EdgeNet S of the embedded bundle, trained on SIMULATED patients",
        "data": f"{dataset.info.name}: {len(windows)} real windows of the tune and test splits, 128 for the ranges",
        "lead_sets": figures,
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
