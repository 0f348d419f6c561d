"""Alarms over many simulated patients: detected, missed, delay, false alarms.

Each seed is one SIMULATED patient, streamed through a bundle exactly as a bed does it: `decompensating` for
hours around the rise, `stable` for a day. The estimates are computed once; every alarm policy of the grid is
then replayed over them, by what `ecgedge alarms replay` does it with. The ideal observer's column says what nobody
could do better on these patients.

    python benchmarks/alarm_seeds.py --seeds 50 --out benchmarks/results/alarm_seeds.json
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np

from ecgedge import __version__
from ecgedge.bundle import load_bundle
from ecgedge.policy import AlarmPolicy
from ecgedge.replay import Replayed, Served, SimulatedStream, replay_streams
from ecgedge.replay.streams import LATENT_STEP_S, SIM_RATE_HZ
from ecgedge.sim import DEFAULT_SEED, Simulator, ideal_observer

HOURS = {"decompensating": 4.0, "stable": 24.0}
RISE_MMHG = 25.0
ELEVATED_MMHG = 18.0
GRID = (0.6, 0.65, 0.7, 0.75, 0.8)


def stream_of(replayed: Replayed) -> SimulatedStream:
    """Return which simulated patient this is."""
    if not isinstance(replayed.stream, SimulatedStream):
        raise TypeError(f"{replayed.stream.name} is no simulated patient")
    return replayed.stream


def passed_s(replayed: Replayed, mmhg: float) -> float | None:
    """Return the first look at which the latent mPCWP is at least `mmhg`, or None."""
    looks = enumerate(replayed.latent_mmhg or (), start=1)
    return next((number * LATENT_STEP_S for number, latent in looks if latent >= mmhg), None)


def onsets(replayed: Replayed, number: int) -> list[float]:
    """Return when MPCWP_ELEVATED came, under one of the policies."""
    return [span.on_s for span in replayed.spans[number]]


def score(courses: Sequence[Replayed], policy: AlarmPolicy, number: int) -> dict[str, object]:
    """Return the table's numbers for one policy."""
    delays, missed, early, false_patients, false_onsets, days = [], [], [], [], 0, 0.0
    for course in courses:
        times, seed = onsets(course, number), stream_of(course).seed
        rise_s = passed_s(course, RISE_MMHG)
        if rise_s is None:
            false_onsets += len(times)
            days += course.duration_s / 86_400.0
            false_patients += [seed] if times else []
        elif not times:
            missed.append(seed)
        else:
            delays.append((times[0] - rise_s) / 60.0)
            early += [seed] if times[0] < (passed_s(course, ELEVATED_MMHG) or 0.0) else []
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


def reached_by_an_ideal_observer(stream: SimulatedStream) -> float:
    """Return p(mPCWP > 18) at the end of a stream, for one who reads the simulator's hidden features."""
    simulator = Simulator(stream.scenario, seed=stream.seed, rate_hz=SIM_RATE_HZ)
    end = simulator.correlates(stream.hours * 3600.0 - 1.0)
    return ideal_observer(simulator.traits, end).p_gt_18


def main(arguments: list[str]) -> None:
    """Run the table; see the module's head for the arguments."""
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    source = given.get("--bundle", "embedded")
    seeds = range(1, int(given.get("--seeds", "50")) + 1)
    bundle = load_bundle(source)
    default = bundle.manifest.alarm_policy
    policies = [default, *(replace(default, onset_probability=p) for p in GRID)]
    streams = [SimulatedStream(scenario, seed, HOURS[scenario]) for scenario in HOURS for seed in seeds]
    started = time.perf_counter()
    courses = replay_streams(streams, policies, Served(source, bundle.id), jobs=2)
    chosen, *table = (score(courses, policy, number) for number, policy in enumerate(policies))
    rising = [c for c in courses if passed_s(c, RISE_MMHG) is not None]
    ends = np.array([reached_by_an_ideal_observer(stream_of(c)) for c in rising])
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
        "ideal_observer_reaches_p_0.8": round(float(np.mean(ends >= 0.8)), 3),
        "ideal_observer_reaches_default_p": round(float(np.mean(ends >= default.onset_probability)), 3),
        "default_seed": {
            stream_of(c).scenario: onsets(c, 0) for c in courses if stream_of(c).seed == DEFAULT_SEED
        },
        "times_faster_than_real_time": round(
            sum(c.duration_s for c in courses) / (time.perf_counter() - started)
        ),
    }
    print(json.dumps(result, indent=1))
    if "--out" in given:
        Path(given["--out"]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
