"""Alarms over many simulated patients: detected, missed, delay, false alarms.

Each seed is one SIMULATED patient, streamed through a bundle exactly as a bed does it: `decompensating` for
hours around the rise, `stable` for a day. The estimates are computed once; every alarm policy of the grid is
then replayed over them. The ideal observer's column says what nobody could do better on these patients.

    python benchmarks/alarm_seeds.py --seeds 50 --out benchmarks/results/alarm_seeds.json
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np

from ecgedge import __version__
from ecgedge.alarms import AlarmEngine
from ecgedge.bundle import load_bundle
from ecgedge.events import Estimate
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.sim import DEFAULT_SEED, Simulator, ideal_observer
from ecgedge.stream import Bed, Variants

RATE_HZ = 250.0
BLOCK_S = 60
HOURS = {"decompensating": 4.0, "stable": 24.0}
RISE_MMHG = 25.0
ELEVATED_MMHG = 18.0
GRID = (0.6, 0.65, 0.7, 0.75, 0.8)


@dataclass(frozen=True)
class Course:
    """One patient's estimates, and when (if ever) the latent mPCWP passed ELEVATED_MMHG and RISE_MMHG."""

    scenario: str
    seed: int
    estimates: tuple[Estimate, ...]
    elevated_s: float | None
    rise_s: float | None
    ideal_p_at_end: float


def stream(job: tuple[str, str, int]) -> Course:
    """Stream one simulated patient through a bundle."""
    source, scenario, seed = job
    bundle = load_bundle(source)
    simulator = Simulator(scenario, seed=seed, rate_hz=RATE_HZ)
    estimates: list[Estimate] = []
    passed_s: dict[float, float] = {}
    with Variants(bundle) as variants:
        bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
        for k in range(round(HOURS[scenario] * 3600 / BLOCK_S)):
            events = bed.push(simulator.read(round(BLOCK_S * RATE_HZ)), t_s=k * float(BLOCK_S))
            estimates += [e for e in events if isinstance(e, Estimate)]
            end_s = (k + 1.0) * BLOCK_S
            for mmhg in (ELEVATED_MMHG, RISE_MMHG):
                if simulator.mpcwp_mmhg(end_s) >= mmhg:
                    passed_s.setdefault(mmhg, end_s)
    end = ideal_observer(simulator.traits, simulator.correlates(HOURS[scenario] * 3600 - 1.0))
    elevated_s, rise_s = passed_s.get(ELEVATED_MMHG), passed_s.get(RISE_MMHG)
    return Course(scenario, seed, tuple(estimates), elevated_s, rise_s, end.p_gt_18)


def onsets(course: Course, policy: AlarmPolicy, hop_s: float) -> list[float]:
    """Return when MPCWP_ELEVATED came, over one patient's estimates."""
    engine = AlarmEngine(policy, hop_s=hop_s)
    alarms = [alarm for estimate in course.estimates for alarm in engine.on_estimate(estimate)]
    # Escalations repeat presence "on": an onset follows an absence.
    times, present = [], False
    for alarm in alarms:
        if alarm.condition == "MPCWP_ELEVATED":
            if alarm.presence == "on" and not present:
                times.append(alarm.t_s)
            present = alarm.presence == "on"
    return times


def score(courses: Iterable[Course], policy: AlarmPolicy, hop_s: float) -> dict[str, object]:
    """Return the table's numbers for one policy."""
    delays, missed, early, false_patients, false_onsets, days = [], [], [], [], 0, 0.0
    for course in courses:
        times = onsets(course, policy, hop_s)
        if course.rise_s is None:
            false_onsets += len(times)
            days += HOURS[course.scenario] / 24.0
            false_patients += [course.seed] if times else []
        elif not times:
            missed.append(course.seed)
        else:
            delays.append((times[0] - course.rise_s) / 60.0)
            early += [course.seed] if times[0] < (course.elevated_s or 0.0) else []
    return {
        "onset_probability": policy.onset_probability,
        "detected": len(delays),
        "missed": len(missed),
        "delay_min": {
            "median": round(median(delays), 1) if delays else None,
            "p10": round(float(np.percentile(delays, 10)), 1) if delays else None,
            "p90": round(float(np.percentile(delays, 90)), 1) if delays else None,
        },
        "of_them_before_18_mmhg": len(early),
        "stable_patients_with_false_alarm": len(false_patients),
        "false_alarms_per_patient_day": round(false_onsets / days, 3) if days else None,
        "missed_seeds": missed,
        "false_alarm_seeds": false_patients,
    }


def main(arguments: list[str]) -> None:
    """Run the table; see the module's head for the arguments."""
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    source = given.get("--bundle", "embedded")
    seeds = range(1, int(given.get("--seeds", "50")) + 1)
    bundle = load_bundle(source)
    jobs = [(source, scenario, seed) for scenario in HOURS for seed in seeds]
    started = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        courses = list(pool.map(stream, jobs))
    hop_s = bundle.manifest.hop_s
    default = bundle.manifest.alarm_policy
    table = [score(courses, replace(default, onset_probability=p), hop_s) for p in GRID]
    chosen = score(courses, default, hop_s)
    ends = [c.ideal_p_at_end for c in courses if c.rise_s is not None]
    result = {
        "what": "SIMULATED patients; a test of the line, not evidence",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "ecgedge": __version__,
        "model": {v.name: bundle.manifest.files[v.file] for v in bundle.manifest.variants},
        "seeds": len(seeds),
        "hours": HOURS,
        "default_policy": chosen,
        "grid": table,
        "ideal_observer_reaches_p_0.8": round(float(np.mean(np.array(ends) >= 0.8)), 3),
        "ideal_observer_reaches_default_p": round(
            float(np.mean(np.array(ends) >= default.onset_probability)), 3
        ),
        "default_seed": {c.scenario: onsets(c, default, hop_s) for c in courses if c.seed == DEFAULT_SEED},
        "times_faster_than_real_time": round(
            sum(HOURS[c.scenario] for c in courses) * 3600 / (time.perf_counter() - started)
        ),
    }
    print(json.dumps(result, indent=1))
    if "--out" in given:
        Path(given["--out"]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
