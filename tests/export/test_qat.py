"""Fine-tuning: the rounding network is the exported file, and it mends what quantization after training breaks."""

import numpy as np
import pytest
import torch
from torch import nn

from ecgedge.errors import EngineError
from ecgedge.runtime import OrtRunner
from ecgedge_export.calibration import Calibration, tensor_ranges
from ecgedge_export.compare import Int8Gate, QuantizationError, compare, require_close
from ecgedge_export.onnx_file import export_onnx
from ecgedge_export.qat import FineTune, _batch, fine_tune
from ecgedge_export.quant_plan import make_plan
from ecgedge_export.quantize import quantized_file
from ecgedge_export.torch_graph import FakeQuantNetwork, _slice

LEADS = ("I", "II")
SAMPLES = 500
GATE = 0.85
CLIP_MV = 5.0
CUTS_THE_QRS = Calibration("percentile", percentile=99.0)


class Small(nn.Module):
    """A residual network without biases: its embedding grows with its input, as far as 8 bits let it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.stem = nn.Conv2d(2, 8, (1, 9), stride=(1, 2), padding=(0, 4))
        self.conv1 = nn.Conv2d(8, 8, (1, 5), stride=(1, 2), padding=(0, 2))
        self.conv2 = nn.Conv2d(8, 8, (1, 5), padding=(0, 2))
        self.shortcut = nn.Conv2d(8, 8, (1, 1), stride=(1, 2))
        self.fc = nn.Linear(16, 12)
        for layer in (self.stem, self.conv1, self.conv2, self.shortcut):
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        y = self.stem(x).relu()
        y = (self.conv2(self.conv1(y).relu()) + self.shortcut(y)).relu()
        embedding = self.fc(torch.cat([y.mean(dim=(2, 3)), y.amax(dim=(2, 3))], 1))
        return embedding[:, 0].sigmoid(), embedding


@pytest.fixture(scope="module")
def exact():
    names = ["p_MI", "embedding"]
    return export_onnx(Small().eval(), n_leads=2, window_samples=SAMPLES, output_names=names, metadata={})


@pytest.fixture(scope="module")
def windows(ecg_mv):
    """(64, 12, 500) real ones: two seconds each."""
    return np.ascontiguousarray(ecg_mv[:, :, 500 : 500 + SAMPLES])


def answers(model, windows):
    with OrtRunner(model.SerializeToString(), leads=LEADS, precision="int8") as runner:
        return runner.run(windows[:, :2])


def simulated(model, plan, windows):
    network = FakeQuantNetwork(model, plan)
    with torch.no_grad():
        values = network(torch.from_numpy(np.ascontiguousarray(windows[:, :2, None])))
    return {o.name: v.numpy() for o, v in zip(model.graph.output, values, strict=True)}


@pytest.fixture(scope="module")
def tuned(exact, windows):
    """After training on the first 48 windows, from ranges that cut the QRS."""
    how = FineTune(steps=300, batch=16, lr=3e-4, scale_lr=3e-2)
    return fine_tune(exact, cut_plan(exact, windows), windows[:48], leads=LEADS, clip_mv=CLIP_MV, how=how)


def cut_plan(exact, windows):
    ranges = tensor_ranges(exact, windows[:48], leads=LEADS, calibration=CUTS_THE_QRS)
    return make_plan(exact, ranges, flavour="cpu")


def test_it_passes_where_quantization_alone_does_not(exact, windows, tuned):
    """On 16 windows that neither has seen. So small a random network is coarse: minmax itself gives 0.985."""
    new = windows[48:]
    reference = answers(exact, new)
    plain = compare(reference, answers(quantized_file(exact, cut_plan(exact, windows)), new))
    with pytest.raises(QuantizationError, match="smallest centred cosine"):
        require_close(plain, variant="I,II/int8", gate=Int8Gate(GATE, GATE))
    mended = compare(reference, answers(quantized_file(*tuned), new))
    require_close(mended, variant="I,II/int8", gate=Int8Gate(GATE, GATE))
    assert mended.max_abs < plain.max_abs / 3


@pytest.mark.parametrize("flavour", ["cpu", "rtx", "mcu", "mcu16"])
def test_the_rounding_network_is_the_file(exact, windows, flavour):
    """Before training, in every flavour: they differ only where a sum lies on a half."""
    plan = make_plan(exact, tensor_ranges(exact, windows[:48], leads=LEADS), flavour=flavour)
    file = answers(quantized_file(exact, plan), windows[48:])
    same_as(simulated(exact, plan, windows[48:]), file)


def test_what_was_trained_is_what_is_written(windows, tuned):
    same_as(simulated(*tuned, windows[48:]), answers(quantized_file(*tuned), windows[48:]))


def same_as(simulation, file):
    """Most windows to float rounding; a sum that lies on a half may tip over and spread, but not far."""
    spread = file["embedding"].std(axis=0).mean()
    difference = np.abs(simulation["embedding"] - file["embedding"]).max(axis=1)
    assert np.median(difference) < 0.01 * spread
    assert difference.max() < 0.15 * spread


def test_the_gradient_passes_the_rounding(exact, windows):
    plan = make_plan(exact, tensor_ranges(exact, windows[:48], leads=LEADS), flavour="cpu")
    network = FakeQuantNetwork(exact, plan)
    network(torch.from_numpy(np.ascontiguousarray(windows[:4, :2, None])))[1].square().sum().backward()
    assert network.log_scales.grad.abs().min() > 0
    assert all(weight.grad.abs().max() > 0 for weight in network.weights)
    # The weights of the four convolutions: biases of 0 are not exported, and the embedding's layer is float.
    assert len(network.weights) == 4


def test_the_same_seed_gives_the_same_file(exact, windows):
    plan = make_plan(exact, tensor_ranges(exact, windows[:48], leads=LEADS), flavour="cpu")
    how = FineTune(steps=3, batch=4)
    first, second = (
        quantized_file(*fine_tune(exact, plan, windows[:48], leads=LEADS, clip_mv=CLIP_MV, how=how))
        for _ in range(2)
    )
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_the_larger_windows_end_where_the_front_end_clips():
    windows = np.full((4, 2, 3), 0.9, np.float32)
    windows[..., 1] = -0.9
    batch = _batch(windows, 64, 1.0, np.random.default_rng(0))
    assert (batch[::2] == windows[0]).all()
    assert batch.max() == 1.0 == -batch.min()
    assert 0.9 < np.median(batch[1::2, 0, 0]) <= 1.0


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (([1], [4], [1]), np.s_[:, 1:4]),
        (([-3], [2**63 - 1], [-1]), np.s_[..., -3:]),
        (([0, 1], [2, 9], [0, 2], [1, 2]), np.s_[0:2, :, 1:9:2]),
        (([1], [2]), np.s_[1:2]),
    ],
)
def test_a_slice_is_that_of_onnx(bounds, expected):
    x = torch.arange(3 * 5 * 10).reshape(3, 5, 10)
    found = _slice([x, *(torch.tensor(values) for values in bounds)], {})
    np.testing.assert_array_equal(found.numpy(), x.numpy()[expected])


def test_an_unknown_operator(exact, windows):
    plan = make_plan(exact, tensor_ranges(exact, windows[:48], leads=LEADS), flavour="cpu")
    exact.graph.node[-1].op_type, before = "Softsign", exact.graph.node[-1].op_type
    try:
        with pytest.raises(EngineError, match="does not know the operators Softsign"):
            FakeQuantNetwork(exact, plan)
    finally:
        exact.graph.node[-1].op_type = before
