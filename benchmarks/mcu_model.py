"""The embedded bundle's student as integer C on an emulated Cortex-M4: size, instructions, agreement with float.

The student was trained on SIMULATED patients; the windows are real: PTB-XL through the front end. Nothing is timed. As
in `export --target mcu`, ranges are of the training split, and the form is chosen on the tune split by the target's
gate (without fine-tuning). The figures are of the test split: of the form that is taken, and beside it of the first
one, in 8 bits.

    ecgedge data build ptbxl --from data/ptbxl --out out/ptbxl --set rate=100 --set missing=skip
    python benchmarks/mcu_model.py --data out/ptbxl
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from numpy.typing import NDArray

from ecgedge.bundle import load_bundle
from ecgedge.leads import parse_lead_set, standard_rows
from ecgedge.runtime import OrtRunner
from ecgedge_export.compare import Comparison, Int8Gate, Outputs, compare, missed_limits
from ecgedge_export.int8 import Candidate, Int8Options, int8_candidates
from ecgedge_export.mcu.bundled import as_values
from ecgedge_export.mcu.measure import run_on_cortex_m4
from ecgedge_export.mcu.source import McuSource
from ecgedge_export.pack import TUNE_SHARE
from ecgedge_export.pooling import pool_by_operator
from ecgedge_export.targets import load_target
from ecgedge_train.dataset import EcgDataset, open_dataset

RESULTS = Path(__file__).parent / "results" / "mcu_model.json"
LEAD_SETS = ("I", "II", "I,II")


@dataclass(frozen=True)
class Student:
    """One lead set of the embedded student, and real windows for it, (N, 12, T) millivolts."""

    leads: tuple[str, ...]
    exact: onnx.ModelProto
    train_mv: NDArray[np.float32]
    tune_mv: NDArray[np.float32]
    test_mv: NDArray[np.float32]
    lsb_mv: float
    clip_mv: float

    def of_leads(self, ecg_mv: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows that this lead set reads."""
        return np.ascontiguousarray(ecg_mv[:, standard_rows(self.leads)])

    def answers(self, model: onnx.ModelProto, ecg_mv: NDArray[np.float32]) -> Outputs:
        """Return what ONNX Runtime makes of a file."""
        with OrtRunner(model.SerializeToString(), leads=self.leads, precision="int8") as runner:
            return runner.run(self.of_leads(ecg_mv))


def candidates(student: Student) -> list[Candidate]:
    """Return the forms that the export tries, without the one that is trained."""
    found = int8_candidates(
        student.exact, student.train_mv, leads=student.leads, flavour="mcu", clip_mv=student.clip_mv,
        lsb_mv=student.lsb_mv, options=Int8Options(fine_tuning=None),
    )  # fmt: skip
    return list(found)


def figures(comparison: Comparison) -> dict[str, Any]:
    """Return how far a form is from float."""
    return {
        "windows": comparison.windows,
        "centred_cosine_median": comparison.median_cosine,
        "centred_cosine_least": comparison.min_cosine,
        "max_abs": {name: d.max_abs for name, d in comparison.outputs.items()},
    }


def exact_here(source: McuSource, counts: NDArray[np.int16]) -> bool:
    """Whether the C, compiled for this machine, gives the reference's integers for all windows, in its self-test."""
    compiled = ["gcc", "-O2", "-std=c99", f"{source.prefix}.c", "selftest.c", "-o", "selftest"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in source.files(counts).items():
            (folder / file).write_text(text)
        subprocess.run(compiled, cwd=folder, check=True)
        return subprocess.run([folder / "selftest"], cwd=folder, check=False).returncode == 0


def in_c(student: Student, model: onnx.ModelProto) -> dict[str, Any]:
    """Return the figures of a form's C on the test split."""
    source = McuSource.of(model, lsb_mv=student.lsb_mv)
    ecg_mv = student.of_leads(student.test_mv)
    counts = np.rint(ecg_mv.transpose(0, 2, 1) / student.lsb_mv).astype(np.int16)
    expected, run = source.expected(counts), run_on_cortex_m4(source, counts)
    ours = as_values(source, expected)
    exact, most = student.answers(student.exact, student.test_mv), max(run.instructions)
    scale = next(o.tensor.affine.scale for o in source.program.outputs if o.name == "embedding")
    steps = np.rint(student.answers(model, student.test_mv)["embedding"] / scale) - np.rint(
        ours["embedding"] / scale
    )
    return {
        "activation_bits": 8 * np.dtype(source.program.integers.dtype).itemsize,
        "windows_exact_on_cortex_m4": int((run.outputs == expected).sum()),
        "windows_exact_here": len(counts) if exact_here(source, counts) else 0,
        "ram_arena_bytes": source.arena_bytes,
        "ram_window_bytes": source.counts_bytes,
        "flash_constants_bytes": source.constant_bytes,
        "flash_text_bytes": run.text_bytes,
        "macs": source.program.macs,
        "instructions_most": most,
        "instructions_per_mac": round(most / source.program.macs, 3),
        "real_time_factor_100mhz_computed": round(
            run.real_time_factor(ecg_mv.shape[2] / source.program.rate_hz), 5
        ),
        "against_fp32": figures(compare(exact, ours)),
        "onnxruntime_embedding_steps_most": int(np.abs(steps).max()),
        "onnxruntime_embedding_share_different": float((steps != 0).mean()),
        "compiler": run.compiler,
        "emulator": run.emulator,
    }


def measure(student: Student) -> dict[str, Any]:
    """Return the figures of one lead set; the first form that passes the gate on the tune split is taken."""
    limits = load_target("mcu").gates
    gate = Int8Gate(limits.min_cosine, limits.min_median_cosine, TUNE_SHARE * limits.max_abs)
    exact = student.answers(student.exact, student.tune_mv)
    tried: list[dict[str, Any]] = []
    models: list[onnx.ModelProto] = []
    for candidate in candidates(student):
        models.append(candidate.make())
        comparison = compare(exact, student.answers(models[-1], student.tune_mv))
        missed = missed_limits(comparison, gate)
        tried.append({"form": candidate.notes, **figures(comparison), "missed": missed})
        if not missed:
            break
    if tried[-1]["missed"]:
        raise RuntimeError(f"{student.leads}: no form passes the gate: {tried}")
    return {
        "tried_on_the_tune_split": tried,
        "taken": in_c(student, models[-1]),
        "in_8_bits": in_c(student, models[0]),
    }


def student_of(name: str, dataset: EcgDataset) -> Student:
    """Return a lead set of the embedded student with all windows of a dataset."""
    bundle, leads, front_end = load_bundle("embedded"), parse_lead_set(name), dataset.info.front_end
    variant = next(v for v in bundle.manifest.variants if v.leads == leads)
    exact = pool_by_operator(onnx.load_from_string(bundle.read_bytes(variant.file)))
    train, tune, test = (dataset.gather(dataset.select(split=split)) for split in ("train", "tune", "test"))
    return Student(leads, exact, train, tune, test, front_end.lsb_mv, front_end.clip_mv)


def main(data: Annotated[Path, typer.Option(help="Prepared PTB-XL dataset.")], out: Path = RESULTS) -> None:
    """Measure and write the results."""
    dataset = open_dataset(data)
    records = {name: split.records for name, split in dataset.info.splits.items()}
    result = {
        "student": "EdgeNet S of the embedded bundle, trained on SIMULATED patients",
        "data": f"{dataset.info.name}, real: {records['train']} windows for the ranges, {records['tune']} to choose "
        f"the form, {records['test']} of the test split for the figures",
        "lead_sets": {name: measure(student_of(name, dataset)) for name in LEAD_SETS},
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
