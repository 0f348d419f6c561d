"""PCLR's encoder against numbers made by running the three published graphs."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from ecgedge_train.encoders import pclr
from ecgedge_train.encoders.pclr import VARIANTS, PclrResNet, SameConv, SameMaxPool

GRAPHS = {"12": "PCLR", "I": "PCLR_lead_I", "II": "PCLR_lead_II"}


@pytest.fixture(scope="module")
def reference(oracles):
    return json.loads((oracles / "pclr.json").read_text())


@pytest.fixture(scope="module")
def graphs(oracles):
    return json.loads((oracles / "pclr_published_graphs.json").read_text())


def filled(variant, det):
    """The encoder with the reference filler, in the order of `fill_order`, in eval mode."""
    net = PclrResNet(variant=variant).eval()
    convs = [net.stem, *(c for u in net.units for c in (u.conv1, u.conv2, u.shortcut))]
    with torch.no_grad():
        for k, conv in enumerate(convs):
            n_out, n_in, _, width = conv.weight.shape
            kernel = det(conv.weight.numel(), k).reshape(width, n_in, n_out) * math.sqrt(24 / (width * n_in))
            conv.weight.copy_(torch.from_numpy(kernel).permute(2, 1, 0)[:, :, None])
    return net


def sines(variant):
    """x[0, c, t] = sin(0.01 (c+1) t), c counting the variant's own leads; noise on the leads that it must ignore."""
    spec = VARIANTS[variant]
    x = torch.randn(1, 12, spec.n_samples)
    for c, row in enumerate(PclrResNet(variant=variant).stem_leads):
        x[0, row] = torch.sin(0.01 * (c + 1) * torch.arange(spec.n_samples, dtype=torch.float64)).float()
    return x


def distance(net, variant, expected):
    with torch.inference_mode():
        y = net(sines(variant)).numpy()
    return np.linalg.norm(y - expected) / np.linalg.norm(expected)


@pytest.fixture(scope="module")
def embeddings(oracles):
    stored = np.load(oracles / "pclr_published_graphs.npz")
    return {variant: stored[name] for variant, name in GRAPHS.items()}


@pytest.mark.parametrize("variant", GRAPHS)
def test_forward_equals_the_published_graph(variant, det, embeddings, graphs):
    assert np.linalg.norm(embeddings[variant]) == pytest.approx(graphs[GRAPHS[variant]]["embed_l2"], rel=1e-6)
    assert distance(filled(variant, det), variant, embeddings[variant]) < 1e-5


def test_forward_equals_the_reference_code(det, oracles):
    stored = np.load(oracles / "pclr_forward.npz")
    with torch.inference_mode():
        y = filled("12", det)(torch.from_numpy(stored["x"]).transpose(1, 2)).numpy()
    assert np.linalg.norm(y - stored["embed"]) / np.linalg.norm(stored["embed"]) < 1e-5


def swapped(padding):
    def same_padding(n, *, kernel, stride):
        before, after = padding(n, kernel=kernel, stride=stride)
        return after, before

    return same_padding


def test_mutated_padding_is_seen(det, embeddings, monkeypatch):
    monkeypatch.setattr(pclr, "same_padding", swapped(pclr.same_padding))
    assert distance(filled("12", det), "12", embeddings["12"]) > 1e-2


@pytest.mark.parametrize(
    ("part", "mutation", "least"),
    [("stem_bn", nn.BatchNorm2d(64, eps=1e-3).eval(), 1e-4), ("relu", nn.Identity(), 0.1)],
)
def test_mutated_lead_ii_stem_is_seen(part, mutation, least, det, embeddings):
    net = filled("II", det)
    setattr(net, part, mutation)
    assert distance(net, "II", embeddings["II"]) > least


def test_mutated_pool_is_seen(det, embeddings, monkeypatch):
    def pad_right(self, x):
        return nn.functional.max_pool2d(x, (1, self.stride), ceil_mode=True)

    monkeypatch.setattr(SameMaxPool, "forward", pad_right)
    assert distance(filled("II", det), "II", embeddings["II"]) > 1e-3


def test_mutated_norm_is_seen(det, embeddings):
    net = filled("12", det)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    assert distance(net, "12", embeddings["12"]) > 1e-4


def count(tensors):
    return sum(t.numel() for name, t in tensors if not name.endswith("num_batches_tracked"))


@pytest.mark.parametrize("variant", GRAPHS)
def test_parameter_counts_are_the_published_ones(variant, reference, graphs):
    net = PclrResNet(variant=variant)
    assert count(net.state_dict().items()) == graphs[GRAPHS[variant]]["params"]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == graphs[GRAPHS[variant]]["n_batchnorm"]
    if variant == "12":
        assert count(net.state_dict().items()) == reference["encoder_params_to_embed"] == 6_394_912
        assert count(net.named_parameters()) == reference["encoder_trainable_params"] == 6_391_184


def test_c3po_is_the_12_lead_network_on_2500_samples(reference):
    net = PclrResNet(variant="C3PO").eval()
    assert count(net.state_dict().items()) == reference["encoder_params_ch12_len2500"]
    assert unit_lengths(net, 2500) == reference["len_chain_ch12_len2500"]


def unit_lengths(net, n_samples):
    lengths = []
    for unit in net.units:
        unit.register_forward_hook(lambda _m, _i, out: lengths.append(out[1].shape[-1]))
    with torch.inference_mode():
        net(torch.zeros(1, 12, n_samples))
    return lengths


@pytest.mark.parametrize("variant", GRAPHS)
def test_lengths_and_channels_of_all_units(variant, graphs):
    graph = graphs[GRAPHS[variant]]
    net = PclrResNet(variant=variant).eval()
    assert unit_lengths(net, VARIANTS[variant].n_samples) == [shape[1] for shape in graph["add_shapes"]]
    assert [unit.conv2.out_channels for unit in net.units] == [shape[2] for shape in graph["add_shapes"]]
    assert graph["input"] == [VARIANTS[variant].n_samples, net.stem.in_channels]


@pytest.mark.parametrize(("n", "stride"), [(4096, 1), (4096, 4), (1024, 4), (313, 4), (79, 4)])
def test_same_padding_facts(n, stride, reference):
    known = reference[f"same_pad_n{n}_s{stride}"]
    conv = SameConv(1, 1, 16, stride=stride)
    x = torch.zeros(1, 1, 1, n)
    x[..., 0] = 1
    with torch.no_grad():
        conv.weight.fill_(1.0)
        y = conv(x).flatten()
    assert len(y) == known["out_len"]
    assert y.nonzero().flatten().tolist() == known["outputs_touched_by_sample0"]


def test_pool_pads_with_minus_infinity_and_covers_every_sample():
    x = -torch.arange(1.0, 11.0)[None, None, None]  # 10 samples at stride 4: "same" puts 1 before and 1 after
    assert SameMaxPool(4)(x).flatten().tolist() == [-1.0, -4.0, -8.0]


def test_initial_weights_have_keras_variance():
    net = PclrResNet()
    for conv in (net.stem, net.units[0].conv1, net.units[3].conv2):
        fan_in = conv.in_channels * 16
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
        assert conv.weight.abs().max() < 2.3 * math.sqrt(2 / fan_in)


def test_norm_constants():
    norms = [m for m in PclrResNet().modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, round(m.momentum, 6)) for m in norms} == {(1e-3, 0.01)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_windows_are_resampled_and_ranks_agree(variant, det):
    net = PclrResNet(variant=variant, resample_samples=VARIANTS[variant].n_samples).eval()
    x, presence = torch.randn(2, 12, 2500), torch.ones(2, 12)
    with torch.inference_mode():
        y = net(x, presence)
        assert y.shape == (2, net.embedding_size) == (2, 320)
        assert torch.equal(y, net(x[:, :, None], presence))
        assert torch.equal(y, net(x, presence))
        assert net.before_stem(x).shape == (2, net.stem.in_channels, 1, VARIANTS[variant].n_samples)


@pytest.mark.parametrize("leads", [[0], [0, 1], [1, 6, 10]])
def test_sliced_leads_equal_zeroed_leads(leads):
    # In float64: how float32 rounds a sum of other length depends on the processor.
    net = PclrResNet().eval().double()
    x = torch.randn(2, 12, 1, 1000, dtype=torch.float64)
    absent = [i for i in range(12) if i not in leads]
    x[:, absent] = 0
    with torch.inference_mode():
        sliced = nn.functional.conv2d(x[:, leads], net.stem.weight[:, leads], padding=net.stem.padding)
        torch.testing.assert_close(net.after_stem(sliced), net(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_absent_leads_give_numbers(variant):
    net = PclrResNet(variant=variant, resample_samples=2500)
    with torch.inference_mode():
        for mode in (net.train(), net.eval()):
            assert mode(torch.zeros(2, 12, 2500), torch.zeros(2, 12)).isfinite().all()


def test_every_parameter_gets_a_gradient():
    net = PclrResNet(variant="II")
    net(torch.randn(2, 12, 600)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_unknown_variant():
    with pytest.raises(ValueError, match="unknown PCLR variant 'V1'; known: 12, I, II, C3PO"):
        PclrResNet(variant="V1")
