"""Engines into a bundle, from the command line, with the real TensorRT-RTX and no GPU."""

import json
import shutil

import needs
import pytest

from ecgedge.bundle import load_bundle, write_bundle

needs.tensorrt_rtx()


@pytest.fixture
def bundle(tmp_path):
    """The demonstration bundle's two-lead variant alone, in a directory of its own."""
    loaded = load_bundle("embedded")
    (variant,) = (v for v in loaded.manifest.variants if v.leads == ("I", "II"))
    manifest = loaded.manifest
    files = {name: loaded.read_bytes(name) for name in manifest.files}
    for other in manifest.variants:
        if other != variant:
            del files[other.file]
    changed = {**vars(manifest), "variants": (variant,)}
    write_bundle(tmp_path / "bed.ecgb", manifest=type(manifest)(**changed), files=files)
    return tmp_path / "bed.ecgb"


def test_built_left_alone_and_built_again_after_an_upgrade(cli, bundle):
    before = load_bundle(bundle)
    done = cli("bundle", "build", bundle, "--for", "SM86, SM89", timeout_s=600)
    assert "I,II/fp32: built: built without GPU, never run here" in done.stdout
    assert "self-test never run" in done.stdout
    after = load_bundle(bundle)
    assert after.id == before.id
    (record,) = after.engines
    assert record.compute_capabilities == ("SM86", "SM89")
    report = json.loads(after.read_bytes("engines/I_II/fp32/report.json"))
    assert report["messages"] == []
    assert report["runtime_version"] == record.runtime_version

    left = cli("bundle", "build", bundle, "--for", "SM86,SM89", "--if-needed", timeout_s=600)
    assert "I,II/fp32: fits" in left.stdout
    assert load_bundle(bundle).contents == after.contents
    other = cli("bundle", "build", bundle, "--for", "SM86", "--if-needed", timeout_s=600)
    assert "I,II/fp32: built" in other.stdout
    assert [engine.compute_capabilities for engine in load_bundle(bundle).engines] == [("SM86",)]

    # No GPU runs it here: the bed says so and serves from the ONNX file, with the answers of the bundle without.
    shown = cli("bundle", "show", bundle)
    assert "for SM86 (tensorrt_rtx" in shown.stdout
    streamed = cli(
        "stream",
        "--bundle",
        bundle,
        "--feed",
        "sim:stable?chunk_ms=1000",
        "--speed",
        "max",
        "--duration",
        "30",
    )
    assert "the engine of I,II/fp32 does not serve: " in streamed.stderr
    assert "Research use only" in streamed.stderr


def test_a_copy_is_built_and_the_original_stays(cli, bundle, tmp_path):
    before = load_bundle(bundle).contents
    cli("bundle", "build", bundle, "--for", "SM86", "--out", tmp_path / "copy.ecgb", timeout_s=600)
    assert load_bundle(bundle).contents == before
    assert len(load_bundle(tmp_path / "copy.ecgb").engines) == 1
    again = cli("bundle", "build", bundle, "--for", "SM86", "--out", tmp_path / "copy.ecgb", exits=4)
    assert "exists already" in again.stderr


def test_a_gpu_that_is_not_known(cli, bundle):
    done = cli("bundle", "build", bundle, "--for", "SM87", exits=1, timeout_s=600)
    assert "SM87: TensorRT-RTX" in done.stderr
    assert "engines not built: 1; ONNX Runtime serves" in done.stderr
    assert load_bundle(bundle).engines == ()


def test_a_zip_has_no_place_for_an_engine(cli, bundle, tmp_path):
    loaded = load_bundle(bundle)
    files = {name: loaded.read_bytes(name) for name in loaded.manifest.files}
    write_bundle(tmp_path / "bed.ecgb.zip", manifest=loaded.manifest, files=files)
    done = cli("bundle", "build", tmp_path / "bed.ecgb.zip", "--for", "SM86", exits=2)
    assert "bed.ecgb.zip is a file; unpack a bundle first: ecgedge bundle unpack" in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--for", ","), "no compute capability"),
        (("--for", "SM86", "--precision", "int4"), "expected one of fp32, fp16, int8"),
        (("--for", "SM86", "--precision", "int8"), "holds no variant in int8"),
        (("--for", "SM86", "--timeout-s", "0"), "must be above 0"),
        (("--for", "SM86", "--timeout-s", "nan"), "must be above 0"),
        (("--for", "SM86", "--timeout-s", "inf"), "have an end"),
    ],
)
def test_wrong_options(cli, bundle, options, reason):
    assert reason in cli("bundle", "build", bundle, *options, exits=2).stderr


def test_no_bundle(cli):
    done = cli("bundle", "build", "nowhere.ecgb", "--for", "SM86", exits=2)
    assert "there is nothing at nowhere.ecgb" in done.stderr


def test_what_is_missing_is_named(cli, bundle):
    without_cuda = cli.without(["cuda"], "bundle", "build", bundle)
    assert "pip install 'ecgedge[tensorrt]'" in without_cuda.stderr
    packages = ["tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"]
    without_tensorrt = cli.without(packages, "bundle", "build", bundle, "--for", "SM86")
    assert "pip install 'ecgedge[rtx]'" in without_tensorrt.stderr


def test_without_a_gpu_it_says_what_to_do(cli, bundle):
    if shutil.which("nvidia-smi") is not None:
        return  # a GPU: what happens then is built and self-tested, not refused
    done = cli("bundle", "build", bundle, exits=2)
    assert "no GPU to build an engine for: cudaGetDeviceProperties failed" in done.stderr
    assert "--for SM86,SM89" in done.stderr
