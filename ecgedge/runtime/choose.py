"""Which engine serves a variant: one name a user can give, one place where the names stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime.base import Runner
from ecgedge.runtime.engines import open_engine
from ecgedge.runtime.openvino import OpenVinoRunner
from ecgedge.runtime.ort import OrtRunner
from ecgedge.runtime.selftest import self_test

Opener = Callable[[Bundle, VariantSpec], Runner]

OPENERS: Mapping[str, Opener] = {
    "tensorrt": open_engine,
    "ort": OrtRunner.from_variant,
    "ort-cuda": partial(OrtRunner.from_variant, provider="cuda"),
    "ort-tensorrt": partial(OrtRunner.from_variant, provider="tensorrt"),
    "openvino": OpenVinoRunner.from_variant,
}
"""Runtime to what opens a variant on it. An opener raises UsageError if its package is not installed, and
EngineError if it cannot serve this variant on this machine."""

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
            return Opened(_open_tested(bundle, variant, OPENERS[name]), name, tuple(refused))
        except UsageError as error:
            # A bundle without engines is a whole one: what is missing then is ONNX Runtime.
            absent += [error] if name == runtime or name != "tensorrt" else []
        except EngineError as error:
            refused.append(str(error))
    if refused:
        raise EngineError("; ".join(refused))
    raise absent[0]


def check_runtime(name: str) -> None:
    """Raise UsageError unless `name` is one of `RUNTIMES`."""
    if name not in RUNTIMES:
        raise UsageError(f"runtime {name!r} is not known; choose one of {', '.join(RUNTIMES)}")


def _open_tested(bundle: Bundle, variant: VariantSpec, opener: Opener) -> Runner:
    runner = opener(bundle, variant)
    try:
        self_test(runner, bundle)
    except EngineError:
        runner.close()
        raise
    return runner
