"""Hours of a full ward in minutes: whether memory grows, and whether a hop comes to cost more.

Beds of two leads at 250 Hz of a SIMULATED patient on the embedded bundle, as fast as they go, one decision each 5 s:
leads fall off and return, feeds fall silent, clocks are set back, and in each minute of stream time some beds go and
others come. Memory and CPU time are taken twenty times on the way; growth is the slope over the second half, when all
that fills up has filled up. One process, one thread.

    python benchmarks/soak.py [--beds 500] [--hours 2] [--out benchmarks/results/soak.json]
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import time
from pathlib import Path

import common
import numpy as np
import typer

from ecgedge.bundle import load_bundle
from ecgedge.runtime.memory import collect_rarely, keep_freed_memory
from ecgedge.signal import COMPILED
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants, Ward

RATE_HZ = 250.0
HOP_S = 5.0
HOP = round(HOP_S * RATE_HZ)
LEADS = ("I", "II")
COME_AND_GO = 5
"""Beds that are replaced in a minute of stream time."""
SAMPLES = 20


class Soak:
    """A ward that is never left in peace."""

    def __init__(self, beds: int, variants: Variants) -> None:
        self._bundle, self._variants = load_bundle("embedded"), variants
        self._ecg_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(600 * round(RATE_HZ))[:2]
        self._chance = np.random.default_rng(0)
        self.ward = Ward()
        self.events: dict[str, int] = {}
        self._age_s: dict[str, float] = {}
        self._next = 0
        for _ in range(beds):
            self._come()

    def hop(self) -> None:
        """Bring all beds on by a hop."""
        for name in list(self._age_s):
            self._push(name)
        while said := self.ward.step():
            for events in said.values():
                self._count(events)

    def replace_some(self) -> None:
        """Let some beds go and others come."""
        for name in self._chance.choice(list(self._age_s), COME_AND_GO, replace=False).tolist():
            self._count(self.ward.remove(name))
            del self._age_s[name]
            self._come()

    def _come(self) -> None:
        name, self._next = f"bed-{self._next}", self._next + 1
        self.ward.add(name, Bed(self._bundle, leads=LEADS, rate_hz=RATE_HZ, variants=self._variants))
        self._age_s[name] = 0.0

    def _push(self, name: str) -> None:
        luck = self._chance.random()
        at = int(self._chance.integers(self._ecg_mv.shape[1] - HOP))
        chunk = self._ecg_mv[:, at : at + HOP]
        if luck < 0.01:
            chunk = chunk.copy()
            chunk[luck < 0.005, : HOP // 2] = np.nan
        elif luck < 0.012:
            self._age_s[name] += 61.0  # a long silence
        elif luck < 0.014:
            self._age_s[name] -= 3600.0  # its clock is set back
        elif luck < 0.016:
            self._count(self.ward.advance(name, self._age_s[name] + 3.0))
        self.ward.push(name, chunk, t_s=self._age_s[name])
        self._age_s[name] += HOP_S

    def _count(self, events: list[object]) -> None:
        for event in events:
            kind = type(event).__name__
            self.events[kind] = self.events.get(kind, 0) + 1


def main(beds: int = 500, hours: float = 2.0, out: Path | None = None) -> None:
    """Run, print, and write JSON if asked."""
    keep_freed_memory()
    collect_rarely()
    COMPILED.on()
    hops = round(hours * 3600.0 / HOP_S)
    rows: list[dict[str, float]] = []
    with Variants(load_bundle("embedded"), precision="fp32") as variants:
        soak, began = Soak(beds, variants), time.process_time()
        for k in range(1, hops + 1):
            soak.hop()
            if k % 12 == 0:
                soak.replace_some()
            if k % (hops // SAMPLES) == 0:
                spent = time.process_time() - began
                rows.append(_row(k, spent, beds, hops))
                print(json.dumps(rows[-1]))
                began = time.process_time()
    later = rows[len(rows) // 2 :]
    hours_of = [row["stream_hours"] for row in later]
    result = {
        "benchmark": "soak",
        **common.machine("numpy", "onnxruntime", "ecgedge"),
        "simulated": True,
        "beds": beds,
        "stream_hours": hours,
        "events": soak.events,
        "rows": rows,
        "kB a bed and stream hour": float(np.polyfit(hours_of, [r["rss_mb"] for r in later], 1)[0])
        * 1e3
        / beds,
        "cost of the last quarter over the second": statistics.median(r["us_a_bed_second"] for r in rows[-5:])
        / statistics.median(r["us_a_bed_second"] for r in rows[5:10]),
    }
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1))
    if out:
        common.write_json(out, result)


def _row(hop: int, spent_s: float, beds: int, hops: int) -> dict[str, float]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    bed_seconds = beds * HOP_S * (hops // SAMPLES)
    return {
        "stream_hours": hop * HOP_S / 3600.0,
        "rss_mb": pages * resource.getpagesize() / 1e6,
        "us_a_bed_second": spent_s * 1e6 / bed_seconds,
    }


if __name__ == "__main__":
    typer.run(main)
