"""Commands on bundles: show, verify, sign, keygen, unpack, pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge.cli.app import BundleArgument, SignatureOption, bundle_app

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle


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
    typer.echo(f"  {_signature_line(loaded)}")


@bundle_app.command("verify")
def bundle_verify(bundle: BundleArgument, require_signature: SignatureOption = None) -> None:
    """Check every byte of a bundle, its signature if a key is given, and run every variant's self-test here.

    Example: `ecgedge bundle verify embedded`
    """
    from ecgedge.bundle import load_bundle, require_engines
    from ecgedge.signing import require_signature as check_signature

    loaded = load_bundle(bundle)
    if require_signature is not None:
        signature = check_signature(loaded, require_signature)
        typer.echo(f"{bundle}: signed by the key {signature.key_id}")
    else:
        typer.echo(f"{bundle}: {_signature_line(loaded)}")
    require_engines(loaded)
    typer.echo(f"{bundle}: {len(loaded.contents)} files intact, id {loaded.id}")
    names = _self_test_all(loaded)
    typer.echo(f"self-test passed on this machine for {names}")


@bundle_app.command("sign")
def bundle_sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="Ed25519 private key (PEM, without a passphrase).")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace a signature by another key.")] = False,
) -> None:
    """Sign a bundle where it lies; its id and all its other bytes stay as they are.

    Example: `ecgedge bundle sign mpcwp.ecgb --key site.pem`
    """
    from ecgedge.bundle import load_bundle
    from ecgedge.signing import sign_bundle

    signature = sign_bundle(load_bundle(bundle), key, replace=replace)
    typer.echo(f"{bundle}: id {signature.bundle_id} signed by the key {signature.key_id}")


@bundle_app.command("keygen")
def bundle_keygen(
    out: Annotated[Path, typer.Argument(help="Writes OUT.pem (keep it secret) and OUT.pub.")],
) -> None:
    """Make a pair of keys for signing bundles.

    Example: `ecgedge bundle keygen site`
    """
    from ecgedge.signing import generate_keys

    private, public, key_id = generate_keys(out)
    typer.echo(f"{private}: private key {key_id}; it stays with who signs")
    typer.echo(f"{public}: public key {key_id}; it goes onto the devices, for --require-signature")


@bundle_app.command("unpack")
def bundle_unpack(
    bundle: BundleArgument, out: Annotated[Path, typer.Option(help="Directory to write, NAME.ecgb.")]
) -> None:
    """Check a bundle and write it as a directory; id and signature stay.

    Example: `ecgedge bundle unpack embedded --out demo.ecgb`
    """
    _copy(bundle, out, as_zip=False)


@bundle_app.command("pack")
def bundle_pack(
    bundle: BundleArgument, out: Annotated[Path, typer.Option(help="Zip to write, NAME.ecgb.zip.")]
) -> None:
    """Check a bundle and write it as one zip; id and signature stay.

    Example: `ecgedge bundle pack demo.ecgb --out demo.ecgb.zip`
    """
    _copy(bundle, out, as_zip=True)


def _copy(source: str, out: Path, *, as_zip: bool) -> None:
    from ecgedge.bundle import copy_bundle, load_bundle
    from ecgedge.errors import UsageError

    if out.name.endswith(".zip") != as_zip:
        expected = "a name that ends in .ecgb.zip" if as_zip else "a directory name, for example NAME.ecgb"
        raise UsageError(f"--out is {out}; expected {expected}")
    loaded = load_bundle(source)
    copy_bundle(loaded, out)
    typer.echo(f"{out}: id {loaded.id}")


def _signature_line(bundle: Bundle) -> str:
    from ecgedge.bundle import SIGNATURE_FILE
    from ecgedge.signing import read_signature

    if SIGNATURE_FILE not in bundle.contents:
        return "not signed"
    said = f"says it is signed by the key {read_signature(bundle).key_id}"
    return f"{said}; not checked, give --require-signature KEY.pub to bundle verify"


def _self_test_all(bundle: Bundle) -> str:
    """Run the self-test of every variant; refuse the bundle if one disagrees."""
    from ecgedge.errors import BundleError, EngineError
    from ecgedge.runtime import prove

    failed: list[str] = []
    for variant in bundle.manifest.variants:
        try:
            prove(bundle, variant)
        except EngineError as error:
            failed.append(str(error))
    if failed:
        raise BundleError("; ".join(failed))
    return "; ".join(variant.name for variant in bundle.manifest.variants)
