"""A writer of EDF files, fields free, from the specification (www.edfplus.info)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# The signal header: a name here, and its width in bytes
WIDTHS = {
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "physical_min": 8,
    "physical_max": 8,
    "digital_min": 8,
    "digital_max": 8,
    "prefilter": 80,
    "n_samples": 8,
    "reserved": 32,
}
CALIBRATED = {
    "unit": "uV",
    "physical_min": "-5000",
    "physical_max": "5000",
    "digital_min": "-32768",
    "digital_max": "32767",
}


@dataclass(frozen=True)
class Signal:
    """One signal: int16 of shape (n_records, samples in a record), and header fields that differ."""

    label: str
    stored: np.ndarray
    fields: Mapping[str, str] = field(default_factory=dict)


def edf_bytes(
    signals: Sequence[Signal],
    *,
    reserved: str = "",
    patient: str = "X X X X",
    record_s: str = "1",
    onsets: Sequence[str] | None = None,
    n_records: str | None = None,
) -> bytes:
    """Return the file; `onsets` adds a signal of EDF annotations with the time-keeping list of each record."""
    records = signals[0].stored.shape[0]
    if onsets is not None:
        tals = b"".join(f"{onset}\x14\x14\x00".encode().ljust(32, b"\x00") for onset in onsets)
        signals = [*signals, Signal("EDF Annotations", np.frombuffer(tals, "<i2").reshape(records, 16))]
    main = [("0", 8), (patient, 80), ("Startdate 01-JAN-2000 X X X", 80), ("01.01.00", 8), ("00.00.00", 8)]
    main += [(str(256 * (len(signals) + 1)), 8), (reserved, 44), (n_records or str(records), 8)]
    main += [(record_s, 8), (str(len(signals)), 4)]
    header = "".join(text.ljust(width) for text, width in main)
    for name, width in WIDTHS.items():
        for signal in signals:
            told = {"label": signal.label, "n_samples": str(signal.stored.shape[1])}
            header += (CALIBRATED | told | dict(signal.fields)).get(name, "").ljust(width)
    data = np.concatenate([signal.stored for signal in signals], axis=1)
    return header.encode("ascii") + data.astype("<i2").tobytes()
