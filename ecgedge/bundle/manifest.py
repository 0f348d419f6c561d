"""What a bundle says of itself: the manifest and all that it is made of, and the record beside an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ecgedge.embedding import EmbeddingEnvelope
from ecgedge.errors import BundleError
from ecgedge.policy import AlarmPolicy

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
