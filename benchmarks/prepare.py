"""How fast recordings become windows on one core: our path against wfdb.rdrecord and scipy's resample_poly.

Run: OMP_NUM_THREADS=1 python benchmarks/prepare.py --from PTBXL_FOLDER [--out benchmarks/results/prepare.json]

Every case turns the same real records (records500, 12 leads, 10 s) from files in the page cache into arrays at
250 Hz; they take turns, so read the ratios.

- `wfdb`     wfdb.rdrecord alone
- `usual`    wfdb.rdrecord, then scipy.signal.resample_poly(1, 2): millivolts at 250 Hz, nothing filtered
- `usual_f`  the same, then our filters with scipy.signal.sosfilt, clipped and rounded to int16
- `read`     our header and sample reader alone
- `stream`   our reader, then the front end as the bed runs it: resampled, filtered, clipped, int16
- `ours`     our reader, then the compiled pass with the same bits: what `ecgedge data build` does

`usual_f` is the fair rival: it does what `ours` does and `usual` leaves out (high-pass, two notches, low-pass).

Before anything is timed, `ours` and `stream` are compared bit for bit on every record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import wfdb
from common import machine, medians, ratio, seconds, take_turns, write_json
from numpy.typing import NDArray
from scipy.signal import resample_poly, sosfilt

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import condition
from ecgedge.signal.front_end import filter_cascade
from ecgedge_train.cohorts.wfdb16 import read_record
from ecgedge_train.dataset.quick import quick_counts

SPEC = FrontEndSpec()


def usual(header: Path) -> NDArray[np.float64]:
    """Read and resample, as most projects do: (2500, 12) mV."""
    record = wfdb.rdrecord(str(header.with_suffix("")))
    resampled: NDArray[np.float64] = resample_poly(record.p_signal, 1, 2, axis=0)
    return resampled


def usual_filtered(header: Path) -> NDArray[np.int16]:
    """Do the rest of our work with scipy too: (12, 2500) counts."""
    sections, steady = filter_cascade(SPEC)
    resampled = np.ascontiguousarray(usual(header).T)
    state = steady[:, None, :] * resampled[None, :, :1]
    filtered, _ = sosfilt(sections, resampled, axis=-1, zi=state)
    counts: NDArray[np.int16] = np.rint(np.clip(filtered, -SPEC.clip_mv, SPEC.clip_mv) / SPEC.lsb_mv).astype(
        np.int16
    )
    return counts


def ours(header: Path) -> NDArray[np.int16]:
    """Read and condition in the compiled pass: (12, 2500) counts."""
    return quick_counts(read_record(header), SPEC)


def stream(header: Path) -> NDArray[np.int16]:
    """Read and condition as a bed does: (12, 2500) counts."""
    return condition(read_record(header), SPEC).counts


def main(
    from_dir: Annotated[Path, typer.Option("--from", help="The PTB-XL folder; its records500 are read.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    records: int = 100,
    rounds: int = 9,
) -> None:
    """Measure, print the table, and write it."""
    headers = sorted((from_dir / "records500").rglob("*.hea"))[:records]
    if not headers:
        raise SystemExit(f"{from_dir}/records500: no headers; the rival needs 500 Hz records to resample")
    for header in headers:
        np.testing.assert_array_equal(ours(header), stream(header))
    work: dict[str, Callable[[Path], object]] = {
        "wfdb": lambda header: wfdb.rdrecord(str(header.with_suffix(""))),
        "usual": usual,
        "usual_f": usual_filtered,
        "read": read_record,
        "stream": stream,
        "ours": ours,
    }

    def per_record(run: Callable[[Path], object]) -> float:
        return seconds(lambda: [run(header) for header in headers]) / len(headers)

    said = take_turns({name: partial(per_record, run) for name, run in work.items()}, rounds=rounds)
    times = medians(said)
    ratios = {f"{name}_over_ours": ratio(said, name, "ours") for name in ("usual", "usual_f", "stream")}
    ratios["usual_over_stream"] = ratio(said, "usual", "stream")
    for name, value in times.items():
        print(f"{name:<8} {1e3 * value:7.3f} ms a record   {1 / value:7.0f} records/s a core")
    for name, value in ratios.items():
        print(f"{name:<18} {value:5.2f}")
    if out is not None:
        result = {
            "benchmark": "prepare",
            **machine("numpy", "scipy", "numba", "wfdb"),
            "records": len(headers),
            "rounds": rounds,
            "ms_per_record": {name: 1e3 * value for name, value in times.items()},
            "records_per_s_and_core": {name: 1 / value for name, value in times.items()},
            "ratio": ratios,
        }
        write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
