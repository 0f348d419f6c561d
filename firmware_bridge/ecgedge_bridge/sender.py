"""Samples to frames: the sending end, for tests and for devices that run Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from ecgedge_bridge.codec import to_wire
from ecgedge_bridge.frames import Data, SampleFormat


def encode_stream(
    samples: Iterable[Sequence[int]],
    *,
    rate_hz: float,
    samples_per_frame: int = 10,
    fmt: SampleFormat = SampleFormat.I16,
    lead_off: int = 0,
    gain_id: int = 0,
    first_seq: int = 0,
    first_index: int = 0,
    simulated: bool = False,
) -> Iterator[bytes]:
    """Cut a stream of samples into DATA frames, one element of wire bytes each.

    Parameters
    ----------
    samples
        One sequence of counts per sample, one count per channel.
    rate_hz
        Samples per second and channel; sets the device clock, which begins at 0 with sample index 0.
    samples_per_frame
        The last frame may hold fewer.
    first_seq, first_index
        Sequence number and sample index of the first frame.

    Raises
    ------
    ValueError
        When a frame would be too large, a count does not fit `fmt`, or the channels change.
    """
    source = iter(samples)
    seq, index = first_seq, first_index
    n_channels: int | None = None
    while block := list(islice(source, samples_per_frame)):
        n_channels = n_channels or len(block[0])
        if any(len(sample) != n_channels for sample in block):
            raise ValueError(f"a sample near index {index} does not have {n_channels} channels")
        frame = Data(
            seq=seq % 2**16,
            sample_index=index % 2**32,
            t_us=round(index * 1e6 / rate_hz),
            n_channels=n_channels,
            counts=tuple(int(count) for sample in block for count in sample),
            fmt=fmt,
            lead_off=lead_off,
            gain_id=gain_id,
            simulated=simulated,
        )
        yield to_wire(frame)
        seq, index = seq + 1, index + len(block)
