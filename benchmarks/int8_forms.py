"""What each INT8 form of a run costs and saves: layers left in float at the input's end, times the room in the ranges.

    python benchmarks/int8_forms.py RUN --data DATASET [--report REPORT] [--lead-sets "12;I"] [--out result.json]

Against the float file of the same lead set, on all records of the tune and of the test split that have 12 leads: least
and median centred cosine, the largest move of a probability and by which record, macro AUROC less the float file's;
and the float file's time by the form's (batch 1, one thread, taking turns, median over rounds). The forms are those
that the export tries, from all training windows, and one from FEW_WINDOWS of them with nothing in float.

Then the tune record that moves most in that last one, tensor by tensor: how many times the range it needs, and how far
its probabilities move where this tensor alone is rounded; beside it the least cosine of all other records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from common import machine, ratio, seconds, take_turns, write_json
from numpy.typing import NDArray

from ecgedge.leads import format_lead_set, parse_lead_set, standard_rows
from ecgedge.runtime import OrtRunner
from ecgedge_export.calibration import HEADROOM, Ranges, headroom_ranges, tensor_ranges
from ecgedge_export.compare import EMBEDDING, Outputs, compare, floored_cosine
from ecgedge_export.quant_plan import QuantPlan, leading_layers, make_plan
from ecgedge_export.quantize import quantized_file
from ecgedge_export.torch_graph import FakeQuantNetwork
from ecgedge_export.variants import Source, export_exact
from ecgedge_train.dataset import EcgDataset, open_dataset
from ecgedge_train.evaluate import load_probes
from ecgedge_train.evaluate.metrics import macro_auroc, point
from ecgedge_train.run import load_run

ROUNDS = 400
FEW_WINDOWS = 256
STAGES = ("nothing", "first layer", "first block", "two blocks")
SPLITS = ("tune", "test")
Windows = NDArray[np.float32]


def main(
    run: Annotated[
        Path, typer.Argument(help="Run with class outputs, of its own or of the report's probes.")
    ],
    data: Annotated[Path, typer.Option(help="Dataset of the run.")],
    report: Annotated[Path | None, typer.Option(help="From evaluate, with probes.")] = None,
    lead_sets: Annotated[str, typer.Option(help="Separated by semicolons.")] = "12;I,II,V1,V5;I,II;I;II",
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    torch.set_num_threads(1)
    trained, dataset = load_run(run), open_dataset(data)
    probes = {} if report is None else {parse_lead_set(n): p for n, p in load_probes(report).items()}
    result: dict[str, Any] = {
        "what": "INT8 forms against the float file in ONNX Runtime; batch 1, one thread, for the times",
        "trained_on": f"{dataset.info.name} {dataset.info.sha256}",
        "recipe": trained.recipe.name,
        **machine("onnxruntime", "onnx", "torch"),
        "headroom": HEADROOM,
        "lead_sets": {},
    }
    for leads in map(parse_lead_set, lead_sets.split(";")):
        source = Source(trained.model, None, probes.get(leads), dataset.info.front_end.rate_hz)
        exact = export_exact(source, leads, window_samples=dataset.info.window_samples)
        result["lead_sets"][format_lead_set(leads)] = _lead_set(exact, leads, dataset)
        typer.echo(format_lead_set(leads))
    typer.echo(_table(result["lead_sets"]))
    if out is not None:
        write_json(out, result)


def _rows(dataset: EcgDataset, split: str) -> NDArray[np.int64]:
    rows = dataset.select(split=split)
    complete: NDArray[np.int64] = rows[dataset.presence(rows).all(axis=1)]
    return complete


def _lead_set(exact: onnx.ModelProto, leads: tuple[str, ...], dataset: EcgDataset) -> dict[str, Any]:
    train_mv = dataset.gather(_rows(dataset, "train"))
    held = {split: dataset.gather(_rows(dataset, split))[:, standard_rows(leads)] for split in SPLITS}
    reference = {split: _answers(exact, leads, ecg_mv) for split, ecg_mv in held.items()}
    spread = np.linspace(0, len(train_mv) - 1, min(FEW_WINDOWS, len(train_mv))).astype(np.int64)
    few = tensor_ranges(exact, train_mv[spread], leads=leads)
    plans = dict(_plans(exact, leads, few, train_mv, clip_mv=dataset.info.front_end.clip_mv))
    files = {name: quantized_file(exact, plan) for name, plan in plans.items()}
    faster = _speed({"float": exact, **files}, leads, held["tune"][:1])
    auroc = _auroc(reference["test"], dataset)
    forms = {}
    for name, file in files.items():
        found = {split: _answers(file, leads, ecg_mv) for split, ecg_mv in held.items()}
        forms[name] = {
            "times_as_fast_as_float": round(faster[name], 3),
            **{split: _compared(reference[split], found[split]) for split in SPLITS},
            "macro_auroc_less_float": round(_auroc(found["test"], dataset) - auroc, 5),
        }
    plan = plans[f"nothing, {FEW_WINDOWS} windows"]
    record = forms[f"nothing, {FEW_WINDOWS} windows"]["tune"]["moved_most_record"]
    return {
        "float_macro_auroc": round(auroc, 5),
        "forms": forms,
        "tensors": _tensors(exact, plan, few, held["tune"], record, leads),
    }


def _plans(
    exact: onnx.ModelProto, leads: tuple[str, ...], few: Ranges, train_mv: Windows, *, clip_mv: float
) -> Iterator[tuple[str, QuantPlan]]:
    yield f"nothing, {FEW_WINDOWS} windows", make_plan(exact, few, flavour="cpu")
    rooms = {
        1.0: tensor_ranges(exact, train_mv, leads=leads),
        HEADROOM: headroom_ranges(exact, train_mv, leads=leads, clip_mv=clip_mv),
    }
    for stage, floats in zip(STAGES, ((), *leading_layers(exact, flavour="cpu")), strict=False):
        for room, ranges in rooms.items():
            yield f"{stage}, x {room:g}", make_plan(exact, ranges, flavour="cpu", float_layers=floats)


def _answers(model: onnx.ModelProto, leads: tuple[str, ...], ecg_mv: Windows) -> Outputs:
    with OrtRunner(model.SerializeToString(), leads=leads, precision="int8") as runner:
        return runner.run(np.ascontiguousarray(ecg_mv))


def _moves(reference: Outputs, found: Outputs) -> NDArray[np.float32]:
    """Return each record's largest move of a probability."""
    moves: NDArray[np.float32] = np.max(
        [abs(found[n] - v) for n, v in reference.items() if n != EMBEDDING], 0
    )
    return moves


def _compared(reference: Outputs, found: Outputs) -> dict[str, float]:
    comparison, moves = compare(reference, found), _moves(reference, found)
    return {
        "records": comparison.windows,
        "least_cosine": round(comparison.gated_cosine or 0.0, 5),
        "median_cosine": round(comparison.median_cosine or 0.0, 5),
        "moved_most": round(float(moves.max()), 4),
        "moved_most_record": int(moves.argmax()),
        "moved_99th_percentile": round(float(np.percentile(moves, 99)), 4),
    }


def _auroc(outputs: Outputs, dataset: EcgDataset) -> float:
    classes = tuple(label for label in dataset.info.classes if f"p_{label}" in outputs)
    truth = dataset.labels(classes, _rows(dataset, "test"))
    known = ~np.isnan(truth).any(axis=1)
    scores = np.stack([outputs[f"p_{label}"] for label in classes], axis=1)
    return float(point(macro_auroc, truth[known], scores[known]))


def _speed(files: dict[str, onnx.ModelProto], leads: tuple[str, ...], window_mv: Windows) -> dict[str, float]:
    runners = {n: OrtRunner(f.SerializeToString(), leads=leads, precision="int8") for n, f in files.items()}
    window_mv = np.ascontiguousarray(window_mv)
    cases = {name: lambda r=runner: seconds(lambda: r.run(window_mv)) for name, runner in runners.items()}
    said = take_turns(cases, rounds=ROUNDS, warm_up=20)
    return {name: ratio(said, "float", name) for name in files}


def _tensors(
    exact: onnx.ModelProto,
    plan: QuantPlan,
    ranges: Ranges,
    ecg_mv: Windows,
    record: int,
    leads: tuple[str, ...],
) -> dict[str, dict[str, float]]:
    twelve = np.zeros((16, 12, ecg_mv.shape[2]), np.float32)
    twelve[:, standard_rows(leads)] = ecg_mv[record]
    needed = tensor_ranges(exact, twelve, leads=leads)
    reference = _rounded(exact, replace(plan, activations={}, layers=()), ecg_mv)
    rows = {}
    for tensor, affine in plan.activations.items():
        found = _rounded(exact, replace(plan, activations={tensor: affine}, layers=()), ecg_mv)
        cosine = floored_cosine(reference[EMBEDDING], found[EMBEDDING])
        rows[tensor] = {
            "needed_by_range": round(
                max(a / b for a, b in zip(needed[tensor], ranges[tensor], strict=True) if b), 2
            ),
            "moved": round(float(_moves(reference, found)[record]), 4),
            "cosine": round(float(cosine[record]), 5),
            "least_cosine_of_others": round(float(np.delete(cosine, record).min()), 5),
        }
    return rows


@torch.inference_mode()
def _rounded(exact: onnx.ModelProto, plan: QuantPlan, ecg_mv: Windows) -> Outputs:
    values = FakeQuantNetwork(exact, plan)(torch.from_numpy(np.ascontiguousarray(ecg_mv[:, :, None])))
    return {output.name: v.numpy() for output, v in zip(exact.graph.output, values, strict=True)}


def _table(lead_sets: dict[str, Any]) -> str:
    lines = []
    for leads, found in lead_sets.items():
        for name, form in found["forms"].items():
            sides = "  ".join(
                f"{s}: {form[s]['least_cosine']:.4f} {form[s]['median_cosine']:.4f} {form[s]['moved_most']:.3f}"
                for s in SPLITS
            )
            speed, auroc = form["times_as_fast_as_float"], form["macro_auroc_less_float"]
            lines.append(f"{leads:<12} {name:<22} x {speed:.2f}  {sides}  AUROC {auroc:+.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
