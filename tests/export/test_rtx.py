"""TensorRT-RTX engines, built without a GPU: what can be known here is acceptance, size, sameness and the record."""

import hashlib

import pytest

from ecgedge.errors import EngineError, UsageError
from ecgedge_export.engines import rtx
from ecgedge_export.engines.rtx import NEVER_RUN, BatchProfile, build_engine
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.half import to_fp16
from ecgedge_export.onnx_file import export_onnx
from ecgedge_export.quantize import quantize
from ecgedge_train.run import load_run

CAPABILITIES = ("SM86", "SM89", "SM120")


@pytest.fixture(scope="module")
def installed():
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx: pip install 'ecgedge[rtx]'")


@pytest.fixture(scope="module")
def exact(run_dir):
    network = fold_lead_set(load_run(run_dir).model, ("I", "II"), None)
    return export_onnx(
        network, n_leads=2, window_samples=2500, output_names=network.output_names, metadata={"leads": "I,II"}
    )


@pytest.fixture(scope="module")
def int8(exact, ecg_mv):
    return quantize(exact, ecg_mv[:16], leads=("I", "II"), flavour="rtx").SerializeToString()


def build(data, **options):
    options = {"compute_capabilities": CAPABILITIES, **options}
    return build_engine(data, onnx_file="variants/I_II/int8/model.onnx", **options)


@pytest.mark.usefixtures("installed")
def test_int8_engine_and_record(int8):
    built = build(int8)
    record = built.record
    assert record.engine_sha256 == hashlib.sha256(built.engine).hexdigest()
    assert record.onnx_sha256 == hashlib.sha256(int8).hexdigest()
    assert record.onnx_file == "variants/I_II/int8/model.onnx"
    assert record.runtime == "tensorrt_rtx"
    assert record.gpu == "SM86,SM89,SM120"
    assert NEVER_RUN in record.note
    assert str(len(built.engine)) in record.note
    assert "batch 1 to 64, best 8" in record.note
    import tensorrt_rtx_bindings as trt

    assert record.runtime_version == trt.__version__
    assert len(built.engine) > 100_000
    # The header is all that a machine without a GPU can read of an engine.
    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    assert len(built.engine) > runtime.engine_header_size > 0
    # A rebuild numbers some internal names in another order: the same program, not the same bytes, and a few
    # bytes more or less.
    again = build(int8).engine
    assert len(again) == pytest.approx(len(built.engine), rel=1e-3)


@pytest.mark.usefixtures("installed")
def test_fp32_engine(exact):
    data = exact.SerializeToString()
    built = build(data, compute_capabilities=("SM86",), batch=BatchProfile(1, 2, 4))
    assert len(built.engine) > len(data) / 2
    assert "batch 1 to 4, best 2" in built.record.note


@pytest.mark.usefixtures("installed")
def test_fp16_engine(exact):
    """Without a warning; its weights take half the room."""
    half = build(to_fp16(exact).SerializeToString(), compute_capabilities=("SM86",))
    assert len(half.engine) > 10_000
    assert "strongly typed" in half.record.note


@pytest.mark.usefixtures("installed")
def test_int8_with_a_layer_in_float(exact, ecg_mv):
    mixed = quantize(
        exact, ecg_mv[:16], leads=("I", "II"), flavour="rtx", float_layers=("stem", "blocks.1.conv2")
    )
    assert build(mixed.SerializeToString(), compute_capabilities=("SM86",)).engine


@pytest.mark.usefixtures("installed")
def test_the_cpu_flavour_is_refused(exact, ecg_mv):
    cpu = quantize(exact, ecg_mv[:16], leads=("I", "II"), flavour="cpu").SerializeToString()
    with pytest.raises(
        EngineError, match=r"does not take variants/I_II/int8/model\.onnx without complaint: .*ERROR"
    ):
        build(cpu)


@pytest.mark.usefixtures("installed")
def test_an_unknown_gpu(int8):
    with pytest.raises(EngineError, match=r"SM87: TensorRT-RTX knows .*SM86"):
        build(int8, compute_capabilities=("SM86", "SM87"))


@pytest.mark.usefixtures("installed")
def test_no_onnx(int8):
    with pytest.raises(EngineError, match=r"without complaint: .*parse"):
        build(int8[:1000])


@pytest.mark.usefixtures("installed")
def test_time_limit(int8):
    with pytest.raises(EngineError, match=r"took more than 0\.01 s and was stopped"):
        build(int8, timeout_s=0.01)


@pytest.mark.usefixtures("installed")
def test_a_warning_fails_the_build(int8, monkeypatch):
    """As the parser gives for uint8 with zero point 0, which it then computes as int8."""
    report = rtx.BuildReport("1.7", ("WARNING: Defaulting to INT8 instead",))
    monkeypatch.setattr(rtx, "_read_report", lambda *_, **__: report)
    with pytest.raises(EngineError, match="Defaulting to INT8 instead"):
        build(int8)


def test_missing_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'ecgedge\[rtx\]'"):
        build(b"")


@pytest.mark.usefixtures("installed")
def test_no_gpu_named(int8):
    with pytest.raises(EngineError, match="no compute capability"):
        build(int8, compute_capabilities=())


def test_a_dead_worker(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr(rtx, "_WORKER", "ecgedge_export.engines.no_such_worker")
    with pytest.raises(EngineError, match=r"ended with code 1 .*no_such_worker"):
        build(b"")


@pytest.mark.parametrize("sizes", [(0, 1, 2), (4, 2, 8), (1, 9, 8)])
def test_batch_order(sizes):
    with pytest.raises(ValueError, match="1 <= smallest <= best <= largest"):
        BatchProfile(*sizes)
