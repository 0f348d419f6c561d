"""Which INT8 form is taken: the fastest that keeps the limits, of the embedding and of the answers."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ecgedge.runtime import OrtRunner
from ecgedge_export.calibration import HEADROOM
from ecgedge_export.compare import Int8Gate, QuantizationError, compare
from ecgedge_export.int8 import Candidate, Int8Options, int8_candidates
from ecgedge_export.onnx_file import export_onnx
from ecgedge_export.qat import FineTune
from ecgedge_export.variants import against_network

LEADS = ("I", "II")
SAMPLES = 500
CLIP_MV = 5.0
ANY = Int8Gate(-1.0, -1.0, 1.0, wanted_cosine=-1.0)


class Tiny(nn.Module):
    """Two blocks whose class is read with a steep slope: a small turn of the embedding moves its probability far."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.stem = nn.Conv2d(2, 8, (1, 9), stride=(1, 2), padding=(0, 4))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, (1, 5), padding=(0, 2)) for _ in range(2))
        self.fc = nn.Linear(16, 12)
        self.steepness, self.offset = 1.0, 0.0

    def forward(self, x):
        y = self.stem(x).relu()
        for conv in self.convs:
            y = (conv(y) + y).relu()
        embedding = self.fc(torch.cat([y.mean(dim=(2, 3)), y.amax(dim=(2, 3))], 1))
        return (self.steepness * embedding[:, 0] + self.offset).sigmoid(), embedding


@pytest.fixture(scope="module")
def exact(windows):
    names = ["p_MI", "embedding"]
    network = Tiny().eval()
    with torch.no_grad():
        read = network(torch.from_numpy(windows[:, :2, None]))[1][:, 0]
    network.steepness = float(20.0 / read.std())
    network.offset = -network.steepness * float(read.median())
    return export_onnx(network, n_leads=2, window_samples=SAMPLES, output_names=names, metadata={})


@pytest.fixture(scope="module")
def windows(ecg_mv):
    """(64, 12, 500) real ones: two seconds each."""
    return np.ascontiguousarray(ecg_mv[:, :, 500 : 500 + SAMPLES])


def answers(onnx_bytes, windows):
    with OrtRunner(onnx_bytes, leads=LEADS, precision="int8") as runner:
        return runner.run(np.ascontiguousarray(windows[:, :2]))


@dataclass(frozen=True)
class HeldTiny:
    """The float file itself is what INT8 is held against, on windows that the calibration has not seen."""

    exact: onnx.ModelProto
    windows: np.ndarray
    leads: tuple[str, ...] = LEADS
    stream: None = None
    source = SimpleNamespace(calibration=None)

    @property
    def gate(self):
        return answers(self.exact.SerializeToString(), self.windows)

    self_test = gate

    def answers(self, onnx_bytes, spec):
        assert spec.leads == self.leads
        found = answers(onnx_bytes, self.windows)
        return found, found

    def more_results(self):
        return {}


@pytest.fixture(scope="module")
def held(exact, windows):
    return HeldTiny(exact, windows[48:])


@pytest.fixture(scope="module")
def forms(exact, windows):
    options = Int8Options(fine_tuning=None)
    return list(
        int8_candidates(exact, windows[:48], leads=LEADS, flavour="rtx", clip_mv=CLIP_MV, options=options)
    )


@pytest.fixture(scope="module")
def moved(forms, held):
    """How far each form moves the probability, and its least cosine."""
    found = [compare(held.gate, answers(form.make().SerializeToString(), held.windows)) for form in forms]
    return [(c.decisions["p_MI"].max_abs, c.gated_cosine) for c in found]


def taken(held, candidates, gate):
    """The results of the INT8 form that is taken, as the manifest has them; None if none is."""
    built = against_network(held, held.exact, candidates, precisions=["int8"], gate=gate)
    return dict(built[0].spec.results) if built else None


def test_a_form_that_moves_a_probability_too_far_is_not_taken(held, forms, moved):
    """Its cosines are good: by them alone it would be taken. Here the first has headroom, so it is coarse."""
    forms, ((first, cosine), *others) = forms[1:], moved[1:]
    least = min(shift for shift, _ in others)
    assert least < 0.7 * first
    assert cosine > 0.99
    by_cosine = Int8Gate(0.99, 0.99, max_abs=1.0, wanted_cosine=0.99)
    assert taken(held, forms, by_cosine).items() >= forms[0].notes.items()
    limit = (first + least) / 2
    expected = next(k for k, (shift, _) in enumerate([(first, cosine), *others]) if shift <= limit)
    results = taken(held, forms, replace(by_cosine, max_abs=limit))
    assert results["max_abs_difference_p_MI"] <= limit
    assert results.items() >= forms[expected].notes.items()
    assert results["forms_refused_before"] == expected > 0


def test_none_that_passes(held, forms, moved):
    strict = replace(ANY, max_abs=0.5 * min(shift for shift, _ in moved))
    with pytest.raises(QuantizationError, match=r"I,II/int8: .*p_MI differs by .*leave int8 out"):
        taken(held, forms, strict)
    assert taken(held, forms, replace(strict, otherwise="leave_out")) is None


def test_the_wanted_cosine_decides_among_those_that_pass(held, forms, moved):
    best = max(range(len(moved)), key=lambda k: moved[k][1])
    assert best > 0
    results = taken(held, forms, replace(ANY, wanted_cosine=moved[best][1]))
    assert results.items() >= forms[best].notes.items()
    assert results["forms_refused_before"] == 0
    out_of_reach = taken(held, forms, replace(ANY, wanted_cosine=1.1))
    assert out_of_reach.items() >= forms[0].notes.items()


def test_nothing_is_trained_where_another_form_passes(held, forms):
    def train():
        raise AssertionError

    last = Candidate(train, {}, last_resort=True)
    assert taken(held, [forms[0], last], replace(ANY, wanted_cosine=1.1)) is not None
    with pytest.raises(AssertionError):
        taken(held, [forms[0], last], replace(ANY, max_abs=0.0))


@pytest.mark.parametrize(("flavour", "stages"), [("cpu", [1, 2]), ("rtx", [0, 1, 2]), ("mcu", [0])])
def test_the_order_of_the_forms(exact, windows, flavour, stages):
    """Fewer in float first. Two leads in ONNX Runtime are not rounded at the input; integer C is all integers."""
    options = Int8Options(fine_tuning=FineTune(steps=2, batch=4))
    *forms, last = int8_candidates(
        exact, windows[:48], leads=LEADS, flavour=flavour, clip_mv=CLIP_MV, options=options
    )
    floats = [sum(key.startswith("float_layer ") for key in form.notes) for form in forms]
    wide = flavour == "mcu"
    assert floats == [count for count in stages for _ in range(2)] + [0] * wide
    headroom = [1.0, HEADROOM] * len(stages) + [1.0] * wide
    assert [form.notes["calibration_headroom"] for form in forms] == headroom
    bits = [form.notes.get("activation_bits") for form in forms]
    assert bits == ([8.0, 8.0, 16.0] if wide else [None] * len(forms))
    assert not any(form.last_resort for form in forms)
    assert last.last_resort
    assert last.notes == {**forms[-1].notes, "fine_tuning_steps": 2.0}
    onnx.checker.check_model(last.make(), full_check=True)


def test_named_layers_stay_in_float_to_the_end(exact, windows):
    options = Int8Options(
        float_layers=("convs.1",), max_float_stages=1, fine_tuning=FineTune(steps=1, batch=4)
    )
    forms = list(
        int8_candidates(exact, windows[:48], leads=LEADS, flavour="rtx", clip_mv=CLIP_MV, options=options)
    )
    assert len(forms) == 5
    for form in forms:
        assert form.notes["float_layer convs.1"] == 1.0
        assert "convs.1.weight" in {t.name for t in form.make().graph.initializer}
