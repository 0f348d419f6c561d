"""Windows cut from recordings that are longer than one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ecgedge.ecg import Recording

WINDOW_S: Final = 10.0
LEAD_IN_S: Final = 10.0
"""Read before a window where there is so much, so that the front end has settled in it as on a running bed."""


def last_windows(recording: Recording, windows: int) -> Iterator[tuple[float, Recording]]:
    """Cut up to `windows` full windows of 10 s that do not overlap, counted from the end of the recording.

    Yields
    ------
    float
        Where the window begins, in seconds from the recording's start.
    Recording
        The window with up to 10 s before it; the front end's last 10 s of it are the window. A recording
        shorter than a window comes out whole, for the builder to judge.
    """
    rate_hz, n = recording.rate_hz, recording.samples_mv.shape[1]
    length, lead_in = round(WINDOW_S * rate_hz), round(LEAD_IN_S * rate_hz)
    for number in range(min(windows, max(1, n // length))):
        end = n - number * length
        start = max(0, end - length)
        samples_mv = recording.samples_mv[:, max(0, start - lead_in) : end]
        yield start / rate_hz, Recording(samples_mv, rate_hz, recording.leads, source=recording.source)
