"""The software bill of materials of a bundle: CycloneDX 1.5 JSON, the model files and what runs them.

Versions are those that the bundle was tested with when it was exported; a device may carry others.
No timestamp and a serial number made of the content: the same bundle has the same bill.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import ecgedge
from ecgedge.bundle import sha256

SPEC_VERSION = "1.5"
RUNTIME_EXTRAS = ("ort",)
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122, appendix C: URLs
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def write_sbom(*, name: str, files: Mapping[str, bytes]) -> bytes:
    """Return the bill for a bundle called `name` with these model files (path to content)."""
    packages = runtime_packages()
    application = {
        "type": "machine-learning-model",
        "bom-ref": f"bundle:{name}",
        "name": name,
        "description": "ecgedge bundle. Research use only.",
    }
    components = [_model(path, content) for path, content in sorted(files.items())]
    components += [_package(package, version) for package, version in sorted(packages.items())]
    bill: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "component": application,
            "tools": {"components": [_package("ecgedge", ecgedge.__version__)]},
        },
        "components": components,
        "dependencies": [
            {"ref": application["bom-ref"], "dependsOn": [component["bom-ref"] for component in components]}
        ],
    }
    del bill["metadata"]["tools"]["components"][0]["bom-ref"]
    content = json.dumps(bill, sort_keys=True)
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"
    return (json.dumps(bill, indent=1, sort_keys=True) + "\n").encode()


def runtime_packages() -> dict[str, str]:
    """Return name to version of what the device side needs: ecgedge's own requirements, theirs, and so on."""
    found = {"ecgedge": ecgedge.__version__}
    queue = [*_requirements("ecgedge", extras=RUNTIME_EXTRAS), "onnxruntime", "numpy"]
    while queue:
        name = queue.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            found[key] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # its marker is for another platform or Python
        queue += _requirements(name)
    return found


def _requirements(package: str, *, extras: Iterable[str] = ()) -> list[str]:
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    names: list[str] = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        wanted = _EXTRA.search(marker)
        match = _NAME.match(requirement)
        if match and (wanted is None or wanted.group(1) in extras):
            names.append(match.group())
    return names


def _package(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    package = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return {**package, **_licences(name)}


def _licences(package: str) -> dict[str, Any]:
    """Return what a package says of its licence: an SPDX expression, else its own words, else its classifiers."""
    try:
        said = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return {}
    if expressions := said.get_all("License-Expression", []):
        return {"licenses": [{"expression": expressions[0]}]}
    names = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier", []) if line.startswith("License ::")
    ]
    # Some put the whole text of the licence there, of which the first line is no name.
    own = [text for text in said.get_all("License", []) if text and "\n" not in text]
    names = own or names
    return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}


def _model(path: str, content: bytes) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"file:{path}",
        "name": path,
        "hashes": [{"alg": "SHA-256", "content": sha256(content)}],
    }
