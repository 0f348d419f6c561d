"""The recording: the one in-memory form of an ECG that every room works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS

Mode = Literal["real", "test", "demo"]
"""Where samples come from, as in BICEPS MetricQuality/@Mode; simulated samples are always "demo"."""

MIN_RATE_HZ = 90.0
MAX_RATE_HZ = 20_000.0
MAX_ABS_MV = 1_000.0
"""No electrode potential reaches 1 V: beyond it the unit was wrong (usually microvolts taken for millivolts)."""


@dataclass(frozen=True)
class Recording:
    """An ECG recording.

    Attributes
    ----------
    samples_mv
        (n_leads, n_samples) float32, millivolts. NaN marks samples that were not measured.
    rate_hz
        Samples per second and lead.
    leads
        Standard lead names, in standard order, one per row.
    source
        What the recording was read from, for messages.
    mode
        "real", "test" or "demo" (simulated).
    patient_id, metadata
        As far as the source tells; free text otherwise.
    """

    samples_mv: NDArray[np.float32]
    rate_hz: float
    leads: tuple[str, ...]
    source: str = "array"
    mode: Mode = "real"
    patient_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no ECG can be.

        Raises
        ------
        RecordError
            On a wrong shape, rate, lead list or amplitude.
        """
        shape = self.samples_mv.shape
        if self.samples_mv.ndim != 2 or shape[0] != len(self.leads):
            raise RecordError(
                f"{self.source}: samples have shape {shape} but {len(self.leads)} leads are named "
                f"({','.join(self.leads)}); expected (n_leads, n_samples)"
            )
        if self.samples_mv.dtype != np.float32:
            raise RecordError(
                f"{self.source}: samples are {self.samples_mv.dtype}, expected float32 millivolts"
            )
        if shape[1] == 0:
            raise RecordError(f"{self.source}: the recording holds no samples")
        check_rate(self.rate_hz, source=self.source)
        if [lead for lead in STANDARD_LEADS if lead in self.leads] != list(self.leads):
            raise RecordError(
                f"{self.source}: leads {','.join(self.leads)} are not standard leads in standard order; "
                "use ecgedge.leads.order_leads"
            )
        if np.isinf(self.samples_mv).any():
            raise RecordError(
                f"{self.source}: infinite samples; mark samples that were not measured with NaN"
            )
        largest = float(np.nanmax(np.abs(self.samples_mv), initial=0.0))
        if largest > MAX_ABS_MV:
            raise RecordError(
                f"{self.source}: an amplitude of {largest:.4g} mV cannot come from electrodes; "
                "the samples are probably in microvolts or raw counts: convert them to millivolts"
            )

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.samples_mv.shape[1] / self.rate_hz)


def check_rate(rate_hz: float, *, source: str) -> None:
    """Raise RecordError unless `rate_hz` is a rate that the front end can take."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise RecordError(
            f"{source}: a sampling rate of {rate_hz:g} Hz is not usable; "
            f"expected {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz"
        )


def require_gapless(recording: Recording) -> Recording:
    """Return `recording` unless it holds NaN; then raise RecordError that says where the first gap is."""
    missing = np.isnan(recording.samples_mv)
    if not missing.any():
        return recording
    row = int(np.argmax(missing.any(axis=1)))
    first = int(np.argmax(missing[row]))
    raise RecordError(
        f"{recording.source}: {int(missing.sum())} samples are missing (NaN); the first is in lead "
        f"{recording.leads[row]} at {first / recording.rate_hz:.3f} s. "
        "Stream the recording with gaps=keep (gaps then show as gaps), or cut it to a stretch without gaps"
    )
