"""A benchmark as tables of text, and on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from ecgedge.bench.report import BenchedBundle, Report
from ecgedge.bundle import Bundle
from ecgedge.gains import describe_gains


@dataclass(frozen=True)
class Grid:
    """A table of text; the first two columns are names."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def print_report(report: Report, bundles: Sequence[Bundle], console: Console) -> None:
    """Print the tables of each bundle, the pairs, and what the numbers depend on."""
    for benched, bundle in zip(report.bundles, bundles, strict=True):
        note = "  SIMULATED training data" if benched.simulated else ""
        console.print(f"{benched.name} ({benched.source}), id {benched.id[:12]}{note}", markup=False)
        console.print(_table(speeds(benched)))
        console.print(_table(processes(benched)))
        for reason in benched.refused:
            console.print(f"not measured: {reason}", markup=False)
        latency_ms = {row.variant: row.speeds[0].p50_ms for row in reversed(benched.rows)}
        if gains := describe_gains(bundle, latency_ms=latency_ms):
            console.print(gains, markup=False, highlight=False, soft_wrap=True)
    if report.pairs:
        console.print(_table(pairs(report)))
    for line in (*conditions(report), report.use):
        console.print(line, markup=False, highlight=False)


def conditions(report: Report) -> Iterator[str]:
    """Give what the numbers depend on."""
    machine, peak = report.machine, report.peak
    int8 = (
        "int8 not measured" if peak.int8_gops is None else f"int8 {peak.int8_gops:.0f} GOP/s ({peak.int8_by})"
    )
    yield f"Peak of one core: fp32 {peak.fp32_gflops:.0f} GFLOP/s ({peak.fp32_by}), {int8}. Energy: {report.energy}."
    yield (
        f"{machine.date}, {machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, "
        + ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    )
    yield report.method


def speeds(benched: BenchedBundle) -> Grid:
    """Return the latencies of a bundle's variants."""
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
    title = f"The model alone; a bed needs a window each {benched.hop_s:g} s"
    return Grid(title, (*head, "of peak", "mJ/window"), tuple(rows))


def processes(benched: BenchedBundle) -> Grid:
    """Return sizes, whole beds, cold start and memory of a bundle's variants."""
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
    return Grid("Whole beds, and a process that serves one variant", head, tuple(rows))


def pairs(report: Report) -> Grid:
    """Return the second bundle against the first."""
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
    return Grid(f"{second} against {first}", head, tuple(rows))


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left")
    for k, name in enumerate(grid.head):
        table.add_column(name, justify="left" if k < 2 else "right", no_wrap=True)
    for row in grid.rows:
        table.add_row(*row)
    return table
