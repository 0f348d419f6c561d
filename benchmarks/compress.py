"""A ResNet18 that knows PTB-XL's superclasses, distilled into EdgeNet s: how much is lost, for how much less work.

    ecgedge data build ptbxl --from ... --out out/ptbxl          (and ludb, code15 for --also)
    python benchmarks/compress.py --data out/ptbxl --also out/ludb --work out/compress --out result.json

The teacher trains on labels with random lead sets, the student on what the teacher says of the same ECGs and of those
of `--also`; beside it the same EdgeNet learns from labels alone. The tune fold chooses each one's step; the test fold
is looked at once, by lead set: macro AUROC of each, and the paired difference student - teacher with an interval that
resamples patients. What is in `--work` is not done again.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from common import machine, medians, ratio, seconds, take_turns, write_json

from ecgedge.leads import parse_lead_set
from ecgedge.runtime.ort import OrtRunner
from ecgedge_export.distill import Student, compress_run, require_unseen
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import GraphCost, export_onnx, graph_cost
from ecgedge_train.dataset import EcgDataset, open_dataset
from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.compare import paired_bootstrap
from ecgedge_train.evaluate.metrics import macro_auroc
from ecgedge_train.inference import predict_rows
from ecgedge_train.loop import train
from ecgedge_train.recipe import Recipe, recipe_from_plain
from ecgedge_train.run import Run, load_run

LEAD_SETS: Final = ("12", "I,II,V1,V5", "I,II", "I", "II")
ALLOWED: Final = {"12": 0.01}
"""How much macro AUROC a student may lose; 0.015 with fewer leads."""
FEWER_LEADS: Final = 0.015
MAC_RATIO: Final = 50.0


def supervised(encoder: dict[str, Any], *, name: str, steps: int, lr: float, every: int) -> Recipe:
    """Return training on labels with random lead sets; the tune fold chooses the step."""
    return recipe_from_plain(
        {
            "name": name,
            "data": {"source": "ptbxl", "batch_size": 64},
            "input": {"shift_s": 0.4, "noise_mv": 0.01},
            "encoder": encoder,
            "objective": {"name": "classes", "labels": ["NORM", "MI", "STTC", "CD", "HYP"]},
            "masking": {
                "full_probability": 0.3,
                "device_probability": 0.5,
                "lead_sets": [lead_set for lead_set in LEAD_SETS if lead_set != "12"],
            },
            "optimizer": {"lr": lr, "weight_decay": 0.05},
            "schedule": {"steps": steps, "warmup_steps": steps // 10},
            "devices": {"threads": 1, "precision": "bf16"},
            "evaluate": {"every_steps": every, "checkpoint_every_steps": every, "lead_sets": list(LEAD_SETS)},
        }
    )


def done(run: Path) -> bool:
    """Say whether a run is finished."""
    return (run / "model.safetensors").is_file()


def steps_of(run: Path) -> int:
    """Return how many steps a run has taken."""
    return int(json.loads((run / "checkpoints" / "last" / "state.json").read_text("utf-8"))["step"])


def cost(run: Run, lead_set: str) -> tuple[bytes, GraphCost]:
    """Return the exported fp32 graph of a lead set and what it takes."""
    leads = parse_lead_set(lead_set)
    network = fold_lead_set(run.model, leads, None)
    graph = export_onnx(
        network,
        n_leads=len(leads),
        window_samples=run.recipe.input.window_samples,
        output_names=network.output_names,
        metadata={},
    )
    return graph.SerializeToString(), graph_cost(graph)


def scores(runs: dict[str, Run], data: EcgDataset) -> dict[str, Any]:
    """Return macro AUROC of each run on test by lead set, and its difference from the teacher's."""
    rows = data.select(split="test")
    truth = data.labels(data.info.classes, rows)
    known = ~np.isnan(truth).any(axis=1)
    truth, patients = truth[known], data.index["patient_id"][rows][known]
    found: dict[str, Any] = {}
    for lead_set in LEAD_SETS:
        said = {
            name: predict_rows(run.model, data, rows[known], lead_set=lead_set)["class_logits"]
            for name, run in runs.items()
        }
        table = {
            name: {"macro_auroc": plain(patient_bootstrap(macro_auroc, truth, logits, patients))}
            for name, logits in said.items()
        }
        for name in said:
            if name != "teacher":
                difference = paired_bootstrap(macro_auroc, truth, said["teacher"], said[name], patients)
                table[name]["minus_teacher"] = plain(difference)
        allowed = ALLOWED.get(lead_set, FEWER_LEADS)
        lost = -table["student"]["minus_teacher"]["value"]
        found[lead_set] = {**table, "allowed_loss": allowed, "within": lost <= allowed}
    return found


def plain(e: Estimate) -> dict[str, float | None]:
    """Return value and interval."""
    return {"value": e.value, "low": e.low, "high": e.high}


def costs(teacher: Run, student: Run) -> dict[str, Any]:
    """Return work and size of both with 12 leads, and how many times faster the student is, in turns."""
    (big, of_teacher), (small, of_student) = (cost(run, "12") for run in (teacher, student))
    leads = parse_lead_set("12")
    runners = {
        name: OrtRunner(graph, leads=leads, precision="fp32")
        for name, graph in (("teacher", big), ("student", small))
    }
    window_mv = np.zeros((1, 12, runners["teacher"].window_samples), np.float32)

    def one(runner: OrtRunner) -> float:
        return statistics.median(seconds(lambda: runner.run(window_mv)) for _ in range(5))

    said = take_turns({name: lambda r=runner: one(r) for name, runner in runners.items()}, rounds=20)
    return {
        "macs": {"teacher": of_teacher.macs, "student": of_student.macs},
        "parameters": {"teacher": of_teacher.parameters, "student": of_student.parameters},
        "times_fewer_macs": of_teacher.macs / of_student.macs,
        "times_fewer_macs_wanted": MAC_RATIO,
        "median_s_onnxruntime_fp32_1_thread": medians(said),
        "times_faster": ratio(said, "teacher", "student"),
    }


def main(
    data: Annotated[Path, typer.Option(help="PTB-XL, built.")],
    work: Annotated[Path, typer.Option(help="Folder of the runs; what is there is not done again.")],
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    also: Annotated[
        list[Path] | None, typer.Option(help="Further datasets that the teacher speaks of.")
    ] = None,
    teacher_steps: Annotated[int, typer.Option(help="Of 64 ECGs.")] = 300,
    student_steps: Annotated[
        int, typer.Option(help="Of the student, and of the one from labels alone.")
    ] = 3000,
    twin: Annotated[bool, typer.Option(help="Train the same network from labels alone, too.")] = True,
) -> None:
    """Train the teacher, distil it, train the student's twin on labels, and score all of them."""
    torch.set_num_threads(1)
    dataset = open_dataset(data)
    folders = {name: work / name for name in ("teacher", "student", *(("labels alone",) if twin else ()))}
    plan = supervised(
        {"name": "resnet18"}, name="teacher", steps=teacher_steps, lr=1e-3, every=max(1, teacher_steps // 10)
    )
    if not done(folders["teacher"]):
        train(plan, dataset, folders["teacher"], resume=folders["teacher"].exists())
    every = max(1, student_steps // 20)
    if not done(folders["student"]):
        settings = (
            f"schedule.steps={student_steps}",
            f"evaluate.every_steps={every}",
            f"evaluate.checkpoint_every_steps={every}",
        )
        compress_run(
            folders["teacher"],
            data=data,
            also=also or (),
            out=folders["student"],
            student=Student(overrides=settings),
            resume=folders["student"].exists(),
        )
    alone = supervised({"name": "edgenet"}, name="alone", steps=student_steps, lr=3e-3, every=every)
    if twin and not done(folders["labels alone"]):
        train(alone, dataset, folders["labels alone"], resume=folders["labels alone"].exists())
    runs = {name: load_run(folder) for name, folder in folders.items()}
    for run in runs.values():
        require_unseen(run, dataset)  # --work may hold runs of another dataset
    found = {
        "what": "macro AUROC over 5 superclasses of PTB-XL, fold 9, by lead set; 95 % intervals over patients",
        **machine("torch", "numpy", "onnxruntime"),
        "dataset_sha256": dataset.info.sha256,
        "taught_on": runs["student"].data.name,
        "steps": {name: steps_of(folder) for name, folder in folders.items()},
        **costs(runs["teacher"], runs["student"]),
        "lead_sets": scores(runs, dataset),
    }
    write_json(out, found)
    for lead_set, row in found["lead_sets"].items():
        print(
            lead_set,
            {name: row[name]["macro_auroc"]["value"] for name in runs},
            row["student"]["minus_teacher"],
        )
    print(f"{found['times_fewer_macs']:.1f} times fewer MACs, {found['times_faster']:.1f} times faster")


if __name__ == "__main__":
    typer.run(main)
