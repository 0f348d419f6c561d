"""Chunks as frames of the bridge protocol, or as the messages of `ecgedge.feeds.messages`."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import Declared
from ecgedge.feeds.eeb import MODULUS
from ecgedge.feeds.messages import write_json
from ecgedge_bridge import Data, SampleFormat, pack
from ecgedge_bridge.frames import DATA_HEAD_SIZE, MAX_CHANNELS, MAX_PAYLOAD

LSB_NV: Final = 1000.0
"""A count on the wire, unless the URI says otherwise: as many archives store their ECGs."""


class MessageWriter:
    """Chunks to the messages of `ecgedge.feeds.messages`, in the format that a URI names.

    Raises
    ------
    FeedError
        If the format is neither binary nor json.
    """

    def __init__(self, info: FeedInfo, declared: Declared, *, kind: str, uri: str) -> None:
        if kind not in ("binary", "json"):
            raise FeedError(f"{uri}: format is '{kind}'; expected binary or json")
        self.is_json = kind == "json"
        self._rate_hz, self._frames = info.rate_hz, FrameWriter(info, declared)

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return DATA frames, or one JSON message."""
        if self.is_json:
            return [write_json(chunk.samples_mv, index=round(chunk.t_s * self._rate_hz) % MODULUS)]
        return [pack(frame) for frame in self._frames.frames(chunk)]


class FrameWriter:
    """Chunks to DATA frames. A lead with a sample that was not measured is marked off for that frame."""

    def __init__(self, info: FeedInfo, declared: Declared) -> None:
        self._info, self._declared = info, declared
        self._per_frame = (MAX_PAYLOAD - DATA_HEAD_SIZE) // (len(info.leads) * SampleFormat.I24.width)
        self._seq = 0

    def frames(self, chunk: Chunk) -> list[Data]:
        """Return the frames of a chunk."""
        first = round(chunk.t_s * self._info.rate_hz)
        n = chunk.samples_mv.shape[1]
        return [
            self._frame(first + k, chunk.samples_mv[:, k : k + self._per_frame])
            for k in range(0, n, self._per_frame)
        ]

    def _frame(self, index: int, samples_mv: NDArray[np.float32]) -> Data:
        off: NDArray[np.bool_] = np.logical_or.reduce(np.isnan(samples_mv), axis=1)
        scaled = np.rint(
            np.where(off[:, np.newaxis], 0.0, samples_mv.astype(np.float64)) * (1e6 / self._declared.lsb_nv)
        )
        limit = 1 << 23
        counts = np.clip(scaled, -limit, limit - 1).astype(np.int64)
        wide = bool(np.abs(counts).max(initial=0) > np.iinfo(np.int16).max)
        self._seq += 1
        return Data(
            seq=(self._seq - 1) % 2**16,
            sample_index=index % MODULUS,
            t_us=round(index * 1e6 / self._info.rate_hz),
            n_channels=len(off),
            counts=tuple(counts.T.ravel().tolist()),
            fmt=SampleFormat.I24 if wide else SampleFormat.I16,
            lead_off=sum(1 << k for k in np.flatnonzero(off[:MAX_CHANNELS]).tolist()),
            simulated=True,  # a recording that is played back is no patient (PROTOCOL.md, section 3)
        )
