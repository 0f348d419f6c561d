"""TensorRT-RTX engines, built without a GPU: what can be known here is acceptance, types, sameness and the record."""

import dataclasses
import hashlib
import shutil
import subprocess

import needs
import onnx
import pytest
import torch

from ecgedge.errors import EngineError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime.building import NEVER_RUN, Maker, make_engine
from ecgedge.runtime.trt import build as build_module
from ecgedge.runtime.trt.build import REPORT_FILE, read_report
from ecgedge.runtime.trt.report import convolutions_in_int8
from ecgedge.target import BatchProfile
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.half import to_fp16
from ecgedge_export.onnx_file import export_onnx
from ecgedge_export.quantize import quantize
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe

CAPABILITIES = ("SM86", "SM89", "SM120")
NETWORKS = {
    "student, 12 leads": ((), STANDARD_LEADS),
    "student, two leads": ((), ("I", "II")),
    "ResNet18 teacher": (("encoder.name=resnet18", "encoder.embedding_size=128"), STANDARD_LEADS),
}
FILE = "variants/I_II/int8/model.onnx"


def folded(settings, leads):
    torch.manual_seed(5)
    return fold_lead_set(build_model(load_recipe("ptbxl_supervised", list(settings))).eval(), leads, None)


def exported(network, names, leads):
    return export_onnx(
        network,
        n_leads=len(leads),
        window_samples=2500,
        output_names=names,
        metadata={"leads": ",".join(leads)},
    )


@pytest.fixture(scope="module")
def maker():
    needs.tensorrt_rtx()
    return Maker.ahead_of_time(CAPABILITIES)


@pytest.fixture(scope="module")
def files(ecg_mv):
    """ONNX files by (network, precision), each made when first asked for."""
    made = {}

    def get(name, precision):
        if (name, precision) not in made:
            made[name, precision] = make(*NETWORKS[name], name, precision).SerializeToString()
        return made[name, precision]

    def make(settings, leads, name, precision):
        if precision != "fp32":
            exact = onnx.load_from_string(get(name, "fp32"))
            half = precision == "fp16"
            return to_fp16(exact) if half else quantize(exact, ecg_mv[:16], leads=leads, flavour="rtx")
        network = folded(settings, leads)
        return exported(network, network.output_names, leads)

    return get


@pytest.fixture(scope="module")
def engines(files, maker):
    """Engines by (network, precision), each built when first asked for."""
    made = {}

    def get(name, precision):
        if (name, precision) not in made:
            data = files(name, precision)
            made[name, precision] = make_engine(data, onnx_file=FILE, maker=maker, batch=BatchProfile())
        return made[name, precision]

    return get


def layers_of(packed):
    return read_report(packed.files[REPORT_FILE]).layers


def fed_by_integers(data):
    """Names of the ONNX file's convolutions whose data and weights both come out of a DequantizeLinear."""
    graph = onnx.load_from_string(data).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return {
        node.name
        for node in convolutions
        if {made_by.get(name) for name in node.input[:2]} == {"DequantizeLinear"}
    }, {node.name for node in convolutions}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_network_builds_in_every_precision_without_a_warning(engines, files, name, precision):
    packed = engines(name, precision)
    assert read_report(packed.files[REPORT_FILE]).messages == ()
    _, convolutions = fed_by_integers(files(name, precision))
    planned = layers_of(packed).convolutions
    assert {node for layer in planned for node in layer.onnx_nodes} >= convolutions
    if precision != "int8":
        assert {layer.weights[0] for layer in planned} == {precision}
        assert f"0 of {len(convolutions)} convolutions in INT8" in packed.record.note


@pytest.mark.parametrize("name", NETWORKS)
def test_all_convolutions_that_the_file_quantizes_multiply_integers(engines, files, name):
    """And the file quantizes every one, the first as well."""
    in_int8, others = convolutions_in_int8(layers_of(engines(name, "int8")))
    quantized, convolutions = fed_by_integers(files(name, "int8"))
    assert quantized == convolutions
    assert {node for layer in in_int8 for node in layer.onnx_nodes} & convolutions == quantized
    assert not {node for layer in others for node in layer.onnx_nodes} & convolutions


@pytest.mark.parametrize(
    ("name", "precision"),
    [("student, two leads", "int8"), ("student, two leads", "fp16"), ("ResNet18 teacher", "int8")],
)
def test_a_rebuild_is_the_same_bit_by_bit(engines, files, maker, name, precision):
    first = engines(name, precision)

    def again():
        return make_engine(files(name, precision), onnx_file=FILE, maker=maker, batch=BatchProfile())

    if addresses_can_be_fixed():
        # On a machine that is busy with much else the builder now and then writes another form; then it is asked again.
        assert any(again().record == first.record for _ in range(3)), "three builds, and none is the same"
    else:
        # The builder's internal names come in another order: the same program, a few bytes more or less.
        assert len(again().engine) == pytest.approx(len(first.engine), rel=1e-3)


def addresses_can_be_fixed():
    """Whether this kernel lets a process do without address-space randomisation; some container profiles do not."""
    setarch = shutil.which("setarch")
    return setarch is not None and subprocess.run([setarch, "-R", "true"], check=False).returncode == 0


def test_record(engines, files):
    packed, record = engines("student, two leads", "int8"), engines("student, two leads", "int8").record
    assert record.engine_sha256 == hashlib.sha256(packed.engine).hexdigest()
    assert record.onnx_sha256 == hashlib.sha256(files("student, two leads", "int8")).hexdigest()
    assert record.files == {REPORT_FILE: hashlib.sha256(packed.files[REPORT_FILE]).hexdigest()}
    assert (record.onnx_file, record.runtime) == (FILE, "tensorrt_rtx")
    assert (record.gpu, record.compute_capabilities) == ("SM86,SM89,SM120", CAPABILITIES)
    assert (record.driver, record.self_test, record.batch) == ("", "never run", (1, 8, 64))
    assert NEVER_RUN in record.note
    assert f"{len(packed.engine)} bytes" in record.note
    assert "batch 1 to 64, best 8" in record.note
    import tensorrt_rtx_bindings as trt

    assert record.runtime_version == trt.__version__
    # The header is all that a machine without a GPU can read of an engine.
    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    assert len(packed.engine) > runtime.engine_header_size > 0


def test_another_profile_and_one_gpu(files):
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx: pip install 'ecgedge[rtx]'")
    data = files("student, two leads", "fp32")
    one = Maker.ahead_of_time(("SM86",))
    packed = make_engine(data, onnx_file=FILE, maker=one, batch=BatchProfile(1, 2, 4))
    assert len(packed.engine) > len(data) / 2
    assert packed.record.batch == (1, 2, 4)
    assert packed.record.compute_capabilities == ("SM86",)
    assert "batch 1 to 4, best 2" in packed.record.note


def test_int8_with_layers_in_float(files, maker, ecg_mv):
    exact = onnx.load_from_string(files("student, two leads", "fp32"))
    layers = ("stem", "blocks.1.conv2")
    mixed = quantize(exact, ecg_mv[:16], leads=("I", "II"), flavour="rtx", float_layers=layers)
    packed = make_engine(mixed.SerializeToString(), onnx_file=FILE, maker=maker, batch=BatchProfile())
    assert read_report(packed.files[REPORT_FILE]).messages == ()


def test_the_cpu_flavour_is_refused(files, maker, ecg_mv):
    exact = onnx.load_from_string(files("student, two leads", "fp32"))
    cpu = quantize(exact, ecg_mv[:16], leads=("I", "II"), flavour="cpu").SerializeToString()
    with pytest.raises(
        EngineError, match=r"does not take variants/I_II/int8/model\.onnx without complaint: .*ERROR"
    ):
        make_engine(cpu, onnx_file=FILE, maker=maker, batch=BatchProfile())


def test_a_silent_change_of_type_is_refused(files, maker):
    """Unsigned integers with zero point 0 are taken for signed ones, and only a warning says so."""
    model = onnx.load_from_string(files("student, two leads", "int8"))
    unsigned = set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            unsigned.add(node.input[2])
    for tensor in model.graph.initializer:
        if tensor.name in unsigned:
            tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, onnx.TensorProto.UINT8, tensor.dims, [0]))
    with pytest.raises(EngineError, match="without complaint"):
        make_engine(model.SerializeToString(), onnx_file=FILE, maker=maker, batch=BatchProfile())


def test_an_unknown_gpu(files, maker):
    other = dataclasses.replace(maker, compute_capabilities=("SM86", "SM87"))
    with pytest.raises(EngineError, match=r"SM87: TensorRT-RTX .* knows .*SM86"):
        make_engine(b"", onnx_file=FILE, maker=other, batch=BatchProfile())


def test_no_onnx(files, maker):
    cut = files("student, two leads", "fp32")[:1000]
    with pytest.raises(EngineError, match=r"without complaint: .*parse"):
        make_engine(cut, onnx_file=FILE, maker=maker, batch=BatchProfile())


def test_time_limit(maker):
    with pytest.raises(EngineError, match=r"took more than 0\.01 s and was stopped"):
        make_engine(b"", onnx_file=FILE, maker=maker, batch=BatchProfile(), timeout_s=0.01)


def test_a_dead_worker(maker, monkeypatch):
    monkeypatch.setattr(build_module, "_WORKER", "ecgedge.runtime.trt.no_such_worker")
    with pytest.raises(EngineError, match=r"ended with code 1 .*no_such_worker"):
        make_engine(b"", onnx_file=FILE, maker=maker, batch=BatchProfile())


@pytest.mark.usefixtures("maker")
def test_no_gpu_named():
    with pytest.raises(UsageError, match="no compute capability"):
        Maker.ahead_of_time(())
