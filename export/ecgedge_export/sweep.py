"""Several students of one teacher, and what each costs: the Pareto front of accuracy against work, size and time.

Under FOLDER every student is a run of its own: shared ones, which are shown random lead sets and answer for each of
them; ones pruned from the first of these; and specialised ones, shown a single lead set. What is done is not done
again, so a sweep that was stopped goes on. The tune split says which points are on a front; the test split is scored
once, for the report.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.errors import UsageError
from ecgedge.leads import parse_lead_set
from ecgedge.runtime.ort import OrtRunner
from ecgedge.schema import from_plain, to_plain
from ecgedge_export.channels import PRUNABLE_RECIPES
from ecgedge_export.distill import (
    STUDENTS,
    TEACHER_FOLDER,
    Student,
    distil,
    require_unseen,
    start_of,
    student_recipe,
)
from ecgedge_export.evidence import PRESSURE
from ecgedge_export.fold import Foldable, fold_lead_set
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_export.sweep_report import TEACHER, Point, Sweep, write_sweep
from ecgedge_train.checkpoint import MODEL_FILE, STATE_FILE, find_checkpoint, write_text
from ecgedge_train.dataset import EcgDataset, UnionDataset, open_dataset
from ecgedge_train.dataset.index import file_sha256
from ecgedge_train.evaluate.bootstrap import patient_bootstrap
from ecgedge_train.evaluate.metrics import Metric, auroc, macro_auroc, point
from ecgedge_train.inference import predict_rows
from ecgedge_train.losses.hemodynamics import THRESHOLDS_MMHG
from ecgedge_train.model import ClassesHead, HemodynamicsHead
from ecgedge_train.recipe import Recipe, head_label
from ecgedge_train.run import Run, load_run

DEFAULT_STUDENTS: Final = ("edgenet-s", "edgenet-m")
DEFAULT_MACS: Final = (10e6, 7e6, 4e6)
"""Of EdgeNet s, which takes 14.4 million with 12 leads."""
_REFERENCE: Final = "reference"
_POINT_FILE: Final = "sweep_point.json"
_CUT_MMHG: Final = THRESHOLDS_MMHG[1]
_ROUNDS: Final = 60


@dataclass(frozen=True)
class Plan:
    """Which students a sweep makes: shared ones, ones pruned from the first of these, and one for each lead set."""

    lead_sets: tuple[str, ...] = ("12", "I")
    shared: tuple[str, ...] = DEFAULT_STUDENTS
    macs: tuple[float, ...] = DEFAULT_MACS
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.shared if name not in STUDENTS]
        if unknown or not self.shared:
            raise UsageError(
                f"a sweep's students are some of {', '.join(STUDENTS)}; not {', '.join(unknown)}"
            )

    def students(self, folder: Path) -> Iterator[_Planned]:
        """Yield all students, in an order that has the starts before what is made from them."""
        for name in self.shared:
            yield _Planned(name, Student(name, overrides=self.overrides), self.lead_sets)
        first = self.shared[0]
        for macs in self.macs:
            pruned = Student(folder / first, macs=macs, overrides=self.overrides)
            yield _Planned(f"{first}_pruned_{macs / 1e6:g}M", pruned, self.lead_sets)
        for lead_set in self.lead_sets:
            only = Student(first, (lead_set,), overrides=self.overrides)
            yield _Planned(f"{first}_only_{lead_set.replace(',', '_')}", only, (lead_set,))


@dataclass(frozen=True)
class _Planned:
    """The folder name of a student, how it is made, and the lead sets that it is scored with."""

    name: str
    student: Student
    lead_sets: tuple[str, ...]


def sweep_run(
    run: Path,
    *,
    data: Path,
    out: Path,
    also: Sequence[Path] = (),
    plan: Plan = Plan(),
    max_steps: int | None = None,
    resamples: int = 1000,
    rounds: int = _ROUNDS,
) -> str:
    """Make the students of a plan, measure them, and write sweep.json, sweep.png and sweep.html into `out`.

    Parameters
    ----------
    run, data, also
        The teacher, and what it is asked about; `data` scores.
    out
        Folder of the runs; started anew or gone on with.
    plan, max_steps
        Which students, and the limit of each training.
    resamples, rounds
        Of the bootstrap over patients; of the timing.

    Returns
    -------
    str
        The table.

    Raises
    ------
    EcgedgeError
        As `distil` does, or if the teacher has no head that can be scored on `data`.
    """
    teacher, primary = load_run(run), open_dataset(data)
    question = _question(teacher, primary)
    source = UnionDataset(primary, [open_dataset(path) for path in also]) if also else primary
    require_unseen(teacher, source)
    scored = [(TEACHER, teacher, out / _REFERENCE, plan.lead_sets)]
    for planned in plan.students(out):
        folder = out / planned.name
        _make(teacher, source, folder, planned.student, words=out / TEACHER_FOLDER, max_steps=max_steps)
        scored.append((planned.name, load_run(folder), folder, planned.lead_sets))
    points = [
        _point(name, trained, primary, lead_set, question, folder, resamples)
        for name, trained, folder, lead_sets in scored
        for lead_set in lead_sets
    ]
    made = {name: folder for name, _, folder, _ in scored}
    timed = _with_latency(points, made, rounds)
    sweep = Sweep(
        teacher.path.resolve().name,
        primary.info.name,
        primary.info.sha256,
        primary.info.attribution,
        primary.info.simulated or teacher.data.simulated,
        question.metric_name,
        tuple(timed),
    )
    return write_sweep(sweep, out)


def _make(
    teacher: Run,
    data: EcgDataset | UnionDataset,
    out: Path,
    student: Student,
    *,
    words: Path,
    max_steps: int | None,
) -> None:
    """Train a student unless it is done."""
    wanted = student_recipe(teacher, student, start_of(teacher, student)[1])
    if not _is_done(out, wanted, data.info.for_run()["sha256"], max_steps):
        distil(teacher, data, out, student=student, words=words, max_steps=max_steps, resume=out.exists())


def _is_done(out: Path, wanted: Recipe, dataset_sha256: str, max_steps: int | None) -> bool:
    """Say whether a run of this recipe (whatever its pruned widths) has taken its steps on this dataset."""
    checkpoint = find_checkpoint(out)
    if not (out / MODEL_FILE).is_file() or checkpoint is None:
        return False
    steps = int(json.loads((checkpoint / STATE_FILE).read_text("utf-8"))["step"])
    enough = min(wanted.schedule.steps, max_steps or wanted.schedule.steps)
    run = load_run(out)
    same = run.data.sha256 == dataset_sha256 and _unpruned(run.recipe) == _unpruned(wanted)
    return steps >= enough and same


def _unpruned(recipe: Recipe) -> Recipe:
    if isinstance(recipe.encoder, PRUNABLE_RECIPES):
        return replace(recipe, encoder=replace(recipe.encoder, widths=()))
    return recipe


@dataclass(frozen=True)
class _Question:
    """What accuracy means: an output, the truth of every record (len(dataset), ...), NaN where unknown."""

    metric_name: str
    metric: Metric
    output: str
    truth: NDArray[np.float32]


def _question(teacher: Run, data: EcgDataset) -> _Question:
    heads = dict(teacher.model.heads.items())
    classes, pressure = heads.get("classes"), heads.get("hemodynamics")
    if isinstance(pressure, HemodynamicsHead):
        label = head_label(teacher.recipe.objective)
        if label != PRESSURE:
            raise UsageError(
                f"{teacher.path} says {label}; a sweep scores students by {PRESSURE} above {_CUT_MMHG:g} mmHg, or by "
                "classes. Make one student without --sweep, and score it with `ecgedge evaluate`"
            )
        mmhg = data.labels((PRESSURE,), data.select())[:, 0]
        above = np.where(np.isnan(mmhg), np.nan, mmhg > _CUT_MMHG).astype(np.float32)
        name = f"gt_{_CUT_MMHG:.0f}"
        return _Question(f"auroc_{name}", auroc, f"logit_{name}", above)
    if isinstance(classes, ClassesHead):
        truth = data.labels(classes.labels, data.select())
        return _Question("macro_auroc", macro_auroc, "class_logits", truth)
    raise UsageError(
        f"{teacher.path} has no head for classes or for the pressure, so a sweep has nothing to score its students by; "
        "fine-tune it first"
    )


def _point(
    name: str,
    run: Run,
    data: EcgDataset,
    lead_set: str,
    question: _Question,
    folder: Path,
    resamples: int,
) -> Point:
    """Score and export one network with one lead set, unless that is done."""
    file = folder / f"{lead_set.replace(',', '_')}_{_POINT_FILE}"
    facts = {
        "weights_sha256": file_sha256(run.path / MODEL_FILE),
        "dataset_sha256": data.info.sha256,
        "resamples": resamples,
    }
    if file.is_file():
        known = json.loads(file.read_text("utf-8"))
        if known["facts"] == facts:
            return from_plain(Point, known["point"])
    folder.mkdir(parents=True, exist_ok=True)
    tune = point(question.metric, *_said(run, data, "tune", lead_set, question)[1:])
    rows, truth, said = _said(run, data, "test", lead_set, question)
    patients = data.index["patient_id"][rows]
    test = patient_bootstrap(question.metric, truth, said, patients, resamples=resamples)
    found = Point(name, lead_set, tune, test, None, None, None)
    graph = _export(run, lead_set)
    if graph is not None:
        cost = graph_cost(graph)
        _graph_file(folder, lead_set).write_bytes(graph.SerializeToString(deterministic=True))
        found = replace(found, macs=cost.macs, parameters=cost.parameters)
    write_text(file, json.dumps({"facts": facts, "point": to_plain(found)}, indent=1) + "\n")
    return found


def _said(
    run: Run, data: EcgDataset, split: str, lead_set: str, question: _Question
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Return the rows of a split whose truth is known, the truth, and what the network says."""
    rows = data.select(split=split)
    rows = rows[~np.isnan(question.truth[rows].reshape(len(rows), -1)).any(axis=1)]
    if len(rows) == 0:
        raise UsageError(f"{data.directory}: no record of the {split} split has the label to score by")
    return rows, question.truth[rows], predict_rows(run.model, data, rows, lead_set=lead_set)[question.output]


def _graph_file(folder: Path, lead_set: str) -> Path:
    return folder / f"{lead_set.replace(',', '_')}.onnx"


def _export(run: Run, lead_set: str) -> onnx.ModelProto | None:
    """Return the fp32 graph of a lead set; None where the encoder cannot be exported."""
    if not isinstance(run.model.encoder, Foldable):
        return None
    leads = parse_lead_set(lead_set)
    network = fold_lead_set(run.model, leads, None)
    return export_onnx(
        network,
        n_leads=len(leads),
        window_samples=run.recipe.input.window_samples,
        output_names=network.output_names,
        metadata={},
    )


def _with_latency(points: Sequence[Point], made: Mapping[str, Path], rounds: int) -> list[Point]:
    """Time all graphs in turns, so that a busy machine slows all alike; median of the rounds."""
    with ExitStack() as stack:
        runners = {}
        for p in points:
            if p.macs is not None:
                graph = _graph_file(made[p.network], p.lead_set).read_bytes()
                runner = OrtRunner(graph, leads=parse_lead_set(p.lead_set), precision="fp32")
                runners[p.network, p.lead_set] = stack.enter_context(runner)
        said: dict[tuple[str, str], list[float]] = {key: [] for key in runners}
        for _ in range(rounds):
            for key, runner in runners.items():
                said[key].append(_milliseconds(runner))
    return [
        replace(p, latency_ms=statistics.median(said[key])) if (key := (p.network, p.lead_set)) in said else p
        for p in points
    ]


def _milliseconds(runner: OrtRunner) -> float:
    window_mv = np.zeros((1, len(runner.leads), runner.window_samples), np.float32)
    began = time.perf_counter()
    runner.run(window_mv)
    return 1e3 * (time.perf_counter() - began)
