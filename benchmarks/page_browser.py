"""What the page costs a browser, and how soon it shows: headless Chromium, software drawing, real 12-lead ECG.

A server in a process of its own plays 12 leads at 500 Hz in messages of 20 ms. Measured in the page: frames a second,
the share of its main thread (Performance.getMetrics, TaskDuration, by the wall clock and in processor time: the former
counts waiting for a core as well), the age of each message when it has been drawn, messages that were missed; how soon
a silent and a killed server are covered; frames of a ward of 64 beds whose tiles each change once a second. Server and
browser share the machine's cores, so a busy machine shows here.

    python benchmarks/page_browser.py DATA [--seconds 60] [--out benchmarks/results/page_browser.json]
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import common
import typer

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from browser import chromium, evaluate_module, opened  # noqa: E402  (lies beside the tests, not in a package)

BEDS = 64
STATS = "({...m.page.sweep.stats})"


@contextmanager
def serving(data: Path, scene: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the server of the tests; yield its address and its process."""
    command = [sys.executable, str(SUPPORT / "page_rig.py"), str(data), scene]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield (process.stdout.readline().strip() if process.stdout else ""), process
    finally:
        process.kill()
        process.wait()


def tell(process: subprocess.Popen[str], word: str) -> None:
    """Have the server do something."""
    if process.stdin:
        process.stdin.write(word + "\n")
        process.stdin.flush()


class MainThread:
    """How long the page's main thread has been at work, by the wall clock and in processor time."""

    def __init__(self, page: Any) -> None:
        self._sessions = {}
        for name, domain in (("percent", "timeTicks"), ("processor_percent", "threadTicks")):
            self._sessions[name] = page.context.new_cdp_session(page)
            self._sessions[name].send("Performance.enable", {"timeDomain": domain})

    def seconds(self) -> dict[str, float]:
        """Return both, in seconds from some moment on."""
        return {name: _task_seconds(session) for name, session in self._sessions.items()}


def _task_seconds(session: Any) -> float:
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def work_of(page: Any, seconds: float) -> dict[str, float]:
    """Wait so long, and return the main thread's work in per cent of it."""
    thread = MainThread(page)
    before, began_s = thread.seconds(), time.perf_counter()
    page.wait_for_timeout(1000 * seconds)
    after, took_s = thread.seconds(), time.perf_counter() - began_s
    return {f"main_thread_{name}": round(100 * (after[name] - before[name]) / took_s, 2) for name in after}


def frames_of(page: Any, seconds: float) -> dict[str, float]:
    """Count frames and the main thread's work over some seconds."""
    page.evaluate(
        "() => { window.frameMs = []; const next = (t) => { frameMs.push(t); requestAnimationFrame(next); };"
        " requestAnimationFrame(next); }"
    )
    work = work_of(page, seconds)
    at_ms = page.evaluate("frameMs")
    gaps = sorted(b - a for a, b in itertools.pairwise(at_ms))
    return {
        "frames_per_s": round(1000 * (len(at_ms) - 1) / (at_ms[-1] - at_ms[0]), 2),
        "frame_p99_ms": round(gaps[int(0.99 * len(gaps))], 1),
        **work,
    }


def measure_sweep(page: Any, seconds: float) -> dict[str, float]:
    """Measure twelve running leads; frames are counted by the worker that draws them."""
    page.locator(".lead-labels > span").nth(11).wait_for()
    page.wait_for_timeout(3000)
    evaluate_module(page, "main.js", "void (m.page.sweep.stats.latencyMs.length = 0)")
    before, began_s = evaluate_module(page, "main.js", STATS), time.perf_counter()
    work = work_of(page, seconds)
    after, took_s = evaluate_module(page, "main.js", STATS), time.perf_counter() - began_s
    latency_ms = sorted(after["latencyMs"])
    return {
        "frames_per_s": round((after["frames"] - before["frames"]) / took_s, 2),
        **work,
        "messages": after["blocks"] - before["blocks"],
        "messages_missed": after["holes"] - before["holes"],
        "server_to_pixel_p50_ms": round(latency_ms[len(latency_ms) // 2], 1),
        "server_to_pixel_p99_ms": round(latency_ms[int(0.99 * len(latency_ms))], 1),
    }


def until_covered(page: Any, process: subprocess.Popen[str], word: str) -> float:
    """Return how many seconds pass until the page is covered once the server has gone silent, or was killed."""
    page.evaluate(
        "() => { window.covered = new Promise((done) => new MutationObserver(() => {"
        " if (document.body.classList.contains('dead')) done(Date.now()); })"
        ".observe(document.body, {attributes: true})); }"
    )
    began_ms = time.time() * 1000
    if word == "kill":
        process.kill()
    else:
        tell(process, word)
    return round((page.evaluate("covered") - began_ms) / 1000, 2)


def main(
    data: Path,
    seconds: float = 60.0,
    out: Annotated[Path, typer.Option()] = Path("benchmarks/results/page_browser.json"),
) -> None:
    """Measure, print, write."""
    load = round(os.getloadavg()[0], 1)  # of others, before anything of ours runs
    result: dict[str, Any] = {"seconds": seconds, "viewport": [1280, 800], "load_before": load}
    with chromium() as browser:
        result["chromium"] = browser.version
        with serving(data, "bed") as (url, process), opened(browser, url) as page:
            result["bed"] = measure_sweep(page, seconds)
            result["covered_after_silence_s"] = until_covered(page, process, "silent")
        with serving(data, "bed") as (url, process), opened(browser, url) as page:
            page.locator(".lead-labels > span").nth(11).wait_for()
            result["covered_after_kill_s"] = until_covered(page, process, "kill")
        with serving(data, "ward") as (url, _), opened(browser, url) as page:
            page.locator(".tile").nth(BEDS - 1).wait_for()
            result["ward_64_beds"] = frames_of(page, seconds / 3)
    result.update(common.machine("aiohttp", "playwright"))
    common.write_json(out, result)
    typer.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
