"""The deployable artifact: a directory (or its zip) whose every byte is accounted for.

Both sides of the export import this module: `ecgedge_export.pack` writes bundles, the device reads them.
The id is the SHA-256 over the manifest in canonical JSON, which holds the SHA-256 of every other file;
`engines/` and `signature.json` stand outside, since a device adds its own, and each engine's record holds
its own hashes. Nothing is handed out before everything has been checked. An engine that does not hold is set
aside with its reason instead: what the id covers can serve without it.
"""

from ecgedge.bundle.describing import describe_bundle
from ecgedge.bundle.identity import sha256
from ecgedge.bundle.loading import load_bundle
from ecgedge.bundle.manifest import (
    EMBEDDED,
    RESEARCH_USE_ONLY,
    SCHEMA_VERSION,
    SIGNATURE_FILE,
    Bundle,
    EngineRecord,
    Envelope,
    FrontEndSpec,
    Manifest,
    OutputSpec,
    PackedEngine,
    Precision,
    Provenance,
    ResultRow,
    StreamSpec,
    VariantSpec,
)
from ecgedge.bundle.writing import (
    add_signature,
    copy_bundle,
    require_engines,
    write_bundle,
    write_engine,
)

__all__ = [
    "EMBEDDED",
    "RESEARCH_USE_ONLY",
    "SCHEMA_VERSION",
    "SIGNATURE_FILE",
    "Bundle",
    "EngineRecord",
    "Envelope",
    "FrontEndSpec",
    "Manifest",
    "OutputSpec",
    "PackedEngine",
    "Precision",
    "Provenance",
    "ResultRow",
    "StreamSpec",
    "VariantSpec",
    "add_signature",
    "copy_bundle",
    "describe_bundle",
    "load_bundle",
    "require_engines",
    "sha256",
    "write_bundle",
    "write_engine",
]
