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
    from ecgedge.gains import describe_gains

    loaded = load_bundle(bundle)
    typer.echo(describe_bundle(loaded))
    if gains := describe_gains(loaded):
        typer.echo(gains)


@bundle_app.command("verify")
def bundle_verify(bundle: BundleArgument) -> None:
    """Check every byte of a bundle, and run its self-test on this machine.

    Example: `ecgedge bundle verify embedded`
    """
    from ecgedge.bundle import load_bundle
    from ecgedge.stream import Variants

    loaded = load_bundle(bundle)
    typer.echo(f"{bundle}: {len(loaded.contents)} files intact, id {loaded.id}")
    with Variants(loaded) as variants:
        names = "; ".join(",".join(leads) for leads in variants.lead_sets)
    typer.echo(f"self-test passed on this machine for lead sets {names}")
