"""ResNet18-1D against numbers made by running the published code."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecgedge_train.encoders import ResNet18


@pytest.fixture
def reference(oracles):
    return json.loads((oracles / "ssldml_resnet18.json").read_text())


def test_filler_gives_the_reference_numbers(det, oracles):
    known = json.loads((oracles / "det_selftest.json").read_text())
    assert det(4, 0).tolist() == known["det(4,0)"]
    assert det(3, 7).tolist() == known["det(3,7)"]
    assert det(1000, 3).sum() == pytest.approx(known["sum det(1000,3)"], abs=1e-12)


@pytest.mark.parametrize(("size", "parameters"), [(128, 8_803_072), (256, 8_868_736), (1, 8_737_921)])
def test_parameter_counts_are_the_published_ones(size, parameters, reference):
    key = {128: "params_embed128", 256: "params_embed256", 1: "params_supervised_1out"}[size]
    assert sum(p.numel() for p in ResNet18(size).parameters()) == parameters == reference[key]


def test_parameter_shapes_stand_in_the_published_order(reference):
    # Ours are two-dimensional of height 1: (out, in, 1, k) where the published are (out, in, k).
    ours = [list(p.squeeze(2).shape if p.dim() == 4 else p.shape) for p in ResNet18(128).parameters()]
    assert ours == [shape for _, shape in reference["param_names_shapes"]]


def test_forward_equals_the_reference(det, reference, oracles):
    net = ResNet18(128)
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            if p.dim() > 1:
                fan_in = math.prod(p.shape[1:])
                p.copy_(torch.from_numpy(det(p.numel(), k).reshape(p.shape) * math.sqrt(24 / fan_in)))
            else:
                p.zero_()
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.fill_(1.0)
    stored = np.load(oracles / "ssldml_resnet18_forward.npz")
    t, c = np.arange(2496), np.arange(1, 13)[:, None]
    x = np.sin(0.01 * c * t, dtype=np.float64)[None].astype(np.float32)
    np.testing.assert_allclose(x, stored["x"], atol=1e-6)
    with torch.inference_mode():
        y = net.eval()(torch.from_numpy(x)).numpy()
    assert np.linalg.norm(y) == pytest.approx(reference["output_l2"], rel=1e-5)
    assert reference["output_l2"] == pytest.approx(285.0129, abs=1e-4)
    assert y.sum(dtype=np.float64) == pytest.approx(reference["output_sum"], abs=1e-2)
    error = np.linalg.norm(y - stored["y"]) / np.linalg.norm(stored["y"])
    assert error < 1e-5


def test_published_weights_load_after_unsqueeze(reference):
    published = {name: torch.randn(shape) for name, shape in reference["param_names_shapes"]}
    net = ResNet18(128)
    names = [name for name, _ in net.named_parameters()]
    state = {n: t.unsqueeze(2) if t.dim() == 3 else t for n, t in zip(names, published.values(), strict=True)}
    assert net.load_state_dict(state, strict=False).unexpected_keys == []
    assert torch.equal(net.stages[3][1].conv2.weight[:, :, 0], published["layer4.1.conv2.weight"])


@pytest.mark.parametrize("n", [2496, 2500, 1250])
def test_lengths_of_all_stages(n, reference):
    shapes = reference[f"stage_shapes_T{n}"]
    net = ResNet18(1).eval()
    with torch.inference_mode():
        y = net.stem(torch.zeros(1, 12, 1, n))
        assert list(y.squeeze(2).shape) == shapes["conv1"]
        y = net.maxpool(y)
        assert list(y.squeeze(2).shape) == shapes["maxpool"]
        for i, stage in enumerate(net.stages, start=1):
            y = stage(y)
            assert list(y.squeeze(2).shape) == shapes[f"layer{i}"]


def test_init_is_he_by_default_and_published_on_request(reference):
    right, published = ResNet18(1), ResNet18(1, init="published")
    layers = {
        "conv1.weight": lambda n: n.stem,
        "layer1.0.conv1.weight": lambda n: n.stages[0][0].conv1,
        "layer4.0.conv1.weight": lambda n: n.stages[3][0].conv1,
    }
    for name, layer in layers.items():
        _, formula, he = reference["init_std"][name]
        assert layer(right).weight.std().item() == pytest.approx(he, rel=0.05)
        assert layer(published).weight.std().item() == pytest.approx(formula, rel=0.05)


def test_eval_is_deterministic_and_dropout_is_off():
    # The published code makes a new linear layer and a new dropout at each call: 48.9 and 0.24 apart.
    net = ResNet18(8).eval()
    x = torch.randn(2, 12, 500)
    with torch.inference_mode():
        assert torch.equal(net(x), net(x))
        net.train()
        assert not torch.equal(net(x), net(x))


def test_sliced_leads_equal_zeroed_leads():
    net = ResNet18(8).eval()
    x = torch.randn(2, 12, 500)
    x[:, 2:] = 0
    with torch.inference_mode():
        sliced = nn.functional.conv2d(x[:, :2, None], net.stem.weight[:, :2], stride=(1, 2), padding=(0, 7))
        torch.testing.assert_close(net.after_stem(sliced), net(x), rtol=0, atol=1e-6)


def test_one_dimensional_layers_give_the_same_numbers():
    net = ResNet18(8).eval()
    x = torch.randn(2, 12, 500)
    with torch.inference_mode():
        stem = nn.functional.conv1d(x, net.stem.weight.squeeze(2), stride=2, padding=7)
        torch.testing.assert_close(net.stem(x[:, :, None]).squeeze(2), stem)
        pooled = nn.functional.max_pool1d(stem, 3, stride=2, padding=1)
        torch.testing.assert_close(net.maxpool(stem[:, :, None]).squeeze(2), pooled)
        assert torch.equal(net(x), net(x[:, :, None]))


def test_weights_stay_in_channels_last_order_through_a_state_dict():
    # A tenth of the speed of training rests on it.
    net = ResNet18(8)
    net.load_state_dict({name: t.contiguous() for name, t in net.state_dict().items()})
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            assert m.weight.is_contiguous(memory_format=torch.channels_last)
    y = net.stem(torch.zeros(2, 12, 1, 64).contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_absent_leads_give_numbers():
    net = ResNet18(8)
    for mode in (net.train(), net.eval()):
        assert mode(torch.zeros(2, 12, 500), torch.zeros(2, 12)).isfinite().all()


def causal_features(net, x):
    return net.time_features(net.stem(x[:, :, None]))


@given(n=st.integers(200, 700), t=st.integers(0, 699))
@settings(max_examples=8)
def test_causal_features_never_look_ahead(n, t):
    t = min(t, n - 1)
    torch.manual_seed(1)
    net = ResNet18(8, causal=True).eval()
    x = torch.randn(1, 12, n)
    changed = x.clone()
    changed[..., t:] += 1.0
    with torch.inference_mode():
        before, after = causal_features(net, x), causal_features(net, changed)
    # Feature j ends at sample 32 j: all up to (t - 1) // 32 are older than the change, those behind it see it.
    past = (t + 31) // 32
    assert before.shape[-1] == -(-n // 32)
    torch.testing.assert_close(after[..., :past], before[..., :past], rtol=0, atol=1e-5)
    if past < before.shape[-1]:
        assert (after[..., past] - before[..., past]).abs().max() > 1e-4


def test_the_published_form_does_look_ahead():
    net = ResNet18(8).eval()
    x = torch.randn(1, 12, 640)
    changed = x.clone()
    changed[..., 320:] += 1.0
    with torch.inference_mode():
        assert (causal_features(net, changed) - causal_features(net, x))[..., :10].abs().max() > 1e-3


def test_causal_weights_are_those_of_the_published_form():
    usual = {name: t.shape for name, t in ResNet18(8).state_dict().items()}
    causal = ResNet18(8, causal=True)
    assert {name: t.shape for name, t in causal.state_dict().items()} == usual
    for m in causal.modules():
        if isinstance(m, nn.Conv2d):
            assert m.weight.is_contiguous(memory_format=torch.channels_last)


def test_causal_pool_is_the_maximum_of_the_last_three():
    x = torch.rand(2, 4, 1, 37)
    with torch.inference_mode():
        y = ResNet18(8, causal=True).maxpool(x)
    for j in range(19):
        assert torch.equal(y[..., j], x[..., max(0, 2 * j - 2) : 2 * j + 1].amax(-1))
