"""The model card of a bundle: what it is, what it was trained on, how good it was found, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ecgedge.bundle import RESEARCH_USE_ONLY, Manifest, OutputSpec, ResultRow, VariantSpec
from ecgedge.leads import format_lead_set

LIMITS = (
    "No clinical validity is claimed, and none has been shown.",
    "Results hold for the data set named; other devices, electrodes and patients can give other results.",
    "Windows outside the training envelope, with poor signal, or with leads swapped give meaningless numbers.",
    "An interval covers only as far as new patients resemble those it was calibrated on.",
)


def write_card(manifest: Manifest) -> bytes:
    """Return the card in Markdown; every number in it comes from the manifest."""
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


def _half_width(variant: VariantSpec) -> str:
    if variant.interval_halfwidth_mmhg is None or variant.interval_coverage is None:
        return "none"
    return f"+-{variant.interval_halfwidth_mmhg:.1f} mmHg at {variant.interval_coverage:.0%}"


def _table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in body]
    return "\n".join(f"| {line} |" for line in lines)
