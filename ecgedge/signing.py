"""Ed25519 over a bundle's id: who made this bundle, where the id alone only says that it is whole.

What is signed is the line "ecgedge-bundle-v1" and the id (64 hexadecimal digits), with one line end between them and
none after: the first line keeps a signature made for something else from passing here. Keys are the usual PEM files
(PKCS #8 and SubjectPublicKeyInfo), as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
Ed25519 (RFC 8032) has no parameters to choose and needs no randomness: signing again gives the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ecgedge.bundle import SIGNATURE_FILE, Bundle, add_signature, sha256
from ecgedge.errors import BundleError, UsageError, missing_extra
from ecgedge.schema import from_plain, to_plain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

DOMAIN: Final = b"ecgedge-bundle-v1\n"
_KEY_ID_DIGITS: Final = 16
_OTHER_PUBLIC_KEY: Final = "make one with: ecgedge bundle keygen NAME, or: openssl pkey -in KEY.pem -pubout"


@dataclass(frozen=True)
class Signature:
    """What signature.json holds.

    Attributes
    ----------
    bundle_id
        What was signed. It only tells a signature of another bundle from a wrong one; the check uses the real id.
    key_id
        First 16 hexadecimal digits of the SHA-256 over the 32 bytes of the public key.
    signature
        64 bytes, in base64.
    """

    algorithm: Literal["Ed25519"]
    bundle_id: str
    key_id: str
    signature: str


def signed_message(bundle_id: str) -> bytes:
    """Return the bytes that are signed."""
    return DOMAIN + bundle_id.encode("ascii")


def generate_keys(out: Path) -> tuple[Path, Path, str]:
    """Write a new pair of keys as OUT.pem (private, readable by its owner only) and OUT.pub; return both and the id.

    Raises
    ------
    UsageError
        If `out` is no name, one of the files exists, or the extra is not installed.
    """
    _require_extra()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not out.name:
        raise UsageError(f"{str(out)!r} is no name for a pair of keys; give one, for example site")
    private, public = (out.with_name(out.name.removesuffix(".pem") + end) for end in (".pem", ".pub"))
    for path in (private, public):
        if path.exists():
            raise UsageError(f"{path} exists already; a key is never overwritten, choose another name")
    key = Ed25519PrivateKey.generate()
    encoded = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    # Made with its mode: a file that is narrowed afterwards could have been read in between.
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(encoded)
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public, _key_id(key.public_key())


def sign_bundle(bundle: Bundle, key_file: Path, *, replace: bool = False) -> Signature:
    """Sign a bundle where it lies; neither its id nor any other byte changes.

    Parameters
    ----------
    bundle
        A directory or a zip, as loaded.
    key_file
        PEM of an Ed25519 private key, without a passphrase.
    replace
        Put this signature in place of one by another key.

    Raises
    ------
    BundleError
        If the bundle is signed by another key, or is the one in the wheel.
    UsageError
        If the key cannot be used, or the extra is not installed.
    """
    key = _private_key(key_file)
    made = Signature(
        algorithm="Ed25519",
        bundle_id=bundle.id,
        key_id=_key_id(key.public_key()),
        signature=base64.b64encode(key.sign(signed_message(bundle.id))).decode(),
    )
    if SIGNATURE_FILE in bundle.contents and not replace:
        _refuse_other_signer(bundle, made)
    add_signature(bundle, (json.dumps(to_plain(made), indent=1, sort_keys=True) + "\n").encode())
    return made


def _refuse_other_signer(bundle: Bundle, made: Signature) -> None:
    known = read_signature(bundle)
    if known != made:
        raise BundleError(
            f"{bundle.source} holds a signature by the key {known.key_id}; give --replace to put yours in its place"
        )


def read_signature(bundle: Bundle) -> Signature:
    """Return what signature.json says, unchecked.

    Raises
    ------
    BundleError
        If there is none, or it cannot be read.
    """
    if SIGNATURE_FILE not in bundle.contents:
        raise BundleError(
            f"{bundle.source} is not signed (no {SIGNATURE_FILE}); get the signed one, or sign it: ecgedge bundle sign"
        )
    try:
        return from_plain(Signature, json.loads(bundle.contents[SIGNATURE_FILE]))
    except (ValueError, RecursionError) as error:  # SchemaError and what json and utf-8 raise are ValueErrors
        raise BundleError(
            f"{bundle.source}: {SIGNATURE_FILE} cannot be read ({error}); copy the bundle again, or sign it again"
        ) from error


def require_signature(bundle: Bundle, key_file: Path) -> Signature:
    """Check that the holder of a key signed this very bundle.

    Parameters
    ----------
    key_file
        PEM of the Ed25519 public key that is trusted.

    Raises
    ------
    BundleError
        If there is no signature, or not a right one by this key over this id.
    UsageError
        If the key cannot be used, or the extra is not installed.
    """
    key = _public_key(key_file)
    found, wanted = read_signature(bundle), _key_id(key)
    if found.bundle_id != bundle.id:
        raise BundleError(
            f"{bundle.source}: its signature is over another bundle ({found.bundle_id:.12}...; this one is "
            f"{bundle.id:.12}...); do not use it, get the bundle again from who signed it"
        )
    if found.key_id != wanted:
        raise BundleError(
            f"{bundle.source} is signed by the key {found.key_id:.16}, not by {wanted} ({key_file}); "
            "give the key of who made it, if you trust them, or get the right bundle"
        )
    if not _is_valid(key, found, bundle.id):
        raise BundleError(
            f"{bundle.source}: the signature is wrong: the holder of the key {wanted} did not make it for this "
            "bundle, or it was altered; do not use the bundle, get it again from who signed it"
        )
    return found


def _is_valid(key: Ed25519PublicKey, signature: Signature, bundle_id: str) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode(signature.signature, validate=True), signed_message(bundle_id))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _key_id(key: Ed25519PublicKey) -> str:
    return sha256(key.public_bytes_raw())[:_KEY_ID_DIGITS]


def _private_key(path: Path) -> Ed25519PrivateKey:
    _require_extra()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read_key(path), password=None)
    except TypeError as error:
        raise UsageError(f"{path} is encrypted; decrypt it first: openssl pkey -in {path}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{path} holds no private key in PEM; make one with: ecgedge bundle keygen NAME"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"{path} holds another kind of key than Ed25519; make one with: ecgedge bundle keygen NAME"
        )
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    _require_extra()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read_key(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} holds no public key in PEM; {_OTHER_PUBLIC_KEY}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} holds another kind of key than Ed25519; {_OTHER_PUBLIC_KEY}")
    return key


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the key {path} cannot be read ({error.strerror}); give a PEM file") from error


def _require_extra() -> None:
    try:
        importlib.import_module("cryptography")
    except ImportError as error:
        raise missing_extra(
            extra="sign", package="cryptography", purpose="signing and checking signatures"
        ) from error
