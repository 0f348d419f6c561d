"""What a bed gains by more leads: each variant's measured accuracy beside what it costs.

The accuracies are the manifest's own results, measured per lead set on test patients; the costs are of the file
(and of this machine, where `ecgedge bench` has measured them). The comparison is with the smallest lead set of
the bundle, which is what remains when electrodes fall off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ecgedge.bundle import Bundle, Manifest, ResultRow, VariantSpec
from ecgedge.leads import format_lead_set


@dataclass(frozen=True)
class Gain:
    """One variant: accuracy of its lead set, what that is more than the reference, and what it costs.

    Attributes
    ----------
    difference
        Value minus that of the reference lead set; whether more is better depends on the metric.
    clear
        Whether the reference's value lies outside this lead set's interval; None without an interval.
    macs_ratio
        Multiply-accumulates a window against the reference's.
    """

    variant: VariantSpec
    result: ResultRow
    reference: str
    difference: float
    clear: bool | None
    macs_ratio: float


def lead_set_gains(manifest: Manifest) -> tuple[Gain, ...]:
    """Return one row a variant, for the first figure that every lead set of the bundle has.

    Empty if there is no such figure, or only one lead set: then there is nothing to compare. Streaming forms, whose
    costs are those of a chunk, are left out.
    """
    variants = [v for v in manifest.variants if v.stream is None]
    lead_sets = {format_lead_set(v.leads): v for v in reversed(variants)}
    rows = _shared_figure(manifest, set(lead_sets))
    if len(rows) < 2:
        return ()
    fewest = min(len(v.leads) for v in variants)
    smallest = [name for name, variant in lead_sets.items() if len(variant.leads) == fewest]
    reference = max(smallest, key=lambda name: rows[name].value)
    return tuple(
        _gain(v, rows[format_lead_set(v.leads)], rows[reference], lead_sets[reference]) for v in variants
    )


def _shared_figure(manifest: Manifest, lead_sets: set[str]) -> dict[str, ResultRow]:
    """Return, by lead set, the rows of the first (data, metric) that all lead sets have."""
    for first in manifest.results:
        rows = {
            row.lead_set: row
            for row in manifest.results
            if (row.dataset, row.metric) == (first.dataset, first.metric) and row.lead_set in lead_sets
        }
        if set(rows) == lead_sets:
            return rows
    return {}


def _gain(variant: VariantSpec, result: ResultRow, reference: ResultRow, cheapest: VariantSpec) -> Gain:
    clear = None
    if result.low is not None and result.high is not None:
        clear = not result.low <= reference.value <= result.high
    return Gain(
        variant=variant,
        result=result,
        reference=reference.lead_set,
        difference=result.value - reference.value,
        clear=clear,
        macs_ratio=variant.macs / cheapest.macs if cheapest.macs else 1.0,
    )


def accuracy_text(result: ResultRow) -> str:
    """Write "0.779 (0.755 to 0.803)"."""
    interval = (
        "" if result.low is None or result.high is None else f" ({result.low:.3f} to {result.high:.3f})"
    )
    return f"{result.value:.3f}{interval}"


def difference_text(gain: Gain) -> str:
    """Write "+0.013, within its interval", or "reference" for the reference itself."""
    if format_lead_set(gain.variant.leads) == gain.reference:
        return "reference"
    return f"{gain.difference:+.3f}" + (", within its interval" if gain.clear is False else "")


def title_text(gain: Gain, *, simulated: bool) -> str:
    """Write what is compared with what, and that a figure is the network's, in whatever precision it is served."""
    data = f"{gain.result.dataset}{', SIMULATED' if simulated else ''}"
    return (
        f"What a bed gains by its leads: {gain.result.metric} on {data}, against {gain.reference} alone (of the "
        "trained network; what a variant's precision changes stands in its evidence)"
    )


def describe_gains(bundle: Bundle, *, latency_ms: Mapping[str, float] | None = None) -> str:
    """Write the table as plain text; empty if there is nothing to compare.

    Parameters
    ----------
    bundle
        Whose variants.
    latency_ms
        Median of one window on this machine, by variant name, where it was measured.
    """
    gains = lead_set_gains(bundle.manifest)
    if not gains:
        return ""
    lines = [f"  {title_text(gains[0], simulated=bundle.simulated)}:"]
    for gain in gains:
        v = gain.variant
        took = f", {latency_ms[v.name]:.2f} ms" if latency_ms and v.name in latency_ms else ""
        lines.append(
            f"    {v.name:<18} {accuracy_text(gain.result)}  {difference_text(gain):<30} x{gain.macs_ratio:.2f} MACs, "
            f"{len(bundle.contents[v.file]) / 1e3:.0f} kB{took}"
        )
    return "\n".join(lines)
