"""Read the tensors of a PyTorch checkpoint without running what is in it.

A .pt file is a zip archive with a pickle (data.pkl) and the raw numbers beside it (data/0, data/1, ...). A pickle is
a program: loaded the usual way it may call anything. Checkpoints of other projects cannot be had without theirs, for
they carry argparse.Namespace, omegaconf nodes and what else a training run held. So this reader interprets the
pickle with a table of a few harmless names; whatever else it mentions becomes an inert object that swallows its
arguments and its state. Nothing is imported or called on the pickle's behalf, not even torch: tensors are noted as
(storage, offset, shape, strides) and made afterwards, checked against the archive.

Messages name types and integers of a pickle, never its objects: a few hundred bytes of nested tuples can take
gigabytes to print.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ecgedge.errors import EcgedgeError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

_REFUSED = "no checkpoint does that, and it is not read"

# What unpickling a damaged file may raise; nothing but this module's own table ever runs.
_DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


class Inert:
    """Stands in for any class or function outside the table: it can be called and filled, without effect."""

    def __new__(cls, *_args: object, **_options: object) -> Inert:
        """Make an empty object, whatever the arguments."""
        return super().__new__(cls)

    def __init__(self, *_args: object, **_options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __call__(self, *_args: object) -> Inert:
        """Whatever would be called in turn, such as a method that was looked up, is inert too."""
        return self

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Drop an item."""

    def extend(self, items: object) -> None:
        """Drop items."""

    def add(self, item: object) -> None:
        """Drop an item."""


class PlainDict(dict[Any, Any]):
    """Stands in for every kind of dictionary; attributes that a pickle would set on it are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Sealed:
    """What the table hands out besides dictionaries: a pickle may not set attributes on it."""

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError(f"it sets attributes of a {type(self).__name__}; {_REFUSED}")


@dataclass(frozen=True)
class StoredTensor(_Sealed):
    """Where a tensor lies in the archive; capacity (of its storage), offset and strides are in elements."""

    key: str
    dtype: torch.dtype
    capacity: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Storage(_Sealed):
    key: str
    dtype: torch.dtype
    capacity: int


class _Maker(_Sealed):
    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)


def read_torch_checkpoint(path: Path) -> Any:
    """Read a whole checkpoint: plain containers, numbers and text, `StoredTensor` and `Inert`.

    Raises
    ------
    EcgedgeError
        If the file is missing, of another format, damaged, or does what no checkpoint does.
    """
    with _open(path) as archive:
        return _unpickle(archive, path)


def read_torch_state_dict(path: Path, *, key: str | None = "model") -> dict[str, Tensor]:
    """Read the tensors of a state dict.

    Parameters
    ----------
    path
        A .pt or .pth file written by torch.save, 1.6 or later.
    key
        The entry of the checkpoint that holds the state dict; None: the checkpoint is one.

    Returns
    -------
    dict
        Tensors on the CPU by name, each with memory of its own.

    Raises
    ------
    EcgedgeError
        As `read_torch_checkpoint`; also if the entry is missing or holds something else than tensors.
    """
    with _open(path) as archive:
        stored = _state_dict(_unpickle(archive, path), path, key)
        return {name: _read(archive, tensor, path) for name, tensor in stored.items()}


def _state_dict(checkpoint: Any, path: Path, key: str | None) -> dict[str, StoredTensor]:
    entry = checkpoint
    if key is not None:
        if not isinstance(checkpoint, Mapping) or key not in checkpoint:
            kind = type(checkpoint).__name__
            names = (
                [name for name in checkpoint if isinstance(name, str)]
                if kind in ("dict", "PlainDict")
                else kind
            )
            raise EcgedgeError(f"{path} has no entry {key!r}, it holds {names}; is it a training checkpoint?")
        entry = checkpoint[key]
    if not isinstance(entry, Mapping) or not entry:
        raise EcgedgeError(f"{path} holds no state dict but {type(entry).__name__}; save model.state_dict()")
    for name, value in entry.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            shown = name if isinstance(name, str) else type(name).__name__
            raise EcgedgeError(f"{path}: entry {shown!r} is no tensor but {type(value).__name__}")
    return dict(entry)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise EcgedgeError(
            f"{path} is no zip archive, as torch.save writes them since version 1.6; if it is an older checkpoint, "
            "load it with torch.load(path, weights_only=True) and save it again"
        ) from error
    except OSError as error:
        raise EcgedgeError(f"{path} cannot be read: {error}") from error


def _unpickle(archive: zipfile.ZipFile, path: Path) -> Any:
    programs = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(programs) != 1:
        raise EcgedgeError(f"{path} is a zip archive without a data.pkl; torch.save did not write it")
    folder = programs[0].removesuffix("data.pkl")
    try:
        program = _member(archive, programs[0])
        if f"{folder}byteorder" in archive.namelist() and _member(archive, f"{folder}byteorder") != b"little":
            raise pickle.UnpicklingError(
                "its numbers are big-endian; save it again on a little-endian machine"
            )
        _check_program(program)
        return _Reader(program, folder).load()
    except _DAMAGE as error:
        raise EcgedgeError(f"{path} cannot be read as a checkpoint: {error}") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{name} is compressed; {_REFUSED}")
    return archive.read(name)


def _check_program(program: bytes) -> None:
    """Refuse what takes names or memory from outside the pickle, before any of it runs."""
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name.startswith("EXT"):
            raise pickle.UnpicklingError(f"it uses the extension registry; {_REFUSED}")
        # The memo is an array: one huge index would have it filled up to there.
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > len(program):
            raise pickle.UnpicklingError(f"it numbers an object {argument}; {_REFUSED}")


class _Reader(pickle.Unpickler):
    def __init__(self, program: bytes, folder: str) -> None:
        super().__init__(io.BytesIO(program), encoding="utf-8")
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        """Return the table's entry, or an inert class of that name."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        known = _TABLE.get((module, name))
        return type(name, (Inert,), {"__module__": module}) if known is None else known

    def persistent_load(self, pid: Any) -> _Storage:
        """Note a storage: ("storage", dtype, key, device, number of elements)."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise pickle.UnpicklingError(f"it refers to something outside of itself; {_REFUSED}")
        _, dtype, key, _, capacity = pid
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"a storage is none of {', '.join(_DTYPES)}; save it as one of them")
        if not isinstance(key, str) or not isinstance(capacity, int):
            raise pickle.UnpicklingError(f"a storage without name or size; {_REFUSED}")
        return _Storage(f"{self._folder}data/{key}", dtype, capacity)


def _note_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_rest: object) -> StoredTensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError(f"a tensor without storage, shape or strides; {_REFUSED}")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if count else 0
    # The count too: strides of zero would make any amount of memory out of one number.
    if max(count, last + 1 if count else 0) > storage.capacity:
        raise pickle.UnpicklingError(
            f"a tensor of {count} numbers, the last at {last}, in a storage of {storage.capacity}; {_REFUSED}"
        )
    return StoredTensor(storage.key, storage.dtype, storage.capacity, offset, tuple(shape), tuple(strides))


def _note_parameter(data: Any, *_rest: object) -> Any:
    return data


def _empty_dict(*_factory: object) -> PlainDict:
    return PlainDict()


_TABLE: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_note_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(_note_parameter),
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): PlainDict,
    ("collections", "defaultdict"): _Maker(_empty_dict),
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}


def _read(archive: zipfile.ZipFile, stored: StoredTensor, path: Path) -> Tensor:
    expected = stored.capacity * stored.dtype.itemsize
    try:
        if (size := archive.getinfo(stored.key).file_size) != expected:
            raise EcgedgeError(f"{path} is damaged: {stored.key} has {size} bytes, not {expected}")
        if not math.prod(stored.shape):
            return torch.empty(stored.shape, dtype=stored.dtype)
        numbers = torch.frombuffer(bytearray(_member(archive, stored.key)), dtype=stored.dtype)
        return numbers.as_strided(stored.shape, stored.strides, stored.offset).clone()
    except _DAMAGE as error:
        raise EcgedgeError(f"{path} is damaged: {stored.key} cannot be read ({error})") from error
