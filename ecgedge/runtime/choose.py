"""Which engine serves a variant: one name a user can give, one place where the names stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime.base import Runner
from ecgedge.runtime.openvino import OpenVinoRunner
from ecgedge.runtime.ort import OrtRunner, Provider
from ecgedge.runtime.selftest import tested
from ecgedge.runtime.step import open_step_runner

Opener = Callable[[Bundle, VariantSpec], Runner]


def _open_engine(bundle: Bundle, variant: VariantSpec) -> Runner:
    if not any(record.onnx_file == variant.file for record in bundle.engines):
        raise UsageError(f"{bundle.source}: no engine of {variant.name}; build one: ecgedge bundle build")
    # A cold start would wait for what drives TensorRT; most bundles hold no engine.
    from ecgedge.runtime.engines import open_engine

    return open_engine(bundle, variant)


def _open_ort(bundle: Bundle, variant: VariantSpec, *, provider: Provider = "cpu") -> Runner:
    return tested(OrtRunner.from_variant(bundle, variant, provider=provider), bundle)


def _open_openvino(bundle: Bundle, variant: VariantSpec) -> Runner:
    return tested(OpenVinoRunner.from_variant(bundle, variant), bundle)


OPENERS: Mapping[str, Opener] = {
    "tensorrt": _open_engine,
    "ort": _open_ort,
    "ort-cuda": partial(_open_ort, provider="cuda"),
    "ort-tensorrt": partial(_open_ort, provider="tensorrt"),
    "openvino": _open_openvino,
}
"""Runtime to what opens a variant on it and runs the self-test, once. An opener raises UsageError if its package is
not installed, and EngineError if it cannot serve this variant on this machine or fails the self-test."""

AUTO = "auto"
AUTO_ORDER = ("tensorrt", "ort", "openvino")
"""What "auto" tries, in this order. An engine that the bundle holds comes first: it was built for this device. Then
ONNX Runtime: every device has it, and on a CPU it is the fastest for bundles made for CPUs (see `ecgedge bench`)."""

RUNTIMES = (AUTO, *OPENERS)


@dataclass(frozen=True)
class Opened:
    """A runner that has passed the self-test, the runtime it is on, and what was said of those tried before."""

    runner: Runner
    runtime: str
    refused: tuple[str, ...] = ()


def open_runner(bundle: Bundle, variant: VariantSpec, *, runtime: str = AUTO) -> Runner:
    """Open one variant and let it serve only if it passes the bundle's self-test.

    Parameters
    ----------
    bundle, variant
        What to serve.
    runtime
        One of `RUNTIMES`; "auto" takes the first that is installed and passes the self-test.

    Raises
    ------
    EngineError
        If the file is refused or an output is outside the tolerance.
    UsageError
        If the runtime is unknown or not installed.
    """
    return open_on(bundle, variant, runtime=runtime).runner


def open_on(bundle: Bundle, variant: VariantSpec, *, runtime: str = AUTO) -> Opened:
    """Do what `open_runner` does, and say which runtime serves and why another does not."""
    check_runtime(runtime)
    refused: list[str] = []
    absent: list[UsageError] = []
    for name in AUTO_ORDER if runtime == AUTO else (runtime,):
        try:
            return Opened(OPENERS[name](bundle, variant), name, tuple(refused))
        except UsageError as error:
            # A bundle without engines is a whole one: unless an engine was asked for, what is missing is ONNX Runtime.
            if name != "tensorrt" or runtime == "tensorrt":
                absent.append(error)
        except EngineError as error:
            refused.append(str(error))
    if refused:
        raise EngineError("; ".join(refused))
    raise absent[0]


def prove(bundle: Bundle, variant: VariantSpec) -> tuple[str, ...]:
    """Run the self-test of a window or streaming form on what would serve it, and return why another engine does not.

    Raises
    ------
    EngineError
        If nothing passes.
    UsageError
        If no runtime is installed.
    """
    if variant.stream is not None:
        open_step_runner(bundle, variant, beds=1).close()
        return ()
    opened = open_on(bundle, variant)
    opened.runner.close()
    return opened.refused


def check_runtime(name: str) -> None:
    """Raise UsageError unless `name` is one of `RUNTIMES`."""
    if name not in RUNTIMES:
        raise UsageError(f"runtime {name!r} is not known; choose one of {', '.join(RUNTIMES)}")
