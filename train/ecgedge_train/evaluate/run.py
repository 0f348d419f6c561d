"""From a run directory and a dataset to a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ecgedge.errors import RecordError
from ecgedge.leads import format_lead_set
from ecgedge_train.calibrate import LeadSetCalibration, calibrate
from ecgedge_train.dataset import EcgDataset, open_dataset
from ecgedge_train.evaluate.classes import ClassEvaluation, ClassTask, evaluate_classes
from ecgedge_train.evaluate.common import Predict, Rows
from ecgedge_train.evaluate.plots import class_figure, roc_figure, scatter_figure
from ecgedge_train.evaluate.pressure import CUTS_MMHG, LABEL, PressureEvaluation, evaluate_pressure
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.evaluate.report import SIMULATED, Report, render_text, write_report
from ecgedge_train.inference import predict_rows
from ecgedge_train.model import ClassesHead, EcgModel, build_model
from ecgedge_train.run import Run, load_run

PROBE_FOLDER: Final = "probe"


def evaluate_run(
    run: Path,
    *,
    data: Path,
    out: Path,
    lead_sets: Sequence[Sequence[str]] | None = None,
    resamples: int = 1000,
) -> str:
    """Evaluate a run on the test split of a dataset and write report.json, report.html and the probes.

    Parameters
    ----------
    run, data, out
        Run directory, dataset directory, folder for the report.
    lead_sets
        Such as (("I", "II"), ("I",)); those of the run's recipe by default.
    resamples
        Of the bootstrap over patients.

    Returns
    -------
    str
        The main figures as text.

    Raises
    ------
    RecordError
        If the dataset has no label that this run can be scored on.
    """
    loaded, dataset = load_run(run), open_dataset(data)
    names = (
        [format_lead_set(leads) for leads in lead_sets]
        if lead_sets
        else list(loaded.recipe.evaluate.lead_sets)
    )
    found = _evaluate(loaded, dataset, names, resamples)
    simulated = dataset.info.simulated or loaded.data.simulated
    report = Report(
        title=f"ecgedge evaluation: {run.name} on {dataset.info.name}",
        simulated=simulated,
        dataset=dataset.info.name,
        dataset_sha256=dataset.info.sha256,
        attribution=dataset.info.attribution,
        rows=found.rows,
        notes=tuple(_notes(loaded, dataset, found)),
    )
    write_report(report, list(_figures(found, mark=SIMULATED if simulated else "")), out)
    if isinstance(found, ClassEvaluation):
        for lead_set, probe in found.probes.items():
            probe.to_files(out / PROBE_FOLDER / lead_set)
    return render_text(report)


def load_probes(report: Path) -> dict[str, LinearProbe]:
    """Return the linear probes of a report directory by lead set.

    Raises
    ------
    RecordError
        If the report has none.
    """
    folders = sorted(folder for folder in (report / PROBE_FOLDER).glob("*") if folder.is_dir())
    if not folders:
        raise RecordError(f"{report}: no probe here; evaluate the run on a dataset with classes first")
    return {folder.name: LinearProbe.from_files(folder) for folder in folders}


def _evaluate(
    run: Run, data: EcgDataset, names: list[str], resamples: int
) -> PressureEvaluation | ClassEvaluation:
    predict = _predictor(run.model, data)
    if "hemodynamics" in run.model.heads and LABEL in data.info.labels:
        calibration = _calibration(run, data, names)
        return evaluate_pressure(data, predict, lead_sets=names, calibration=calibration, resamples=resamples)
    head = dict(run.model.heads.items()).get("classes")
    return evaluate_classes(
        data,
        predict,
        _class_task(data),
        lead_sets=names,
        untrained=_predictor(build_model(run.recipe).eval(), data),
        head_labels=head.labels if isinstance(head, ClassesHead) else (),
        resamples=resamples,
    )


def _calibration(run: Run, data: EcgDataset, names: list[str]) -> dict[str, LeadSetCalibration]:
    known = dict(run.calibration or {})
    missing = tuple(name for name in names if name not in known)
    tune = data.select(split="tune")
    return known | (calibrate(run.model, data, tune, label=LABEL, lead_sets=missing) if missing else {})


def _class_task(data: EcgDataset) -> ClassTask:
    everyone = data.select()
    if data.info.classes:
        return ClassTask(data.info.classes, data.labels(data.info.classes, everyone))
    if LABEL not in data.info.labels:
        raise RecordError(f"{data.directory}: has neither classes nor {LABEL}; nothing to score the run on")
    mmhg = data.labels((LABEL,), everyone)
    above = np.where(np.isnan(mmhg), np.nan, mmhg > np.array(CUTS_MMHG, np.float32))
    return ClassTask(tuple(f"gt_{cut}" for cut in CUTS_MMHG), above.astype(np.float32))


def _predictor(model: EcgModel, data: EcgDataset) -> Predict:
    def predict(rows: Rows, lead_set: str) -> Mapping[str, NDArray[Any]]:
        return predict_rows(model, data, rows, lead_set=lead_set)

    return predict


def _figures(found: PressureEvaluation | ClassEvaluation, *, mark: str) -> Iterator[Figure]:
    if isinstance(found, ClassEvaluation):
        for scores in found.scores:
            yield class_figure(scores, mark=mark)
        return
    for cut in CUTS_MMHG:
        yield roc_figure(found.scores, cut=cut, mark=mark)
    for score in found.scores:
        yield scatter_figure(score, mark=mark)


def _notes(run: Run, data: EcgDataset, found: PressureEvaluation | ClassEvaluation) -> Iterator[str]:
    counts = data.info.splits["test"]
    yield (
        f"Test split: {counts.records} records of {counts.patients} patients, none of whom is in another split. "
        "Intervals: 95 % percentile bootstrap over patients."
    )
    if run.data.sha256 != data.info.sha256:
        yield (
            f"The run was trained on another dataset ({run.data.name}, SHA-256 {run.data.sha256[:12]}...): make sure "
            "that none of these test patients was in it."
        )
    if isinstance(found, ClassEvaluation):
        yield (
            "The encoder is frozen; the strength of a logistic regression a class was chosen on the tune split, and "
            "the probe then fitted on training and tune split together. Baseline: the same with the untrained encoder. "
            "Records without any class are left out."
        )
    elif any(row.metric.startswith("ideal") for row in found.rows):
        yield (
            "Ideal observer: reads all of the simulated patient's hidden ECG features without error, whatever the "
            "leads; an upper bound, but for the luck of the sample."
        )
