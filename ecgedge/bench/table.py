"""A benchmark on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from ecgedge.bench.report import BenchedBundle, Report
from ecgedge.bundle import Bundle
from ecgedge.gains import describe_gains


def print_report(report: Report, bundles: Sequence[Bundle], console: Console) -> None:
    """Print the tables of each bundle, the pairs, and what the numbers depend on."""
    for benched, bundle in zip(report.bundles, bundles, strict=True):
        note = "  SIMULATED training data" if benched.simulated else ""
        console.print(f"{benched.name} ({benched.source}), id {benched.id[:12]}{note}", markup=False)
        console.print(_speeds(benched, hop_s=benched.hop_s))
        console.print(_processes(benched))
        for reason in benched.refused:
            console.print(f"not measured: {reason}", markup=False)
        latency_ms = {row.variant: row.speeds[0].p50_ms for row in reversed(benched.rows)}
        if gains := describe_gains(bundle, latency_ms=latency_ms):
            console.print(gains, markup=False, highlight=False, soft_wrap=True)
    if report.pairs:
        console.print(_pairs(report))
    machine, peak = report.machine, report.peak
    int8 = (
        "int8 not measured" if peak.int8_gops is None else f"int8 {peak.int8_gops:.0f} GOP/s ({peak.int8_by})"
    )
    for line in (
        f"Peak of one core: fp32 {peak.fp32_gflops:.0f} GFLOP/s ({peak.fp32_by}), {int8}. Energy: {report.energy}.",
        f"{machine.date}, {machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, "
        + ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        report.method,
        report.use,
    ):
        console.print(line, markup=False, highlight=False)


def _speeds(benched: BenchedBundle, *, hop_s: float) -> Table:
    rows = [
        (
            row.variant,
            row.runtime,
            str(s.batch),
            f"{s.p50_ms:.3g}",
            f"{s.p99_ms:.3g}",
            f"{s.max_ms:.3g}",
            f"{s.windows_per_s:.0f}",
            f"{s.beds_per_core:.0f}",
            "--" if s.gflops is None else f"{s.gflops:.1f}",
            "--" if s.share_of_peak is None else f"{s.share_of_peak:.0%}",
            "--" if s.energy_mj_per_window is None else f"{s.energy_mj_per_window:.2g}",
        )
        for row in benched.rows
        for s in row.speeds
    ]
    head = ("variant", "runtime", "batch", "p50 ms", "p99 ms", "max ms", "windows/s", "beds/core", "GFLOP/s")
    title = f"The model alone; a bed needs a window each {hop_s:g} s"
    return _table(title, (*head, "of peak", "mJ/window"), rows)


def _processes(benched: BenchedBundle) -> Table:
    rows = [
        (
            row.variant,
            row.runtime,
            f"{row.parameters:,}",
            f"{row.macs / 1e6:.1f}",
            f"{row.file_bytes / 1e3:.0f}",
            f"{row.whole_beds_per_core:.0f}",
            f"{row.cold_start_s * 1e3:.0f}",
            "--" if row.rss_mb is None else f"{row.rss_mb:.0f}",
            "--" if row.peak_rss_mb is None else f"{row.peak_rss_mb:.0f}",
        )
        for row in benched.rows
    ]
    head = (
        "variant",
        "runtime",
        "parameters",
        "MMAC",
        "kB",
        "whole beds/core",
        "cold start ms",
        "RSS MB",
        "at most",
    )
    return _table("Whole beds, and a process that serves one variant", head, rows)


def _pairs(report: Report) -> Table:
    rows = [
        (
            pair.variant,
            pair.runtime,
            str(pair.batch),
            f"x{pair.p50:.2f}",
            f"x{pair.whole_beds_per_core:.2f}",
            f"x{pair.cold_start:.2f}",
            "--" if pair.rss is None else f"x{pair.rss:.2f}",
            f"x{pair.file_bytes:.2f}",
            f"x{pair.macs:.2f}",
        )
        for pair in report.pairs
    ]
    first, second = (benched.source for benched in report.bundles)
    head = ("variant", "runtime", "batch", "p50", "whole beds/core", "cold start", "RSS", "file", "MACs")
    return _table(f"{second} against {first}", head, rows)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for k, name in enumerate(head):
        table.add_column(name, justify="left" if k < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
