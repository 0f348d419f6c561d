"""Integer C of INT8 graphs: numpy, C on this machine and C on an emulated Cortex-M4 give the same integers."""

import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from needs import program

from ecgedge.errors import EngineError
from ecgedge_export.mcu.arena import plan_arena
from ecgedge_export.mcu.lowering import lower
from ecgedge_export.mcu.measure import run_on_cortex_m4
from ecgedge_export.mcu.program import Rescale
from ecgedge_export.mcu.reference import shift_half_even, sigmoid_65535
from ecgedge_export.mcu.source import McuSource

from .mcu_graphs import LSB_MV, STRICT, Graph, by_onnx, counts_of, run_on_host


def convolved(**attributes):
    """A convolution of counts, and one of 8 bits with these attributes."""
    kernel, groups = attributes.pop("kernel", 5), attributes.pop("groups", 1)
    n_in, n_out = attributes.pop("channels", (6, 6))
    graph = Graph()
    first = graph.rounded(graph.node("Relu", graph.conv("ecg_mv", 2, n_in, 3, LSB_MV)), 0.02, -128)
    return graph, graph.rounded(graph.conv(first, n_in, n_out, kernel, 0.02, groups, **attributes), 0.3, 5)


def with_input_rounded():
    graph = Graph()
    source = graph.rounded("ecg_mv", 0.013, 7)
    return graph, graph.rounded(graph.conv(source, 2, 5, 3, 0.013, pads=[0, 1, 0, 1]), 0.1, 0)


def residual():
    graph, left = convolved(pads=[0, 2, 0, 2])
    right = graph.rounded(graph.conv("ecg_mv", 2, 6, 3, LSB_MV), 0.05, -9)
    return graph, graph.rounded(graph.node("Relu", graph.node("Add", left, right)), 0.31, -100)


def pooled(kind, **attributes):
    graph, source = convolved()
    numbers = (0.3, 5) if kind == "MaxPool" else (0.21, -3)
    return graph, graph.rounded(graph.node(kind, source, **attributes), *numbers)


def joined():
    """As behind an encoder: mean and maximum, joined, flattened, and a dense layer."""
    graph, source = convolved()
    mean = graph.rounded(graph.node("GlobalAveragePool", source), 0.21, -3)
    most = graph.rounded(graph.node("MaxPool", source, kernel_shape=[1, 34]), 0.3, 5)
    flat = graph.rounded(
        graph.node("Flatten", graph.rounded(graph.node("Concat", mean, most, axis=1), 0.29, 1)), 0.29, 1
    )
    return graph, graph.rounded(graph.node("Gemm", flat, *graph.weights((7, 12), 0.29), transB=1), 0.5, 0)


def flattened():
    """A dense layer over channels and time."""
    graph, source = convolved()
    flat = graph.node("Flatten", source)
    return graph, graph.rounded(graph.node("Gemm", flat, *graph.weights((3, 6 * 34), 0.3), transB=1), 2.0, 0)


def relu_alone():
    graph, source = convolved()
    return graph, graph.rounded(graph.node("Relu", source), 0.2, -90)


GRAPHS = {
    "dense kernel": lambda: convolved(pads=[0, 2, 0, 2]),
    "stride": lambda: convolved(pads=[0, 3, 0, 1], strides=[1, 3], kernel=7),
    "dilation": lambda: convolved(pads=[0, 4, 0, 4], dilations=[1, 3]),
    "groups": lambda: convolved(groups=2, channels=(6, 10), strides=[1, 2]),
    "depthwise": lambda: convolved(groups=6, channels=(6, 12), pads=[0, 2, 0, 2], dilations=[1, 2]),
    "odd channels": lambda: convolved(kernel=1, channels=(5, 3)),
    "input rounded": with_input_rounded,
    "residual": residual,
    "max pool": lambda: pooled("MaxPool", kernel_shape=[1, 3], strides=[1, 2], pads=[0, 1, 0, 1]),
    "mean pool": lambda: pooled("AveragePool", kernel_shape=[1, 4], strides=[1, 3]),
    "joined": joined,
    "flattened": flattened,
    "relu": relu_alone,
}


@pytest.fixture(params=(8, 16))
def bits(request, monkeypatch):
    """Of the tensors."""
    monkeypatch.setattr(Graph, "bits", request.param)
    return request.param


def sourced(name):
    graph, out = GRAPHS[name]()
    model = graph.model(out=out)
    return graph, model, McuSource.of(model, lsb_mv=LSB_MV)


@pytest.mark.parametrize("name", GRAPHS)
def test_c_gives_what_numpy_gives_and_onnx_runtime_almost(name, bits, tmp_path):
    program("gcc")
    graph, model, source = sourced(name)
    counts = counts_of(graph)
    expected = source.expected(counts)
    np.testing.assert_array_equal(run_on_host(source, counts, tmp_path), expected)
    affine = source.program.outputs[0].tensor.affine
    floats = by_onnx(model, counts, ["out"])["out"]
    found = np.rint(floats / np.float32(affine.scale)) + affine.zero_point
    theirs = found.reshape(len(counts), found.shape[1], -1).transpose(0, 2, 1).reshape(len(counts), -1)
    difference = np.abs(theirs - expected["out"])
    # It multiplies in float32: a sum on a half may tip over. Scales by hand, as 0.3 to 0.2, make many halves.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.06
    assert len(np.unique(expected["out"])) > 10, "the graph saturates: nothing is tested"
    assert source.program.integers.dtype().itemsize == bits // 8


def heads():
    """Numbers behind a dense layer: selected, scaled and shifted; one as a probability."""
    graph, source = convolved()
    mean = graph.rounded(graph.node("GlobalAveragePool", source), 0.21, -3)
    flat = graph.node("Flatten", mean)
    sums = graph.node("Gemm", flat, *graph.weights((3, 6), 0.21), transB=1)
    row = graph.node("Gather", sums, graph.constant(np.array(2)), axis=1)
    scaled = graph.node("Mul", row, graph.constant(np.float32(-0.4)))
    pressure = graph.node("Add", scaled, graph.constant(np.float32(17.3)))
    likely = graph.node("Sigmoid", graph.node("Gather", sums, graph.constant(np.array(0)), axis=1))
    nothing = graph.node(
        "Add", graph.node("Mul", row, graph.constant(np.float32(0.0))), graph.constant(np.float32(4.5))
    )
    return graph.model(mpcwp_mmhg=pressure, p_gt_18=likely, constant=nothing, embedding=mean), graph


@pytest.mark.usefixtures("bits")
def test_numbers_and_probabilities(tmp_path):
    program("gcc")
    model, graph = heads()
    source, counts = McuSource.of(model, lsb_mv=LSB_MV), counts_of(graph)
    expected = source.expected(counts)
    np.testing.assert_array_equal(run_on_host(source, counts, tmp_path), expected)
    floats = by_onnx(model, counts, ["mpcwp_mmhg", "p_gt_18"])
    np.testing.assert_allclose(expected["mpcwp_mmhg"] / 100, floats["mpcwp_mmhg"].ravel(), atol=0.0101)
    np.testing.assert_allclose(expected["p_gt_18"] / 65535, floats["p_gt_18"].ravel(), atol=2e-4)
    assert len(set(expected["mpcwp_mmhg"])) > 3
    assert set(expected["constant"]) == {450}


@pytest.mark.usefixtures("bits")
def test_on_a_cortex_m4():
    """The DSP instructions and the plain loops, for graphs that use all kernels but one another."""
    program("arm-none-eabi-gcc")
    program("qemu-system-arm")
    for name in ("dilation", "groups", "depthwise", "joined", "odd channels", "residual"):
        graph, _, source = sourced(name)
        counts = counts_of(graph)
        run = run_on_cortex_m4(source, counts)
        np.testing.assert_array_equal(run.outputs, source.expected(counts), name)
        assert 500 < min(run.instructions) <= max(run.instructions) < 300_000
    plain = run_on_cortex_m4(source, counts, flags=("-mcpu=cortex-m4", "-mthumb", "-O2", "-DECG_PLAIN_C"))
    np.testing.assert_array_equal(plain.outputs, source.expected(counts))
    assert plain.instructions[0] > run.instructions[0]
    assert run_on_cortex_m4(source, counts).instructions == run.instructions


@pytest.mark.usefixtures("bits")
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_self_test_under_sanitizers(compiler, tmp_path):
    """No undefined behaviour, no byte out of the arena; and a wrong integer is found."""
    program(compiler)
    graph, _, source = sourced("residual")
    for name, text in source.files(counts_of(graph)).items():
        (tmp_path / name).write_text(text)
    build = [compiler, *STRICT, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    vectors = tmp_path / "ecg_i_ii_vectors.h"
    for expected in (0, 1):
        subprocess.run([*build, "ecg_i_ii.c", "selftest.c", "-o", "selftest"], cwd=tmp_path, check=True)
        done = subprocess.run(["./selftest"], cwd=tmp_path, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (expected, "")
        head, rows = vectors.read_text().split("_expected[5] = {\n")
        vectors.write_text(
            f"{head}_expected[5] = {{\n{{{{99, {rows.split('{{', 1)[1].split(',', 1)[1].lstrip()}"
        )


def test_cmake_builds_it_with_the_bridge(tmp_path):
    program("cmake")
    model, graph = heads()
    for name, text in McuSource.of(model, lsb_mv=LSB_MV).files(counts_of(graph)).items():
        (tmp_path / name).write_text(text)
    bridge = Path(__file__).parents[2] / "firmware_bridge" / "c"
    for command in (["cmake", "-B", "out", f"-DEEB_DIR={bridge}", "."], ["cmake", "--build", "out"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([tmp_path / "out" / "selftest"], check=True)
    frames = subprocess.run([tmp_path / "out" / "bridge_example"], check=True, capture_output=True).stdout
    assert frames.count(0) == 5, "one delimiter a frame"


def test_an_unknown_operator_is_named():
    graph, source = convolved()
    model = graph.model(out=graph.rounded(graph.node("Tanh", source), 0.1, 0))
    with pytest.raises(
        EngineError, match=r"no C for the operator Tanh \(Tanh_\d+\); known are Add, AveragePool"
    ):
        lower(model, lsb_mv=LSB_MV)


def test_a_layer_in_float_is_refused():
    graph, source = convolved()
    weight = graph.constant(np.ones((2, 6, 1, 3), np.float32))
    model = graph.model(out=graph.rounded(graph.node("Conv", source, weight), 0.1, 0))
    with pytest.raises(EngineError, match="weights in float; quantize all layers"):
        lower(model, lsb_mv=LSB_MV)


def test_tensors_are_all_of_one_kind(monkeypatch):
    graph, source = convolved()
    monkeypatch.setattr(graph, "bits", 16)
    model = graph.model(out=graph.rounded(graph.node("Relu", source), 0.2, 0))
    with pytest.raises(EngineError, match="some tensors have 8 bits and others 16"):
        lower(model, lsb_mv=LSB_MV)


def test_sixteen_bits_have_no_zero_point():
    graph, source = convolved()
    numbers = graph.constant(np.float32(0.2)), graph.constant(np.int16(3))
    model = graph.model(
        out=graph.node("DequantizeLinear", graph.node("QuantizeLinear", source, *numbers), *numbers)
    )
    with pytest.raises(EngineError, match="16 bits and a zero point of 3"):
        lower(model, lsb_mv=LSB_MV)


def test_forms_that_are_not_known_are_refused():
    for kind, attributes, message in (
        ("MaxPool", {"kernel_shape": [1, 3], "ceil_mode": 1}, "rounding up"),
        ("AveragePool", {"kernel_shape": [1, 3], "pads": [0, 1, 0, 1]}, "padding"),
    ):
        graph, source = convolved()
        numbers = (0.3, 5)
        model = graph.model(out=graph.rounded(graph.node(kind, source, **attributes), *numbers))
        with pytest.raises(EngineError, match=message):
            lower(model, lsb_mv=LSB_MV)


def test_tensors_that_live_together_do_not_overlap():
    _, _, source = sourced("residual")
    plan = plan_arena(source.program)
    left, right, out = (
        source.program.steps[-1].left,
        source.program.steps[-1].right,
        source.program.steps[-1].out,
    )
    spans = sorted((plan.offsets[t.name], plan.offsets[t.name] + t.size) for t in (left, right, out))
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    sizes = [step.out.size for step in source.program.steps]
    assert max(end for _, end in spans) <= plan.size < sum(sizes)


def test_rounding_by_hand():
    """Halves to even, both signs."""
    found = shift_half_even(np.array([1, 3, 5, -1, -3, -5, 6, -7]), 1)
    assert found.tolist() == [0, 2, 2, 0, -2, -2, 3, -4]
    exact = Rescale.of(np.float32(0.1), largest=100)
    assert exact.multiplier / 2**exact.shift == float(np.float32(0.1))
    with pytest.raises(EngineError, match="does not fit 32 bits"):
        Rescale.of(1.0, largest=2**30)
    with pytest.raises(EngineError, match="expected a number above 0"):
        Rescale.of(0.0, largest=1)


def test_the_sigmoid_is_within_what_the_header_says():
    x = np.arange(-60_000, 60_000, 37)
    found = np.array([sigmoid_65535(int(value)) for value in x]) / 65535
    assert np.abs(found - 1 / (1 + np.exp(-x / 4096))).max() < 3e-5
