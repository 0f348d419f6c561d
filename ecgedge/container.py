"""A bundle's files as a directory or as a zip of one fixed packing; each is written whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ecgedge.errors import BundleError


def read_directory(folder: Path) -> dict[str, bytes]:
    """Return path to content of every file below `folder`.

    Raises
    ------
    BundleError
        If there is a link among them.
    """
    contents: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise BundleError(f"{path} is a link; a bundle holds plain files only")
        if path.is_file():
            contents[path.relative_to(folder).as_posix()] = path.read_bytes()
    return contents


def read_zip(path: Path) -> dict[str, bytes]:
    """Return path to content of every file in a zip that `write_new` wrote.

    Raises
    ------
    BundleError
        If it is no zip, is damaged, was packed by another program, or holds a name that points outside.
    """
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        # Names, dates and padding of a zip are not covered by its CRCs: only our own packing is accepted.
        intact = _zip(contents) == data
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError(f"{path} is not a bundle, or is damaged ({error}); copy it again") from error
    if not intact:
        raise BundleError(f"{path} was altered or packed again by another program; copy the original again")
    for name in contents:
        if _points_outside(name):
            raise BundleError(
                f"{path}: it holds a file {name!r}, which points outside; do not use this bundle"
            )
    return contents


def write_new(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write a directory, or a zip if `out` ends in .zip.

    Raises
    ------
    BundleError
        If `out` exists.
    """
    if out.exists():
        raise BundleError(f"{out} exists already; remove it or choose another name")
    if out.name.endswith(".zip"):
        _write_file(out, _zip(contents), partial=_partial(out))
    else:
        _write_directory(out, contents)


def add_file(place: Path, name: str, data: bytes, *, contents: Mapping[str, bytes]) -> None:
    """Add or replace one file in the directory or zip at `place`, which holds `contents`."""
    if place.is_file():
        _write_file(place, _zip({**contents, name: data}), partial=_partial(place))
    else:
        # Beside the directory, not inside: what a power loss left in there would make the bundle refused.
        _write_file(place / name, data, partial=_partial(place))


def replace_folder(place: Path, folder: str, contents: Mapping[str, bytes]) -> None:
    """Write a folder of the directory at `place` instead of what it was, whole or not at all.

    Names are relative to it. A power loss in the middle may leave neither the old folder nor the new one.
    """
    partial = _partial(place)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "new").mkdir(parents=True)
        for name, data in contents.items():
            (partial / "new" / name).write_bytes(data)
        target = place / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(partial / "old")
        (partial / "new").rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _points_outside(name: str) -> bool:
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or ":" in name


def _zip(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            archive.writestr(info, contents[name])
    return buffer.getvalue()


def _partial(out: Path) -> Path:
    whole = out.absolute()
    return whole.with_name(f".{whole.name}.partial-{os.getpid()}")


def _write_file(out: Path, data: bytes, *, partial: Path) -> None:
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(data)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _write_directory(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write into a sibling folder and rename it, so that a bundle is either whole or absent."""
    partial = _partial(out)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for name, data in contents.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
