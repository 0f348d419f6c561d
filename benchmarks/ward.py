"""What a bed costs in a ward, against the straightforward pipeline, in one run; and how cost grows with beds.

Straightforward: at each hop, take a bed's last 10 s of raw samples, resample and filter them with scipy, run the fp32
window form in ONNX Runtime; no quality, no alarms. The ward: front ends together, quality, the streaming form in
batches, alarm rules, events; in compiled loops as in `ecgedge ward`, in one case on numpy and scipy. 12 leads at 500 Hz
of a SIMULATED patient, the same ECG at another moment in each bed, a decision each 1.024 s. The student is EdgeNet S,
the teacher a ResNet18, both causal, 12 leads, weights hardly trained (time does not depend on them). One thread; CPU
seconds of the process; cases take turns, ratios are medians.

    python benchmarks/ward.py [--rounds 7] [--beds 1,16,256,1000,4000,8000] [--live 2000] [--live-s 30]
        [--work FOLDER] [--out benchmarks/results/ward.json]

`--live N` then runs N beds against the wall clock, each at a phase of its own, and prints how old decisions were.
Makes the student's bundle in FOLDER (half a minute) unless it is there.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import common
import numpy as np
import typer
from numpy.typing import NDArray
from scipy.signal import resample_poly, sosfilt

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.cli import app
from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime import OrtRunner, Runner
from ecgedge.runtime.memory import collect_rarely, keep_freed_memory
from ecgedge.runtime.step import StepRunner
from ecgedge.signal import COMPILED
from ecgedge.signal.front_end import filter_cascade
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants, Ward
from ecgedge.stream.ward import AT_ONCE
from ecgedge.wards.serve import LOOP_S
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe

RATE_HZ = 500.0
HOP_S = 1.024
HOP = round(HOP_S * RATE_HZ)
WINDOW = round(10.0 * RATE_HZ)
ECG_S = 120
BITS = 16
"""Samples of a chunk as monitors send them, 32 ms; all other cases get a hop at a time."""
WARM_HOPS = 12
"""A window, and two hops more."""


def make_student(folder: Path) -> Bundle:
    """Train a causal EdgeNet S for a moment, and export both of its forms."""
    path = folder / "student.ecgb"
    if not path.is_dir():
        run, data = str(folder / "run"), str(folder / "sim")
        for line in (
            ["data", "build", "sim", "--set", "patients=48", "--out", data],
            [
                "train",
                "sim_mpcwp",
                "--data",
                data,
                "--out",
                run,
                "--set",
                "encoder.causal=true",
                "--max-steps",
                "20",
            ],
            [
                *("export", run, "--target", "cpu", "--data", data, "--form", "both", "--precision", "fp32"),
                *("--lead-sets", "12", "--evidence-records", "0", "--out", str(path)),
            ],
        ):
            app(line, standalone_mode=False)
    return at_hop(path)


def at_hop(path: Path) -> Bundle:
    """Return a bundle with this script's hop."""
    bundle = load_bundle(path)
    return replace(bundle, manifest=replace(bundle.manifest, hop_s=HOP_S))


def make_teacher() -> Runner:
    """Return the window form of a ResNet18 with 12 leads."""
    model = build_model(load_recipe("jeong2023", ["encoder.causal=true"])).eval()
    network = fold_lead_set(model, STANDARD_LEADS, None)
    file = export_onnx(
        network, n_leads=12, window_samples=2500, output_names=network.output_names, metadata={}
    )
    return OrtRunner(file.SerializeToString(), leads=STANDARD_LEADS, precision="fp32")


def straightforward(ecg_mv: NDArray[np.float32], bundle: Bundle, runner: Runner, hops: int) -> float:
    """Return the CPU seconds that a bed-second costs where each window is filtered and run on its own."""
    sections, _ = filter_cascade(bundle.manifest.front_end)
    began = time.process_time()
    for k in range(hops):
        raw = ecg_mv[:, k * HOP : k * HOP + WINDOW].astype(np.float64)
        filtered = sosfilt(sections, resample_poly(raw, 1, 2, axis=1), axis=1).clip(-5.0, 5.0)
        runner.run(filtered[np.newaxis].astype(np.float32))
    return (time.process_time() - began) / (hops * HOP_S)


class Busy:
    """A ward of n beds that has been running for a while, each at another moment of the ECG."""

    def __init__(
        self, n: int, ecg_mv: NDArray[np.float32], bundle: Bundle, variants: Variants, *, chunk: int = HOP
    ) -> None:
        self._ecg_mv, self._hop, self._size = ecg_mv, 0, chunk
        self.ward = Ward()
        self._starts = [97 * k % (ecg_mv.shape[1] // 2) for k in range(n)]
        for k in range(n):
            self.ward.add(str(k), Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants))
        for _ in range(WARM_HOPS):
            self.hop()

    def hop(self) -> float:
        """Bring all beds on by a hop; return the CPU seconds that a bed-second costs."""
        chunks = [self._chunk(start) for start in self._starts]
        began = time.process_time()
        for name, chunk in enumerate(chunks):
            for k in range(0, HOP, self._size):
                t_s = self._hop * HOP_S + k / RATE_HZ
                self.ward.push(str(name), chunk[:, k : k + self._size], t_s=t_s)
        while self.ward.step():
            pass
        self._hop += 1
        return (time.process_time() - began) / (len(self._starts) * HOP_S)

    def _chunk(self, start: int) -> NDArray[np.float32]:
        at = (start + self._hop * HOP) % (self._ecg_mv.shape[1] - HOP)
        return self._ecg_mv[:, at : at + HOP]


def without_loops(run: Callable[[], float]) -> float:
    """Run a case on numpy and scipy."""
    COMPILED.off()
    try:
        return run()
    finally:
        COMPILED.on()


def resident_bytes() -> int:
    """Return the process's memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def bare_step(bundle: Bundle, batch: int) -> Callable[[], float]:
    """Return a case that steps a batch of states, and says what a bed-second of it costs."""
    variant = next(v for v in bundle.manifest.variants if v.stream is not None and len(v.leads) == 12)
    runner = StepRunner.from_variant(bundle, variant, beds=batch)
    chunk = np.random.default_rng(0).normal(0.0, 0.2, (batch, 12, 256)).astype(np.float32)
    beds = list(range(batch))

    def run() -> float:
        began = time.process_time()
        for _ in range(8):
            runner.step(beds, chunk)
        return (time.process_time() - began) / (8 * batch * HOP_S)

    return run


class Live:
    """Beds against the wall clock, each at a phase of its own."""

    def __init__(self, n: int, ecg_mv: NDArray[np.float32], bundle: Bundle, variants: Variants) -> None:
        self._ecg_mv, self.ward = ecg_mv, Ward()
        self._phases = [HOP_S * k / n for k in range(n)]
        self._next, self._hop = 0, 0  # whose samples are due next, and the how manieth
        for k in range(n):
            self.ward.add(str(k), Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants))

    def run(self, seconds: float) -> dict[str, float]:
        """Return how old decisions were, in hops after the last sample they are of, and the share of a core."""
        ages: list[float] = []
        warm_s = 2 * WARM_HOPS * HOP_S  # all beds begin to be answered at once, which is a wave of its own
        began, cpu = time.perf_counter(), time.process_time()
        while (now := time.perf_counter() - began) < seconds + warm_s:
            self._push(now)
            if self.ward.ready < AT_ONCE:
                time.sleep(LOOP_S)  # as the service does: so that beds of all phases meet in batches
            said = self.ward.step()
            done = time.perf_counter() - began
            if now > warm_s:
                ages += [
                    (done - self._phases[int(name)] - event.t_s) / HOP_S
                    for name, events in said.items()
                    for event in events
                    if event.type == "estimate"
                ]
        p50, p99 = np.percentile(ages, [50, 99])
        wall = time.perf_counter() - began
        return {
            "beds": len(self._phases),
            "decisions": len(ages),
            "age in hops, p50": float(p50),
            "age in hops, p99": float(p99),
            "share of a core": (time.process_time() - cpu) / wall,
        }

    def _push(self, now: float) -> None:
        while self._phases[self._next] + (self._hop + 1) * HOP_S <= now:
            k = self._next
            at = (97 * k + self._hop * HOP) % (self._ecg_mv.shape[1] - HOP)
            self.ward.push(str(k), self._ecg_mv[:, at : at + HOP], t_s=self._hop * HOP_S)
            self._next = (k + 1) % len(self._phases)
            self._hop += self._next == 0


def main(
    rounds: int = 7,
    beds: str = "1,16,256,1000,4000,8000",
    live: int = 0,
    live_s: float = 30.0,
    work: Path | None = None,
    out: Path | None = None,
    memory_of: Path | None = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    keep_freed_memory()
    collect_rarely()
    if (why := COMPILED.on()) is not None:
        raise SystemExit(f"no compiled loops to measure: {why}")
    if memory_of is not None:
        sys.stdout.write(str(kilobytes(at_hop(memory_of))))
        return
    ecg_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(ECG_S * RATE_HZ))
    result = {
        "benchmark": "ward",
        **common.machine("numpy", "scipy", "numba", "onnxruntime", "ecgedge"),
        "simulated": True,
    }
    with tempfile.TemporaryDirectory() as scratch:
        bundle = make_student(work or Path(scratch))
        if rounds:
            result |= measure(ecg_mv, bundle, [int(n) for n in beds.split(",")], rounds)
        if live:
            with Variants(bundle, precision="fp32", form="stream") as streams:
                result["live"] = Live(live, ecg_mv, bundle, streams).run(live_s)
    print(json.dumps(result, indent=1))
    if out:
        common.write_json(out, result)


def measure(ecg_mv: NDArray[np.float32], bundle: Bundle, sizes: list[int], rounds: int) -> dict[str, object]:
    """Return costs in microseconds a bed-second, and their ratios."""
    with (
        Variants(bundle, precision="fp32", form="stream") as streams,
        Variants(bundle, precision="fp32") as windows,
        make_teacher() as teacher,
    ):
        _, student = windows.choose(STANDARD_LEADS) or (None, None)
        kept = memory(Path(bundle.source))
        wards = {n: Busy(n, ecg_mv, bundle, streams) for n in sizes}
        by_window = Busy(256, ecg_mv, bundle, windows)
        in_bits = Busy(1000, ecg_mv, bundle, streams, chunk=BITS)
        in_arrays = Busy(1000, ecg_mv, bundle, streams)
        cases: dict[str, Callable[[], float]] = {
            "straightforward, student": lambda: straightforward(ecg_mv, bundle, student, 20),
            "straightforward, teacher": lambda: straightforward(ecg_mv, bundle, teacher, 4),
            "bare step, batch 16": bare_step(bundle, 16),
            "ward of 256, window form": by_window.hop,
            "ward of 1000, 32 ms a chunk": in_bits.hop,
            "ward of 1000, numpy and scipy": lambda: without_loops(in_arrays.hop),
            **{f"ward of {n}": ward.hop for n, ward in wards.items()},
        }
        said = common.take_turns(cases, rounds=rounds, warm_up=1)
    us = {name: statistics.median(values) * 1e6 for name, values in said.items()}
    best = f"ward of {max(n for n in sizes if n <= 4000)}"
    bare = "bare step, batch 16"
    return {
        "us a bed-second": {name: round(value, 1) for name, value in us.items()},
        "beds a core": {name: round(1e6 / value) for name, value in us.items()},
        "straightforward student over ward": common.ratio(said, "straightforward, student", best),
        "straightforward teacher over ward": common.ratio(said, "straightforward, teacher", best),
        "all but inference, over bare inference": statistics.median(
            (w - b) / b for w, b in zip(said[best], said[bare], strict=True)
        ),
        "slope": growth(us, sizes),
        "kB a bed, ten minutes old": kept,
        "ward": best,
    }


def memory(bundle: Path) -> int:
    """Return the kilobytes of a bed whose alarm rules remember all that they ever will, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory-of", str(bundle)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def kilobytes(bundle: Bundle) -> int:
    """Serve beds for ten minutes and return what one takes."""
    ecg_mv = Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(ECG_S * RATE_HZ))
    grown: list[int] = []
    kept: list[Busy] = []
    with Variants(bundle, precision="fp32", form="stream") as variants:
        for n in (
            AT_ONCE,
            AT_ONCE,
        ):  # the first pay for what all share, also for what the largest batch needs
            before = resident_bytes()
            kept.append(Busy(n, ecg_mv, bundle, variants))
            for _ in range(round(600.0 / HOP_S) + 10):
                kept[-1].hop()
            grown.append(resident_bytes() - before)
    return round(grown[1] / AT_ONCE / 1000)


def growth(us: dict[str, float], sizes: list[int]) -> dict[str, float]:
    """Return the exponent with which the whole ward's cost grows from one size to the next: 1 is linear."""
    return {
        f"{a} to {b}": float(np.log(us[f"ward of {b}"] * b / (us[f"ward of {a}"] * a)) / np.log(b / a))
        for a, b in pairwise(sizes)
    }


if __name__ == "__main__":
    typer.run(main)
