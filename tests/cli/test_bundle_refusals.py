"""What must not be trusted: refused with its reason and exit code 4, while the bed serves what is proven."""

import json
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from ecgedge.bundle import EngineRecord, PackedEngine, copy_bundle, load_bundle, sha256, write_bundle
from ecgedge.cli import main
from ecgedge.container import write_new
from ecgedge.runtime.selftest import Expected, SelfTest, read_self_test, write_self_test
from ecgedge.signing import generate_keys, sign_bundle

PATH_EMBEDDED = Path(str(resources.files("ecgedge"))) / "embedded.ecgb"
MODEL = "variants/I_II/fp32/model.onnx"
FEED = ("--feed", "sim:stable?duration_s=22", "--speed", "max", "--format", "jsonl")


class Place:
    """A folder with a signed copy of the embedded bundle, and what is done to it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "a.ecgb"
        shutil.copytree(PATH_EMBEDDED, self.path)
        self.key, self.public, _ = generate_keys(folder / "site")
        sign_bundle(load_bundle(self.path), self.key)

    def flip(self, name):
        data = bytearray((self.path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (self.path / name).write_bytes(bytes(data))

    def signature(self, **changes):
        file = self.path / "signature.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    def rewrite(self, *, manifest=None, files=None, engines=None):
        """Write the bundle anew as its author could: every hash and the id are right, and it is signed."""
        bundle = load_bundle(self.path)
        kept = {name: bundle.contents[name] for name in bundle.manifest.files}
        shutil.rmtree(self.path)
        changed = manifest(bundle.manifest) if manifest else bundle.manifest
        write_bundle(self.path, manifest=changed, files={**kept, **(files or {})}, engines=engines)

    def sign(self):
        sign_bundle(load_bundle(self.path), self.key)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def _signed_by_another(place):
    other, _, _ = generate_keys(place.folder / "other")
    sign_bundle(load_bundle(place.path), other, replace=True)


def _signature_of_another_bundle(place):
    signature = (place.path / "signature.json").read_bytes()
    place.rewrite(manifest=lambda m: replace(m, name="another"))
    (place.path / "signature.json").write_bytes(signature)


def _forged(place):
    """Another bundle, whose signature file was edited to name it."""
    _signature_of_another_bundle(place)
    place.signature(bundle_id=load_bundle(place.path).id)


def _newer(place):
    plain = json.loads((place.path / "manifest.json").read_bytes())
    del plain["id"]
    plain["schema_version"] = 7
    plain["provenance"]["versions"]["ecgedge"] = "9.1"
    plain["streams"] = "something that this version does not know"
    body = (json.dumps(plain, sort_keys=True, indent=1) + "\n").encode()
    whole = (json.dumps({"id": sha256(body), **plain}, sort_keys=True, indent=1) + "\n").encode()
    (place.path / "manifest.json").write_bytes(whole)


def _wrong_reference(test, names):
    """Let the self-test expect other numbers of these variants, as if the engine here computed something else."""
    return {
        name: Expected({o: v + np.float32(3.0) for o, v in e.reference.items()}, e.tolerance)
        if name in names
        else e
        for name, e in test.variants.items()
    }


def _nothing_agrees(place):
    test = read_self_test(load_bundle(place.path).contents["selftest.npz"])
    wrong = SelfTest(test.counts, _wrong_reference(test, test.variants))
    place.rewrite(files={"selftest.npz": write_self_test(wrong)})
    place.sign()


def _no_self_test(place):
    test = read_self_test(load_bundle(place.path).contents["selftest.npz"])
    place.rewrite(files={"selftest.npz": write_self_test(SelfTest(test.counts, {}))})
    place.sign()


def _manifest_edited(place):
    file = place.path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"hop_s": 5.0', b'"hop_s": 1.0'))


def _variant_without_file(place):
    place.rewrite(
        manifest=lambda m: replace(m, variants=(*m.variants, replace(m.variants[0], file="none.onnx")))
    )


def _cut_zip(place):
    copy_bundle(load_bundle(place.path), place.folder / "cut.zip")
    data = (place.folder / "cut.zip").read_bytes()
    shutil.rmtree(place.path)
    place.path.write_bytes(data[: len(data) // 2])


def _outside(place):
    contents = {**load_bundle(place.path).contents, "../outside": b"x"}
    shutil.rmtree(place.path)
    write_new(place.folder / "evil.zip", contents)
    (place.folder / "evil.zip").rename(place.path)


def _no_json(place):
    (place.path / "signature.json").write_text("{")


# (what was done, how, words of the message)
REFUSED = [
    ("a flipped bit in a model", lambda p: p.flip(MODEL), [MODEL, "was altered", "copy the bundle again"]),
    ("a flipped bit in the manifest", lambda p: p.flip("manifest.json"), ["manifest.json", "copy the bundle again"]),
    ("a flipped bit in the self-test", lambda p: p.flip("selftest.npz"), ["selftest.npz was altered"]),
    ("an edited manifest", _manifest_edited, ["manifest.json was altered"]),
    ("a missing model", lambda p: (p.path / MODEL).unlink(), [f"{MODEL} is missing"]),
    ("a variant without its file", _variant_without_file, ["variant 12/fp32 names none.onnx"]),
    ("a file too many", lambda p: (p.path / "notes").write_text("x"), ["notes is not part of the bundle"]),
    ("a newer schema", _newer, ["schema version 7, this ecgedge reads 1", "ecgedge 9.1", "install"]),
    ("half a zip", _cut_zip, ["is not a bundle, or is damaged"]),
    ("a zip that leaves its folder", _outside, ["'../outside', which points outside"]),
    ("no signature", lambda p: (p.path / "signature.json").unlink(), ["is not signed", "bundle sign"]),
    ("another's signature", _signed_by_another, ["is signed by the key", "not by"]),
    ("another bundle's signature", _signature_of_another_bundle, ["its signature is over another bundle"]),
    ("a forged signature", _forged, ["the signature is wrong", "do not use the bundle"]),
    ("a signature that is none", _no_json, ["signature.json cannot be read", "sign it again"]),
    ("another algorithm", lambda p: p.signature(algorithm="none"), ["algorithm", "'Ed25519'"]),
    ("a self-test that disagrees", _nothing_agrees, ["self-test of", "differs from its reference", "do not use it"]),
    ("no self-test for a variant", _no_self_test, ["has no reference for", "export the bundle again"]),
]  # fmt: skip


@pytest.mark.parametrize("command", ["verify", "stream", "predict"])
@pytest.mark.parametrize(("done", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_with_its_reason(monkeypatch, capsys, place, recording, command, done, words):
    done(place)
    arguments = {
        "verify": ("bundle", "verify", place.path),
        "stream": ("stream", "--bundle", place.path, *FEED),
        "predict": ("predict", place.path, recording, "--out", place.folder / "x.csv"),
    }[command]
    monkeypatch.setattr(
        "sys.argv", ["ecgedge", *map(str, arguments), "--require-signature", str(place.public)]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert caught.value.code == 4, said.err
    for word in words:
        assert word in said.err
    assert '"type":"estimate"' not in said.out
    assert "self-test passed" not in said.out
    assert not (place.folder / "x.csv").exists()


def test_what_was_signed_is_served(cli, place):
    served = cli("stream", "--bundle", place.path, *FEED, "--require-signature", place.public)
    assert served.stdout.count('"type":"estimate"') == 3
    said = cli("bundle", "verify", place.path, "--require-signature", place.public).stdout
    assert "signed by the key" in said
    assert "self-test passed" in said


# --- the bed keeps running on what is proven -----------------------------------------------------------------


def _engine(place, **changes):
    bundle = load_bundle(place.path)
    engine = b"an engine of another machine"
    record = EngineRecord(
        engine_file="model.engine", engine_sha256=sha256(engine), onnx_file=MODEL,
        onnx_sha256=bundle.manifest.files[MODEL], runtime="tensorrt", runtime_version="10.3.0", gpu="Orin",
        note="built elsewhere",
    )  # fmt: skip
    place.rewrite(engines={"I_II/fp32": PackedEngine(replace(record, **changes), engine)})
    place.sign()


def _altered_record(place):
    _engine(place)
    place.flip("engines/I_II/fp32/record.json")


def _altered_engine(place):
    _engine(place)
    place.flip("engines/I_II/fp32/model.engine")


def _loose_engine(place):
    _engine(place)
    (place.path / "engines" / "I_II" / "fp32" / "record.json").unlink()


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (lambda p: _engine(p, onnx_sha256="0" * 64), f"was built from another {MODEL}"),
        (_altered_record, "record.json"),
        (_altered_engine, "does not match the engine's record"),
        (_loose_engine, "has no record"),
    ],
    ids=["foreign", "altered record", "altered engine", "no record"],
)
def test_a_bad_engine_is_set_aside_and_the_bed_serves(cli, place, done, words):
    done(place)
    refused = cli("bundle", "verify", place.path, exits=4)
    assert words in refused.stderr
    assert (
        f"set aside, never loaded: {place.path}: engines/I_II/fp32"
        in cli("bundle", "show", place.path).stdout
    )
    assert words in cli("bundle", "unpack", place.path, "--out", "copy.ecgb", exits=4).stderr
    served = cli("stream", "--bundle", place.path, *FEED, "--require-signature", place.public)
    assert "engine set aside, the ONNX model serves in its place" in served.stderr
    assert words in served.stderr
    assert served.stdout.count('"type":"estimate"') == 3


def _with_int8(place, *, file_of):
    """Add an "int8" form of lead I whose file is that of another lead: it runs, and computes something else."""
    bundle = load_bundle(place.path)
    test = read_self_test(bundle.contents["selftest.npz"])
    fp32 = next(v for v in bundle.manifest.variants if v.name == "I/fp32")
    path = "variants/I/int8/model.onnx"
    expected = {**test.variants, "I/int8": test.variants["I/fp32"]}
    place.rewrite(
        manifest=lambda m: replace(m, variants=(*m.variants, replace(fp32, precision="int8", file=path))),
        files={
            path: bundle.contents[file_of],
            "selftest.npz": write_self_test(SelfTest(test.counts, expected)),
        },
    )


def _variants_of(stdout):
    events = [json.loads(line) for line in stdout.splitlines()]
    return {e["variant"] for e in events if e["type"] == "estimate"}


def test_int8_that_disagrees_makes_way_for_fp32(cli, place):
    _with_int8(place, file_of="variants/II/fp32/model.onnx")
    refused = cli("bundle", "verify", place.path, exits=4)
    assert "self-test of I/int8" in refused.stderr
    feed = ("--feed", "sim:stable?duration_s=22&leads=I", *FEED[2:])
    served = cli("stream", "--bundle", place.path, *feed)
    assert _variants_of(served.stdout) == {"I/fp32"}
    assert "self-test of I/int8" in served.stderr
    assert "I/fp32 serves" in served.stderr


def test_int8_that_agrees_serves(cli, place):
    _with_int8(place, file_of="variants/I/fp32/model.onnx")
    cli("bundle", "verify", place.path)
    served = cli("stream", "--bundle", place.path, "--feed", "sim:stable?duration_s=22&leads=I", *FEED[2:])
    assert _variants_of(served.stdout) == {"I/int8"}
    assert "self-test" not in served.stderr


def test_a_lead_set_without_proof_leaves_the_others_serving(cli, place):
    test = read_self_test(load_bundle(place.path).contents["selftest.npz"])
    wrong = SelfTest(test.counts, _wrong_reference(test, {"12/fp32"}))
    place.rewrite(files={"selftest.npz": write_self_test(wrong)})
    assert "self-test of 12/fp32" in cli("bundle", "verify", place.path, exits=4).stderr
    served = cli("stream", "--bundle", place.path, *FEED)
    assert "Nothing serves the lead set I,II,III" in served.stderr
    assert _variants_of(served.stdout) == {"I,II,V1/fp32"}


def test_leads_without_a_variant_are_said_and_the_others_serve(cli, place):
    place.rewrite(
        manifest=lambda m: replace(m, variants=tuple(v for v in m.variants if v.name == "I,II/fp32"))
    )
    # lead-off: LL falls off from 330 s to 360 s, and lead II with it; no variant for lead I alone is left.
    feed = ("--feed", "sim:lead-off?duration_s=420&leads=I,II&chunk_ms=1000", *FEED[2:])
    events = [json.loads(line) for line in cli("stream", "--bundle", place.path, *feed).stdout.splitlines()]
    estimates = [e for e in events if e["type"] == "estimate"]
    off = [e for e in estimates if 340.0 < e["t_s"] < 360.0]
    assert {e["validity"] for e in off} == {"invalid"}
    assert all(e["mpcwp_mmhg"] is None and e["reason"] for e in off)
    before = [e for e in estimates if 200.0 < e["t_s"] < 325.0]
    assert {e["variant"] for e in before} == {"I,II/fp32"}
    assert estimates[-1]["variant"] == "I,II/fp32"
    only_v1 = ("--feed", "sim:stable?duration_s=22&leads=V1", *FEED[2:])
    events = [
        json.loads(line) for line in cli("stream", "--bundle", place.path, *only_v1).stdout.splitlines()
    ]
    assert {e["reason"] for e in events if e["type"] == "estimate"} == {"no model variant for V1"}


@pytest.mark.parametrize("command", [("bundle", "sign"), ("bundle", "verify"), ("bundle", "keygen")])
def test_without_the_extra_it_is_named(cli, place, command):
    options = {
        "sign": (place.path, "--key", place.key),
        "verify": (place.path, "--require-signature", place.public),
        "keygen": ("new",),
    }[command[1]]
    done = cli.without(["cryptography"], *command, *options)
    assert "pip install 'ecgedge[sign]'" in done.stderr


def test_a_device_without_the_extra_serves_unsigned(cli, place):
    cli.without(["cryptography"], "stream", "--bundle", place.path, *FEED, exits=0)


def test_unpack_and_pack_again(cli, place):
    cli("bundle", "pack", place.path, "--out", "b.ecgb.zip")
    said = cli("bundle", "unpack", "b.ecgb.zip", "--out", "c.ecgb").stdout
    assert load_bundle(place.path).id in said
    assert load_bundle(place.folder / "c.ecgb").contents == load_bundle(place.path).contents
    cli("bundle", "verify", "c.ecgb", "--require-signature", place.public)
    assert "exists already" in cli("bundle", "unpack", "b.ecgb.zip", "--out", "c.ecgb", exits=4).stderr
    assert "ends in .ecgb.zip" in cli("bundle", "pack", "c.ecgb", "--out", "d.ecgb", exits=2).stderr
    assert "directory name" in cli("bundle", "unpack", "b.ecgb.zip", "--out", "d.zip", exits=2).stderr
