"""Time the streaming front end against filtering every window anew.

Run on one core:  OMP_NUM_THREADS=1 python benchmarks/front_end.py [--out NAME.json]

Both pipelines get the same seconds of signal in the same run, in turns; medians are printed. The
straightforward one keeps the last 10 s of raw samples and, at every hop, resamples and filters all of them
with scipy (`resample_poly`, `sosfilt`). Ours filters each sample once and hands out windows at the same
times. In chunks of 20 ms it makes 50 rounds of calls a second, whose cost is the interpreter's and not the
filters': there the ratio is below 1. Since chunking changes no bit, a caller in no hurry may collect chunks.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.signal import resample_poly, sosfilt

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import FrontEnd, Windower
from ecgedge.signal.front_end import filter_cascade
from ecgedge.signal.resample import rate_ratio

SPEC = FrontEndSpec()
N_LEADS = 12
WINDOW_S = 10
REPEATS = 5


def streaming_s(samples: NDArray[np.float32], rate_hz: int, *, chunk: int, hop_s: int, start_s: int) -> float:
    """Seconds that the front end and the windower take for all of `samples` after `start_s` of warm-up."""
    front_end = FrontEnd(SPEC, n_leads=N_LEADS, rate_hz=float(rate_hz))
    windower = Windower(n_leads=N_LEADS, window_samples=WINDOW_S * 250, hop_samples=hop_s * 250)
    list(windower.push(front_end.push(samples[:, : start_s * rate_hz])))
    rest = samples[:, start_s * rate_hz :]
    start = time.perf_counter()
    for i in range(0, rest.shape[1], chunk):
        list(windower.push(front_end.push(rest[:, i : i + chunk])))
    return time.perf_counter() - start


def per_window_s(samples: NDArray[np.float32], rate_hz: int, *, hop_s: int, start_s: int) -> float:
    """Seconds that filtering each hop's last 10 s anew takes, for the same windows."""
    sections, steady = filter_cascade(SPEC)
    ratio = rate_ratio(float(rate_hz), SPEC.rate_hz)
    start = time.perf_counter()
    for end in range((start_s + hop_s) * rate_hz, samples.shape[1] + 1, hop_s * rate_hz):
        raw = samples[:, end - WINDOW_S * rate_hz : end].astype(np.float64)
        resampled = resample_poly(raw, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
        state = steady[:, None, :] * resampled[None, :, :1]
        filtered, _ = sosfilt(sections, resampled, axis=-1, zi=state)
        np.rint(np.clip(filtered, -SPEC.clip_mv, SPEC.clip_mv) / SPEC.lsb_mv).astype(np.int16)
    return time.perf_counter() - start


def compare(rate_hz: int, *, chunk_s: float, hop_s: int, signal_s: int) -> dict[str, float]:
    """Median times of both pipelines on one simulated stretch of noise (only its length matters)."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0.0, 1.0, (N_LEADS, signal_s * rate_hz)).astype(np.float32)
    chunk = max(1, round(chunk_s * rate_hz))
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(streaming_s(samples, rate_hz, chunk=chunk, hop_s=hop_s, start_s=WINDOW_S))
        theirs.append(per_window_s(samples, rate_hz, hop_s=hop_s, start_s=WINDOW_S))
    measured_s = signal_s - WINDOW_S
    streaming, per_window = float(np.median(ours)), float(np.median(theirs))
    return {
        "rate_hz": rate_hz,
        "chunk_s": chunk_s,
        "hop_s": hop_s,
        "streaming_x_real_time": measured_s / streaming,
        "per_window_x_real_time": measured_s / per_window,
        "per_window_over_streaming": per_window / streaming,
    }


def main(arguments: list[str]) -> None:
    """Print the table; write it to benchmarks/results/ where `--out NAME.json` is given."""
    if arguments and (arguments[0] != "--out" or len(arguments) != 2):
        raise SystemExit("usage: front_end.py [--out NAME.json]")
    cases = [(rate_hz, chunk_s) for rate_hz in (500, 100, 250, 360) for chunk_s in (0.02, 1.0, 10.0)]
    print(f"{N_LEADS} leads, windows of {WINDOW_S} s every 1 s, medians of {REPEATS} runs, one core")
    print(f"{'rate Hz':>8}{'chunk s':>9}{'streaming':>12}{'per window':>12}{'ratio':>8}")
    rows = []
    for rate_hz, chunk_s in cases:
        row = compare(rate_hz, chunk_s=chunk_s, hop_s=1, signal_s=WINDOW_S + (40 if chunk_s < 1.0 else 200))
        rows.append(row)
        print(
            f"{rate_hz:8d}{chunk_s:9.2f}{row['streaming_x_real_time']:11.0f}x"
            f"{row['per_window_x_real_time']:11.0f}x{row['per_window_over_streaming']:8.2f}"
        )
    if arguments:
        write(Path(arguments[1]), rows)


def write(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the rows with date, machine and versions."""
    report = {
        "benchmark": "front_end",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "n_leads": N_LEADS,
        "rows": rows,
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
