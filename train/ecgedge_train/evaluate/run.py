"""From a run directory and a dataset to a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import ResultRow
from ecgedge.errors import RecordError
from ecgedge.leads import format_lead_set
from ecgedge.report_page import SIMULATED
from ecgedge_train.calibrate import LeadSetCalibration, calibrate
from ecgedge_train.dataset import EcgDataset, open_dataset
from ecgedge_train.evaluate import sections
from ecgedge_train.evaluate.chart import draw
from ecgedge_train.evaluate.cinc import cinc_rows, read_weights
from ecgedge_train.evaluate.classes import ClassEvaluation, ClassTask, Frozen, evaluate_classes, labelled
from ecgedge_train.evaluate.common import Predict, Rows
from ecgedge_train.evaluate.compare import Comparison, compare_binary, compare_values
from ecgedge_train.evaluate.embedding import embedding_figures
from ecgedge_train.evaluate.lowlabel import Labelled, low_label_curve
from ecgedge_train.evaluate.plots import map_chart
from ecgedge_train.evaluate.pressure import CUTS_MMHG, LABEL, PressureEvaluation, evaluate_pressure
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.evaluate.report import HEADLINES, Report, render_text, write_report
from ecgedge_train.evaluate.retrieval import project_2d
from ecgedge_train.evaluate.sections import Part
from ecgedge_train.evaluate.task import main_label, mined_label
from ecgedge_train.evaluate.values import (
    PROBED,
    ValueEvaluation,
    ValueScores,
    evaluate_values,
    known,
    probed,
    truth_of,
)
from ecgedge_train.inference import predict_rows
from ecgedge_train.model import ClassesHead, EcgModel, build_model
from ecgedge_train.recipe import head_label
from ecgedge_train.run import Run, load_run

PROBE_FOLDER: Final = "probe"
_UNTRAINED: Final = "untrained"
_BANDS: Final = (
    f"up to {CUTS_MMHG[0]} mmHg",
    f"{CUTS_MMHG[0]} to {CUTS_MMHG[1]} mmHg",
    f"above {CUTS_MMHG[1]} mmHg",
)
Found: TypeAlias = PressureEvaluation | ValueEvaluation | ClassEvaluation


def evaluate_run(
    run: Path,
    *,
    data: Path,
    out: Path,
    lead_sets: Sequence[Sequence[str]] | None = None,
    resamples: int = 1000,
    against: Path | None = None,
    low_labels: bool | None = None,
    embedding_map: Literal["pca", "umap"] = "pca",
    cinc_weights: Path | None = None,
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
    against
        Another run directory, to be compared with on the same records.
    low_labels
        Whether to draw the low-label curve; by default where a probe is fitted anyway.
    embedding_map
        How the picture of the embeddings is made; "umap" needs umap-learn.
    cinc_weights
        The CinC 2021 challenge's weights.csv, for its score; the dataset's classes must be SNOMED CT codes then.

    Returns
    -------
    str
        The main figures as text.

    Raises
    ------
    EcgedgeError
        If the dataset has no label that this run can be scored on, or an option does not fit it.
    """
    loaded, dataset = load_run(run), open_dataset(data)
    names = (
        [format_lead_set(leads) for leads in lead_sets]
        if lead_sets
        else list(loaded.recipe.evaluate.lead_sets)
    )
    found = _evaluate(loaded, dataset, names, resamples)
    other = None if against is None else load_run(against)
    parts = list(_score_parts(found, names[0], resamples))
    parts.append(_embedding_part(loaded, dataset, found, names[0], resamples, embedding_map))
    if low_labels or (low_labels is None and isinstance(found, ClassEvaluation)):
        parts.append(_few_labels_part(loaded, dataset, found, names[0], resamples))
    if other is not None:
        parts.append(_comparison_part(found, other, dataset, names, resamples))
    simulated = (
        dataset.info.simulated or loaded.data.simulated or (other is not None and other.data.simulated)
    )
    charts = tuple(chart for part in parts for chart in part.charts)
    report = Report(
        title=f"ecgedge evaluation: {run.name} on {dataset.info.name}",
        simulated=simulated,
        dataset=dataset.info.name,
        dataset_sha256=dataset.info.sha256,
        attribution=dataset.info.attribution,
        rows=(*found.rows, *_cinc_rows(found, dataset, cinc_weights, resamples)),
        notes=tuple(_notes(loaded, dataset, found)),
        probed=isinstance(found, ClassEvaluation),
        sections=tuple(part.section for part in parts),
        charts=charts,
        headlines=found.headlines if isinstance(found, ValueEvaluation) else HEADLINES,
    )
    write_report(report, [draw(chart, mark=SIMULATED if simulated else "") for chart in charts], out)
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
    run: Run, data: EcgDataset, names: list[str], resamples: int, *, baseline: bool = True
) -> Found:
    predict = _predictor(run.model, data)
    label, mined = main_label(run.recipe, data), mined_label(run.recipe, data)
    if label == LABEL:
        calibration = _calibration(run, data, names, label)
        return evaluate_pressure(data, predict, lead_sets=names, calibration=calibration, resamples=resamples)
    if label is not None:
        return evaluate_values(
            data,
            predict,
            label=label,
            output=LABEL,
            lead_sets=names,
            calibration=_calibration(run, data, names, label),
            cuts={f"logit_gt_{cut}": cut for cut in CUTS_MMHG},
            resamples=resamples,
        )
    if mined is not None:
        reader = probed(data, predict, mined)
        return evaluate_values(
            data, reader, label=mined, output=PROBED, lead_sets=names, calibration={}, resamples=resamples
        )
    head = dict(run.model.heads.items()).get("classes")
    return evaluate_classes(
        data,
        predict,
        _class_task(data),
        lead_sets=names,
        untrained=_untrained(run, data) if baseline else None,
        head_labels=head.labels if isinstance(head, ClassesHead) else (),
        resamples=resamples,
    )


def _untrained(run: Run, data: EcgDataset) -> Predict:
    return _predictor(build_model(run.recipe).eval(), data)


def _score_parts(found: Found, first: str, resamples: int) -> Iterator[Part]:
    if isinstance(found, ValueEvaluation):
        yield sections.agreement(found.scores, found.agreement)
        yield from _subgroup_part(found, first)
        return
    of_pressure = found if isinstance(found, PressureEvaluation) else None
    pressure = of_pressure is not None
    yield sections.discrimination(of_pressure, found.binary, first)
    if of_pressure is not None:
        yield sections.agreement([score.as_values() for score in of_pressure.scores], of_pressure.agreement)
    yield sections.calibration(found.binary, first, pressure=pressure, resamples=resamples)
    yield sections.operating(found.binary, first, pressure=pressure, resamples=resamples)
    yield from _subgroup_part(found, first)


def _subgroup_part(found: Found, first: str) -> Iterator[Part]:
    groups = sections.subgroups(found.rows, first, None if isinstance(found, ClassEvaluation) else found)
    if groups is not None:
        yield groups


def _embedding_part(
    run: Run,
    data: EcgDataset,
    found: Found,
    first: str,
    resamples: int,
    method: Literal["pca", "umap"],
) -> Part:
    if isinstance(found, ClassEvaluation):
        trained = found.encoder.test
        plain = None if found.untrained is None else found.untrained.test
    else:
        trained, plain = found.embedding, _untrained(run, data)(found.test, first)["embedding"]
    categories, patients = _categories(data, found), data.index["patient_id"][found.test]
    figures = {"trained": embedding_figures(trained, categories, patients, resamples=resamples)}
    if plain is not None:
        figures[_UNTRAINED] = embedding_figures(plain, categories, patients, resamples=resamples)
    thirds = _thirds(found.label) if isinstance(found, ValueEvaluation) else ()
    order = (*_BANDS, *thirds, *data.info.classes, "several", "none")
    chart = map_chart(project_2d(trained, method), categories, order, method=method, lead_set=first)
    return sections.embedding(figures, chart, first)


def _categories(data: EcgDataset, found: Found) -> NDArray[np.str_]:
    """Return one name a test record: the band of its pressure, the third of its number, or its class if just one."""
    if isinstance(found, ValueEvaluation):
        cuts = np.quantile(truth_of(data, found.label, known(data, found.label, "train")), (1 / 3, 2 / 3))
        return np.array(_thirds(found.label), np.str_)[np.searchsorted(cuts, found.scores[0].truth)]
    if isinstance(found, PressureEvaluation) or not data.info.classes:
        mmhg = data.labels((LABEL,), found.test)[:, 0]
        return np.array(_BANDS, np.str_)[np.searchsorted(CUTS_MMHG, mmhg, side="left")]
    truth = data.labels(data.info.classes, found.test) > 0
    only = np.array(data.info.classes, np.str_)[truth.argmax(axis=1)]
    return np.where(truth.sum(axis=1) == 1, only, np.where(truth.any(axis=1), "several", "none"))


def _thirds(label: str) -> tuple[str, str, str]:
    """Return what records are called by their third of the training split."""
    return (f"lowest third of {label}", f"middle third of {label}", f"highest third of {label}")


def _few_labels_part(run: Run, data: EcgDataset, found: Found, first: str, resamples: int) -> Part:
    task = _class_task(data)
    train = labelled(task, data.select(split="train"))
    encoders: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    if isinstance(found, ClassEvaluation):
        frozen: dict[str, Frozen | None] = {"trained": found.encoder, _UNTRAINED: found.untrained}
        encoders = {name: (f.train, f.test) for name, f in frozen.items() if f is not None}
    else:
        for name, predict in (("trained", _predictor(run.model, data)), (_UNTRAINED, _untrained(run, data))):
            encoders[name] = (predict(train, first)["embedding"], predict(found.test, first)["embedding"])
    whose = data.index["patient_id"]
    curves = {
        name: low_label_curve(
            Labelled(train_x, task.truth[train], whose[train]),
            Labelled(test_x, task.truth[found.test], whose[found.test]),
            labels=task.labels,
            resamples=resamples,
        )
        for name, (train_x, test_x) in encoders.items()
    }
    return sections.few_labels(curves, first)


def _comparison_part(
    found: Found,
    other: Run,
    data: EcgDataset,
    names: list[str],
    resamples: int,
) -> Part:
    theirs = _evaluate(other, data, names, 1, baseline=False)
    return sections.comparison(_compared(found, theirs, resamples), other.path.name)


def _compared(found: Found, theirs: Found, resamples: int) -> list[Comparison]:
    if isinstance(found, ValueEvaluation) or isinstance(theirs, ValueEvaluation):
        return list(compare_values(_values(found), _values(theirs), resamples=resamples))
    compared = list(compare_binary(found.binary, theirs.binary, resamples=resamples))
    if isinstance(found, PressureEvaluation) and isinstance(theirs, PressureEvaluation):
        compared += compare_values(_values(found), _values(theirs), resamples=resamples)
    return compared


def _values(found: Found) -> tuple[ValueScores, ...]:
    if isinstance(found, PressureEvaluation):
        return tuple(score.as_values() for score in found.scores)
    return found.scores if isinstance(found, ValueEvaluation) else ()


def _cinc_rows(found: Found, data: EcgDataset, weights: Path | None, resamples: int) -> tuple[ResultRow, ...]:
    if weights is None:
        return ()
    if not isinstance(found, ClassEvaluation):
        raise RecordError(
            f"{data.directory}: the challenge score is for classes, and this run was scored on "
            f"{found.label if isinstance(found, ValueEvaluation) else 'pressure'}"
        )
    return cinc_rows(found.binary, read_weights(weights), dataset=data.info.name, resamples=resamples)


def _calibration(run: Run, data: EcgDataset, names: list[str], label: str) -> dict[str, LeadSetCalibration]:
    known = dict(run.calibration or {})
    missing = tuple(name for name in names if name not in known)
    tune = data.select(split="tune")
    return known | (calibrate(run.model, data, tune, label=label, lead_sets=missing) if missing else {})


def _class_task(data: EcgDataset) -> ClassTask:
    everyone = data.select()
    if data.info.classes:
        return ClassTask(data.info.classes, data.labels(data.info.classes, everyone))
    if LABEL not in data.info.labels:
        raise RecordError(
            f"{data.directory}: has neither classes nor {LABEL}, nor a number that the run's objective.label names; "
            "nothing to score the run on. Build the dataset with such a column, or with --set classes=A,B"
        )
    mmhg = data.labels((LABEL,), everyone)
    above = np.where(np.isnan(mmhg), np.nan, mmhg > np.array(CUTS_MMHG, np.float32))
    return ClassTask(tuple(f"gt_{cut}" for cut in CUTS_MMHG), above.astype(np.float32))


def _predictor(model: EcgModel, data: EcgDataset) -> Predict:
    def predict(rows: Rows, lead_set: str) -> Mapping[str, NDArray[Any]]:
        return predict_rows(model, data, rows, lead_set=lead_set)

    return predict


def _notes(run: Run, data: EcgDataset, found: Found) -> Iterator[str]:
    counts = data.info.splits["test"]
    yield (
        f"Test split: {counts.records} records of {counts.patients} patients, none of whom is in another split. "
        "Intervals: 95 % percentile bootstrap over patients."
    )
    if not run.data.holds(data.info.sha256):
        yield (
            f"The run was trained on another dataset ({run.data.name}, SHA-256 {run.data.sha256[:12]}...): make sure "
            "that none of these test patients was in it."
        )
    named = head_label(run.recipe.objective)
    if named is not None and named not in data.info.labels:
        yield f"This dataset has no {named}, so what the run's own head says of it was not scored."
    if isinstance(found, ValueEvaluation):
        yield from _notes_on_values(run, found)
    elif isinstance(found, ClassEvaluation):
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


def _notes_on_values(run: Run, found: ValueEvaluation) -> Iterator[str]:
    yield f"All figures are in the unit of {found.label}; the baseline always says the mean of the training split."
    if head_label(run.recipe.objective) is None:
        yield (
            "The encoder is frozen; the value is read from its embedding by ridge regression, whose penalty was chosen "
            "on the tune split, and which was then fitted on training and tune split together."
        )
