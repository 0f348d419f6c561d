"""Signatures against other people's: RFC 8032's vectors, and OpenSSL as the peer in both directions."""

import base64
import hashlib
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from ecgedge.bundle import copy_bundle, load_bundle
from ecgedge.errors import BundleError, UsageError
from ecgedge.signing import (
    generate_keys,
    read_signature,
    require_signature,
    sign_bundle,
    signed_message,
)

RFC8032_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
RFC8032_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
"""RFC 8032, section 7.1, test 1."""

# RFC 8410, section 10.3: the example private key, whose public key stands in section 10.1.
RFC8410_PRIVATE = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""
RFC8410_PUBLIC = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


@pytest.fixture(params=["directory", "zip"])
def unsigned(request, tmp_path):
    """A copy of the embedded bundle."""
    path = tmp_path / ("a.ecgb" if request.param == "directory" else "a.ecgb.zip")
    copy_bundle(load_bundle("embedded"), path)
    return path


@pytest.fixture
def keys(tmp_path):
    private, public, _ = generate_keys(tmp_path / "site")
    return private, public


@pytest.fixture
def openssl():
    """Run OpenSSL's command line in a folder."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, so the independent peer is missing; install the package openssl")

    def run(*arguments, cwd):
        return subprocess.run(["openssl", *arguments], cwd=cwd, check=False, capture_output=True, text=True)

    return run


def _pem(kind, prefix, raw_hex):
    """Wrap a raw key: the fixed DER prefix of RFC 8410 before its 32 bytes."""
    body = base64.b64encode(bytes.fromhex(prefix + raw_hex)).decode()
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n"


def test_signing_changes_nothing_else(unsigned, keys):
    before = load_bundle(unsigned)
    made = sign_bundle(before, keys[0])
    after = load_bundle(unsigned)
    assert after.id == before.id == made.bundle_id
    assert {n: d for n, d in after.contents.items() if n != "signature.json"} == before.contents
    assert require_signature(after, keys[1]) == made
    assert [p.name for p in unsigned.parent.iterdir() if "partial" in p.name] == []


def test_signing_again_gives_the_same_bytes(unsigned, keys):
    sign_bundle(load_bundle(unsigned), keys[0])
    once = load_bundle(unsigned).contents["signature.json"]
    sign_bundle(load_bundle(unsigned), keys[0])
    assert load_bundle(unsigned).contents["signature.json"] == once


def test_another_signer_replaces_only_when_told(unsigned, keys, tmp_path):
    sign_bundle(load_bundle(unsigned), keys[0])
    other, other_public, key_id = generate_keys(tmp_path / "other")
    with pytest.raises(BundleError, match="--replace"):
        sign_bundle(load_bundle(unsigned), other)
    require_signature(load_bundle(unsigned), keys[1])
    assert sign_bundle(load_bundle(unsigned), other, replace=True).key_id == key_id
    require_signature(load_bundle(unsigned), other_public)


def test_the_private_key_is_its_owners_alone(keys):
    private, public = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "PRIVATE" not in public.read_text()
    with pytest.raises(UsageError, match="never overwritten"):
        generate_keys(private)


def test_keys_need_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", "/"):
        with pytest.raises(UsageError, match="no name for a pair of keys"):
            generate_keys(Path(name))
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_rfc_8032(tmp_path):
    """The library that signs gives the RFC's signature of the empty message, and of tests 2 and 3."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    vectors = [
        (RFC8032_SEED, RFC8032_PUBLIC, "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
         "d25bf5f0595bbe24655141438e7a100b"),
        ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
         "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
         "387b2eaeb4302aeeb00d291612bb0c00"),
        ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
         "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
         "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
         "4a7c15e9716ed28dc027beceea1ec40a"),
    ]  # fmt: skip
    for secret, public, message, signature in vectors:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        assert key.public_key().public_bytes_raw().hex() == public
        assert key.sign(bytes.fromhex(message)).hex() == signature


def test_the_keys_of_rfc_8032_and_rfc_8410_as_pem_files(unsigned, tmp_path):
    pairs = [
        (_pem("PRIVATE KEY", "302e020100300506032b657004220420", RFC8032_SEED),
         _pem("PUBLIC KEY", "302a300506032b6570032100", RFC8032_PUBLIC)),
        (RFC8410_PRIVATE, RFC8410_PUBLIC),
    ]  # fmt: skip
    for private, public in pairs:
        (tmp_path / "k.pem").write_text(private)
        (tmp_path / "k.pub").write_text(public)
        sign_bundle(load_bundle(unsigned), tmp_path / "k.pem", replace=True)
        require_signature(load_bundle(unsigned), tmp_path / "k.pub")


def test_openssl_accepts_our_signature(unsigned, keys, openssl, tmp_path):
    made = sign_bundle(load_bundle(unsigned), keys[0])
    (tmp_path / "message").write_bytes(b"ecgedge-bundle-v1\n" + made.bundle_id.encode())
    (tmp_path / "sig").write_bytes(base64.b64decode(made.signature))
    verify = (
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        keys[1],
        "-rawin",
        "-in",
        "message",
        "-sigfile",
        "sig",
    )
    assert openssl(*verify, cwd=tmp_path).returncode == 0
    (tmp_path / "message").write_bytes(b"ecgedge-bundle-v1\n" + b"0" * 64)
    assert openssl(*verify, cwd=tmp_path).returncode != 0


def test_we_accept_what_openssl_signed_with_its_own_key(unsigned, openssl, tmp_path):
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", "o.pem", cwd=tmp_path).returncode == 0
    openssl("pkey", "-in", "o.pem", "-pubout", "-out", "o.pub", cwd=tmp_path)
    made = sign_bundle(load_bundle(unsigned), tmp_path / "o.pem")
    (tmp_path / "message").write_bytes(signed_message(made.bundle_id))
    openssl("pkeyutl", "-sign", "-inkey", "o.pem", "-rawin", "-in", "message", "-out", "sig", cwd=tmp_path)
    assert (tmp_path / "sig").read_bytes() == base64.b64decode(made.signature)
    require_signature(load_bundle(unsigned), tmp_path / "o.pub")


def test_the_key_id_is_what_sha256_says(unsigned, tmp_path):
    (tmp_path / "k.pem").write_text(RFC8410_PRIVATE)
    made = sign_bundle(load_bundle(unsigned), tmp_path / "k.pem")
    raw = base64.b64decode(RFC8410_PUBLIC.splitlines()[1])[-32:]
    assert made.key_id == hashlib.sha256(raw).hexdigest()[:16]


def _break_signature(path, **changes):
    signature = path / "signature.json"
    plain = json.loads(signature.read_text())
    signature.write_text(json.dumps({**plain, **changes}))


def test_no_altered_bit_of_the_signature_passes(tmp_path, keys):
    path = tmp_path / "a.ecgb"
    copy_bundle(load_bundle("embedded"), path)
    made = sign_bundle(load_bundle(path), keys[0])
    raw = base64.b64decode(made.signature)
    for position in range(64):
        altered = bytearray(raw)
        altered[position] ^= 1 << (position % 8)
        _break_signature(path, signature=base64.b64encode(bytes(altered)).decode())
        with pytest.raises(BundleError, match="the signature is wrong"):
            require_signature(load_bundle(path), keys[1])
    for value in (
        "",
        "not base64!",
        base64.b64encode(raw[:63]).decode(),
        base64.b64encode(raw + b"x").decode(),
    ):
        _break_signature(path, signature=value)
        with pytest.raises(BundleError, match="the signature is wrong"):
            require_signature(load_bundle(path), keys[1])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"algorithm": "RSA"}', b"null"]
)
def test_what_is_no_signature_is_refused(tmp_path, content):
    path = tmp_path / "a.ecgb"
    copy_bundle(load_bundle("embedded"), path)
    (path / "signature.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"signature\.json cannot be read"):
        read_signature(load_bundle(path))


def test_wrong_keys_are_usage_errors(tmp_path, keys, openssl):
    bundle = load_bundle("embedded")
    (tmp_path / "text").write_text("no key")
    openssl(
        "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ec.pem", cwd=tmp_path
    )
    openssl("pkey", "-in", "ec.pem", "-pubout", "-out", "ec.pub", cwd=tmp_path)
    openssl("pkey", "-in", keys[0], "-aes256", "-passout", "pass:x", "-out", "locked.pem", cwd=tmp_path)
    for name, words in [("text", "no private key"), ("none", "cannot be read"), ("ec.pem", "another kind of key"),
                        ("site.pub", "no private key"), ("locked.pem", "is encrypted")]:  # fmt: skip
        with pytest.raises(UsageError, match=words):
            sign_bundle(bundle, tmp_path / name)
    for name, words in [("text", "no public key"), ("none", "cannot be read"), ("ec.pub", "another kind of key"),
                        ("site.pem", "openssl pkey")]:  # fmt: skip
        with pytest.raises(UsageError, match=words):
            require_signature(bundle, tmp_path / name)


def test_the_embedded_bundle_is_signed_as_a_copy_only(keys):
    with pytest.raises(BundleError, match="unpack"):
        sign_bundle(load_bundle("embedded"), keys[0])
