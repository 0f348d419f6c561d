"""Tiny INT8 graphs made by hand, one operator or two each, and their C built for this machine."""

import ctypes
import subprocess

import numpy as np
from onnx import TensorProto, helper, numpy_helper

LSB_MV = 2.0**-12
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion")


class Graph:
    """Nodes and constants, in the form that the quantizer writes.

    Scales and zero points are given for tensors of 8 bits. With 16 bits the steps are 16 times as fine, and there is no
    zero point.
    """

    bits = 8

    def __init__(self, leads=("I", "II"), samples=40, seed=0):
        self.leads, self.samples, self.rng = leads, samples, np.random.default_rng(seed)
        self.nodes, self.constants, self.n = [], [], 0

    def constant(self, values):
        self.n += 1
        self.constants.append(numpy_helper.from_array(np.asarray(values), f"c{self.n}"))
        return f"c{self.n}"

    def node(self, kind, *inputs, **attributes):
        self.n += 1
        self.nodes.append(
            helper.make_node(kind, list(inputs), [f"t{self.n}"], f"{kind}_{self.n}", **attributes)
        )
        return f"t{self.n}"

    def rounded(self, tensor, scale, zero_point):
        zero = np.int8(zero_point) if self.bits == 8 else np.int16(0)
        numbers = self.constant(self.step(scale)), self.constant(zero)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", tensor, *numbers), *numbers)

    def step(self, scale):
        """What a tensor's step is worth, of the bits that it has; that of the counts is what it is."""
        return np.float32(scale if self.bits == 8 or scale == LSB_MV else scale / 16)

    def weights(self, shape, input_scale):
        """A layer's weight and bias, with scales of the channels; some channels small."""
        scale = self.rng.uniform(0.001, 0.02, shape[0]).astype(np.float32)
        weight = self.rng.integers(-127, 128, shape).astype(np.int8)
        bias = self.rng.integers(-4000, 4000, shape[0]).astype(np.int32)
        zeros = [self.constant(np.zeros(shape[0], t)) for t in (np.int8, np.int32)]
        step = (self.step(input_scale) * scale).astype(np.float32)
        return (
            self.node("DequantizeLinear", self.constant(weight), self.constant(scale), zeros[0], axis=0),
            self.node("DequantizeLinear", self.constant(bias), self.constant(step), zeros[1], axis=0),
        )

    def conv(self, source, n_in, n_out, kernel, input_scale, groups=1, **attributes):
        layer = self.weights((n_out, n_in // groups, 1, kernel), input_scale)
        return self.node("Conv", source, *layer, group=groups, **attributes)

    def model(self, **outputs):
        """The graph with these tensors as outputs, by name."""
        names = {tensor: name for name, tensor in outputs.items()}
        for node in self.nodes:
            node.input[:] = [names.get(i, i) for i in node.input]
            node.output[:] = [names.get(o, o) for o in node.output]
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
        shape = ["batch", len(self.leads), 1, self.samples]
        source = helper.make_tensor_value_info("ecg_mv", TensorProto.FLOAT, shape)
        model = helper.make_model(
            helper.make_graph(self.nodes, "tiny", [source], infos, self.constants),
            opset_imports=[helper.make_opsetid("", 17 if self.bits == 8 else 21)], ir_version=10,
        )  # fmt: skip
        helper.set_model_props(model, {"leads": ",".join(self.leads), "rate_hz": "250"})
        return model


def counts_of(graph, n=5, seed=1):
    """Random windows (n, T, K), two of them at the ends of 16 bits."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(-6000, 6000, (n, graph.samples, len(graph.leads))).astype(np.int16)
    counts[-2], counts[-1] = 32767, -32768
    return counts


def by_onnx(model, counts, names):
    """What ONNX Runtime says to (n, T, K) counts, by output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ecg_mv = np.ascontiguousarray(counts.transpose(0, 2, 1)[:, :, None] * np.float32(LSB_MV))
    return dict(zip(names, session.run(list(names), {"ecg_mv": ecg_mv}), strict=True))


def run_on_host(source, counts, folder, *, compiler="gcc", flags=("-O2",)):
    """What the C gives here."""
    (folder / f"{source.prefix}.c").write_text(source.c)
    (folder / f"{source.prefix}.h").write_text(source.header)
    library = folder / f"{source.prefix}-{compiler}.so"
    command = [compiler, *STRICT, *flags, "-shared", "-fPIC", f"{source.prefix}.c", "-o", str(library)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    run = getattr(ctypes.CDLL(str(library)), f"{source.prefix}_run")
    arena = ctypes.create_string_buffer(source.arena_bytes + 64)
    found = np.zeros(len(counts), source.output_type)
    for index, window in enumerate(np.ascontiguousarray(counts)):
        row = found[index : index + 1]
        run(ctypes.c_void_p(window.ctypes.data), arena, ctypes.c_void_p(row.ctypes.data))
    return found
