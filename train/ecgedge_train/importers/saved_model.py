"""Weights out of a TensorFlow SavedModel folder, read without TensorFlow.

What is read:
- `variables/variables.index`: a LevelDB table from a tensor's key to its `BundleEntryProto` (type, shape, shard,
  offset, size); the empty key holds the header (number of shards, byte order). The checksums of its blocks are
  checked.
- `variables/variables.data-SSSSS-of-NNNNN`: the tensors' bytes.
- The tensor `_CHECKPOINTABLE_OBJECT_GRAPH`, a `TrackableObjectGraph`: each variable's name ("conv1d_2/kernel")
  and its key ("layer_with_weights-2/kernel/.ATTRIBUTES/VARIABLE_VALUE"). The names are those of Keras' layers,
  which the keys are not, and the keys differ between Keras 2 and 3.
- `saved_model.pb`, where there is one: the shape of the input of its serving signature. Its graph is not run.

Formats: tensorflow/core/util/tensor_bundle, core/protobuf/{tensor_bundle,trackable_object_graph,saved_model,
meta_graph}.proto; LevelDB's doc/table_format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EcgedgeError
from ecgedge_train.importers.keras_h5 import VARIABLES, KerasWeights, refuse_lfs_pointer

OBJECT_GRAPH: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"
_TABLE_MAGIC: Final = 0xDB4775248B80FB57
_FOOTER_BYTES: Final = 48
_DT_FLOAT: Final = 1
_DT_STRING: Final = 7
_UNKNOWN: Final = 2**64 - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class BundleEntry:
    """Where a tensor's bytes are."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def read_saved_model(folder: Path) -> KerasWeights:
    """Read the variables of a SavedModel folder.

    Raises
    ------
    EcgedgeError
        If a file is missing, a Git LFS pointer or damaged.
    """
    index_path = folder / "variables" / "variables.index"
    refuse_lfs_pointer(index_path)
    try:
        return KerasWeights(folder, _read_variables(index_path), _input_shape(folder / "saved_model.pb"))
    except (ValueError, IndexError, KeyError, OSError, struct.error) as error:
        raise EcgedgeError(
            f"{folder} cannot be read as a TensorFlow SavedModel ({error}); fetch the folder again"
        ) from error


def read_index(data: bytes) -> tuple[int, dict[str, BundleEntry]]:
    """Return the number of shards and the entries of a `variables.index` file.

    Raises
    ------
    ValueError, IndexError, struct.error
        If it is damaged, ends early, or is of a kind that is not read.
    """
    table = read_table(data)
    header = dict(fields(table.pop(b"")))
    if header.get(2, 0) != 0:
        raise ValueError("the bundle is big-endian")
    return _integer(header.get(1, 1)), {key.decode(): _entry(value) for key, value in table.items()}


def _read_variables(index_path: Path) -> dict[str, NDArray[np.float32]]:
    n_shards, entries = read_index(index_path.read_bytes())
    if OBJECT_GRAPH not in entries:
        raise KeyError(f"the index has no {OBJECT_GRAPH}: it was not saved by TensorFlow 2")
    shards = [index_path.with_name(f"variables.data-{i:05d}-of-{n_shards:05d}") for i in range(n_shards)]
    for shard in shards:
        refuse_lfs_pointer(shard)
    graph = _string(_tensor_bytes(shards, entries[OBJECT_GRAPH], _DT_STRING))
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, key in _variable_keys(graph):
        # Two parts and no more: an optimiser's moments are named after the variable too, behind its own name.
        layer, _, variable = name.partition("/")
        if variable in VARIABLES and f"{layer}/{variable}" not in tensors:
            entry = entries[key]
            raw = _tensor_bytes(shards, entry, _DT_FLOAT)
            tensors[f"{layer}/{variable}"] = np.frombuffer(raw, "<f4").reshape(entry.shape)
    return tensors


def _tensor_bytes(shards: list[Path], entry: BundleEntry, dtype: int) -> bytes:
    if entry.dtype != dtype:
        raise ValueError(f"a tensor is of TensorFlow's type {entry.dtype}, not {dtype}")
    path = shards[entry.shard]
    # Before reading: a damaged size must not ask for more memory than the file has bytes.
    if entry.offset + entry.size > path.stat().st_size:
        raise ValueError(f"{path.name} ends before byte {entry.offset + entry.size}: it is cut short")
    with path.open("rb") as file:
        file.seek(entry.offset)
        return file.read(entry.size)


def _string(raw: bytes) -> bytes:
    """Return the one string of a string tensor: its length, a checksum of the length, then itself."""
    length, start = _varint(raw, 0)
    return raw[start + 4 : start + 4 + length]


def _variable_keys(graph: bytes) -> Iterator[tuple[str, str]]:
    """Yield (name, key) of every variable of a `TrackableObjectGraph`."""
    for node_number, node in fields(graph):
        if node_number != 1:
            continue
        for number, attribute in fields(_message(node)):
            if number == 2:
                parts = dict(fields(_message(attribute)))
                yield _message(parts.get(2, b"")).decode(), _message(parts.get(3, b"")).decode()


def _input_shape(path: Path) -> tuple[int, int] | None:
    """Return (samples, channels) of the serving signature's one input, or None."""
    if not path.is_file():
        return None
    refuse_lfs_pointer(path)
    shapes = [
        _dimensions(shape)
        for graph in _all(path.read_bytes(), 2)
        for name, signature in map(_map_item, _all(graph, 5))
        if name == b"serving_default"
        for _, tensor in map(_map_item, _all(signature, 1))
        for shape in _all(tensor, 3)
    ]
    if len(shapes) == 1 and len(shapes[0]) == 3 and max(shapes[0][1:]) < _UNKNOWN:
        return shapes[0][1], shapes[0][2]
    return None


def _entry(value: bytes) -> BundleEntry:
    parts = dict(fields(value))
    shape = _dimensions(_message(parts.get(2, b"")))
    dtype, shard, offset, size = (_integer(parts.get(number, 0)) for number in (1, 3, 4, 5))
    return BundleEntry(dtype, shape, shard, offset, size)


def _dimensions(shape: bytes) -> tuple[int, ...]:
    """Return the sizes of a `TensorShapeProto`; an unknown one, -1, comes as `_UNKNOWN`."""
    return tuple(_integer(dict(fields(dim)).get(1, 0)) for dim in _all(shape, 2))


# --- LevelDB table -------------------------------------------------------------------------------------------


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Return all keys and values of a LevelDB table.

    Raises
    ------
    ValueError, IndexError, struct.error
        If it is no table, ends early, a checksum does not fit, or a block is compressed.
    """
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _TABLE_MAGIC:
        raise ValueError("variables.index is no table: its last bytes are wrong")
    _, position = _handle(footer, 0)  # of the meta index, which is empty
    index_handle, _ = _handle(footer, position)
    table: dict[bytes, bytes] = {}
    for _, handle in _block_items(_block(data, index_handle)):
        table.update(_block_items(_block(data, _handle(handle, 0)[0])))
    return table


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _block(data: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    end = offset + size
    compression, masked = struct.unpack("<BI", data[end : end + 5])
    # Stored checksums are rotated and shifted by a constant, so that a checksum of checksums stays useful.
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    if crc32c(data[offset : end + 1]) != (rotated >> 17 | rotated << 15) & 0xFFFFFFFF:
        raise ValueError("variables.index is damaged: a checksum does not fit")
    if compression:
        raise ValueError(f"variables.index is compressed (kind {compression}), which TensorFlow does not do")
    return data[offset:end]


def _block_items(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block; a key leaves out what it shares with the one before."""
    end = len(block) - 4 * (1 + struct.unpack("<I", block[-4:])[0])
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        size, position = _varint(block, position)
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + size]
        position += size


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# --- Protocol buffers ----------------------------------------------------------------------------------------


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value): an integer, or the bytes of a string or a message.

    Raises
    ------
    ValueError
        On a wire type that is not used any more, or a field that ends behind the message.
    IndexError
        If a number ends early.
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"a message has a field of wire type {wire}")
        if position + size > len(message):
            raise ValueError("a message ends inside a field")
        yield number, message[position : position + size]
        position += size


def _all(message: bytes, number: int) -> list[bytes]:
    return [_message(value) for n, value in fields(message) if n == number]


def _map_item(item: bytes) -> tuple[bytes, bytes]:
    parts = dict(fields(item))
    return _message(parts.get(1, b"")), _message(parts.get(2, b""))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")  # noqa: TRY004 - damage, no caller's mistake
    return value


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a message stands where a number should")  # noqa: TRY004 - damage, no caller's mistake
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read seven bits a byte, the lowest first; a set top bit means that more follow. At most 10 bytes."""
    value = 0
    for i in range(10):
        byte = data[position + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, position + i + 1
    raise ValueError("a number is longer than 64 bits")
