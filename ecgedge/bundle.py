"""The deployable artifact: a directory (or its zip) whose every byte is accounted for.

Both sides of the export import this module: `ecgedge_export.pack` writes bundles, the device reads them.
The id is the SHA-256 over the manifest in canonical JSON, which holds the SHA-256 of every other file;
`engines/` and `signature.json` stand outside, since a device adds its own, and each engine's record holds
its own hashes. Nothing is handed out before everything has been checked. An engine that does not hold is set
aside with its reason instead: what the id covers can serve without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ecgedge.container import add_file, read_directory, read_zip, replace_folder, write_new
from ecgedge.embedding import EmbeddingEnvelope
from ecgedge.errors import BundleError
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import SchemaError, from_plain, to_plain

SCHEMA_VERSION = 1
EMBEDDED = "embedded"
SIGNATURE_FILE = "signature.json"
Precision = Literal["fp32", "fp16", "int8"]
RESEARCH_USE_ONLY = "Research use only. Not a medical device; no clinical validity is claimed."


@dataclass(frozen=True)
class FrontEndSpec:
    """The one causal front end (`ecgedge.signal`): resample to `rate_hz`, high-pass, notches, low-pass, clip.

    Conditioned samples are int16 counts of `lsb_mv`; a power of two, so float32 millivolts are exact.
    """

    rate_hz: float = 250.0
    highpass_hz: float = 0.5
    notch_hz: tuple[float, ...] = (50.0, 60.0)
    notch_q: float = 30.0
    lowpass_hz: float = 40.0
    clip_mv: float = 5.0
    lsb_mv: float = 2.0**-12
    settle_s: float = 2.0


@dataclass(frozen=True)
class OutputSpec:
    """One named output of the model, for example p_gt_18."""

    name: str
    kind: Literal["probability", "pressure_mmhg", "embedding", "value"]
    size: int
    description: str


@dataclass(frozen=True)
class StreamSpec:
    """How a streaming form is fed: one chunk of `chunk_samples` and the states in, outputs and next states out.

    An output speaks of the last `window_frames` frames of `frame_samples` samples. From `ready_after_samples` on a
    stream has filled its window; from `exact_after_samples` on its first frames, too, have seen real samples before
    them. A state of shape (channels, n) is a tensor (1, channels, beds, n); `state_00` comes back as `next_00`.
    `reprime_s` is how often a stream's owner should build its states anew from the samples.
    """

    chunk_samples: int
    window_frames: int
    frame_samples: int
    ready_after_samples: int
    exact_after_samples: int
    reprime_s: float
    state_names: tuple[str, ...]
    state_shapes: tuple[tuple[int, int], ...]

    @property
    def next_names(self) -> tuple[str, ...]:
        """Names of the outputs that hold the next states, in the order of `state_names`."""
        return tuple(name.replace("state_", "next_") for name in self.state_names)


@dataclass(frozen=True)
class VariantSpec:
    """One model file: a lead set at a precision, as a window form or (with `stream`) as a streaming form.

    `macs` are those of one window, or of one chunk. `tolerance` bounds the absolute difference of every output from
    the self-test's reference; `interval_halfwidth_mmhg` is the split-conformal half width at `interval_coverage`.
    `embedding` says where embeddings lay in training; bundles of before, and streaming forms, do not.
    """

    leads: tuple[str, ...]
    precision: Precision
    file: str
    parameters: int
    macs: int
    tolerance: float
    interval_halfwidth_mmhg: float | None = None
    interval_coverage: float | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    stream: StreamSpec | None = None
    embedding: EmbeddingEnvelope | None = None

    @property
    def name(self) -> str:
        """Name as events carry it: "I,II/int8", or "I,II/int8/stream"."""
        leads = "12" if len(self.leads) == 12 else ",".join(self.leads)
        return f"{leads}/{self.precision}" + ("" if self.stream is None else "/stream")


@dataclass(frozen=True)
class Envelope:
    """Training-input statistics: range (0.5th to 99.5th percentile) of each lead's window SD, in mV."""

    leads: tuple[str, ...] = ()
    sd_low_mv: tuple[float, ...] = ()
    sd_high_mv: tuple[float, ...] = ()


@dataclass(frozen=True)
class ResultRow:
    """One measured figure with its interval, and the baseline beside it."""

    dataset: str
    lead_set: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    patients: int | None = None


@dataclass(frozen=True)
class Provenance:
    """What the model was made from. `simulated` is true if any training sample was simulated."""

    trained_on: str
    simulated: bool
    recipe_toml: str
    dataset_sha256: str
    versions: Mapping[str, str]
    git_commit: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything a device must know about a bundle; `files` maps each path to its SHA-256."""

    schema_version: int
    name: str
    target: str
    window_s: float
    hop_s: float
    front_end: FrontEndSpec
    outputs: tuple[OutputSpec, ...]
    variants: tuple[VariantSpec, ...]
    alarm_policy: AlarmPolicy
    envelope: Envelope
    results: tuple[ResultRow, ...]
    provenance: Provenance
    intended_use: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class EngineRecord:
    """What an engine was built from and for; it stands beside the engine as record.json.

    `gpu` is the product name of the GPU that it was built on, or the compute capabilities that it was compiled for
    where none was there; `driver` is empty then. `batch` is its smallest, best and largest batch. `files` maps what
    else stands beside the engine (layer report, timing cache) to its SHA-256.
    """

    engine_file: str
    engine_sha256: str
    onnx_file: str
    onnx_sha256: str
    runtime: str
    runtime_version: str
    gpu: str
    note: str
    compute_capabilities: tuple[str, ...] = ()
    driver: str = ""
    batch: tuple[int, int, int] = (1, 8, 64)
    self_test: Literal["passed", "never run"] = "never run"
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PackedEngine:
    """An engine as a bundle holds it; `record.files` holds the hashes of `files`."""

    record: EngineRecord
    engine: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every byte has been checked; all files are held in memory.

    `set_aside` says of each file below `engines/` that does not hold why it must not be loaded.
    """

    id: str
    manifest: Manifest
    source: str
    contents: Mapping[str, bytes]
    engines: tuple[EngineRecord, ...] = ()
    set_aside: tuple[str, ...] = ()

    def read_bytes(self, name: str) -> bytes:
        """Return a file of the bundle by its path in it."""
        if name not in self.contents:
            raise BundleError(f"{self.source}: the bundle holds no file {name!r}")
        return self.contents[name]

    @property
    def simulated(self) -> bool:
        """Whether any training sample was simulated."""
        return self.manifest.provenance.simulated


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


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
    bundle_id, encoded = _encode_with_id(to_plain(replace(manifest, files=hashes)))
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
    record = _encode_with_id(to_plain(packed.record))[1]
    return {packed.record.engine_file: packed.engine, "record.json": record, **packed.files}


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
    bundle_id, plain = _decode_with_id(contents["manifest.json"], place=f"{name}: manifest.json")
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
    _, plain = _decode_with_id(contents[name], place=f"{place}: {name}")
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


def _encode_with_id(plain: dict[str, Any]) -> tuple[str, bytes]:
    own_id = sha256(_canonical(plain))
    return own_id, _canonical({"id": own_id, **plain})


def _decode_with_id(data: bytes, *, place: str) -> tuple[str, dict[str, Any]]:
    """Read what `_encode_with_id` wrote; any other bytes, even other white space, are refused."""
    try:
        plain = json.loads(data)
        own_id = plain.pop("id")
        expected_id, expected = _encode_with_id(plain)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"{place} cannot be read ({error}); copy the bundle again") from error
    if own_id != expected_id or data != expected:
        raise BundleError(f"{place} was altered (it does not match its id); copy the bundle again")
    return expected_id, plain


def _canonical(plain: object) -> bytes:
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _read(source: str | Path) -> dict[str, bytes]:
    if str(source) == EMBEDDED:
        with resources.as_file(resources.files("ecgedge") / "embedded.ecgb") as folder:
            return read_directory(folder)
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


def describe_bundle(bundle: Bundle) -> str:
    """Write what a bundle is as plain text for `ecgedge bundle show`."""
    m = bundle.manifest
    lines = [
        f"{m.name}  (target {m.target}, id {bundle.id})",
        f"  trained on: {m.provenance.trained_on}" + (" - SIMULATED DATA" if bundle.simulated else ""),
        f"  intended use: {m.intended_use}",
        f"  window {m.window_s:g} s at {m.front_end.rate_hz:g} Hz, a new estimate each {m.hop_s:g} s",
        f"  outputs: {', '.join(o.name for o in m.outputs)}",
        "  variants:",
    ]
    for v in m.variants:
        half = (
            "" if v.interval_halfwidth_mmhg is None else f", interval +-{v.interval_halfwidth_mmhg:.1f} mmHg"
        )
        size = len(bundle.contents[v.file])
        lines.append(
            f"    {v.name:<18} {v.parameters:>9,} parameters, {v.macs / 1e6:.1f} MMAC a "
            f"{'window' if v.stream is None else 'chunk'}, {size:,} B{half}"
        )
    lines += [
        f"    engine of {e.onnx_file} for {e.gpu} ({e.runtime} {e.runtime_version}), self-test {e.self_test}"
        for e in bundle.engines
    ]
    lines += [f"    set aside, never loaded: {reason}" for reason in bundle.set_aside]
    lines += ["  results:"] + [_result_line(row) for row in m.results] if m.results else []
    return "\n".join([*lines, f"  {RESEARCH_USE_ONLY}"])


def _result_line(row: ResultRow) -> str:
    interval = "" if row.low is None or row.high is None else f" ({row.low:.3f} to {row.high:.3f})"
    baseline = "" if row.baseline is None else f", baseline {row.baseline:.3f}"
    patients = "" if row.patients is None else f", {row.patients} patients"
    return f"    {row.dataset}, {row.lead_set}: {row.metric} {row.value:.3f}{interval}{baseline}{patients}"
