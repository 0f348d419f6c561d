"""A small dataset in memory with the interface of `EcgDataset`: a bump whose width tells the pressure."""

from dataclasses import dataclass

import numpy as np

SAMPLES = 500


@dataclass(frozen=True)
class MemoryInfo:
    sha256: str
    records: int
    patients: int

    def for_run(self):
        envelope = {"leads": ["I", "II"], "sd_low_mv": [0.01, 0.01], "sd_high_mv": [1.0, 1.0]}
        return {
            "name": "memory",
            "sha256": self.sha256,
            "simulated": True,
            "records": self.records,
            "patients": self.patients,
            "envelope": envelope,
        }


@dataclass(frozen=True)
class MemoryData:
    info: MemoryInfo
    index: dict
    windows: np.ndarray
    measured: np.ndarray
    label_columns: dict

    lsb_mv = 1 / 4096

    def select(self, *, split=None):
        return np.flatnonzero(self.index["split"] == split)

    def gather(self, rows, dtype=np.float32):
        if dtype == np.int16:
            return np.round(self.windows[np.asarray(rows)] / self.lsb_mv).astype(dtype)
        return self.windows[np.asarray(rows)].astype(dtype)

    def presence(self, rows):
        return self.measured[np.asarray(rows)].astype(np.float32)

    def labels(self, names, rows):
        return np.stack([self.label_columns[n][np.asarray(rows)] for n in names], axis=1).astype(np.float32)


def make_data(*, patients=60, records_per_patient=2, seed=3, samples=SAMPLES, unlabelled=()):
    """Patients 0 to 59 % train, 60 to 79 % tune, the rest test; pressure 5 to 30 mmHg widens each bump."""
    rng = np.random.default_rng(seed)
    n = patients * records_per_patient
    patient = np.repeat(np.arange(patients), records_per_patient)
    pressure = (5 + 25 * rng.random(patients))[patient].astype(np.float32)
    t = np.arange(samples) / 250.0
    windows = np.empty((n, 12, samples), np.float32)
    gains = rng.normal(1.0, 0.2, (patients, 12))
    for i in range(n):
        phase = rng.random() * 0.8
        bumps = sum(np.exp(-0.5 * ((t - phase - k * 0.8) / (pressure[i] / 500)) ** 2) for k in range(-1, 14))
        windows[i] = bumps * gains[patient[i]][:, None] + 0.02 * rng.normal(size=(12, samples))
    split = np.where(patient < 0.6 * patients, "train", np.where(patient < 0.8 * patients, "tune", "test"))
    pressure[np.isin(split, unlabelled)] = np.nan
    columns = {
        "mpcwp_mmhg": pressure,
        "WIDE": np.where(np.isnan(pressure), np.nan, pressure > 17),
        "NARROW": np.where(np.isnan(pressure), np.nan, pressure < 12),
    }
    index = {"patient_id": np.array([f"p{p:03d}" for p in patient], object), "split": split.astype(object)}
    measured = np.ones((n, 12), bool)
    return MemoryData(MemoryInfo(f"{seed:064x}", n, patients), index, windows, measured, columns)
