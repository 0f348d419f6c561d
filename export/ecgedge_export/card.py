"""The model card of a bundle: what it is, what it was trained on, how good it was found, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ecgedge.bundle import RESEARCH_USE_ONLY, Manifest, OutputSpec, ResultRow, VariantSpec
from ecgedge.gains import Gain, accuracy_text, difference_text, lead_set_gains, title_text
from ecgedge.leads import format_lead_set
from ecgedge.schema import to_plain
from ecgedge_export.evidence import Evidence, TaskEvidence, VariantEvidence
from ecgedge_export.mcu.bundled import McuVariant

LIMITS = (
    "No clinical validity is claimed, and none has been shown.",
    "Results hold for the data set named; other devices, electrodes and patients can give other results.",
    "Windows outside the training envelope, with poor signal, or with leads swapped give meaningless numbers.",
    "An interval covers only as far as new patients resemble those it was calibrated on.",
)


def write_card(
    manifest: Manifest,
    evidence: Evidence | None = None,
    *,
    left_out: Mapping[str, str] | None = None,
    in_c: Sequence[McuVariant] = (),
) -> bytes:
    """Return the card in Markdown; every number in it comes from the manifest, the evidence and the variants in C.

    `left_out` says of variants that did not come as far as the evidence why.
    """
    provenance = manifest.provenance
    parts = [
        f"# {manifest.name}",
        f"**{RESEARCH_USE_ONLY}**",
        *([_simulated()] if provenance.simulated else []),
        "## Intended use",
        manifest.intended_use,
        "## Outputs",
        _outputs(manifest.outputs),
        "## Input",
        f"{manifest.window_s:g} s windows every {manifest.hop_s:g} s at {manifest.front_end.rate_hz:g} Hz, "
        f"in millivolts, high-pass {manifest.front_end.highpass_hz:g} Hz, "
        f"low-pass {manifest.front_end.lowpass_hz:g} Hz.",
        "## Training data",
        f"{provenance.trained_on}{', SIMULATED' if provenance.simulated else ''} "
        f"(data set SHA-256 {provenance.dataset_sha256}).",
        "## Results",
        _results(manifest.results, simulated=provenance.simulated),
        "## Variants",
        _variants(manifest.variants),
        *_gains(lead_set_gains(manifest), simulated=provenance.simulated),
        "## Evidence",
        "\n\n".join(_evidence(evidence, left_out or {})),
        *(["## In C", "\n\n".join(_in_c(in_c))] if in_c else []),
        "## Limits",
        "\n".join(f"- {limit}" for limit in LIMITS),
        "## Made with",
        _table(("package", "version"), sorted(provenance.versions.items())),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _simulated() -> str:
    return (
        "**SIMULATED: trained on simulated ECGs.** Its numbers show that the line works; "
        "they say nothing about patients."
    )


def _outputs(outputs: Sequence[OutputSpec]) -> str:
    return _table(
        ("name", "kind", "size", "meaning"), [(o.name, o.kind, o.size, o.description) for o in outputs]
    )


def _results(rows: Sequence[ResultRow], *, simulated: bool) -> str:
    if not rows:
        return "No evaluation was given when this bundle was exported."
    note = "Simulated data.\n\n" if simulated else ""
    body = [
        (
            row.dataset,
            row.lead_set,
            row.metric,
            f"{row.value:.3g}{_interval(row)}",
            "not given" if row.baseline is None else f"{row.baseline:.3g}",
            "not given" if row.patients is None else row.patients,
        )
        for row in rows
    ]
    return note + _table(("data", "leads", "metric", "value (95 % CI)", "baseline", "patients"), body)


def _interval(row: ResultRow) -> str:
    return "" if row.low is None or row.high is None else f" ({row.low:.3g} to {row.high:.3g})"


def _variants(variants: Sequence[VariantSpec]) -> str:
    body = [
        (
            format_lead_set(variant.leads),
            variant.precision if variant.stream is None else f"{variant.precision}, stream",
            f"{variant.parameters:,}",
            f"{variant.macs:,}",
            f"{variant.tolerance:.2g}",
            _half_width(variant),
            "; ".join(f"{key} {value:.5g}" for key, value in variant.results.items()) or "none",
        )
        for variant in variants
    ]
    head = (
        "leads",
        "precision",
        "parameters",
        "MACs a window (stream: a chunk)",
        "tolerance",
        "mPCWP interval",
        "against the network",
    )
    return _table(head, body)


def _gains(gains: Sequence[Gain], *, simulated: bool) -> list[str]:
    """Return the section on what more leads gain; nothing if there is nothing to compare."""
    if not gains:
        return []
    body = [
        (g.variant.name, accuracy_text(g.result), difference_text(g), f"x{g.macs_ratio:.2f}") for g in gains
    ]
    head = ("variant", f"{gains[0].result.metric} (95 % CI)", f"against {gains[0].reference}", "MACs")
    return ["## Leads", f"{title_text(gains[0], simulated=simulated)}.", _table(head, body)]


def _evidence(evidence: Evidence | None, left_out: Mapping[str, str]) -> Iterator[str]:
    """Yield paragraphs."""
    if evidence is None:
        yield "None was gathered when this bundle was exported: only the tune split and the self-test speak for it."
    else:
        yield from _gathered(evidence)
    if left_out:
        yield f"Left out before: {'; '.join(f'{name}: {reason}' for name, reason in left_out.items())}."
    if evidence is not None:
        limits = "; ".join(f"{name} {value:g}" for name, value in to_plain(evidence.gates).items())
        yield f"Limits that were applied: {limits}. Every number stands in evidence.json."


def _gathered(evidence: Evidence) -> Iterator[str]:
    kind = "SIMULATED" if evidence.simulated else "real"
    yield (
        f"Against the trained network, on {evidence.records} {kind} records of {evidence.patients} patients: the "
        f"{evidence.split} split of {evidence.dataset} (SHA-256 {evidence.dataset_sha256}), from which nothing was "
        "learnt, calibrated or chosen. Differences of metrics: variant less network, 95 % CI over patients."
    )
    yield _table(
        ("variant", "engine", "largest difference", "centred cosine", "metrics", "alarms", "verdict"),
        [_evidence_row(found) for found in evidence.variants],
    )
    if any(found.variant.endswith("/stream") for found in evidence.variants):
        yield (
            "A streaming form saw the records joined end to end, and was held against the full windows of that stream; "
            "no labels and no alarms belong to it."
        )
    if evidence.alarm_stream:
        yield f"Alarm transitions were compared on replayed streams. {evidence.alarm_stream}."


def _evidence_row(found: VariantEvidence) -> tuple[str, ...]:
    cosine = (
        "none"
        if found.median_cosine is None
        else f"median {found.median_cosine:.5f}, least {found.min_cosine:.5f}"
    )
    alarms = (
        "none"
        if found.alarms is None
        else f"{found.alarms.agreement:.0%} of {found.alarms.transitions} transitions, "
        f"{found.alarms.state_agreement:.1%} of the time"
    )
    return (
        found.variant,
        found.runner,
        "; ".join(f"{name} {value:.2g}" for name, value in found.max_abs.items()) or "none",
        cosine,
        "; ".join(_task(task) for task in found.tasks) or "none",
        alarms,
        f"NOT SERVED: {'; '.join(found.failed)}" if found.failed else "passed",
    )


def _task(task: TaskEvidence) -> str:
    interval = "" if task.low is None or task.high is None else f" ({task.low:+.4f} to {task.high:+.4f})"
    mean = "" if task.baseline is None else f", the mean alone {task.baseline:.3f}"
    return f"{task.metric} {task.variant:.3f}, network {task.network:.3f}, {task.difference:+.4f}{interval}{mean}"


def _in_c(variants: Sequence[McuVariant]) -> Iterator[str]:
    """Yield paragraphs."""
    yield (
        f"Integer C99 stands beside each INT8 file, in its folder c. Against the trained network on "
        f"{variants[0].comparison.windows} windows of the tune split, with the embedding in 8 bits:"
    )
    yield _table(
        ("variant", "RAM: arena + window", "flash: constants", "text", "MACs", "instructions a window", "a MAC",
         "of real time at 100 MHz", "centred cosine", "largest difference"),
        [_c_row(variant) for variant in variants],
    )  # fmt: skip
    run = variants[0].run
    yield (
        "Not compiled: arm-none-eabi-gcc or qemu-system-arm was missing when this was exported."
        if run is None
        else f"Text is code and constants, built with {run.compiler} -O2 for a Cortex-M4. Instructions were counted "
        f"under {run.emulator}, where every integer was the reference's; the share of real time is computed from them, "
        "at one instruction a cycle: nothing was timed on a processor."
    )


def _c_row(variant: McuVariant) -> tuple[str, ...]:
    source, run, found = variant.source, variant.run, variant.comparison
    most = 0 if run is None else max(run.instructions)
    return (
        variant.name,
        f"{source.arena_bytes:,} + {source.counts_bytes:,} bytes",
        f"{source.constant_bytes:,} bytes",
        "unknown" if run is None else f"{run.text_bytes:,} bytes",
        f"{source.program.macs:,}",
        "unknown" if run is None else f"{most:,}",
        "unknown" if run is None else f"{most / source.program.macs:.2f}",
        "unknown" if run is None else f"{run.real_time_factor(variant.window_s):.2%}",
        f"median {found.median_cosine:.5f}, least {found.min_cosine:.5f}",
        "; ".join(f"{name} {difference.max_abs:.2g}" for name, difference in found.outputs.items()),
    )


def _half_width(variant: VariantSpec) -> str:
    if variant.interval_halfwidth_mmhg is None or variant.interval_coverage is None:
        return "none"
    return f"+-{variant.interval_halfwidth_mmhg:.1f} mmHg at {variant.interval_coverage:.0%}"


def _table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in body]
    return "\n".join(f"| {line} |" for line in lines)
