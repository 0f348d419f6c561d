"""Samples in messages (MQTT, WebSocket), no I/O: what a device declares, binary frames, and JSON.

Declared, a JSON object: `{"leads": ["I", "II"], "rate_hz": 500, "lsb_nv": 1000, "mode": "real", "chunk_ms": 50,
"band_hz": [0.05, 150], "calibrated": true}`; from "mode" on all may be left out. `lsb_nv` is a count of a binary frame
in nanovolts.

Binary: one DATA frame of firmware_bridge/PROTOCOL.md a message, as `ecgedge_bridge.pack` gives it (no COBS).

JSON: `{"index": 1000, "unit": "mV", "samples": [[0.1, null], [0.2, 0.3]]}`, a row for each declared lead; `index`
counts the samples since the device started, null was not measured.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import FeedError
from ecgedge.feeds.declared import Declared, from_object, to_object
from ecgedge.feeds.dejitter import Packet
from ecgedge.feeds.eeb import MODULUS, DataFrames
from ecgedge_bridge import RejectedError, unpack

MAX_MESSAGE: Final = 1 << 20
"""Bytes of a JSON message; a longer one is dropped unread."""

_MV_PER_UNIT: Final = {"mV": 1.0, "uV": 1e-3, "V": 1e3}


def write_declared(declared: Declared) -> bytes:
    """Return what a device sends of itself."""
    return json.dumps(to_object(declared)).encode()


def read_declared(message: bytes, *, uri: str) -> Declared:
    """Read what a device sends of itself.

    Raises
    ------
    FeedError
        If it is no JSON object, or lacks something, or something in it cannot be.
    """
    try:
        return from_object(_load(message))
    except (ValueError, RecursionError) as error:
        raise FeedError(
            f"{uri}: what the device declares cannot be used: {error}. Expected a JSON object such as "
            '{"leads": ["I", "II"], "rate_hz": 500, "lsb_nv": 1000}'
        ) from error


def write_json(samples_mv: NDArray[np.float32], *, index: int) -> bytes:
    """Return a JSON message with these samples, (n_leads, n); NaN is written as null."""
    rows = [[None if math.isnan(value) else value for value in row] for row in samples_mv.tolist()]
    return json.dumps({"index": index, "unit": "mV", "samples": rows}, separators=(",", ":")).encode()


class MessageReader:
    """Messages of one device in, packets out; what cannot be used is dropped and counted.

    Attributes
    ----------
    dropped
        Messages by what was wrong: the names of the frame decoder (PROTOCOL.md, section 7) and of `DataFrames`;
        `bad_json` (no JSON, or not as above), `bad_unit` (none, or another than mV, uV and V), `bad_shape` (another
        number of leads, or rows of several lengths).
    """

    def __init__(self, declared: Declared, *, uri: str) -> None:
        self._declared = declared
        self._rows = np.array(declared.rows)
        self._frames = DataFrames(declared, uri=uri)
        self.dropped = self._frames.dropped

    def binary(self, message: bytes, *, arrived_s: float | None = None) -> Packet | None:
        """Take a binary message; FeedError as `DataFrames.packet`."""
        try:
            return self._frames.packet(unpack(message), arrived_s=arrived_s)
        except RejectedError as rejected:
            self.dropped[rejected.counter] += 1
            return None

    def json(self, message: bytes, *, arrived_s: float | None = None) -> Packet | None:
        """Take a JSON message."""
        try:
            index, samples_mv = self._read(_load(message))
        except _UnusableError as unusable:
            self.dropped[str(unusable)] += 1
            return None
        except (ValueError, RecursionError):
            self.dropped["bad_json"] += 1
            return None
        return Packet(samples_mv[self._rows], index, arrived_s=arrived_s)

    def _read(self, plain: object) -> tuple[int, NDArray[np.float32]]:
        if not isinstance(plain, dict) or not _is_index(plain.get("index")):
            raise _UnusableError("bad_json")
        factor = _MV_PER_UNIT.get(str(plain.get("unit")))
        if factor is None:
            raise _UnusableError("bad_unit")
        rows = plain.get("samples")
        if not isinstance(rows, list) or len(rows) != len(self._declared.channels) or not _alike(rows):
            raise _UnusableError("bad_shape")
        samples_mv = np.array([_numbers(row) for row in rows], np.float64) * factor
        return int(plain["index"]), samples_mv.astype(np.float32)


class _UnusableError(ValueError):
    """Says under which name a message is counted."""


def _load(message: bytes) -> Any:
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"{len(message)} bytes are too many")
    return json.loads(message, parse_constant=_refuse)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MODULUS


def _alike(rows: list[Any]) -> bool:
    """Tell whether these are lists of one length, and not empty."""
    return all(isinstance(row, list) for row in rows) and min(map(len, rows)) == max(map(len, rows)) > 0


def _numbers(row: list[Any]) -> list[float]:
    """Return a row of numbers, NaN where one is null."""
    if any(isinstance(v, bool) or not (v is None or isinstance(v, (int, float))) for v in row):
        raise _UnusableError("bad_json")
    try:
        numbers = [math.nan if v is None else float(v) for v in row]
    except OverflowError:
        raise _UnusableError("bad_json") from None
    if any(map(math.isinf, numbers)):
        raise _UnusableError("bad_json")
    return numbers
