"""A finished run as a bundle: every lead set in every precision, self-test, model card, bill of materials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import (
    RESEARCH_USE_ONLY,
    SCHEMA_VERSION,
    EngineRecord,
    Manifest,
    OutputSpec,
    Precision,
    Provenance,
    ResultRow,
    write_bundle,
)
from ecgedge.errors import BundleError, EngineError
from ecgedge.leads import format_lead_set, parse_lead_set
from ecgedge.policy import AlarmPolicy
from ecgedge.runtime.selftest import SELF_TEST_FILE, SelfTest, write_self_test
from ecgedge.schema import from_plain
from ecgedge_export.card import write_card
from ecgedge_export.compare import Int8Gate
from ecgedge_export.engines.rtx import build_engine
from ecgedge_export.fold import output_names
from ecgedge_export.sbom import write_sbom
from ecgedge_export.step_network import causal_encoder
from ecgedge_export.streams import build_stream_variants
from ecgedge_export.targets import TargetProfile, load_target, target_toml
from ecgedge_export.variants import BuiltVariant, Source, Windows, build_variants
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.dataset import EcgDataset, open_dataset
from ecgedge_train.evaluate import PROBE_FOLDER, headline_rows, load_probes, read_dataset_sha256, read_rows
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.model import HemodynamicsHead
from ecgedge_train.recipe import ImportedObjective, to_toml
from ecgedge_train.run import ENVIRONMENT_FILE, DataInfo, Run, load_run

DEFAULT_LEAD_SETS = ("12", "I,II,V1", "I,II", "I", "II")
DEFAULT_HOP_S = 5.0
SELF_TEST_WINDOWS = 4
INTENDED_USE = (
    "Research on ECG-derived estimates in simulated and recorded data. Not for diagnosis, monitoring or treatment. "
    + RESEARCH_USE_ONLY
)
Form = Literal["window", "stream", "both"]
_BUILDERS = {
    "window": (build_variants,),
    "stream": (build_stream_variants,),
    "both": (build_variants, build_stream_variants),
}
_VERSIONS = ("ecgedge", "torch", "onnx", "onnxruntime", "numpy", "scipy")


def export_run(
    run_dir: Path | str,
    *,
    data: Path | str,
    target: str,
    out: Path,
    lead_sets: Sequence[str] | None = None,
    precisions: Sequence[Precision] | None = None,
    report: Path | None = None,
    name: str | None = None,
    intended_use: str = INTENDED_USE,
    alarm_policy: AlarmPolicy | None = None,
    hop_s: float = DEFAULT_HOP_S,
    calibration_samples: int = 256,
    gate_samples: int = 128,
    int8_gate: Int8Gate | None = None,
    engines: bool = True,
    form: Form = "window",
) -> str:
    """Write the bundle of a finished run and return its id.

    Parameters
    ----------
    run_dir
        From training.
    data
        The data set that the run was trained on; for imported weights, the one that the report's probes were fitted
        on. INT8 is calibrated on its training split, and everything is held against the network on its tune split.
    target
        One of `ecgedge_export.targets.target_names()`.
    out
        Bundle directory or `.ecgb.zip`; must not exist.
    lead_sets
        Such as "I,II"; each becomes a variant. By default those of the report's probes, else DEFAULT_LEAD_SETS.
    precisions
        The target's own by default.
    report
        Folder that `ecgedge evaluate` wrote for this run. Its figures for the exported lead sets go onto the card;
        if it holds linear probes, each lead set's own becomes the outputs p_<CLASS>.
    name
        Of the model; by default "<data set>-<encoder>".
    calibration_samples, gate_samples
        How many windows at most.
    int8_gate
        What INT8 must reach, and whether a lead set that does not is refused (default) or shipped in fp32 only.
    engines
        Build engines where the target builds them at export; of window forms only.
    form
        "window", "stream", or "both" in one bundle. A streaming form needs a causal encoder.

    Raises
    ------
    EngineError
        If a variant does not pass its gate, or its calibration is missing.
    BundleError
        If `out` exists.
    """
    if out.exists():
        raise BundleError(f"{out} exists already; remove it or choose another name")
    profile, run, dataset = load_target(target), load_run(run_dir), open_dataset(data)
    if form != "window":
        causal_encoder(run.model.encoder)  # refused before minutes of work
    fitted_on = _fitted_on(run, dataset, report)
    windows = _windows(dataset, calibration_samples=calibration_samples, gate_samples=gate_samples)
    probes = _probes(report)
    chosen = _chosen(lead_sets, report, probes)
    built: list[BuiltVariant] = []
    for leads in chosen:
        source = Source(
            run.model, _calibration(run, leads), probes.get(leads), dataset.info.front_end.rate_hz
        )
        for build in _BUILDERS[form]:
            built += build(
                source,
                leads,
                precisions=precisions or profile.precisions,
                flavour=profile.flavour,
                windows=windows,
                int8_gate=int8_gate or Int8Gate(),
            )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name or f"{run.data.name}-{run.recipe.encoder.name}",
        target=profile.name,
        window_s=dataset.info.window_samples / dataset.info.front_end.rate_hz,
        hop_s=hop_s,
        front_end=dataset.info.front_end,
        outputs=_outputs(output_names(run.model, probes.get(chosen[0])), run.model.encoder.embedding_size),
        variants=tuple(variant.spec for variant in built),
        alarm_policy=alarm_policy or AlarmPolicy(),
        envelope=fitted_on.envelope,
        results=() if report is None else _results(report, chosen),
        provenance=_provenance(run, fitted_on),
        intended_use=intended_use,
        files={},
    )
    records = _engines(built, profile) if engines else {}
    return write_bundle(out, manifest=manifest, files=_files(manifest, built, windows), engines=records)


def _probes(report: Path | None) -> dict[tuple[str, ...], LinearProbe]:
    """Return each lead set's own probe; none if the report has none."""
    if report is None or not (report / PROBE_FOLDER).is_dir():
        return {}
    return {parse_lead_set(name): probe for name, probe in load_probes(report).items()}


def _chosen(
    lead_sets: Sequence[str] | None, report: Path | None, probes: Mapping[tuple[str, ...], LinearProbe]
) -> tuple[tuple[str, ...], ...]:
    """Return the lead sets to export, the largest first unless they were given."""
    if lead_sets is None:
        by_size = sorted(probes, key=lambda leads: (-len(leads), leads))
        return tuple(by_size) or tuple(parse_lead_set(text) for text in DEFAULT_LEAD_SETS)
    chosen = tuple(dict.fromkeys(parse_lead_set(text) for text in lead_sets))
    missing = [format_lead_set(leads) for leads in chosen if probes and leads not in probes]
    if missing:
        raise EngineError(
            f"{report} holds no probe for lead set {'; '.join(missing)}; evaluate the run with these --lead-sets, "
            f"or export only {'; '.join(map(format_lead_set, probes))}"
        )
    return chosen


def _results(report: Path, lead_sets: Sequence[tuple[str, ...]]) -> tuple[ResultRow, ...]:
    """Return the report's headline rows of the exported lead sets."""
    names = {format_lead_set(leads) for leads in lead_sets}
    return tuple(row for row in headline_rows(read_rows(report)) if row.lead_set in names)


def _fitted_on(run: Run, dataset: EcgDataset, report: Path | None) -> DataInfo:
    """Return what the outputs were fitted on: the data of the training; of imported weights, those of the probes."""
    if isinstance(run.recipe.objective, ImportedObjective):
        probed = from_plain(DataInfo, dataset.info.for_run())
        if report is not None and read_dataset_sha256(report) != probed.sha256:
            raise EngineError(
                f"{report} was made on another data set than {dataset.directory} ({probed.name}, "
                f"{probed.sha256[:12]}); give the one that the imported run was evaluated on"
            )
        seen = f"Only the linear probes, if any, were fitted on these. {probed.attribution} {run.data.attribution}"
        return replace(probed, attribution=seen)
    if not run.data.holds(dataset.info.sha256):
        raise EngineError(
            f"{run.path} was trained on {run.data.name} ({run.data.sha256[:12]}), but {dataset.directory} is "
            f"{dataset.info.name} ({dataset.info.sha256[:12]}); give the data set of the training"
        )
    return run.data


def _calibration(run: Run, leads: tuple[str, ...]) -> LeadSetCalibration | None:
    if not any(isinstance(head, HemodynamicsHead) for head in run.model.heads.values()):
        return None
    lead_set = format_lead_set(leads)
    known = run.calibration or {}
    if lead_set not in known:
        raise EngineError(
            f"{run.path} holds no calibration for the lead set {lead_set}; it has: {'; '.join(known) or 'none'}. "
            "An uncalibrated probability must not ship: calibrate the run for it, or leave the lead set out"
        )
    return known[lead_set]


def _windows(dataset: EcgDataset, *, calibration_samples: int, gate_samples: int) -> Windows:
    gate = _complete_windows(dataset, "tune", gate_samples)
    chosen = np.linspace(0, len(gate) - 1, min(SELF_TEST_WINDOWS, len(gate))).astype(np.int64)
    return Windows(
        calibration=_complete_windows(dataset, "train", calibration_samples),
        gate=gate,
        self_test=gate[chosen],
        lsb_mv=dataset.info.front_end.lsb_mv,
    )


def _complete_windows(dataset: EcgDataset, split: str, limit: int) -> NDArray[np.int16]:
    """Return up to `limit` windows with all 12 leads, spread over the split, as counts."""
    rows = dataset.select(split=split)
    rows = rows[dataset.presence(rows).all(axis=1)]
    if len(rows) == 0:
        raise EngineError(f"{dataset.directory}: no record of the split {split!r} has all 12 leads")
    spread = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(np.int64))
    counts: NDArray[np.int16] = dataset.gather(rows[spread], np.int16)
    return counts


def _outputs(names: Sequence[str], embedding_size: int) -> tuple[OutputSpec, ...]:
    return tuple(_output(name, embedding_size) for name in names)


def _output(name: str, embedding_size: int) -> OutputSpec:
    if name == "embedding":
        return OutputSpec(name, "embedding", embedding_size, "Embedding of the window")
    if name == "mpcwp_mmhg":
        return OutputSpec(name, "pressure_mmhg", 1, "Estimated mean pulmonary capillary wedge pressure")
    if name in ("p_gt_15", "p_gt_18"):
        return OutputSpec(
            name, "probability", 1, f"Calibrated probability that mPCWP exceeds {name[-2:]} mmHg"
        )
    return OutputSpec(name, "probability", 1, f"Probability of the class {name[2:]} (not calibrated)")


def _trained_on(data: DataInfo) -> str:
    text = f"{data.name}, training split: {data.records} records of {data.patients} patients"
    return f"{text}. {data.attribution}" if data.attribution else text


def _provenance(run: Run, data: DataInfo) -> Provenance:
    environment: Mapping[str, object] = {}
    if (run.path / ENVIRONMENT_FILE).is_file():
        environment = json.loads((run.path / ENVIRONMENT_FILE).read_text("utf-8"))
    commit = environment.get("git_commit")
    return Provenance(
        trained_on=_trained_on(data),
        simulated=data.simulated,
        recipe_toml=to_toml(run.recipe),
        dataset_sha256=data.sha256,
        versions={package: metadata.version(package) for package in _VERSIONS},
        git_commit=commit if isinstance(commit, str) else None,
    )


def _engines(built: Sequence[BuiltVariant], profile: TargetProfile) -> dict[str, tuple[EngineRecord, bytes]]:
    if profile.engine is None or profile.engine.built != "export":
        return {}
    made: dict[str, tuple[EngineRecord, bytes]] = {}
    for variant in (v for v in built if v.spec.stream is None):
        engine = build_engine(
            variant.onnx_bytes,
            onnx_file=variant.spec.file,
            compute_capabilities=profile.engine.compute_capabilities,
            batch=profile.engine.batch,
        )
        folder = variant.spec.file.removeprefix("variants/").removesuffix("/model.onnx")
        made[folder] = (engine.record, engine.engine)
    return made


def _files(manifest: Manifest, built: Sequence[BuiltVariant], windows: Windows) -> dict[str, bytes]:
    models = {variant.spec.file: variant.onnx_bytes for variant in built}
    test = SelfTest(windows.self_test, {variant.spec.name: variant.expected for variant in built})
    return {
        **models,
        SELF_TEST_FILE: write_self_test(test),
        "card.md": write_card(manifest),
        "sbom.json": write_sbom(name=manifest.name, files=models),
        "target.toml": target_toml(manifest.target).encode(),
    }
