"""A bundle hands out nothing before every byte has been checked."""

import json
import shutil
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgedge.bundle import (
    RESEARCH_USE_ONLY,
    EngineRecord,
    Envelope,
    FrontEndSpec,
    Manifest,
    OutputSpec,
    PackedEngine,
    Provenance,
    ResultRow,
    StreamSpec,
    VariantSpec,
    copy_bundle,
    describe_bundle,
    load_bundle,
    require_engines,
    sha256,
    write_bundle,
)
from ecgedge.container import write_new
from ecgedge.errors import BundleError
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import to_plain

MODEL = "variants/I_II/fp32/model.onnx"
FILES = {MODEL: b"a model\x00", "selftest.npz": b"numbers", "card.md": b"# card\n", "sbom.json": b"{}"}


def _manifest():
    return Manifest(
        schema_version=1,
        name="test",
        target="cpu",
        window_s=10.0,
        hop_s=5.0,
        front_end=FrontEndSpec(),
        outputs=(OutputSpec("p_gt_18", "probability", 1, "p(mPCWP > 18 mmHg)"),),
        variants=(VariantSpec(("I", "II"), "fp32", MODEL, 1000, 2_000_000, 1e-5, 9.5, 0.9),),
        alarm_policy=AlarmPolicy(),
        envelope=Envelope(("I", "II"), (0.05, 0.05), (1.0, 1.0)),
        results=(ResultRow("test set", "I,II", "AUROC", 0.71, 0.66, 0.76, 0.5, 120),),
        provenance=Provenance("simulated patients", True, "", "0" * 64, {"ecgedge": "0.1.0"}),
        intended_use=RESEARCH_USE_ONLY,
        files={},
    )


def _engine():
    engine = b"an engine"
    record = EngineRecord(
        "model.engine",
        sha256(engine),
        MODEL,
        sha256(FILES[MODEL]),
        "tensorrt-rtx",
        "1.7",
        "sm86",
        "never run",
    )
    return {"I_II/int8": PackedEngine(record, engine)}


@pytest.fixture(params=["test.ecgb", "test.ecgb.zip"])
def bundle_path(request, tmp_path):
    path = tmp_path / request.param
    write_bundle(path, manifest=_manifest(), files=FILES, engines=_engine())
    return path


def test_what_was_written_is_read(bundle_path):
    bundle = load_bundle(bundle_path)
    assert bundle.manifest.variants == _manifest().variants
    assert bundle.manifest.alarm_policy == AlarmPolicy()
    assert bundle.read_bytes("card.md") == FILES["card.md"]
    assert [e.gpu for e in bundle.engines] == ["sm86"]
    assert bundle.simulated
    with pytest.raises(BundleError, match="holds no file"):
        bundle.read_bytes("other")


def test_a_streaming_form_beside_its_window_form(tmp_path):
    window = _manifest().variants[0]
    spec = StreamSpec(256, 79, 32, 2560, 3840, 3600.0, ("state_00", "state_01"), ((2, 13), (64, 1)))
    stream = replace(window, file="variants/I_II/fp32/stream/model.onnx", stream=spec)
    manifest = replace(_manifest(), variants=(window, stream))
    write_bundle(tmp_path / "b", manifest=manifest, files={**FILES, stream.file: b"another"})
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.variants == (window, stream)
    assert [v.name for v in bundle.manifest.variants] == ["I,II/fp32", "I,II/fp32/stream"]
    assert spec.next_names == ("next_00", "next_01")
    shown = [line.split() for line in describe_bundle(bundle).splitlines()]
    costs = {line[0]: line[3:7] for line in shown if line and line[0].startswith("I,II/fp32")}
    assert costs == {
        "I,II/fp32": ["2.0", "MMAC", "a", "window,"],
        "I,II/fp32/stream": ["2.0", "MMAC", "a", "chunk,"],
    }


def test_a_bundle_from_before_streaming_forms_still_loads():
    """The embedded one was written without the key."""
    manifest = (resources.files("ecgedge") / "embedded.ecgb" / "manifest.json").read_text()
    assert '"stream"' not in manifest
    assert all(v.stream is None for v in load_bundle("embedded").manifest.variants)


def test_a_bundle_from_before_a_key_of_the_alarm_policy_keeps_its_id():
    """The canonical form is that of the file's own keys: one that is not there has its default, and changes no id."""
    manifest = json.loads((resources.files("ecgedge") / "embedded.ecgb" / "manifest.json").read_text())
    absent = {f.name for f in fields(AlarmPolicy)} - manifest["alarm_policy"].keys()
    assert {"acknowledge_timeout_low_s", "acknowledge_timeout_medium_s"} <= absent
    bundle = load_bundle("embedded")
    assert bundle.id == "34de056ad00ad9954587bc78c7944113fc0db82b162a609d30d4c59754f8c644"
    assert bundle.manifest.alarm_policy == AlarmPolicy(onset_probability=0.7)


def test_a_bundle_written_now_states_its_whole_alarm_policy(tmp_path):
    """So that a default that changes later does not change a bundle that is out."""
    write_bundle(tmp_path / "b", manifest=_manifest(), files=FILES)
    stated = json.loads((tmp_path / "b" / "manifest.json").read_text())["alarm_policy"]
    assert stated == to_plain(AlarmPolicy())


def test_directory_and_zip_have_one_id(tmp_path):
    ids = {
        write_bundle(tmp_path / name, manifest=_manifest(), files=FILES)
        for name in ("a.ecgb", "b.ecgb", "c.ecgb.zip")
    }
    assert len(ids) == 1


def test_description_says_what_matters(bundle_path):
    text = describe_bundle(load_bundle(bundle_path))
    for part in (
        "SIMULATED DATA",
        "I,II/fp32",
        "Research use only",
        "0.710 (0.660 to 0.760), baseline 0.500",
    ):
        assert part in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_bit_anywhere_is_refused(bundle_path, data):
    files = (
        [bundle_path] if bundle_path.is_file() else sorted(p for p in bundle_path.rglob("*") if p.is_file())
    )
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    bit = data.draw(st.integers(0, 7))
    path.write_bytes(original[:position] + bytes([original[position] ^ 1 << bit]) + original[position + 1 :])
    try:
        if "engines" in path.parts:
            # An engine is not needed to serve: it is set aside, never loaded, and verify refuses the bundle.
            bundle = load_bundle(bundle_path)
            assert bundle.engines == ()
            with pytest.raises(BundleError, match="engines/I_II/int8"):
                require_engines(bundle)
        else:
            with pytest.raises(BundleError):
                load_bundle(bundle_path)
    finally:
        path.write_bytes(original)


def test_a_cut_or_longer_file_is_refused(bundle_path):
    path = bundle_path if bundle_path.is_file() else bundle_path / "card.md"
    original = path.read_bytes()
    for damaged in (original[:-1], original + b"\n", b""):
        path.write_bytes(damaged)
        with pytest.raises(BundleError):
            load_bundle(bundle_path)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "test.ecgb"
    write_bundle(path, manifest=_manifest(), files=FILES, engines=_engine())
    return path


def test_missing_extra_and_linked_files_are_refused(folder, tmp_path):
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt is not part of the bundle"):
        load_bundle(folder)
    (folder / "notes.txt").unlink()
    outside = tmp_path / "outside"
    shutil.copy(folder / "card.md", outside)
    (folder / "card.md").unlink()
    with pytest.raises(BundleError, match=r"card\.md is missing"):
        load_bundle(folder)
    (folder / "card.md").symlink_to(outside)
    with pytest.raises(BundleError, match="is a link"):
        load_bundle(folder)


def _rewrite_record(folder, **changes):
    """Write an engine record anew with its own right id, as whoever builds an engine does."""
    bundle = load_bundle(folder)
    out = folder.with_name("rewritten.ecgb")
    (packed,) = _engine().values()
    engines = {"I_II/int8": replace(packed, record=replace(packed.record, **changes))}
    write_bundle(out, manifest=bundle.manifest, files=FILES, engines=engines)
    return load_bundle(out)


def test_an_engine_that_does_not_hold_is_set_aside(folder, tmp_path):
    assert load_bundle(folder).set_aside == ()
    other_model = _rewrite_record(folder, onnx_sha256="0" * 64)
    assert other_model.engines == ()
    assert "was built from another variants/I_II/fp32/model.onnx; build it again" in other_model.set_aside[0]
    record = folder / "engines" / "I_II" / "int8" / "record.json"
    saved = record.read_bytes()
    record.write_bytes(saved.replace(b"sm86", b"sm87"))
    damaged = load_bundle(folder)
    assert (damaged.engines, len(damaged.set_aside)) == ((), 1)
    assert "was altered" in damaged.set_aside[0]
    record.unlink()
    loose = load_bundle(folder)
    assert loose.set_aside == (f"{folder}: engines/I_II/int8/model.engine has no record; remove it",)
    assert "set aside, never loaded" in describe_bundle(loose)
    with pytest.raises(BundleError, match="has no record"):
        copy_bundle(loose, tmp_path / "copy.ecgb")
    assert loose.id == load_bundle_id(folder)


def load_bundle_id(folder):
    return json.loads((folder / "manifest.json").read_bytes())["id"]


def test_one_bad_engine_leaves_the_others(folder):
    bundle = load_bundle(folder)
    (packed,) = _engine().values()
    bad = replace(packed, record=replace(packed.record, engine_sha256="0" * 64))
    engines = {"good": packed, "bad": bad}
    out = folder.with_name("two.ecgb")
    write_bundle(out, manifest=bundle.manifest, files=FILES, engines=engines)
    two = load_bundle(out)
    assert two.engines == (packed.record,)
    assert two.set_aside == (
        f"{out}: engines/bad/model.engine does not match the engine's record; build the engine again",
    )


def test_a_record_of_a_newer_kind_is_set_aside(folder):
    path = folder / "engines" / "I_II" / "int8" / "record.json"
    plain = json.loads(path.read_bytes())
    del plain["id"]
    plain["firmware"] = "600"
    canonical = (json.dumps(plain, sort_keys=True, indent=1) + "\n").encode()
    with_id = {"id": sha256(canonical), **plain}
    path.write_bytes((json.dumps(with_id, sort_keys=True, indent=1) + "\n").encode())
    (reason,) = load_bundle(folder).set_aside
    assert "unknown key 'firmware'" in reason


def test_a_record_that_is_nested_without_end_is_set_aside(folder):
    (folder / "engines" / "I_II" / "int8" / "record.json").write_bytes(b"[" * 100_000)
    (reason,) = load_bundle(folder).set_aside
    assert "record.json cannot be read" in reason
    (folder / "manifest.json").write_bytes(b"[" * 100_000)
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        load_bundle(folder)


def test_unpacking_and_packing_give_the_same_bundle(bundle_path, tmp_path):
    first = load_bundle(bundle_path)
    copy_bundle(first, tmp_path / "one.ecgb")
    copy_bundle(load_bundle(tmp_path / "one.ecgb"), tmp_path / "two.ecgb.zip")
    second = load_bundle(tmp_path / "two.ecgb.zip")
    assert (second.id, second.contents) == (first.id, first.contents)
    with pytest.raises(BundleError, match="exists already"):
        copy_bundle(first, tmp_path / "one.ecgb")
    for name in ("new/folder/three.ecgb.zip", "other/folder/three.ecgb"):
        copy_bundle(first, tmp_path / name)
        assert load_bundle(tmp_path / name).id == first.id


@pytest.mark.parametrize("name", ["../outside", "engines/../../outside", "/outside", "C:outside", "a\\b"])
def test_a_zip_that_would_leave_its_folder_is_refused(bundle_path, tmp_path, name):
    out = tmp_path / "evil.ecgb.zip"
    write_new(out, {**load_bundle(bundle_path).contents, name: b"x"})
    with pytest.raises(BundleError, match="points outside"):
        load_bundle(out)


def test_a_newer_schema_is_refused_by_name(tmp_path):
    path = tmp_path / "new.ecgb"
    manifest = Manifest(**{**vars(_manifest()), "schema_version": 2})
    write_bundle(path, manifest=manifest, files=FILES)
    says = r"schema version 2, this ecgedge reads 1. The bundle was written by ecgedge 0\.1\.0: install that version"
    with pytest.raises(BundleError, match=says):
        load_bundle(path)


def test_a_manifest_rewritten_with_its_own_id_still_names_its_files(folder):
    # Someone edits the manifest and even repairs its id: a variant without its file is still found.
    plain = json.loads((folder / "manifest.json").read_bytes())
    assert plain["id"] == load_bundle(folder).id
    plain["variants"][0]["file"] = "elsewhere.onnx"
    (folder / "manifest.json").write_text(json.dumps(plain))
    with pytest.raises(BundleError, match="was altered"):
        load_bundle(folder)


@pytest.mark.parametrize("content", [None, b"no zip", b""])
def test_what_is_no_bundle_says_so(tmp_path, content):
    path = tmp_path / "x.ecgb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"no bundle|not a bundle|altered"):
        load_bundle(path)


def test_another_directory_is_not_read_as_a_bundle(tmp_path, monkeypatch, folder):
    with pytest.raises(BundleError, match=r"a directory without manifest\.json"):
        load_bundle(tmp_path)
    monkeypatch.chdir(folder)
    with pytest.raises(BundleError, match="no bundle"):
        load_bundle("")
    assert load_bundle(".").manifest.name == "test"


def test_an_existing_bundle_is_not_overwritten(folder):
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(folder, manifest=_manifest(), files=FILES)
    assert not list(Path(folder.parent).glob(".*partial*"))
