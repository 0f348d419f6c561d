"""What signal quality finds of known faults in real ECGs, what it refuses of clean ones, and what it costs.

    ECGEDGE_DATA=... OMP_NUM_THREADS=1 python benchmarks/quality.py [--out benchmarks/results/quality.json]

PTB-XL (500 Hz) and LUDB, 12 leads of 10 s, the first 3 s mirrored before them so that the filters have settled.
Patients are split in two by their id: thresholds were chosen on one half (the quantiles printed), every rate is of the
other, with 95 % intervals that resample patients. Beat detectors: against annotations. Costs: medians of interleaved
rounds, 12 leads at 500 Hz, one thread.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, medians, seconds, take_turns, write_json
from numpy.typing import NDArray
from quality_noise import RATE_HZ, Corruption, corruptions

from ecgedge.bundle import FrontEndSpec
from ecgedge.leads import LIMB_LEADS
from ecgedge.records import read
from ecgedge.signal import FrontEnd, Window, assess
from ecgedge.signal.beats import (
    BEND_SHARE,
    LEAD_IN,
    SLOPE_SHARE,
    agreement,
    beat_energies,
    find_beats,
    window_energies,
)
from ecgedge.signal.doubts import DOUBTS, Measures, doubtful, measure_window
from ecgedge.signal.limb import CONTRADICTION, contradiction, limb_products
from ecgedge.signal.quality import slope_spread
from ecgedge.signal.raw import RawBlock, raw_block, raw_spec

SPEC = FrontEndSpec()
WINDOW, SECOND, FRAME = 2500, 250, 10
MIRRORED = 1500
AT_ONCE = 60
RESAMPLED = 1000
BSQI = 0.8
"""The threshold usual for bSQI alone."""
RHYTHMS = (
    ("mitdb/100", 0), ("mitdb/100", 1), ("mitdb/105", 0), ("mitdb/105", 1),
    ("svdb/800", 0), ("svdb/800", 1), ("stdb/300", 0), ("qtdb/sel100", 0),
)  # fmt: skip
_NOTED = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
_BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
VERDICTS = ("present", "bsqi", "new")


@dataclass(frozen=True, eq=False)
class Judged:
    """Of some leads, (records, 12) each, what was measured and who objects."""

    numbers: Mapping[str, NDArray[np.float64]]
    objects: Mapping[str, NDArray[np.bool_]]
    clipped: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ecgs:
    """Records of one length: (records, 12, samples), their numbers in their source, and whose they are."""

    samples_mv: NDArray[np.float32]
    records: list[int]
    patients: list[str]
    sources: list[str]


def load(data: Path, *, limit: int | None = None) -> Ecgs:
    """Read PTB-XL's and LUDB's 500 Hz records."""
    with (data / "ptbxl" / "ptbxl_database.csv").open(newline="") as handle:
        patient = {int(row["ecg_id"]): row["patient_id"] for row in csv.DictReader(handle)}
    ptbxl = sorted((data / "ptbxl" / "records500").glob("*/*.hea"))[:limit]
    ludb = sorted((data / "ludb" / "data").glob("*.hea"))[:limit]
    samples = np.stack([read(path).samples_mv for path in (*ptbxl, *ludb)])
    patients = [f"ptbxl {patient[int(path.name[:5])]}" for path in ptbxl] + [f"ludb {p.stem}" for p in ludb]
    mirrored = np.pad(samples, ((0, 0), (0, 0), (MIRRORED, 0)), mode="reflect")
    records = [int(path.name.split("_")[0].removesuffix(".hea")) for path in (*ptbxl, *ludb)]
    return Ecgs(mirrored, records, patients, ["ptbxl"] * len(ptbxl) + ["ludb"] * len(ludb))


def reports(patient: str) -> bool:
    """Whether a patient is of the half that figures are reported on; the other half chose the thresholds."""
    return hashlib.sha256(patient.encode()).digest()[0] % 2 == 1


def judge(samples_mv: NDArray[np.float32]) -> Judged:
    """Judge the last 10 s of every record, (records, 12, samples)."""
    shape = samples_mv.shape[:2]
    rows = np.ascontiguousarray(samples_mv.reshape(-1, samples_mv.shape[2]))
    conditioned = FrontEnd(SPEC, n_leads=len(rows), rate_hz=RATE_HZ).push(rows)
    counts = np.ascontiguousarray(conditioned.counts[:, -WINDOW:])
    window = Window(WINDOW, counts, np.ascontiguousarray(conditioned.status[:, -WINDOW:]))
    quality = assess(window, SPEC)
    spread = slope_spread(counts)
    rms = np.sqrt(np.square(np.diff(counts.astype(np.float64))).mean(axis=1))
    raw = raw_seconds(rows[:, -round(10 * RATE_HZ) :])
    measures = measure_window(counts, rms, raw, second_samples=SECOND, spec=SPEC)
    sd_mv = np.array(quality.sd_mv)
    doubts = doubtful(measures, sd_mv)
    fault = np.array([reason is not None for reason in quality.reasons])
    products = limb_products(counts.reshape(*shape, WINDOW)[:, :6])
    contradicts = contradiction(products, LIMB_LEADS, n_samples=WINDOW)
    objects = {"present": fault, "rails": measures.railed & ~fault}
    objects |= {doubt: held & ~fault for doubt, held in zip(DOUBTS, doubts, strict=True)}
    objects["new"] = fault | measures.railed | doubts.any(axis=0)
    objects["bsqi"] = measures.agreement < BSQI
    by_lead = {name: held.reshape(shape) for name, held in objects.items()}
    limb = np.zeros(shape, np.bool_)
    limb[:, :6] = contradicts[:, np.newaxis] > CONTRADICTION
    by_lead["contradiction"] = limb
    numbers = _numbers(measures, spread, sd_mv)
    numbers["contradiction"] = np.repeat(contradicts, 12)
    last = samples_mv[..., -round(10 * RATE_HZ) :]
    extreme = np.abs(last).max(axis=2, keepdims=True)
    clipped = (np.abs(last) >= extreme).mean(axis=2) >= 0.002
    return Judged({name: value.reshape(shape) for name, value in numbers.items()}, by_lead, clipped)


def _numbers(
    measures: Measures, spread: NDArray[np.float64], sd_mv: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    safe = np.maximum(sd_mv, 1e-6)
    return {
        "spread": spread,
        "mains": measures.hum_mv / safe,
        "muscle": measures.muscle_mv / safe,
        "burst": measures.burst,
        "baseline": measures.baseline_mv,
        "beats": 1.0 - measures.agreement,
    }


def raw_seconds(rows_mv: NDArray[np.float32], rate_hz: float = RATE_HZ) -> RawBlock:
    """Measure every second one of whole seconds of raw samples, as beds do; arrays (seconds, rows)."""
    spec = raw_spec(rate_hz)
    n = spec.block_samples
    blocks = [
        raw_block(np.ascontiguousarray(rows_mv[:, start : start + n]), spec)
        for start in range(n, rows_mv.shape[1] - n + 1, 2 * n)
    ]
    names = ("hum_mv", "muscle_mv", "mean_mv", "high_mv", "low_mv", "top", "bottom")
    return RawBlock(*(np.stack([getattr(block, name) for block in blocks]) for name in names))


def judge_all(ecgs: Ecgs, corruption: Corruption, rng: np.random.Generator) -> Judged:
    """Corrupt and judge every record, some at a time."""
    parts = [
        judge(corruption.change(ecgs.samples_mv[start : start + AT_ONCE], rng))
        for start in range(0, len(ecgs.patients), AT_ONCE)
    ]
    first = parts[0]
    return Judged(
        {name: np.concatenate([part.numbers[name] for part in parts]) for name in first.numbers},
        {name: np.concatenate([part.objects[name] for part in parts]) for name in first.objects},
        np.concatenate([part.clipped for part in parts]),
    )


def rate(
    held: NDArray[np.bool_], counted: NDArray[np.bool_], patients: Sequence[str], rng: np.random.Generator
) -> dict[str, float]:
    """Return the share of the counted leads that are held, with an interval that resamples patients."""
    names = sorted(set(patients))
    place = {name: k for k, name in enumerate(names)}
    own = np.array([place[patient] for patient in patients])
    hits = np.bincount(own, (held & counted).sum(axis=1), len(names))
    leads = np.bincount(own, counted.sum(axis=1), len(names))
    drawn = rng.integers(0, len(names), (RESAMPLED, len(names)))
    total = leads[drawn].sum(axis=1)
    shares = hits[drawn].sum(axis=1) / np.maximum(total, 1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return {
        "share": float(hits.sum() / max(leads.sum(), 1)),
        "low": float(low),
        "high": float(high),
        "leads": int(leads.sum()),
    }


def table_rows(ecgs: Ecgs, *, seed: int) -> list[dict[str, Any]]:
    """Return one row a corruption, of the reporting half."""
    half = np.array([reports(patient) for patient in ecgs.patients])
    ptbxl = np.array([source == "ptbxl" for source in ecgs.sources])
    rows = []
    for k, (name, corruption) in enumerate(corruptions().items()):
        judged = judge_all(ecgs, corruption, np.random.default_rng((seed, k)))
        # LUDB's limb leads contradict each other as they are: see docs/quality.md.
        chosen = half & ptbxl if corruption.counts == "limb" else half
        counted = np.ones_like(judged.clipped) if corruption.counts == "all" else judged.clipped
        if corruption.counts == "limb":
            counted = np.zeros_like(counted)
            counted[:, :6] = True
        patients = [patient for patient, own in zip(ecgs.patients, chosen, strict=True) if own]
        rng = np.random.default_rng(seed)
        rates = {
            each: rate(held[chosen], counted[chosen], patients, rng) for each, held in judged.objects.items()
        }
        print(
            f"{name:48s}" + "".join(f"{rates[v]['share']:9.3f}" for v in (*VERDICTS, "contradiction")),
            flush=True,
        )
        row = {"corruption": name, "counts": corruption.counts, "rates": rates}
        if name == "none":
            row["records"] = {
                each: rate(
                    held[chosen].any(axis=1, keepdims=True), np.ones((len(patients), 1), bool), patients, rng
                )
                for each, held in judged.objects.items()
            }
        rows.append(row)
    return rows


def chosen_on(ecgs: Ecgs) -> dict[str, dict[str, float]]:
    """Return, of the choosing half as recorded, the quantiles that thresholds were chosen by."""
    judged = judge_all(ecgs, corruptions()["none"], np.random.default_rng(0))
    choosing = np.array([not reports(patient) for patient in ecgs.patients])
    ptbxl = np.array([source == "ptbxl" for source in ecgs.sources])
    found = {}
    for name, values in judged.numbers.items():
        own = values[choosing & ptbxl] if name == "contradiction" else values[choosing]
        found[name] = {f"{q:g}": float(np.quantile(own, q)) for q in (0.5, 0.95, 0.99, 0.995, 0.998, 0.999)}
    return found


def annotated(ecgs: Ecgs, data: Path) -> dict[str, dict[str, float]]:
    """Return the shares of PTB-XL's records with objections: where its authors noted noise, and where not."""
    with (data / "ptbxl" / "ptbxl_database.csv").open(newline="") as handle:
        noted = {
            int(row["ecg_id"]): any(row[column].strip() for column in _NOTED)
            for row in csv.DictReader(handle)
        }
    some = [k for k, source in enumerate(ecgs.sources) if source == "ptbxl"]
    judged = judge(ecgs.samples_mv[some])
    marks = np.array([noted[ecgs.records[k]] for k in some])
    return {
        each: {
            "noted": float(held.any(axis=1)[marks].mean()),
            "not_noted": float(held.any(axis=1)[~marks].mean()),
            "records_noted": int(marks.sum()),
            "records_not_noted": int((~marks).sum()),
        }
        for each, held in judged.objects.items()
        if each in VERDICTS
    }


def contradictions(data: Path) -> dict[str, dict[str, float]]:
    """Return, by source, how far the limb leads contradict each other as recorded."""
    folders = {
        "PTB-XL": "ptbxl/records500/*/*.hea",
        "LUDB": "ludb/data/*.hea",
        "CODE-15": "code15_samitrop/code15/*.hea",
        "Georgia": "cinc2021/georgia/*.hea",
        "Chapman-Shaoxing": "cinc2021/chapman_shaoxing/*.hea",
        "PTB Diagnostic": "ptbdb_15lead/*.hea",
    }
    found = {}
    for name, pattern in folders.items():
        shares = [_contradiction_of(path) for path in sorted(data.glob(pattern))]
        if shares:
            found[name] = {
                "records": len(shares),
                "median": float(np.median(shares)),
                "largest": float(np.max(shares)),
                "share_above": float(np.mean(np.array(shares) > CONTRADICTION)),
            }
    return found


def _contradiction_of(path: Path) -> float:
    recording = read(path)
    rows = [recording.leads.index(lead) for lead in LIMB_LEADS]
    front_end = FrontEnd(SPEC, n_leads=6, rate_hz=recording.rate_hz)
    counts = front_end.push(np.ascontiguousarray(recording.samples_mv[rows])).counts[:, 500:]
    return float(contradiction(limb_products(counts), LIMB_LEADS, n_samples=counts.shape[1]))


def detectors(data: Path) -> list[dict[str, Any]]:
    """Return sensitivity and positive predictive value of both detectors, against annotated beats, within 150 ms."""
    import wfdb

    rows = []
    for name, lead in RHYTHMS:
        path = str(data / "long_2lead" / name)
        record, notes = wfdb.rdrecord(path), wfdb.rdann(path, "atr")
        true_s = notes.sample[[symbol in _BEATS for symbol in notes.symbol]] / record.fs
        samples = np.ascontiguousarray(record.p_signal.T[[lead]], np.float32)
        counts = FrontEnd(SPEC, n_leads=1, rate_hz=float(record.fs)).push(samples).counts
        row: dict[str, Any] = {"record": name, "signal": record.sig_name[lead]}
        windows = np.lib.stride_tricks.sliding_window_view(counts[0], WINDOW)[::SECOND]
        energies = window_energies(windows, frame_samples=FRAME)
        for detector, energy, share in (
            ("slope", energies.slope, SLOPE_SHARE),
            ("bend", energies.bend, BEND_SHARE),
        ):
            row[detector] = _score(true_s, _stream_of(energy, share), counts.shape[1] / SPEC.rate_hz)
        print(row, flush=True)
        rows.append(row)
    return rows


def _stream_of(energy: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    """Return the times of beats as a stream has them: of each window, one a second, only the newest second counts."""
    beats = find_beats(energy, share=share, second_frames=SECOND // FRAME)
    frames = np.arange(len(beats))
    newest = (frames >= len(frames) - 30) & (frames < len(frames) - 5)
    frame, window = np.nonzero(beats & newest[:, np.newaxis])
    return np.sort((window * SECOND + frame * FRAME) / SPEC.rate_hz)


def _score(true_s: NDArray[np.float64], found_s: NDArray[np.float64], length_s: float) -> dict[str, float]:
    """Match in order; the detector's own constant delay is taken out, and the first window is not counted."""
    nearest = found_s[np.abs(found_s[:, np.newaxis] - true_s - 0.1).argmin(axis=0)]
    delay_s = float(np.median(nearest - true_s))
    true_s = true_s[(true_s > 10.0) & (true_s < length_s - 1.5)]
    found_s = found_s - delay_s
    found_s = found_s[(found_s > 10.0) & (found_s < length_s - 1.5)]
    hits = i = j = 0
    while i < len(true_s) and j < len(found_s):
        late_s = found_s[j] - true_s[i]
        hits += bool(abs(late_s) <= 0.15)
        i, j = i + (late_s >= -0.15), j + (late_s <= 0.15)
    return {
        "beats": len(true_s),
        "sensitivity": hits / len(true_s),
        "ppv": hits / max(1, len(found_s)),
        "delay_ms": 1000.0 * delay_s,
    }


def costs(ecgs: Ecgs, *, beds: int, hop_s: float = 5.0, rounds: int = 9) -> dict[str, float]:
    """Return microseconds of each criterion for a second of a bed of 12 leads, by criterion."""
    some = np.resize(ecgs.samples_mv, (beds, *ecgs.samples_mv.shape[1:])).reshape(beds * 12, -1)
    counts = FrontEnd(SPEC, n_leads=len(some), rate_hz=RATE_HZ).push(some).counts[:, -WINDOW:]
    counts = np.ascontiguousarray(counts)
    raw = raw_spec(RATE_HZ)
    second_mv = np.ascontiguousarray(some[:, -raw.block_samples :])
    second = np.ascontiguousarray(counts[:, -SECOND - LEAD_IN :])
    limb = counts.reshape(beds, 12, -1)[:, :6, -SECOND:]
    products = limb_products(limb)
    energies = window_energies(counts, frame_samples=FRAME)
    rms = np.sqrt(np.square(np.diff(counts.astype(np.float64))).mean(axis=1))
    measures = measure_window(counts, rms, raw_seconds(some[:, -5000:]), second_samples=SECOND, spec=SPEC)
    sd_mv = counts.std(axis=1) * SPEC.lsb_mv
    per_second = {
        "raw: mains, muscle, rails": lambda: raw_block(second_mv, raw),
        "beats: energies": lambda: beat_energies(second, frame_samples=FRAME),
        "limb leads: products": lambda: limb_products(limb),
    }
    per_window = {
        "beats: agreement": lambda: agreement(energies, second_frames=SECOND // FRAME),
        "limb leads: contradiction": lambda: contradiction(products, LIMB_LEADS, n_samples=WINDOW),
        "doubts from measures": lambda: doubtful(measures, sd_mv),
    }
    cases = {
        name: lambda run=run: seconds(lambda: [run() for _ in range(20)]) / 20
        for name, run in {**per_second, **per_window}.items()
    }
    took = medians(take_turns(cases, rounds=rounds, warm_up=2))
    share = {name: 1.0 if name in per_second else 1.0 / hop_s for name in cases}
    share["raw: mains, muscle, rails"] = 0.5
    return {name: 1e6 * took[name] * share[name] / beds for name in cases}


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table of docs/quality.md."""
    lines = [
        "| what was done to the leads | leads | faults alone | bSQI < 0.8 alone | with doubts | contradiction |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        rates = row["rates"]
        cells = [_percent(rates[each]) for each in (*VERDICTS, "contradiction")]
        if row["counts"] != "limb":
            cells[3] = ""
        lines.append(f"| {row['corruption']} | {rates['new']['leads']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def detector_table(result: Mapping[str, Any]) -> str:
    """Return the table of the detectors in docs/quality.md."""
    lines = [
        "| record, signal | beats | slope: sensitivity, PPV | bend: sensitivity, PPV |",
        "|---|---|---|---|",
    ]
    for row in result["detectors"]:
        scores = [
            f"{100 * row[each]['sensitivity']:.1f} %, {100 * row[each]['ppv']:.1f} %"
            for each in ("slope", "bend")
        ]
        lines.append(f"| {row['record']}, {row['signal']} | {row['slope']['beats']} | {' | '.join(scores)} |")
    return "\n".join(lines)


def cost_table(result: Mapping[str, Any]) -> str:
    """Return the table of costs in docs/quality.md."""
    by_beds = result["us_a_bed_second"]
    lines = [
        f"| us for a second of a bed | {' | '.join(f'{n} beds' for n in by_beds)} |",
        "|---|---|---|---|",
    ]
    names = next(iter(by_beds.values()))
    lines += [
        f"| {name} | {' | '.join(f'{took[name]:.1f}' for took in by_beds.values())} |" for name in names
    ]
    sums = [f"{sum(costs.values()):.1f}" for costs in by_beds.values()]
    return "\n".join([*lines, f"| together | {' | '.join(sums)} |"])


def _percent(found: Mapping[str, float]) -> str:
    return f"{100 * found['share']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def main(arguments: list[str]) -> None:
    """Measure everything; write it where `--out FILE` is given."""
    if arguments and (arguments[0] != "--out" or len(arguments) != 2):
        raise SystemExit("usage: quality.py [--out FILE.json]")
    data = Path(os.environ["ECGEDGE_DATA"])
    ecgs = load(data)
    half = [patient for patient in ecgs.patients if reports(patient)]
    result: dict[str, Any] = {
        "benchmark": "quality",
        **machine("ecgedge", "numpy", "scipy", "wfdb"),
        "patients": {"choosing": len(set(ecgs.patients) - set(half)), "reporting": len(set(half))},
        "chosen_on": chosen_on(ecgs),
        "rows": table_rows(ecgs, seed=1),
        "annotated": annotated(ecgs, data),
        "contradictions": contradictions(data),
        "detectors": detectors(data),
        "us_a_bed_second": {str(beds): costs(ecgs, beds=beds) for beds in (1, 8, 64)},
    }
    print(markdown(result))
    print(
        result["chosen_on"],
        result["annotated"],
        result["contradictions"],
        result["us_a_bed_second"],
        sep="\n",
    )
    if arguments:
        write_json(Path(arguments[1]), result)


if __name__ == "__main__":
    main(sys.argv[1:])
