"""What both machines are asked below the command line, by the installed ecgedge alone.

`make FOLDER` writes recordings of a simulated patient; `measure FOLDER OUT` puts those through the front end,
draws the same patient again, runs the bundle's self-test windows through every variant, and writes all of it.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.ecg import Recording
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records import read, write_npz
from ecgedge.runtime import OrtRunner
from ecgedge.runtime.selftest import SELF_TEST_FILE, read_self_test
from ecgedge.signal.front_end import condition
from ecgedge.sim import Simulator

RATES_HZ = (250.0, 360.0, 500.0)
"""As it comes, resampled by a fraction, and resampled by 2: the three ways through the resampler."""
RECORDED_S = 60


def make(folder: Path) -> None:
    """Write one recording a rate, two leads of the last one alone, all of 60 s of a simulated patient."""
    for rate_hz in RATES_HZ:
        samples_mv = _simulate(rate_hz)
        recording = Recording(
            samples_mv, rate_hz, STANDARD_LEADS, f"simulated at {rate_hz:g} Hz", mode="demo"
        )
        write_npz(recording, folder / f"sim{rate_hz:g}.npz")
    limb = Recording(samples_mv[:2], rate_hz, STANDARD_LEADS[:2], "simulated, I and II", mode="demo")
    write_npz(limb, folder / "limb.npz")


def measure(folder: Path, out: Path) -> None:
    """Write counts, simulated samples, self-test outputs, their tolerances, and the versions."""
    bundle = load_bundle("embedded")
    arrays: dict[str, Any] = {}
    for path in sorted(folder.glob("*.npz")):
        arrays[f"counts/{path.stem}"] = condition(read(path), bundle.manifest.front_end).counts
    for rate_hz in RATES_HZ:
        arrays[f"simulated/{rate_hz:g}"] = _simulate(rate_hz)
    arrays |= _self_test(bundle)
    versions = {name: metadata.version(name) for name in ("ecgedge", "numpy", "scipy", "onnxruntime")}
    facts = {"machine": platform.machine(), "python": platform.python_version(), **versions}
    np.savez_compressed(out, facts=np.array(json.dumps(facts)), **arrays)


def _simulate(rate_hz: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return Simulator("decompensating", seed=1, rate_hz=rate_hz).read(round(RECORDED_S * rate_hz))


def _self_test(bundle: Bundle) -> dict[str, Any]:
    """Return `output/VARIANT/NAME` and `tolerance/VARIANT/NAME` of every variant."""
    test = read_self_test(bundle.read_bytes(SELF_TEST_FILE))
    arrays: dict[str, Any] = {}
    for variant in bundle.manifest.variants:
        rows = [STANDARD_LEADS.index(lead) for lead in variant.leads]
        ecg_mv = test.counts[:, rows].astype(np.float32) * np.float32(bundle.manifest.front_end.lsb_mv)
        with OrtRunner.from_variant(bundle, variant) as runner:
            outputs = runner.run(ecg_mv)
        for name, allowed in test.variants[variant.name].tolerance.items():
            arrays[f"output/{variant.name}/{name}"] = outputs[name]
            arrays[f"tolerance/{variant.name}/{name}"] = np.float64(allowed)
    return arrays


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        measure(Path(sys.argv[2]), Path(sys.argv[3]))
