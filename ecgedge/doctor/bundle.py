"""A bundle on this machine: whether it is whole, and every variant computes here what it computed where it was made."""

from __future__ import annotations

from ecgedge.bundle import load_bundle
from ecgedge.doctor.checks import Check
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.runtime import prove


def check_bundle(source: str) -> tuple[Check, ...]:
    """Load a bundle and run the self-test of each of its variants."""
    try:
        bundle = load_bundle(source)
    except BundleError as error:
        return (Check("bundle", "fail", str(error), "copy it again, then: ecgedge bundle verify"),)
    checks = [
        Check(
            "bundle",
            "ok",
            f"{bundle.manifest.name}, id {bundle.id[:12]}, {len(bundle.contents)} files intact",
        )
    ]
    rebuild = "build it again here: ecgedge bundle build; until then ONNX Runtime serves"
    checks += [Check("engine", "warn", reason, rebuild) for reason in bundle.set_aside]
    failed: list[str] = []
    for variant in bundle.manifest.variants:
        try:
            refused = prove(bundle, variant)
        except (EngineError, UsageError) as error:
            failed.append(variant.name)
            checks.append(
                Check(f"self-test {variant.name}", "warn", str(error), "the variants named below serve")
            )
        else:
            checks += [Check("engine", "warn", reason, rebuild) for reason in refused]
    good = [variant.name for variant in bundle.manifest.variants if variant.name not in failed]
    if good:
        checks.append(Check("self-test", "ok", f"passed here: {'; '.join(good)}"))
    else:
        checks.append(
            Check("self-test", "fail", "no variant passed here", "do not serve this bundle on this machine")
        )
    return tuple(checks)
