"""The measuring itself: every case takes its turn in every round."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ecgedge.bench.children import Children
from ecgedge.bench.energy import Meter, find_meter
from ecgedge.bench.peak import Peak
from ecgedge.bench.report import METHOD, BenchedBundle, Pair, Report, Row, Speed, this_machine
from ecgedge.bundle import RESEARCH_USE_ONLY, Bundle, VariantSpec
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.leads import standard_rows
from ecgedge.progress import tracked
from ecgedge.runtime import Runner, check_runtime, open_on
from ecgedge.runtime.selftest import SELF_TEST_FILE, read_self_test
from ecgedge.sim import Simulator
from ecgedge.stream import Bed

ROUNDS = 5
BED_RATE_HZ = 500.0
BED_SECONDS = 60
CPU_RUNTIMES = ("ort", "openvino")
"""Those whose work is done in this process's CPU time."""
PEAK = ("-m", "ecgedge.bench.peak")
FIRST_ANSWER = ("-m", "ecgedge.bench.first_answer")


@dataclass(frozen=True)
class Plan:
    """What to measure: seconds are of running one batch size of one case, over all rounds."""

    runtimes: tuple[str, ...] = ("auto",)
    batches: tuple[int, ...] = (1,)
    seconds: float = 2.0
    rounds: int = ROUNDS

    def check(self) -> None:
        """Raise UsageError on what cannot be measured."""
        for runtime in self.runtimes:
            check_runtime(runtime)
        if not self.batches or min(self.batches) < 1:
            raise UsageError(f"batch sizes {self.batches}: give whole numbers of at least 1, such as 1,16")
        if not 0.0 < self.seconds < math.inf or self.rounds < 1:
            raise UsageError(f"{self.seconds:g} seconds in {self.rounds} rounds; give more than 0")


@dataclass(frozen=True)
class _Alone:
    """One variant in the place of all of a bed's."""

    spec: VariantSpec
    runner: Runner
    stream = None

    def choose(self, usable: Collection[str]) -> tuple[VariantSpec, Runner] | None:
        return (self.spec, self.runner) if set(self.spec.leads) <= set(usable) else None


@dataclass
class _Case:
    """One variant of one bundle on one runtime, and what has been seen of it."""

    bundle: Bundle
    spec: VariantSpec
    runtime: str
    runner: Runner
    windows_mv: NDArray[np.float32]
    times_ms: dict[int, list[list[float]]] = field(default_factory=dict)
    cpu_ms: dict[int, list[float]] = field(default_factory=dict)
    energy_mj: dict[int, list[float]] = field(default_factory=dict)
    whole_beds: list[float] = field(default_factory=list)
    cold_s: list[float] = field(default_factory=list)
    memory_mb: dict[str, list[float]] = field(default_factory=lambda: {"rss_mb": [], "peak_rss_mb": []})

    def run_for(self, seconds: float, batch: int, meter: Meter | None) -> None:
        ecg = np.ascontiguousarray(np.resize(self.windows_mv, (batch, *self.windows_mv.shape[1:])))
        self.runner.run(ecg)  # a batch size that the engine has not met yet
        if meter:
            meter.start()
        began_cpu_s = time.process_time()
        times_ms = list(_times_ms(lambda: self.runner.run(ecg), seconds))
        cpu_ms = (time.process_time() - began_cpu_s) * 1e3
        joules = meter.stop() if meter else None
        self.times_ms.setdefault(batch, []).append(times_ms)
        self.cpu_ms.setdefault(batch, []).append(cpu_ms / len(times_ms))
        if joules is not None:
            self.energy_mj.setdefault(batch, []).append(joules * 1e3 / (batch * len(times_ms)))

    def run_bed(self, samples_mv: NDArray[np.float32]) -> None:
        rows = standard_rows(self.spec.leads)
        samples_mv, step = samples_mv[rows], round(BED_RATE_HZ)
        began = time.process_time()
        alone = _Alone(self.spec, self.runner)
        bed = Bed(self.bundle, leads=self.spec.leads, rate_hz=BED_RATE_HZ, variants=alone, mode="demo")
        for start in range(0, samples_mv.shape[1], step):
            bed.push(samples_mv[:, start : start + step], t_s=start / BED_RATE_HZ)
        self.whole_beds.append(BED_SECONDS / (time.process_time() - began))

    def start_cold(self, children: Children) -> None:
        command = (*FIRST_ANSWER, self.bundle.source, self.spec.name, self.runtime)
        answer = children.first_line(command, kind=("first answer", self.runtime))
        self.cold_s.append(answer.seconds)
        for name, seen_mb in self.memory_mb.items():
            if answer.said[name] is not None:
                seen_mb.append(answer.said[name])

    def row(self, peaks: Sequence[Peak]) -> Row:
        return Row(
            variant=self.spec.name,
            runtime=self.runtime,
            parameters=self.spec.parameters,
            macs=self.spec.macs,
            file_bytes=len(self.bundle.contents[self.spec.file]),
            speeds=tuple(self._speed(batch, peaks) for batch in self.times_ms),
            whole_beds_per_core=median(self.whole_beds),
            cold_start_s=median(self.cold_s),
            **{name: median(seen_mb) if seen_mb else None for name, seen_mb in self.memory_mb.items()},
            whole_beds_by_round=tuple(self.whole_beds),
            cold_start_s_by_round=tuple(self.cold_s),
        )

    def _speed(self, batch: int, peaks: Sequence[Peak]) -> Speed:
        rounds = self.times_ms[batch]
        pooled = np.concatenate([np.array(times_ms) for times_ms in rounds])
        by_round = tuple(median(times_ms) for times_ms in rounds)
        windows_per_s = batch * 1e3 / float(np.median(pooled))
        rates, shares = self._rates(batch, peaks)
        energy_mj = self.energy_mj.get(batch)
        return Speed(
            batch=batch,
            runs=len(pooled),
            p50_ms=float(np.median(pooled)),
            p99_ms=float(np.percentile(pooled, 99)),
            max_ms=float(pooled.max()),
            windows_per_s=windows_per_s,
            beds_per_core=windows_per_s * self.bundle.manifest.hop_s,
            gflops=median(rates) if rates else None,
            share_of_peak=median(shares) if shares else None,
            energy_mj_per_window=median(energy_mj) if energy_mj else None,
            p50_ms_by_round=by_round,
        )

    def _rates(self, batch: int, peaks: Sequence[Peak]) -> tuple[list[float], list[float]]:
        """Return each round's GFLOP/s of CPU time, and their share of that round's peak."""
        if self.runtime not in CPU_RUNTIMES:
            return [], []
        rates = [2e-6 * self.spec.macs * batch / cpu_ms for cpu_ms in self.cpu_ms[batch]]
        tops = [p.int8_gops if self.spec.precision == "int8" else p.fp32_gflops for p in peaks]
        return rates, [rate / top for rate, top in zip(rates, tops, strict=True) if top is not None]


def run_bench(bundles: Sequence[Bundle], plan: Plan) -> Report:
    """Measure one bundle, or two and each pair of their variants.

    Raises
    ------
    UsageError
        If the plan cannot be measured, or a runtime that it names is not installed.
    BundleError
        If no variant of a bundle passes its self-test on any of the runtimes.
    """
    plan.check()
    meter = find_meter()
    samples_mv = Simulator("stable", seed=1, rate_hz=BED_RATE_HZ).read(round(BED_SECONDS * BED_RATE_HZ))
    refused: list[list[str]] = [[] for _ in bundles]
    with ExitStack() as opened, Children() as children:
        cases = list(_open_cases(bundles, plan, refused, opened))
        for k, said in enumerate(refused):
            if k not in {at for at, _ in cases}:
                raise BundleError(f"{bundles[k].source}: nothing in it can be measured: {'; '.join(said)}")
        peaks: list[Peak] = []
        for _ in tracked("rounds", range(plan.rounds)):
            peaks.append(Peak(**children.first_line(PEAK, kind=("peak",)).said))
            for _, case in cases:
                for batch in plan.batches:
                    case.run_for(plan.seconds / plan.rounds, batch, meter)
                case.run_bed(samples_mv)
                case.start_cold(children)
    rows = [tuple(case.row(peaks) for at, case in cases if at == k) for k in range(len(bundles))]
    return Report(
        use=RESEARCH_USE_ONLY,
        method=METHOD,
        machine=this_machine(),
        peak=_median_peak(peaks),
        energy=meter.what if meter else "not measured here: no readable RAPL counter, no tegrastats",
        bundles=tuple(
            _benched(b, found, tuple(said)) for b, found, said in zip(bundles, rows, refused, strict=True)
        ),
        pairs=tuple(_pairs(*rows)) if len(rows) == 2 else (),
    )


def _open_cases(
    bundles: Sequence[Bundle], plan: Plan, refused: list[list[str]], opened: ExitStack
) -> Iterator[tuple[int, _Case]]:
    """Open every window form on every runtime; the same variant of two bundles are neighbours in every round."""
    for k, bundle in enumerate(bundles):
        refused[k] += [
            f"{v.name} is a streaming form" for v in bundle.manifest.variants if v.stream is not None
        ]
    names = dict.fromkeys(v.name for bundle in bundles for v in bundle.manifest.variants)
    for name in names:
        for runtime in plan.runtimes:
            for k, bundle in enumerate(bundles):
                for spec in (v for v in bundle.manifest.variants if v.name == name and v.stream is None):
                    try:
                        yield k, _open(bundle, spec, runtime, opened)
                    except EngineError as error:
                        refused[k].append(str(error))


def _open(bundle: Bundle, spec: VariantSpec, runtime: str, opened: ExitStack) -> _Case:
    found = open_on(bundle, spec, runtime=runtime)
    runner = opened.enter_context(found.runner)
    counts = read_self_test(bundle.read_bytes(SELF_TEST_FILE)).counts
    rows = standard_rows(spec.leads)
    windows_mv = counts[:, rows].astype(np.float32) * np.float32(bundle.manifest.front_end.lsb_mv)
    return _Case(bundle, spec, found.runtime, runner, windows_mv)


def _times_ms(run: Callable[[], object], seconds: float) -> Iterator[float]:
    end = time.perf_counter() + seconds
    while True:
        began = time.perf_counter()
        run()
        ended = time.perf_counter()
        yield (ended - began) * 1e3
        if ended >= end:
            return


def _benched(bundle: Bundle, rows: tuple[Row, ...], refused: tuple[str, ...]) -> BenchedBundle:
    return BenchedBundle(
        source=bundle.source,
        id=bundle.id,
        name=bundle.manifest.name,
        simulated=bundle.simulated,
        hop_s=bundle.manifest.hop_s,
        rows=rows,
        refused=refused,
    )


def _median_peak(peaks: Sequence[Peak]) -> Peak:
    int8 = [p.int8_gops for p in peaks if p.int8_gops is not None]
    return Peak(
        fp32_gflops=median(p.fp32_gflops for p in peaks),
        fp32_by=" or ".join(dict.fromkeys(p.fp32_by for p in peaks)),
        int8_gops=median(int8) if int8 else None,
        int8_by=peaks[0].int8_by,
    )


def _pairs(first: tuple[Row, ...], second: tuple[Row, ...]) -> Iterator[Pair]:
    """Compare rows of the same variant on the same runtime; two that have no partner are left out."""
    partners = {(row.variant, row.runtime): row for row in first}
    for row in second:
        partner = partners.get((row.variant, row.runtime))
        if partner is None:
            continue
        for a, b in zip(partner.speeds, row.speeds, strict=True):
            yield Pair(
                variant=row.variant,
                runtime=row.runtime,
                batch=b.batch,
                p50=_ratio(b.p50_ms_by_round, a.p50_ms_by_round),
                cold_start=_ratio(row.cold_start_s_by_round, partner.cold_start_s_by_round),
                rss=row.rss_mb / partner.rss_mb if row.rss_mb and partner.rss_mb else None,
                whole_beds_per_core=_ratio(row.whole_beds_by_round, partner.whole_beds_by_round),
                file_bytes=row.file_bytes / partner.file_bytes,
                macs=row.macs / partner.macs if partner.macs else 1.0,
            )


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: the two of a round met the same load."""
    return median(a / b for a, b in zip(over, under, strict=True))
