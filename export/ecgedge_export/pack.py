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
    Bundle,
    Manifest,
    OutputSpec,
    PackedEngine,
    Precision,
    Provenance,
    ResultRow,
    write_bundle,
)
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.leads import format_lead_set, parse_lead_set
from ecgedge.policy import AlarmPolicy
from ecgedge.progress import tracked
from ecgedge.runtime.building import Maker, make_engine
from ecgedge.runtime.engines import engine_folder
from ecgedge.runtime.selftest import SELF_TEST_FILE, SelfTest, write_self_test
from ecgedge.schema import from_plain
from ecgedge.target import TARGET_FILE, Gates, TargetProfile
from ecgedge_export.calibration import Calibration, tensor_ranges
from ecgedge_export.card import write_card
from ecgedge_export.compare import Int8Gate
from ecgedge_export.evidence import (
    DEFAULT_RECORDS,
    EVIDENCE_FILE,
    PRESSURE,
    Evidence,
    HeldOut,
    gather_evidence,
    refused_variants,
)
from ecgedge_export.fold import output_names
from ecgedge_export.int8 import Int8Options
from ecgedge_export.mcu.bundled import McuVariant, make_mcu_variant
from ecgedge_export.quant_plan import Flavour
from ecgedge_export.sbom import write_sbom
from ecgedge_export.sensitivity import Sensitivity, measure_sensitivity
from ecgedge_export.step_network import causal_encoder
from ecgedge_export.streams import build_stream_variants
from ecgedge_export.targets import load_target, target_toml
from ecgedge_export.variants import (
    BuiltVariant,
    Source,
    Windows,
    build_variants,
    export_exact,
    with_embedding,
)
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.dataset import EcgDataset, open_dataset
from ecgedge_train.evaluate import PROBE_FOLDER, headline_rows, load_probes, read_dataset_sha256, read_rows
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.model import HemodynamicsHead
from ecgedge_train.recipe import ImportedObjective, head_label, to_toml
from ecgedge_train.run import ENVIRONMENT_FILE, DataInfo, Run, load_run

DEFAULT_LEAD_SETS = ("12", "I,II,V1", "I,II", "I", "II")
DEFAULT_HOP_S = 5.0
SELF_TEST_WINDOWS = 4
DEFAULT_CALIBRATION_RECORDS = 2048
"""One artefact in a thousand records decides a range."""
TUNE_SHARE = 0.8
"""Of the largest difference that the target allows: that of the tune split must be so much smaller, since the test
split has other records, and whatever is chosen by a few records looks a little too good on them."""
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
_ENDINGS: Mapping[Form, tuple[str, ...]] = {"window": ("",), "stream": ("/stream",), "both": ("", "/stream")}
"""Of the names of the variants that a form makes."""
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
    calibration_samples: int = DEFAULT_CALIBRATION_RECORDS,
    gate_samples: int = 256,
    gates: Gates | None = None,
    failing: Literal["refuse", "leave_out"] = "refuse",
    int8_options: Int8Options | None = None,
    evidence_records: int = DEFAULT_RECORDS,
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
        on. INT8 is calibrated on its training split, its form is chosen on the tune split, and everything is held
        against the network on the test split.
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
    gates
        What every variant must reach; the target's own by default. The tune split gets TUNE_SHARE of `max_abs`.
    failing
        Whether a variant that does not refuses the export, or is left out and named on the card.
    int8_options
        How INT8 is calibrated, which layers stay in float, whether it may be fine-tuned.
    evidence_records
        How many records of the test split at most; with 0 the bundle is packed without evidence, and says so.
    engines
        Build engines where the target builds them at export; of window forms only.
    form
        "window", "stream", or "both" in one bundle. A streaming form needs a causal encoder.

    Raises
    ------
    EngineError
        If a variant does not pass its gate, none does, its calibration is missing, the target has no streaming form, or
        the head says another label than mpcwp_mmhg.
    UsageError
        If layers of a streaming form are to stay in float.
    BundleError
        If `out` exists.
    """
    if out.exists():
        raise BundleError(f"{out} exists already; remove it or choose another name")
    profile, run, dataset = load_target(target), load_run(run_dir), open_dataset(data)
    if form != "window":
        # Refused before minutes of work.
        causal_encoder(run.model.encoder)
        _require_streamable(profile, int8_options or Int8Options())
    fitted_on = _fitted_on(run, dataset, report)
    _require_mpcwp(run)
    limits = gates or profile.gates
    gate = Int8Gate(
        limits.min_cosine, limits.min_median_cosine, TUNE_SHARE * limits.max_abs, otherwise=failing
    )
    windows = _windows(dataset, calibration_samples=calibration_samples, gate_samples=gate_samples)
    probes = _probes(report)
    chosen = _chosen(lead_sets, report, probes)
    rate_hz = dataset.info.front_end.rate_hz
    sources = {
        leads: Source(run.model, _calibration(run, leads), probes.get(leads), rate_hz) for leads in chosen
    }
    wanted = precisions or profile.precisions
    built: list[BuiltVariant] = []
    for leads, source in tracked("exporting lead sets", list(sources.items())):
        for build in _BUILDERS[form]:
            built += build(
                source,
                leads,
                precisions=wanted,
                flavour=profile.flavour,
                windows=windows,
                int8_gate=gate,
                int8_options=int8_options,
            )
    left_out = _left_out(built, chosen, wanted, form)
    if not built:
        raise EngineError(
            f"nothing to pack: {'; '.join(f'{name} {why}' for name, why in left_out.items())}. Train longer, or export "
            "fp32 as well: --precision fp32"
        )
    built = [with_embedding(variant, windows) for variant in built]
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
    evidence = None
    if evidence_records > 0:
        evidence = gather_evidence(
            Bundle("", manifest, "the export", _tested_files(built, windows)),
            sources,
            HeldOut.of(dataset, _complete_rows(dataset, "test", evidence_records)),
            gates=limits,
            left_out=left_out,
        )
        built = _proven(built, evidence, failing=failing)
        manifest = replace(manifest, variants=tuple(variant.spec for variant in built))
    records = _engines(built, profile) if engines else {}
    in_c = (
        [make_mcu_variant(variant, sources[variant.spec.leads], windows, gate=gate) for variant in built]
        if profile.flavour == "mcu"
        else []
    )
    files = _files(manifest, built, windows, evidence, left_out, in_c)
    return write_bundle(out, manifest=manifest, files=files, engines=records)


def _require_mpcwp(run: Run) -> None:
    """Refuse a head that says something else: a device would show it, and raise alarms by it, as mPCWP in mmHg."""
    label = head_label(run.recipe.objective)
    if label not in (None, PRESSURE):
        raise EngineError(
            f"{run.path} was trained to say {label}, and a bundle's estimate, its interval and its alarms are those of "
            f"{PRESSURE}. If {label} is a mean wedge pressure in mmHg, call its column {PRESSURE}, build the dataset "
            "again and train with that; if not, `ecgedge evaluate` scores the run, and no bundle is made of it"
        )


def _require_streamable(profile: TargetProfile, options: Int8Options) -> None:
    if profile.flavour == "mcu":
        raise EngineError(
            f"{profile.name}: the quantizer knows no streaming form for integer C (its poolings would stay in float); "
            "export with --form window"
        )
    if options.float_layers:
        raise UsageError(
            f"--float-layers {','.join(options.float_layers)}: all layers of a streaming form are quantized; leave the "
            "option out, or export with --form window"
        )


def _left_out(
    built: Sequence[BuiltVariant],
    lead_sets: Sequence[tuple[str, ...]],
    precisions: Sequence[Precision],
    form: Form,
) -> dict[str, str]:
    """Name what the builders left out; they leave out what does not pass the gate on the tune split."""
    made = {variant.spec.name for variant in built}
    names = [
        f"{format_lead_set(leads)}/{precision}{ending}"
        for leads in lead_sets
        for ending in _ENDINGS[form]
        for precision in precisions
    ]
    return {name: "did not pass its gate on the tune split" for name in names if name not in made}


def _proven(
    built: Sequence[BuiltVariant], evidence: Evidence, *, failing: Literal["refuse", "leave_out"]
) -> list[BuiltVariant]:
    """Return the variants that the evidence supports."""
    refused = refused_variants(evidence)
    proven = [variant for variant in built if variant.spec.name not in refused]
    if refused and (failing == "refuse" or not proven):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise EngineError(
            f"not packed: {reasons} ({evidence.records} records of the test split of {evidence.dataset}). Train "
            "longer, or leave these variants out: --int8-or-fp32, --precision, --lead-sets"
        )
    return proven


def run_sensitivity(
    run_dir: Path | str,
    *,
    data: Path | str,
    flavour: Flavour,
    lead_sets: Sequence[tuple[str, ...]],
    calibration: Calibration | None = None,
    calibration_samples: int = DEFAULT_CALIBRATION_RECORDS,
    samples: int = 64,
) -> tuple[Sensitivity, ...]:
    """Return what 8 bits do to each layer of a finished run, one report a lead set; see `sensitivity.py`.

    Ranges and measurement are of the training split: the split of the gate takes no part in choosing layers.

    Parameters
    ----------
    run_dir, data
        As for `export_run`.
    lead_sets
        In standard order each.
    calibration_samples, samples
        How many windows at most give the ranges, and are measured on.
    """
    run, dataset = load_run(run_dir), open_dataset(data)
    _fitted_on(run, dataset, None)
    windows = _windows(dataset, calibration_samples=calibration_samples, gate_samples=1)
    ecg_mv = windows.to_mv(windows.calibration)
    some = ecg_mv[:: max(1, len(ecg_mv) // samples)]
    reports = []
    for leads in lead_sets:
        source = Source(run.model, _calibration(run, leads), None, dataset.info.front_end.rate_hz)
        exact = export_exact(source, leads, window_samples=ecg_mv.shape[2])
        ranges = tensor_ranges(exact, ecg_mv, leads=leads, calibration=calibration)
        reports.append(measure_sensitivity(exact, ranges, some, leads=leads, flavour=flavour))
    return tuple(reports)


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
        clip_mv=dataset.info.front_end.clip_mv,
    )


def _complete_windows(dataset: EcgDataset, split: str, limit: int) -> NDArray[np.int16]:
    """Return up to `limit` windows with all 12 leads, spread over the split, as counts."""
    counts: NDArray[np.int16] = dataset.gather(_complete_rows(dataset, split, limit), np.int16)
    return counts


def _complete_rows(dataset: EcgDataset, split: str, limit: int) -> NDArray[np.int64]:
    rows = dataset.select(split=split)
    rows = rows[dataset.presence(rows).all(axis=1)]
    if len(rows) == 0:
        raise EngineError(f"{dataset.directory}: no record of the split {split!r} has all 12 leads")
    spread: NDArray[np.int64] = np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(np.int64)
    return rows[np.unique(spread)]


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


def _engines(built: Sequence[BuiltVariant], profile: TargetProfile) -> dict[str, PackedEngine]:
    if profile.engine is None or profile.engine.built != "export":
        return {}
    maker, batch = Maker.ahead_of_time(profile.engine.compute_capabilities), profile.engine.batch
    return {
        engine_folder(variant.spec): make_engine(
            variant.onnx_bytes, onnx_file=variant.spec.file, maker=maker, batch=batch
        )
        for variant in built
        if variant.spec.stream is None
    }


def _files(
    manifest: Manifest,
    built: Sequence[BuiltVariant],
    windows: Windows,
    evidence: Evidence | None,
    left_out: Mapping[str, str],
    in_c: Sequence[McuVariant],
) -> dict[str, bytes]:
    models = {variant.spec.file: variant.onnx_bytes for variant in built}
    return {
        **_tested_files(built, windows),
        **({} if evidence is None else {EVIDENCE_FILE: evidence.to_json()}),
        "card.md": write_card(manifest, evidence, left_out=left_out, in_c=in_c),
        "sbom.json": write_sbom(name=manifest.name, files=models),
        TARGET_FILE: target_toml(manifest.target).encode(),
        **{f"{made.folder}/{name}": content for made in in_c for name, content in made.files.items()},
    }


def _tested_files(built: Sequence[BuiltVariant], windows: Windows) -> dict[str, bytes]:
    """Return the models and their self-test."""
    models = {variant.spec.file: variant.onnx_bytes for variant in built}
    test = SelfTest(windows.self_test, {variant.spec.name: variant.expected for variant in built})
    return {**models, SELF_TEST_FILE: write_self_test(test)}
