"""Our own plain exchange format: a NumPy .npz with `samples_mv`, `rate_hz` and `leads`.

Optional arrays: `patient_id`, `mode` ("real" if absent) and `metadata_json`. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Mode, Recording
from ecgedge.errors import RecordError
from ecgedge.npy import DAMAGED
from ecgedge.records._common import dropped_metadata, select_leads

_REQUIRED: Final = ("samples_mv", "rate_hz", "leads")
_MODES: Final[tuple[Mode, ...]] = typing.get_args(Mode)


def read_npz(path: Path) -> Recording:
    """Read a recording from `path`.

    Leads may stand in any order and spelling that `ecgedge.leads.canonical_lead` knows.

    Raises
    ------
    RecordError
        If an array is missing or has the wrong type, shape or content, or needs unpickling.
    """
    source = str(path)
    arrays = _load(path)
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        raise RecordError(
            f"{source}: no array {', '.join(missing)}; found {', '.join(arrays) or 'none'}. "
            "Write it with ecgedge.records.write_npz"
        )
    samples = _samples(arrays["samples_mv"], source)
    names = _names(arrays["leads"], source)
    if samples.shape[0] != len(names):
        raise RecordError(
            f"{source}: samples_mv has shape {samples.shape} but {len(names)} leads are named; "
            "expected (n_leads, n_samples)"
        )
    selection = select_leads(names, source=source)
    patient_id = arrays.get("patient_id")
    return Recording(
        samples_mv=samples[list(selection.channels)],
        rate_hz=_rate_hz(arrays["rate_hz"], source),
        leads=selection.leads,
        source=source,
        mode=_mode(str(arrays.get("mode", "real")), source),
        patient_id=None if patient_id is None else str(patient_id),
        metadata=_metadata(arrays, source) | dropped_metadata(selection.dropped),
    )


def write_npz(recording: Recording, path: str | Path) -> None:
    """Write `recording` to `path`, replacing a file that is there only once the new one is whole."""
    path = Path(path)
    arrays: dict[str, Any] = {
        "samples_mv": recording.samples_mv,
        "rate_hz": np.float64(recording.rate_hz),
        "leads": np.array(recording.leads),
        "mode": np.array(recording.mode),
        "metadata_json": np.array(json.dumps(recording.metadata)),
    }
    if recording.patient_id is not None:
        arrays["patient_id"] = np.array(recording.patient_id)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # NumPy leaves a file that it opened itself open when the archive is damaged
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise RecordError(f"{path}: a single array, not an .npz archive; write it with write_npz")
            arrays = {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        # NumPy takes what is no archive for pickled data, and says how to load that
        seen = f"{type(error).__name__}: {error}" if is_zipfile(path) else "no zip archive, as every .npz is"
        raise RecordError(
            f"{path}: not a readable .npz archive ({seen}); write it with ecgedge.records.write_npz"
        ) from error
    # NumPy gives a member that does not begin as an array does as its bytes
    if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise RecordError(
            f"{path}: {other[0]!r:.60} in it is no array; write it with ecgedge.records.write_npz"
        )
    if foreign := [name for name, array in arrays.items() if not _is_text(array)]:
        raise RecordError(
            f"{path}: {foreign[0]!r:.60} in it holds no text of Unicode; it is damaged: copy it again"
        )
    return arrays


def _is_text(array: NDArray[Any]) -> bool:
    """Tell whether an array of text holds code points of Unicode alone: NumPy takes any 32 bits."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "U" or array.dtype.itemsize == 0:
        return True
    codes = (
        np.ascontiguousarray(array).reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    )
    return bool(codes.max(initial=0) <= sys.maxunicode)


def _samples(array: NDArray[Any], source: str) -> NDArray[np.float32]:
    if array.dtype.kind != "f" or array.ndim != 2:
        raise RecordError(
            f"{source}: samples_mv is {array.dtype} of shape {array.shape}; "
            "expected floating-point millivolts of shape (n_leads, n_samples)"
        )
    return array.astype(np.float32)


def _names(array: NDArray[Any], source: str) -> list[str]:
    if array.dtype.kind != "U" or array.ndim != 1:
        raise RecordError(
            f"{source}: leads is {array.dtype} of shape {array.shape}; expected a list of names"
        )
    return [str(name) for name in array]


def _rate_hz(array: NDArray[Any], source: str) -> float:
    if array.dtype.kind not in "iuf" or array.size != 1:
        raise RecordError(
            f"{source}: rate_hz is {array.dtype} of shape {array.shape}; expected one number in Hz"
        )
    return float(array.reshape(())[()])


def _mode(text: str, source: str) -> Mode:
    for mode in _MODES:
        if text == mode:
            return mode
    raise RecordError(f"{source}: mode is {text!r}; expected one of {', '.join(_MODES)}")


def _metadata(arrays: Mapping[str, NDArray[Any]], source: str) -> dict[str, str]:
    if "metadata_json" not in arrays:
        return {}
    try:
        data = json.loads(str(arrays["metadata_json"]))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{source}: metadata_json is no JSON ({error}); write it with write_npz") from error
    if not isinstance(data, dict):
        raise RecordError(f"{source}: metadata_json is {data!r}; expected an object of strings")
    return {str(key): str(value) for key, value in data.items()}
