"""A thousand patient-days of the default policy: false alarms a patient-day and delay of detection, gathered in parts.

Blocks of eight SIMULATED patients, each seed another person: two are stable for a day, one lies in noise for a day, of
one electrodes fall off and come back for a day, and four decompensate, 4 h each. They are streamed through the embedded
bundle as a bed does it, and its policy is replayed over what it told, as `ecgedge alarms replay` does. A thousand
patient-days take hours, so a run does as many blocks as it has time for and adds a line a patient to DAYS; what stands
there is not made again. Every line can be made anew from its scenario, seed and hours alone, and `--check` does so for
one patient in so many: all must be equal, but for the last digits of estimates where another processor made them. Then
the figures are made of all lines.

    OMP_NUM_THREADS=1 python benchmarks/alarm_days.py [--minutes 60] [--jobs 2] [--check 0]
        [--days benchmarks/results/alarm_days.jsonl] [--out benchmarks/results/alarm_days.json]
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import common
import typer

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.policy import AlarmPolicy
from ecgedge.replay import (
    DEFAULT_EARLY_S,
    Episode,
    Grid,
    Question,
    Replayed,
    Score,
    Served,
    SimulatedStream,
    Span,
    episodes_of,
    judge,
    replay_streams,
)
from ecgedge.replay.streams import open_stream
from ecgedge.runtime.memory import collect_rarely, keep_freed_memory
from ecgedge.signal import COMPILED

RESULTS = Path(__file__).parent / "results"
FIRST_SEED = 10_000
"""Above all that took part in choosing the model or its policy."""
BLOCK = (
    *(("stable", 24.0),) * 2,
    ("noisy", 24.0),
    ("lead-off", 24.0),
    *(("decompensating", 4.0),) * 4,
)
WANTED_DAYS = 1000.0
ENGINE = "ort"

Line = dict[str, Any]


def block(number: int) -> tuple[SimulatedStream, ...]:
    """Return the patients of a block; no seed comes twice."""
    first = FIRST_SEED + number * len(BLOCK)
    return tuple(SimulatedStream(scenario, first + k, hours) for k, (scenario, hours) in enumerate(BLOCK))


def days_of(streams: Sequence[SimulatedStream]) -> float:
    """Return the patient-days of streams."""
    return sum(stream.hours for stream in streams) / 24.0


def run_streams(streams: Sequence[SimulatedStream]) -> list[Line]:
    """Stream patients and return a line of each."""
    keep_freed_memory()
    collect_rarely()
    COMPILED.on()  # faster, and the same estimates without
    bundle = load_bundle("embedded")
    policies = (bundle.manifest.alarm_policy,)
    replayed = replay_streams(streams, policies, Served("embedded", bundle.id, ENGINE))
    return [
        {
            "scenario": stream.scenario,
            "seed": stream.seed,
            "hours": stream.hours,
            "bundle": bundle.id[:16],
            "windows": r.windows,
            "valid": r.valid,
            "estimates_sha256": r.estimates_sha256,
            "spans_s": [[span.on_s, span.off_s] for span in r.spans[0]],
        }
        for stream, r in zip(streams, replayed, strict=True)
    ]


def read_lines(file: Path) -> list[Line]:
    """Return the lines that a file has, none if it is not there."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def stream_of(line: Mapping[str, Any]) -> SimulatedStream:
    """Return which patient a line is of."""
    return SimulatedStream(line["scenario"], line["seed"], line["hours"])


def rebuilt(line: Mapping[str, Any]) -> Replayed:
    """Return what was replayed: the truth is the simulator's, and costs next to nothing to make again."""
    stream = stream_of(line)
    opened = open_stream(stream, chunk_s=60.0)
    spans = tuple(Span(on_s, off_s) for on_s, off_s in line["spans_s"])
    return Replayed(
        stream,
        opened.mode,
        opened.duration_s,
        line["windows"],
        line["valid"],
        opened.latent_mmhg,
        line["estimates_sha256"],
        (spans,),
    )


def blocks_left(lines: Sequence[Line]) -> Iterator[int]:
    """Yield the blocks of the first `WANTED_DAYS` of which no line is there, in order."""
    there = {line["seed"] for line in lines}
    for number in range(math.ceil(WANTED_DAYS / days_of(block(0)))):
        if block(number)[0].seed not in there:
            yield number


def gather(days: Path, *, minutes: float, jobs: int) -> None:
    """Do blocks until the time is up, and add their lines as they come."""
    end = time.monotonic() + 60.0 * minutes
    left = blocks_left(read_lines(days))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: set[Future[list[Line]]] = set()
        while True:
            while len(running) < jobs and time.monotonic() < end:
                number = next(left, None)
                if number is None:
                    break
                running.add(pool.submit(run_streams, block(number)))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            with days.open("a", encoding="utf-8") as file:
                for future in done:
                    file.write("".join(json.dumps(line) + "\n" for line in future.result()))


def check(lines: Sequence[Line], one_in: int) -> dict[str, int]:
    """Make one line in so many anew; end with an error where one differs.

    Return how many were made, and how many have the same estimates to the last bit.
    """
    made = same_bits = 0
    for line in lines[::one_in]:
        (again,) = run_streams([stream_of(line)])
        same_bits += again["estimates_sha256"] == line["estimates_sha256"]
        made += 1
        if again | {"estimates_sha256": ""} != line | {"estimates_sha256": ""}:
            raise SystemExit(f"{line['scenario']} {line['seed']} is {again}, but the file says {line}")
    return {"made anew": made, "same to the last bit": same_bits}


def figures(lines: Sequence[Line], bundle: Bundle) -> dict[str, Any]:
    """Return the score of the bundle's policy over all patients, and over those of each scenario."""
    policy = bundle.manifest.alarm_policy
    replayed = [rebuilt(line) for line in lines]
    episodes = episodes_of(replayed, None, above_mmhg=policy.threshold_mmhg)
    scenarios = [line["scenario"] for line in lines]
    kinds = dict.fromkeys(scenario for scenario, _ in BLOCK)
    return {
        "all": asdict(score_of(replayed, episodes, policy, bundle)),
        **{
            kind: asdict(
                score_of(
                    [r for r, s in zip(replayed, scenarios, strict=True) if s == kind],
                    [e for e, s in zip(episodes, scenarios, strict=True) if s == kind],
                    policy,
                    bundle,
                )
            )
            for kind in kinds
            if kind in scenarios
        },
    }


def score_of(
    replayed: Sequence[Replayed],
    episodes: Sequence[tuple[Episode, ...] | None],
    policy: AlarmPolicy,
    bundle: Bundle,
) -> Score:
    """Return the score of a policy over some patients."""
    found = judge(
        replayed,
        episodes,
        Grid(policy, (policy,), ()),
        Question(DEFAULT_EARLY_S),
        bundle=bundle,
        engines=(),
        source="simulated",
    )
    return found.reference.score


def main(
    minutes: Annotated[float, typer.Option(help="Begin no block after so long.")] = 60.0,
    jobs: int = 1,
    check_one_in: Annotated[int, typer.Option("--check", help="Make one line in so many anew; 0: none.")] = 0,
    days: Path = RESULTS / "alarm_days.jsonl",
    out: Path | None = None,
) -> None:
    """Gather lines, make the figures of all of them, print them, and write them if asked."""
    gather(days, minutes=minutes, jobs=jobs)
    lines = sorted(read_lines(days), key=lambda line: line["seed"])
    bundle = load_bundle("embedded")
    if any(line["bundle"] != bundle.id[:16] for line in lines):
        raise SystemExit(f"{days} holds lines of another bundle than {bundle.id[:16]}; begin a new file")
    result = {
        "benchmark": "alarm_days",
        "simulated": True,
        **common.machine("numpy", "onnxruntime", "ecgedge"),
        "bundle": bundle.id,
        "policy": asdict(bundle.manifest.alarm_policy),
        "checked": check(lines, check_one_in) if check_one_in else {},
        "figures": figures(lines, bundle),
    }
    print(json.dumps(result["figures"], indent=1))
    if out is not None:
        common.write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
