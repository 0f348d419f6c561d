"""A bundle in plain text."""

from __future__ import annotations

from ecgedge.bundle.manifest import RESEARCH_USE_ONLY, Bundle, ResultRow


def describe_bundle(bundle: Bundle) -> str:
    """Write what a bundle is as plain text for `ecgedge bundle show`."""
    m = bundle.manifest
    lines = [
        f"{m.name}  (target {m.target}, id {bundle.id})",
        f"  trained on: {m.provenance.trained_on}" + (" - SIMULATED DATA" if bundle.simulated else ""),
        f"  intended use: {m.intended_use}",
        f"  window {m.window_s:g} s at {m.front_end.rate_hz:g} Hz, a new estimate each {m.hop_s:g} s",
        f"  outputs: {', '.join(o.name for o in m.outputs)}",
        "  variants:",
    ]
    for v in m.variants:
        half = (
            "" if v.interval_halfwidth_mmhg is None else f", interval +-{v.interval_halfwidth_mmhg:.1f} mmHg"
        )
        size = len(bundle.contents[v.file])
        lines.append(
            f"    {v.name:<18} {v.parameters:>9,} parameters, {v.macs / 1e6:.1f} MMAC a "
            f"{'window' if v.stream is None else 'chunk'}, {size:,} B{half}"
        )
    lines += [
        f"    engine of {e.onnx_file} for {e.gpu} ({e.runtime} {e.runtime_version}), self-test {e.self_test}"
        for e in bundle.engines
    ]
    lines += [f"    set aside, never loaded: {reason}" for reason in bundle.set_aside]
    lines += ["  results:"] + [_result_line(row) for row in m.results] if m.results else []
    return "\n".join([*lines, f"  {RESEARCH_USE_ONLY}"])


def _result_line(row: ResultRow) -> str:
    interval = "" if row.low is None or row.high is None else f" ({row.low:.3f} to {row.high:.3f})"
    baseline = "" if row.baseline is None else f", baseline {row.baseline:.3f}"
    patients = "" if row.patients is None else f", {row.patients} patients"
    return f"    {row.dataset}, {row.lead_set}: {row.metric} {row.value:.3f}{interval}{baseline}{patients}"
