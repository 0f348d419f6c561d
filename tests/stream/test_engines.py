"""Engines in a bundle, and who serves where an engine cannot."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ecgedge.bundle import EngineRecord, PackedEngine, StreamSpec, load_bundle, sha256, write_engine
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.runtime import OrtRunner, engines, open_on
from ecgedge.runtime.building import Maker, _Work, bundle_profile
from ecgedge.runtime.engines import engine_folder, find_engine, open_engine
from ecgedge.runtime.trt.api import TensorRt
from ecgedge.runtime.trt.cuda import Cuda, Gpu
from ecgedge.stream import Variants
from ecgedge.target import TargetProfile


@pytest.fixture
def bundle_dir(formula_bundle, tmp_path):
    """A copy of the formula's bundle to put engines into."""
    return shutil.copytree(formula_bundle.source, tmp_path / "bed.ecgb")


def put(folder, beside=None, **changes):
    """Put an engine that no TensorRT would load beside the variant for I,II."""
    beside = beside or {"report.json": b"{}"}
    bundle = load_bundle(folder)
    variant = next(v for v in bundle.manifest.variants if v.leads == ("I", "II"))
    record = replace(
        EngineRecord(
            engine_file="model.engine",
            engine_sha256=sha256(b"an engine"),
            onnx_file=variant.file,
            onnx_sha256=bundle.manifest.files[variant.file],
            runtime="tensorrt_rtx",
            runtime_version="1.7.1.116",
            gpu="SM86,SM89",
            note="",
            compute_capabilities=("SM86", "SM89"),
            files={name: sha256(data) for name, data in beside.items()},
        ),
        **changes,
    )
    write_engine(folder, engine_folder(variant), PackedEngine(record, b"an engine", beside))
    return variant


def test_an_engine_is_added_and_replaced_in_one_step_and_the_id_stays(bundle_dir):
    before = load_bundle(bundle_dir)
    variant = put(bundle_dir)
    assert find_engine(load_bundle(bundle_dir), variant).record.runtime_version == "1.7.1.116"
    put(bundle_dir, runtime_version="1.8")
    after = load_bundle(bundle_dir)
    assert find_engine(after, variant).record.runtime_version == "1.8"
    assert after.id == before.id
    assert len(after.contents) == len(before.contents) + 3
    assert [path.name for path in bundle_dir.parent.iterdir()] == ["bed.ecgb"]


def test_what_stands_beside_an_engine_is_covered_by_its_record(bundle_dir):
    put(bundle_dir)
    (bundle_dir / "engines" / "I_II" / "fp32" / "report.json").write_bytes(b"{ }")
    (reason,) = load_bundle(bundle_dir).set_aside
    assert "report.json does not match" in reason


def test_no_bundle_directory(tmp_path):
    with pytest.raises(BundleError, match="ecgedge bundle unpack"):
        write_engine(
            tmp_path, "I/fp32", PackedEngine(EngineRecord("e", "", "o", "", "r", "1", "g", "n"), b"")
        )


def test_a_bundle_without_an_engine_has_nothing_to_say(formula_bundle):
    for variant in formula_bundle.manifest.variants:
        assert find_engine(formula_bundle, variant) is None
        with pytest.raises(UsageError, match=r"no engine of .*ecgedge bundle build"):
            open_engine(formula_bundle, variant)
    with Variants(formula_bundle) as variants:
        assert variants.refused == []


def test_an_engine_that_cannot_serve_here_is_named_and_the_bed_serves(bundle_dir):
    """No GPU, or a GPU and an engine that is none: either way the formula's own answers come out."""
    variant = put(bundle_dir)
    bundle = load_bundle(bundle_dir)
    with pytest.raises(EngineError, match=r"the engine of I,II/fp32 does not serve: "):
        open_engine(bundle, variant)
    with Variants(bundle) as variants:
        assert len(variants.refused) == 1
        assert variants.refused[0].startswith("the engine of I,II/fp32 does not serve: ")
        spec, runner = variants.choose({"I", "II"})
        outputs = runner.run(np.full((1, 2, 2500), 0.1, np.float32))
    assert spec == variant
    assert outputs["mpcwp_mmhg"] == pytest.approx(30.0, rel=1e-5)


def test_the_reason_is_what_cuda_says(bundle_dir):
    variant = put(bundle_dir)
    try:
        Cuda().gpu()
        reason = "does not serve"
    except (EngineError, UsageError) as error:
        reason = str(error)
    with pytest.raises(EngineError) as refused:
        open_engine(load_bundle(bundle_dir), variant)
    assert reason in str(refused.value)


class _Engine(OrtRunner):
    """ONNX Runtime in the place of an engine: counts how often it has run."""

    runs = 0

    def run(self, ecg_mv):
        self.runs += 1
        return super().run(ecg_mv)


@pytest.fixture
def a_gpu(monkeypatch):
    """The GPU and the TensorRT that the engine of `put` was built for."""
    gpu = Gpu("NVIDIA RTX A4000", "SM86", "CUDA 13.0")
    rtx = TensorRt("tensorrt_rtx", "1.7.1.116", None)
    monkeypatch.setattr(engines, "Cuda", lambda: SimpleNamespace(gpu=lambda: gpu))
    monkeypatch.setattr(engines, "find_tensorrt", lambda _: rtx)


@pytest.mark.usefixtures("a_gpu")
def test_a_record_with_a_batch_that_cannot_be_is_no_reason_to_stop_the_bed(bundle_dir):
    variant = put(bundle_dir, batch=(8, 1, 64))
    with pytest.raises(EngineError, match=r"does not serve: its record is wrong: batch 8/1/64.*bundle build"):
        open_engine(load_bundle(bundle_dir), variant)
    with Variants(load_bundle(bundle_dir)) as variants:
        assert variants.runtimes[variant.name] == "ort"


@pytest.mark.usefixtures("a_gpu")
def test_the_self_test_runs_once_on_an_engine(bundle_dir, monkeypatch):
    variant = put(bundle_dir)
    bundle = load_bundle(bundle_dir)
    monkeypatch.setattr(engines, "TrtRunner", lambda _, **__: _Engine.from_variant(bundle, variant))
    alone = _Engine.from_variant(bundle, variant).runs
    opened = open_on(bundle, variant)
    with opened.runner as runner:
        assert (opened.runtime, opened.refused) == ("tensorrt", ())
        assert runner.runs == alone + 1


ORIN = Gpu("Orin", "SM87", "CUDA 12.6")
JETSON = TensorRt("tensorrt", "10.3.0", None)


def work(folder, maker, flavour="rtx"):
    profile = TargetProfile("t", "d", flavour, ("fp32", "int8"))
    return _Work(folder, load_bundle(folder), profile, maker, 1.0)


@pytest.mark.parametrize(
    ("tensorrt", "gpu", "expected"),
    [
        (JETSON, ORIN, b"times"),
        (TensorRt("tensorrt", "11.4.1", None), ORIN, b""),
        (JETSON, replace(ORIN, name="Thor"), b""),
        (JETSON, replace(ORIN, driver="CUDA 12.9"), b""),
        (JETSON, None, b""),
    ],
)
def test_a_timing_cache_goes_to_the_tensorrt_and_gpu_that_wrote_it(bundle_dir, tensorrt, gpu, expected):
    built = {"runtime": "tensorrt", "runtime_version": "10.3.0", "gpu": "Orin", "driver": "CUDA 12.6"}
    put(bundle_dir, beside={"timing.cache": b"times"}, compute_capabilities=("SM87",), **built)
    assert work(bundle_dir, Maker(tensorrt, gpu, ("SM87",))).earlier_cache() == expected


def test_integers_with_zero_points_are_left_out(bundle_dir):
    variant = put(bundle_dir)
    int8 = replace(variant, precision="int8")
    maker = Maker(JETSON, ORIN, ("SM87",))
    assert work(bundle_dir, maker).reason_to_leave_out(int8) is None
    assert work(bundle_dir, maker, "cpu").reason_to_leave_out(variant) is None
    assert "zero points, which TensorRT refuses" in work(bundle_dir, maker, "cpu").reason_to_leave_out(int8)


def test_a_streaming_form_is_left_out(bundle_dir):
    spec = StreamSpec(256, 79, 32, 2560, 3840, 3600.0, ("state_00",), ((2, 13),))
    stream = replace(put(bundle_dir), stream=spec)
    reason = work(bundle_dir, Maker(JETSON, ORIN, ("SM87",))).reason_to_leave_out(stream)
    assert reason == "a streaming form, which is served by ONNX Runtime"


def test_a_bundle_from_before_target_profiles(formula_bundle):
    with pytest.raises(UsageError, match=r"holds no target\.toml.*export it again"):
        bundle_profile(formula_bundle)


def test_a_foreign_engine_does_not_fit(bundle_dir):
    variant = put(bundle_dir)
    assert not work(bundle_dir, Maker(JETSON, ORIN, ("SM87",))).fits(variant)
    ahead = TensorRt("tensorrt_rtx", "1.7.1.116", None)
    assert work(bundle_dir, Maker(ahead, None, ("SM86", "SM89"))).fits(variant)
    assert not work(bundle_dir, Maker(ahead, None, ("SM86",))).fits(variant)
    assert not work(bundle_dir, Maker(replace(ahead, version="1.8"), None, ("SM86", "SM89"))).fits(variant)
