"""Coverage-guided fuzzing of every parser: random bytes raise only the parser's own error, or are counted.

Each target runs in a process of its own (Google's atheris over libFuzzer; Linux, Python 3.11 or newer) for `--seconds`,
beginning with small valid inputs: of the project's own writers, and of real files where ECGEDGE_DATA has them. An
exception that a target lets through, a try of more than `SLOWEST_S` and one that takes too much memory are findings:
the input is kept in fuzz/findings, its traceback is printed, and the exit code is 1.

    python fuzz/run.py [--seconds 5] [--only edf --only hl7] [--jobs 2]
    python fuzz/one.py edf /tmp fuzz/findings/edf/crash-...      tries that input alone
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

HERE = Path(__file__).parent
SLOWEST_S = 10
MOST_MB = 2048


@dataclass(frozen=True)
class Row:
    """What a target came to; `finding` is the end of what it said, where something was found."""

    name: str
    tries: int
    coverage: int
    finding: str = ""


def fuzz(name: str, *, seconds: int, data: Path | None, findings: Path) -> Row:
    """Run one target."""
    from targets import TARGETS

    kept = findings / name
    with tempfile.TemporaryDirectory() as folder:
        corpus, work = Path(folder, "corpus"), Path(folder, "work")
        corpus.mkdir()
        work.mkdir()
        for k, seed in enumerate(TARGETS[name].seeds(data)):
            (corpus / f"seed{k}").write_bytes(seed)
        kept.mkdir(parents=True, exist_ok=True)
        flags = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MOST_MB}", "-seed=1"]
        flags += [f"-artifact_prefix={kept}/", "-print_final_stats=1", f"-max_len={TARGETS[name].longest}"]
        done = subprocess.run(
            [sys.executable, str(HERE / "one.py"), name, str(work), *flags, str(corpus)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + 120,
        )
    if not any(kept.iterdir()):
        kept.rmdir()
    return read_row(name, done.returncode, done.stdout + done.stderr)


def read_row(name: str, code: int, said: str) -> Row:
    """Read what libFuzzer said at its end."""
    tries = re.findall(r"stat::number_of_executed_units:\s*(\d+)", said)
    coverage = re.findall(r" cov: (\d+) ", said)
    lines = [line for line in said.splitlines() if not line.startswith(("#", "INFO:", "stat::"))]
    return Row(
        name,
        int(tries[-1]) if tries else 0,
        int(coverage[-1]) if coverage else 0,
        "\n".join(lines[-40:]) if code != 0 or not tries else "",
    )


def table(rows: list[Row]) -> str:
    """Return the rows for people."""
    lines = [f"{'target':12} {'tries':>9} {'coverage':>9}  result"]
    lines += [
        f"{row.name:12} {row.tries:9,} {row.coverage:9,}  {'FOUND' if row.finding else 'ok'}" for row in rows
    ]
    return "\n".join(lines)


def main(
    seconds: int = 5,
    jobs: int = 2,
    only: Annotated[list[str] | None, typer.Option(help="Targets; all without it.")] = None,
    findings: Path = HERE / "findings",
) -> None:
    """Fuzz, print a table, exit with 1 where something was found."""
    if find_spec("atheris") is None:
        print(
            "atheris is not installed: fuzzing needs Linux and Python 3.11 or newer, and the development group"
        )
        raise typer.Exit(2 if sys.version_info >= (3, 11) and sys.platform == "linux" else 0)
    from targets import TARGETS

    found = os.environ.get("ECGEDGE_DATA")
    data = Path(found) if found and Path(found).is_dir() else None
    print(f"seeds: our own writers{f', and real files in {data}' if data else '; ECGEDGE_DATA is not set'}")
    with ThreadPoolExecutor(jobs) as pool:
        rows = list(
            pool.map(
                lambda name: fuzz(name, seconds=seconds, data=data, findings=findings), only or list(TARGETS)
            )
        )
    print(table(rows))
    for row in rows:
        if row.finding:
            print(f"\n--- {row.name}: the input is in {findings / row.name}\n{row.finding}")
    raise typer.Exit(int(any(row.finding for row in rows)))


if __name__ == "__main__":
    typer.run(main)
