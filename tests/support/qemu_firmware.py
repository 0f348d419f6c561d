"""The firmware under QEMU, for tests: what it needs, and the real record that it plays."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from qemu_device import LEADS, PROGRAMS, QemuDevice, Scenario, build
from scipy.io import loadmat

from ecgedge.signal.resample import Resampler

LSB_PV = 47_684
"""One count of an ADS1298 with a gain of 6 and 2.4 V: 2.4 V / 6 / 2**23."""

RATE_HZ = 500
_RECORD = Path("ptbdb_15lead") / "patient165_s0322lre.mat"
_ROWS = [0, 1, 6, 7, 8, 9, 10, 11]
"""I, II, V1 to V6 among I, II, III, aVR, aVL, aVF, V1 to V6, x, y, z."""


def require_programs():
    """Skip where there is no emulator or no compiler; in CI that is a failure."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {', '.join(missing)}: see SYSTEM_PACKAGES in the Makefile")
    if missing:
        pytest.skip(f"no {', '.join(missing)} here, so the firmware cannot run; make system-deps")


def real_counts(ecg_data, seconds):
    """Return the first seconds of a PTB record (1000 Hz, two minutes, 0.5 uV a count) at 500 Hz, as counts (n, 8)."""
    samples_mv = loadmat(ecg_data / _RECORD)["val"][_ROWS, : seconds * 1000] / 2000.0
    halve = Resampler(n_leads=len(_ROWS), rate_in_hz=1000.0, rate_out_hz=RATE_HZ, pass_hz=150.0)
    return np.round(halve.push(samples_mv)[0].T / (LSB_PV * 1e-9)).astype(np.int32)


def uri(device, **more):
    """Return the feed's URI as a user would write it."""
    settings = {"leads": ",".join(LEADS), "rate_hz": RATE_HZ, "lsb_nv": LSB_PV / 1000, "mode": "demo", **more}
    return f"tcp://{device.address}?" + "&".join(f"{key}={value}" for key, value in settings.items())


def to_mv(counts):
    """Return counts (n, 8) as a feed gives them: (8, n) float32 millivolts."""
    return (counts.T * (LSB_PV / 1000 * 1e-6)).astype(np.float32)


class Firmware:
    """The built image, ready to be started with a scenario."""

    def __init__(self, folder):
        self.image = build(folder)

    def start(self, folder, counts, **faults):
        """Start it; by default at full speed, not in real time."""
        settings = {"rate_hz": RATE_HZ, "lsb_pv": LSB_PV, "stepped": True, **faults}
        return QemuDevice(self.image, Scenario(counts=counts, **settings), folder=folder)
