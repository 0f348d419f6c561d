"""Bundles and their engines onto the disk, each in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ecgedge.bundle.identity import encode_with_id, sha256
from ecgedge.bundle.manifest import EMBEDDED, SIGNATURE_FILE, Bundle, Manifest, PackedEngine
from ecgedge.container import add_file, replace_folder, write_new
from ecgedge.errors import BundleError
from ecgedge.schema import to_plain


def write_bundle(
    out: Path,
    *,
    manifest: Manifest,
    files: Mapping[str, bytes],
    engines: Mapping[str, PackedEngine] | None = None,
) -> str:
    """Write a bundle directory (or `.ecgb.zip`) in one step and return its id.

    Parameters
    ----------
    out
        Must not exist yet.
    manifest
        `manifest.files` is replaced by the hashes of `files`.
    files
        Path inside the bundle to content.
    engines
        Folder below `engines/` to engine; outside the id.

    Raises
    ------
    BundleError
        If `out` exists.
    """
    hashes = {name: sha256(data) for name, data in sorted(files.items())}
    bundle_id, encoded = encode_with_id(to_plain(replace(manifest, files=hashes)))
    contents = {**files, "manifest.json": encoded}
    for folder, packed in (engines or {}).items():
        contents |= {f"engines/{folder}/{name}": data for name, data in _engine_files(packed).items()}
    write_new(out, contents)
    return bundle_id


def copy_bundle(bundle: Bundle, out: Path) -> None:
    """Write a loaded bundle again as a directory, or as a zip if `out` ends in .zip; the id stays.

    Raises
    ------
    BundleError
        If `out` exists, or an engine was set aside: a copy must not carry what does not hold.
    """
    require_engines(bundle)
    write_new(out, bundle.contents)


def add_signature(bundle: Bundle, signature: bytes) -> None:
    """Put `signature` beside the manifest where the bundle was read from, in one step; no other byte changes.

    Raises
    ------
    BundleError
        For the bundle in the wheel.
    """
    if bundle.source == EMBEDDED:
        raise BundleError(
            "the embedded bundle is part of the installed package; sign a copy: "
            f"ecgedge bundle unpack {EMBEDDED} --out NAME.ecgb"
        )
    add_file(Path(bundle.source), SIGNATURE_FILE, signature, contents=bundle.contents)


def require_engines(bundle: Bundle) -> None:
    """Refuse a bundle of which an engine was set aside.

    Raises
    ------
    BundleError
        With every reason.
    """
    if bundle.set_aside:
        raise BundleError("; ".join(bundle.set_aside))


def write_engine(bundle_dir: Path, folder: str, packed: PackedEngine) -> None:
    """Put an engine into a bundle directory whole, in place of an earlier one; the bundle's id stays.

    Parameters
    ----------
    folder
        Below `engines/`, such as "I_II/int8".

    Raises
    ------
    BundleError
        If `bundle_dir` is no directory of a bundle.
    """
    if not (bundle_dir / "manifest.json").is_file():
        raise BundleError(
            f"{bundle_dir}: no bundle directory; unpack the bundle first: ecgedge bundle unpack"
        )
    replace_folder(bundle_dir, f"engines/{folder}", _engine_files(packed))


def _engine_files(packed: PackedEngine) -> dict[str, bytes]:
    record = encode_with_id(to_plain(packed.record))[1]
    return {packed.record.engine_file: packed.engine, "record.json": record, **packed.files}
