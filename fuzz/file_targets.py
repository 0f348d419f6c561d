"""Targets: the project's own files. Any bytes are what they should be, or raise the error that the reader names."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import seeds
from target import Target

DEEP = b"a = " + b"[" * 3000
"""Deeper than a parser goes."""

WARD = b"""[ward]
journals = "j"
state = "s"
[[bed]]
name = "1"
feed = "file:a.hea?loop=1"
policy = "p.toml"
"""


def _toml(load: Callable[[], Callable[[Path], object]]) -> Callable[[Path], Callable[[bytes], None]]:
    def open_(folder: Path) -> Callable[[bytes], None]:
        from ecgedge.errors import RecipeError

        path, read = folder / "f.toml", load()

        def once(data: bytes) -> None:
            path.write_bytes(data)
            with suppress(RecipeError):
                read(path)

        return once

    return open_


def _load_policy() -> Callable[[Path], object]:
    from ecgedge.alarms.policy_file import load_policy

    return lambda path: load_policy(path, hop_s=10.0)


def _load_ward() -> Callable[[Path], object]:
    from ecgedge.wards.config import load_ward

    return load_ward


def _policy_seeds(data: Path | None) -> list[bytes]:
    """Every field with its default."""
    del data
    import dataclasses

    from ecgedge.policy import AlarmPolicy

    plain = dataclasses.asdict(AlarmPolicy())
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items() if value is not None]
    return ["\n".join(lines).encode(), DEEP]


def _bundle_zip(folder: Path) -> Callable[[bytes], None]:
    from ecgedge.bundle import load_bundle
    from ecgedge.errors import BundleError

    path = folder / "b.ecgb.zip"

    def once(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(BundleError):
            load_bundle(path)

    return once


def _bundle_zip_seeds(data: Path | None) -> list[bytes]:
    del data
    from ecgedge.container import _zip  # the packing that is accepted

    return [_zip({"manifest.json": b"{}\n", "a/b": b"12"}), _zip({"../x": b""})]


def _manifest(folder: Path) -> Callable[[bytes], None]:
    """Try a manifest, an engine's record and a file: the manifest's and the record's ids are put right."""
    from ecgedge.bundle import load_bundle
    from ecgedge.bundle.identity import encode_with_id
    from ecgedge.errors import BundleError

    (folder / "engines" / "e").mkdir(parents=True)

    def sealed(text: bytes) -> bytes:
        with suppress(ValueError, RecursionError, AttributeError, TypeError):
            plain = json.loads(text)
            plain.pop("id", None)
            return encode_with_id(plain)[1]
        return text

    def once(data: bytes) -> None:
        manifest, _, record = data.partition(seeds.BETWEEN)
        (folder / "manifest.json").write_bytes(sealed(manifest))
        (folder / "engines" / "e" / "record.json").write_bytes(sealed(record))
        with suppress(BundleError):
            load_bundle(folder)

    return once


def _manifest_seeds(data: Path | None) -> list[bytes]:
    """Return the embedded bundle's own, without the files that it lists."""
    del data
    import ecgedge

    text = (Path(ecgedge.__file__).parent / "embedded.ecgb" / "manifest.json").read_bytes()
    plain = json.loads(text)
    return [
        text,
        json.dumps({**plain, "files": {}, "variants": []}).encode() + seeds.BETWEEN + b'{"id": "x"}',
    ]


def _selftest(folder: Path) -> Callable[[bytes], None]:
    del folder
    from ecgedge.errors import EngineError
    from ecgedge.runtime.selftest import read_self_test

    def once(data: bytes) -> None:
        with suppress(EngineError):
            read_self_test(seeds.packed(data))

    return once


def _selftest_seeds(data: Path | None) -> list[bytes]:
    del data
    import numpy as np

    from ecgedge.runtime.selftest import Expected, SelfTest, write_self_test

    expected = Expected({"p": np.zeros(2, np.float32)}, {"p": 0.1})
    return [seeds.members(write_self_test(SelfTest(np.zeros((2, 12, 5), np.int16), {"I/fp32": expected})))]


def _snapshot(folder: Path) -> Callable[[bytes], None]:
    """Try a bed's snapshot, its digest put right."""
    del folder
    import hashlib

    from ecgedge.errors import RecordError
    from ecgedge.stream import BedSnapshot
    from ecgedge.stream.snapshot import _MAGIC

    def once(data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest().encode()
        with suppress(RecordError):
            BedSnapshot.from_bytes(_MAGIC + digest + b"\n" + data, source="fuzz")

    return once


def _snapshot_seeds(data: Path | None) -> list[bytes]:
    """Return one of the right format in which facts are missing: a whole one needs a bed."""
    del data
    import io

    import numpy as np

    from ecgedge.stream.snapshot import BED_FORMAT

    head = json.dumps({"bed": {"format": BED_FORMAT, "t0_s": 0.0}, "alarms": {}}).encode()
    stream = io.BytesIO()
    for array in (np.frombuffer(head, np.uint8), np.zeros((2, 3), np.float32)):
        np.save(stream, array)
    return [stream.getvalue()]


def _checkpoint(folder: Path) -> Callable[[bytes], None]:
    """Try a bed's checkpoint on the bus, its digest put right."""
    del folder
    import hashlib

    from ecgedge.cluster.checkpoint import _MAGIC, Checkpoint
    from ecgedge.errors import RecordError

    def once(data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest().encode()
        with suppress(RecordError):
            Checkpoint.from_bytes(_MAGIC + digest + data, source="fuzz")

    return once


def _checkpoint_seeds(data: Path | None) -> list[bytes]:
    head = {"position": {"sequence": 5}, "lines": ["a"], "owner": "b"}
    return [json.dumps(head).encode() + b"\n" + snapshot for snapshot in _snapshot_seeds(data)] + [
        b"[" * 3000
    ]


def _journal(folder: Path) -> Callable[[bytes], None]:
    from ecgedge.errors import RecordError
    from ecgedge.journal import read_journal, verify_journal

    path = folder / "j.jsonl"

    def once(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(RecordError):
            verify_journal(path)
        with suppress(RecordError):
            list(read_journal(path))

    return once


def _journal_seeds(data: Path | None) -> list[bytes]:
    del data
    import tempfile

    from ecgedge.journal import Journal

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "j.jsonl")
        with Journal(path) as journal:
            journal.append({"type": "note", "text": "a"})
            journal.append({"type": "note", "text": "b"})
        return [path.read_bytes()]


TARGETS = {
    "policy": Target(_toml(_load_policy), _policy_seeds),
    "ward": Target(_toml(_load_ward), lambda _: [WARD, DEEP]),
    "bundle_zip": Target(_bundle_zip, _bundle_zip_seeds),
    "manifest": Target(_manifest, _manifest_seeds),
    "selftest": Target(_selftest, _selftest_seeds),
    "snapshot": Target(_snapshot, _snapshot_seeds),
    "checkpoint": Target(_checkpoint, _checkpoint_seeds),
    "journal": Target(_journal, _journal_seeds),
}
