"""The command that builds a bundle's engines on the device."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ecgedge.cli.app import bundle_app, parse_precisions
from ecgedge.errors import BundleError, EngineError, UsageError


@bundle_app.command("build")
def bundle_build(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16 or int8; repeat for more. Default: all of the bundle."),
    ] = None,
    timeout_s: Annotated[float, typer.Option(help="Time limit of one engine, in seconds.")] = 900.0,
    out: Annotated[Path | None, typer.Option(help="Build in a copy of the bundle instead.")] = None,
    for_gpus: Annotated[
        str | None,
        typer.Option(
            "--for", help="SM86,SM89: TensorRT-RTX engines for GPUs that are not here; never run here."
        ),
    ] = None,
    if_needed: Annotated[
        bool,
        typer.Option("--if-needed", help="Leave engines that fit; for a service's ExecStartPre or a timer."),
    ] = False,
) -> None:
    """Build an engine of every variant for this GPU and this TensorRT, and run its self-test before it may serve.

    The bed needs none of this: ONNX Runtime serves until an engine is proven, and after an upgrade until it is
    built again.

    Example: `ecgedge bundle build mpcwp.ecgb --if-needed`
    """
    from ecgedge.runtime.building import Maker, build_engines, bundle_profile

    place = _place(bundle, out)
    chosen = parse_precisions(precision)
    if not 0.0 < timeout_s < math.inf:
        raise UsageError(f"--timeout-s is {timeout_s:g}; it must be above 0 seconds, and have an end")
    if for_gpus is None:
        from ecgedge.bundle import load_bundle

        maker = Maker.on_this_gpu(bundle_profile(load_bundle(bundle)))
    else:
        maker = Maker.ahead_of_time([name.strip() for name in for_gpus.split(",") if name.strip()])
    if out is not None:
        shutil.copytree(bundle, out)
    counts: Counter[str] = Counter()
    for outcome in build_engines(place, maker, precisions=chosen, only_needed=if_needed, timeout_s=timeout_s):
        counts[outcome.state] += 1
        typer.echo(f"{outcome.variant}: {outcome.state}: {outcome.text}", err=outcome.state == "failed")
    if not counts:
        raise UsageError(
            f"{place} holds no variant in {', '.join(chosen or ())}; see ecgedge bundle show {place}"
        )
    typer.echo(f"{place}: " + ", ".join(f"{number} {state}" for state, number in counts.items()))
    if counts["failed"]:
        raise EngineError(f"engines not built: {counts['failed']}; ONNX Runtime serves these variants")


def _place(bundle: Path, out: Path | None) -> Path:
    """Return the directory to build in."""
    if not bundle.is_dir():
        seen = f"{bundle} is a file" if bundle.is_file() else f"there is nothing at {bundle}"
        raise UsageError(
            f"engines are put into a bundle directory, but {seen}; unpack a bundle first: "
            "ecgedge bundle unpack BUNDLE --out NAME.ecgb"
        )
    if out is not None and out.exists():
        raise BundleError(f"{out} exists already; remove it or choose another name")
    return out or bundle
