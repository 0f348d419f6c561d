"""A bundle from the disk: nothing is handed out before every byte has been checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ecgedge.bundle.identity import decode_with_id, sha256
from ecgedge.bundle.manifest import (
    EMBEDDED,
    SCHEMA_VERSION,
    SIGNATURE_FILE,
    Bundle,
    EngineRecord,
    Manifest,
)
from ecgedge.container import read_directory, read_zip
from ecgedge.errors import BundleError
from ecgedge.schema import SchemaError, from_plain

# Not importlib.resources, whose import a cold start would wait for: the wheel is unpacked wherever it is installed.
_IN_THE_WHEEL = Path(__file__).parents[1] / "embedded.ecgb"


def load_bundle(source: str | Path) -> Bundle:
    """Read a bundle and check every byte of it.

    Parameters
    ----------
    source
        A bundle directory, its zip, or "embedded" for the one in the wheel.

    Raises
    ------
    BundleError
        If anything that the id covers is missing, added, altered, or of a newer schema.
    """
    contents = _read(source)
    name = str(source)
    if "manifest.json" not in contents:
        raise BundleError(f"{name}: no manifest.json in it; this is no bundle (or it was cut short)")
    bundle_id, plain = decode_with_id(contents["manifest.json"], place=f"{name}: manifest.json")
    _check_schema(plain, place=name)
    try:
        manifest = from_plain(Manifest, plain)
    except SchemaError as error:
        raise BundleError(f"{name}: manifest.json: {error}") from error
    _check_files(contents, manifest, place=name)
    engines, set_aside = _sort_engines(contents, place=name)
    return Bundle(bundle_id, manifest, name, contents, engines, set_aside)


def _check_schema(plain: Mapping[str, Any], *, place: str) -> None:
    version = plain.get("schema_version")
    if version == SCHEMA_VERSION:
        return
    try:
        writer = f"ecgedge {plain['provenance']['versions']['ecgedge']}"
    except (KeyError, TypeError):
        writer = "a newer ecgedge"
    raise BundleError(
        f"{place}: schema version {version!r}, this ecgedge reads {SCHEMA_VERSION}. The bundle was written by "
        f"{writer}: install that version or a newer one here, or export the bundle again with this one"
    )


def _check_files(contents: Mapping[str, bytes], manifest: Manifest, *, place: str) -> None:
    found = {n for n in contents if not n.startswith("engines/")} - {"manifest.json", SIGNATURE_FILE}
    if missing := sorted(set(manifest.files) - found):
        raise BundleError(f"{place}: {', '.join(missing)} is missing; copy the bundle again")
    if extra := sorted(found - set(manifest.files)):
        raise BundleError(
            f"{place}: {', '.join(extra)} is not part of the bundle; remove it or copy it again"
        )
    for name, expected in manifest.files.items():
        if sha256(contents[name]) != expected:
            raise BundleError(
                f"{place}: {name} was altered (its SHA-256 does not match); copy the bundle again"
            )
    for variant in manifest.variants:
        if variant.file not in manifest.files:
            raise BundleError(f"{place}: variant {variant.name} names {variant.file}, which the bundle lacks")


def _sort_engines(
    contents: Mapping[str, bytes], *, place: str
) -> tuple[tuple[EngineRecord, ...], tuple[str, ...]]:
    """Return the records that hold, and the reasons against everything else below engines/."""
    records: list[EngineRecord] = []
    set_aside: list[str] = []
    accounted: set[str] = set()
    for name in sorted(n for n in contents if n.startswith("engines/") and n.endswith("/record.json")):
        accounted |= {name}
        try:
            record, beside = _check_engine(contents, name, place=place)
        except BundleError as error:
            # The engine beside a record that does not hold is not loaded either, and needs no second reason.
            accounted |= {n for n in contents if PurePosixPath(n).parent == PurePosixPath(name).parent}
            set_aside.append(str(error))
        else:
            accounted |= beside
            records.append(record)
    if loose := sorted({n for n in contents if n.startswith("engines/")} - accounted):
        set_aside.append(f"{place}: {', '.join(loose)} has no record; remove it")
    return tuple(records), tuple(set_aside)


def _check_engine(contents: Mapping[str, bytes], name: str, *, place: str) -> tuple[EngineRecord, set[str]]:
    """Return the record called `name` and the paths of what it names, once all of it holds."""
    _, plain = decode_with_id(contents[name], place=f"{place}: {name}")
    try:
        record = from_plain(EngineRecord, plain)
    except SchemaError as error:
        raise BundleError(f"{place}: {name}: {error}; build the engine again") from error
    folder = PurePosixPath(name).parent
    engine = str(folder / record.engine_file)
    if sha256(contents.get(record.onnx_file, b"")) != record.onnx_sha256:
        raise BundleError(f"{place}: {engine} was built from another {record.onnx_file}; build it again")
    expected = {engine: record.engine_sha256, **{str(folder / f): h for f, h in record.files.items()}}
    for file, known in expected.items():
        if sha256(contents.get(file, b"")) != known:
            raise BundleError(f"{place}: {file} does not match the engine's record; build the engine again")
    return record, set(expected)


def _read(source: str | Path) -> dict[str, bytes]:
    if str(source) == EMBEDDED:
        return read_directory(_IN_THE_WHEEL)
    path = Path(source)
    if path.is_dir() and (path / "manifest.json").is_file() and str(source):
        return read_directory(path)
    if path.is_file():
        return read_zip(path)
    seen = "a directory without manifest.json" if path.is_dir() else "nothing there"
    if (path / "recipe.toml").is_file() and (path / "data.json").is_file():
        seen = f"a run of training; ecgedge export {source!s:.200} makes a bundle of it"
    raise BundleError(
        f"{source!s:.200}: no bundle ({seen}); give its directory, its .ecgb.zip, or '{EMBEDDED}'"
    )
