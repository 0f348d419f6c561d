"""Commands on bundles: show, verify."""

from __future__ import annotations

import typer

from ecgedge.cli.app import BundleArgument, bundle_app


@bundle_app.command("show")
def bundle_show(bundle: BundleArgument) -> None:
    """Check a bundle and print what it is.

    Example: `ecgedge bundle show embedded`
    """
    from ecgedge.bundle import describe_bundle, load_bundle

    typer.echo(describe_bundle(load_bundle(bundle)))


@bundle_app.command("verify")
def bundle_verify(bundle: BundleArgument) -> None:
    """Check every byte of a bundle, and run its self-test on this machine.

    Example: `ecgedge bundle verify embedded`
    """
    from ecgedge.bundle import load_bundle
    from ecgedge.runtime import open_step_runner
    from ecgedge.stream import Variants

    loaded = load_bundle(bundle)
    typer.echo(f"{bundle}: {len(loaded.contents)} files intact, id {loaded.id}")
    streams = [variant for variant in loaded.manifest.variants if variant.stream is not None]
    if len(streams) < len(loaded.manifest.variants):
        with Variants(loaded) as variants:
            names = "; ".join(",".join(leads) for leads in variants.lead_sets)
        typer.echo(f"self-test passed on this machine for lead sets {names}")
    for variant in streams:
        open_step_runner(loaded, variant, beds=1).close()
        typer.echo(f"self-test passed on this machine for the streaming form {variant.name}")
