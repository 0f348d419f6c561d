"""Evidence before a bundle is packed: each variant on each engine against the trained network, on unseen patients.

The records are of the test split: the network has not learnt from them, INT8 was not calibrated on them, and no form
of a variant was chosen by them (that is the tune split's part, `variants.build_variants`). What a variant must reach
stands in the target profile; one that does not is not packed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, StreamSpec, VariantSpec
from ecgedge.errors import EngineError, UsageError
from ecgedge.leads import STANDARD_LEADS, standard_rows
from ecgedge.progress import tracked
from ecgedge.runtime import Runner, open_runner, open_step_runner
from ecgedge.runtime.selftest import joined_stream, stream_outputs
from ecgedge.schema import to_plain
from ecgedge.target import Gates
from ecgedge_export.agreement import (
    COURSE,
    DURATION_S,
    SEEDS,
    AlarmAgreement,
    NetworkRunner,
    compare_alarms,
    has_alarms,
    replay,
)
from ecgedge_export.compare import Comparison, Int8Gate, Outputs, compare, missed_limits
from ecgedge_export.fold import masked_outputs
from ecgedge_export.streams import full_window_outputs, of_first_bed
from ecgedge_export.variants import Source
from ecgedge_train.dataset import EcgDataset
from ecgedge_train.evaluate import paired_bootstrap
from ecgedge_train.evaluate.metrics import Metric, auroc, macro_auroc, point, rmse

EVIDENCE_FILE: Final = "evidence.json"
DEFAULT_RECORDS: Final = 256
PRESSURE: Final = "mpcwp_mmhg"
_CUT_MMHG: Final = 18
_STEP_ENGINE: Final = "ort"

Opener = Callable[[Bundle, VariantSpec], Runner]
OPENERS: Final[Mapping[str, Opener]] = {
    name: partial(open_runner, runtime=name) for name in ("ort", "openvino")
}
"""Engine to what opens a variant on it; it raises EngineError if that variant cannot serve, UsageError if the engine
is not installed. The first decides."""


@dataclass(frozen=True)
class TaskEvidence:
    """A metric of the network and of the variant on the same records.

    `difference` is variant - network, `low` and `high` its 95 % interval over patients; `baseline` is what the mean
    of the training data would reach.
    """

    metric: str
    network: float
    variant: float
    difference: float
    low: float | None
    high: float | None
    patients: int
    baseline: float | None = None


@dataclass(frozen=True)
class VariantEvidence:
    """One variant on one engine.

    Attributes
    ----------
    variant, runner
        Such as "I,II/int8" and "ort".
    windows
        That were compared: of a streaming form, the answers to the records joined end to end.
    max_abs
        Largest absolute difference by output.
    max_relative
        The largest of them but the embedding's, each over max(1, the network's largest value); 0 without others.
    min_cosine, median_cosine
        Centred cosine of the embeddings; None without one.
    tasks
        Empty where the records have no labels that the outputs speak of, and for a streaming form.
    alarms
        None where no output raises an alarm, and for a streaming form: beds serve windows.
    failed
        Why it is not packed, or not served on this engine; empty if it is.
    """

    variant: str
    runner: str
    windows: int
    max_abs: Mapping[str, float]
    max_relative: float
    min_cosine: float | None
    median_cosine: float | None
    tasks: tuple[TaskEvidence, ...]
    alarms: AlarmAgreement | None
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What evidence.json holds.

    `deciding_runner` is the engine on which a variant must pass to be packed; on another one that it fails on, the
    device's own self-test decides. `left_out` says of variants that did not come this far why.
    """

    dataset: str
    dataset_sha256: str
    simulated: bool
    split: str
    records: int
    patients: int
    gates: Gates
    alarm_stream: str
    deciding_runner: str
    variants: tuple[VariantEvidence, ...]
    left_out: Mapping[str, str]

    def to_json(self) -> bytes:
        """Return the file; equal evidence gives equal bytes. A number that is none, as of a bad engine, is null."""
        plain = _without_nan(to_plain(self))
        return (json.dumps(plain, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _without_nan(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _without_nan(value) for name, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [_without_nan(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


@dataclass(frozen=True)
class HeldOut:
    """Records of the test split: (n, 12, T) millivolts, whose they are, and what is known of them.

    `rows` are their numbers in the dataset; `truth` is by class label, and by `PRESSURE`, (n,) with NaN where unknown.
    """

    dataset: EcgDataset
    rows: NDArray[np.int64]
    ecg_mv: NDArray[np.float32]
    patients: NDArray[Any]
    truth: Mapping[str, NDArray[np.float32]]
    train_mean_mmhg: float | None

    @classmethod
    def of(cls, dataset: EcgDataset, rows: NDArray[np.int64]) -> HeldOut:
        """Read `rows` of a dataset."""
        names = [*dataset.info.classes, *([PRESSURE] if PRESSURE in dataset.info.labels else [])]
        truth = dataset.labels(tuple(names), rows).T if names else ()
        mean = None
        if PRESSURE in names:
            mean = float(np.nanmean(dataset.labels((PRESSURE,), dataset.select(split="train"))))
        return cls(
            dataset,
            rows,
            dataset.gather(rows),
            dataset.index["patient_id"][rows],
            dict(zip(names, truth, strict=True)),
            mean,
        )

    def stream_mv(self, spec: StreamSpec) -> NDArray[np.float32]:
        """Return the records end to end, (12, N) millivolts."""
        joined = joined_stream(self.dataset.gather(self.rows, np.int16), spec)
        return np.asarray(joined * np.float32(self.dataset.info.front_end.lsb_mv), np.float32)


def gather_evidence(
    bundle: Bundle,
    sources: Mapping[tuple[str, ...], Source],
    held_out: HeldOut,
    *,
    gates: Gates,
    left_out: Mapping[str, str],
    openers: Mapping[str, Opener] = OPENERS,
    alarm_duration_s: float = DURATION_S,
) -> Evidence:
    """Hold every variant of a bundle that is not yet written against the network it was made from.

    Parameters
    ----------
    bundle
        In memory, with its self-test.
    sources
        By lead set.
    held_out
        Records of the test split.
    gates
        What must be reached.
    left_out
        Variants that did not come so far, and why; for the record.
    openers
        Engines to try; the first is the one that decides whether a variant is packed.
    """
    info = held_out.dataset.info
    found: list[VariantEvidence] = []
    lead_sets = list(dict.fromkeys(spec.leads for spec in bundle.manifest.variants))
    for leads in tracked("comparing on the test split", lead_sets):
        found += _lead_set(bundle, leads, sources[leads], held_out, gates, openers, alarm_duration_s)
        found += _streams(bundle, leads, sources[leads], held_out, gates)
    alarms = any(evidence.alarms is not None for evidence in found)
    return Evidence(
        dataset=info.name,
        dataset_sha256=info.sha256,
        simulated=info.simulated,
        split="test",
        records=len(held_out.ecg_mv),
        patients=len(np.unique(held_out.patients)),
        gates=gates,
        alarm_stream=_stream_text(alarm_duration_s) if alarms else "",
        deciding_runner=next(iter(openers)),
        variants=tuple(found),
        left_out=left_out,
    )


def _stream_text(duration_s: float) -> str:
    patients = f"{len(SEEDS)} simulated patient{'s' if len(SEEDS) > 1 else ''}"
    return f"SIMULATED, {patients}, {duration_s / 60:g} min each: {COURSE.description}"


def _lead_set(
    bundle: Bundle,
    leads: tuple[str, ...],
    source: Source,
    held_out: HeldOut,
    gates: Gates,
    openers: Mapping[str, Opener],
    alarm_duration_s: float,
) -> Iterator[VariantEvidence]:
    """Yield the evidence of one lead set's window forms: the network answers once, and so do the streams of alarms."""
    specs = [spec for spec in bundle.manifest.variants if spec.leads == leads and spec.stream is None]
    if not specs:
        return
    network = _network(source, leads)
    rows = standard_rows(leads)
    ecg_mv = np.ascontiguousarray(held_out.ecg_mv[:, rows])
    reference = network(ecg_mv)
    with ExitStack() as opened:
        runners: dict[tuple[str, str], tuple[VariantSpec, Runner]] = {}
        for spec in specs:
            for engine, opener in openers.items():
                try:
                    runners[spec.name, engine] = spec, opened.enter_context(opener(bundle, spec))
                except EngineError as error:
                    yield _not_opened(spec, engine, error)
                except UsageError:  # not installed: nothing to say of it, unless everything hangs on it
                    if engine == next(iter(openers)):
                        raise
        alarms = _alarms(bundle, specs[0], network, runners, reference, alarm_duration_s)
        for (name, engine), (_, runner) in runners.items():
            outputs = runner.run(ecg_mv)
            comparison = compare(reference, outputs)
            tasks = tuple(_tasks(reference, outputs, held_out))
            yield _judge(name, engine, comparison, tasks, alarms.get((name, engine)), gates)


def _streams(
    bundle: Bundle, leads: tuple[str, ...], source: Source, held_out: HeldOut, gates: Gates
) -> Iterator[VariantEvidence]:
    """Yield the evidence of one lead set's streaming forms; ONNX Runtime alone steps them."""
    streams = [
        (spec, spec.stream)
        for spec in bundle.manifest.variants
        if spec.leads == leads and spec.stream is not None
    ]
    if not streams:
        return
    stream_mv = held_out.stream_mv(streams[0][1])
    rows = standard_rows(leads)
    reference = full_window_outputs(source, leads, stream_mv, streams[0][1])
    for spec, _ in streams:
        try:
            with open_step_runner(bundle, spec, beds=1) as runner:
                outputs = of_first_bed(stream_outputs(runner, stream_mv[rows], beds=[0]))
        except EngineError as error:
            yield _not_opened(spec, _STEP_ENGINE, error)
            continue
        yield _judge(spec.name, _STEP_ENGINE, compare(reference, outputs), (), None, gates)


def _network(
    source: Source, leads: tuple[str, ...]
) -> Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Return the trained network as a function of the measured leads alone, (B, K, T)."""
    rows = standard_rows(leads)

    def answer(ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        twelve = np.zeros((len(ecg_mv), len(STANDARD_LEADS), ecg_mv.shape[2]), np.float32)
        twelve[:, rows] = ecg_mv
        return masked_outputs(source.model, twelve, leads, source.calibration, probe=source.probe)

    return answer


def _alarms(
    bundle: Bundle,
    spec: VariantSpec,
    network: Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]],
    runners: Mapping[tuple[str, str], tuple[VariantSpec, Runner]],
    outputs: Outputs,
    duration_s: float,
) -> dict[tuple[str, str], AlarmAgreement]:
    if not has_alarms(list(outputs)) or not runners:
        return {}
    own = ("network", "")
    front_end, window_s = bundle.manifest.front_end, bundle.manifest.window_s
    trained: Runner = NetworkRunner(network, spec, window_samples=round(window_s * front_end.rate_hz))
    alarms = replay(bundle, {own: (spec, trained), **runners}, duration_s=duration_s)
    total_s, hop_s = duration_s * len(SEEDS), bundle.manifest.hop_s
    return {key: compare_alarms(alarms[own], alarms[key], duration_s=total_s, hop_s=hop_s) for key in runners}


def _tasks(network: Outputs, variant: Outputs, held_out: HeldOut) -> Iterator[TaskEvidence]:
    """Yield the metrics that both the outputs and what is known of the records allow."""
    yield from _class_tasks(network, variant, held_out)
    if PRESSURE in held_out.truth:
        yield from _pressure_tasks(network, variant, held_out, held_out.truth[PRESSURE])


def _class_tasks(network: Outputs, variant: Outputs, held_out: HeldOut) -> Iterator[TaskEvidence]:
    labels = [label for label in held_out.truth if f"p_{label}" in network]
    if not labels:
        return
    truth = np.stack([held_out.truth[label] for label in labels], axis=1)
    known = np.asarray(~np.isnan(truth).any(axis=1), np.bool_)
    both = [c for c in range(len(labels)) if 0 < truth[known, c].sum() < known.sum()]
    if both:
        scores = [np.stack([side[f"p_{labels[c]}"] for c in both], axis=1) for side in (network, variant)]
        yield _task("macro_auroc", macro_auroc, truth[:, both], scores, held_out.patients, known)


def _pressure_tasks(
    network: Outputs, variant: Outputs, held_out: HeldOut, mmhg: NDArray[np.float32]
) -> Iterator[TaskEvidence]:
    known = np.asarray(~np.isnan(mmhg), np.bool_)
    above = (mmhg > _CUT_MMHG).astype(np.float64)
    probability = f"p_gt_{_CUT_MMHG}"
    if probability in network and 0 < above[known].sum() < known.sum():
        scores = [side[probability] for side in (network, variant)]
        yield _task(f"auroc_gt_{_CUT_MMHG}", auroc, above, scores, held_out.patients, known)
    if PRESSURE in network and known.any():
        scores = [side[PRESSURE] for side in (network, variant)]
        mean = point(rmse, mmhg[known], np.full(int(known.sum()), held_out.train_mean_mmhg))
        yield _task("rmse_mmhg", rmse, mmhg, scores, held_out.patients, known, baseline=mean)


def _task(
    name: str,
    metric: Metric,
    truth: NDArray[Any],
    scores: Sequence[NDArray[Any]],
    patients: NDArray[Any],
    known: NDArray[np.bool_],
    *,
    baseline: float | None = None,
) -> TaskEvidence:
    network, variant = (side[known] for side in scores)
    difference = paired_bootstrap(metric, truth[known], network, variant, patients[known])
    return TaskEvidence(
        metric=name,
        network=point(metric, truth[known], network),
        variant=point(metric, truth[known], variant),
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        patients=difference.patients,
        baseline=baseline,
    )


def _not_opened(spec: VariantSpec, engine: str, error: EngineError) -> VariantEvidence:
    return VariantEvidence(spec.name, engine, 0, {}, 0.0, None, None, (), None, (str(error),))


def _judge(
    variant: str,
    engine: str,
    comparison: Comparison,
    tasks: tuple[TaskEvidence, ...],
    alarms: AlarmAgreement | None,
    gates: Gates,
) -> VariantEvidence:
    gate = Int8Gate(gates.min_cosine, gates.min_median_cosine, gates.max_abs)
    failed = missed_limits(comparison, gate)
    # Written so that a number that is none fails as well.
    failed += [
        f"{task.metric} falls by {-task.difference:.4f}, allowed is {gates.max_auroc_loss:g}"
        for task in tasks
        if "auroc" in task.metric and not -task.difference <= gates.max_auroc_loss
    ]
    least = gates.min_alarm_agreement
    if alarms is not None and not alarms.agreement >= least:
        failed.append(f"alarms agree to {alarms.agreement:.0%}, the least is {least:.0%}")
    return VariantEvidence(
        variant=variant,
        runner=engine,
        windows=comparison.windows,
        max_abs={name: difference.max_abs for name, difference in comparison.outputs.items()},
        max_relative=max((d.relative for d in comparison.decisions.values()), default=0.0),
        min_cosine=comparison.min_cosine,
        median_cosine=comparison.median_cosine,
        tasks=tasks,
        alarms=alarms,
        failed=tuple(failed),
    )


def refused_variants(evidence: Evidence) -> dict[str, str]:
    """Return the variants that must not be packed, with their reasons: those that fail on the deciding engine."""
    return {
        found.variant: "; ".join(found.failed)
        for found in evidence.variants
        if found.failed and found.runner == evidence.deciding_runner
    }
