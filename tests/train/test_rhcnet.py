"""RhcNet against numbers made by running the published graph."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecgedge_train.encoders.rhcnet import HEAD_OUTPUTS, RhcHead, RhcNet, unreliability, z_score


@pytest.fixture(scope="module")
def reference(oracles):
    return json.loads((oracles / "rhcnet.json").read_text())


def layers_in_order(net, head):
    hidden = [m for m in head.hidden if isinstance(m, nn.Linear)]
    return [net.stem, *(conv for block in net.blocks for conv in block.convs), net.fc, *hidden, head.fc]


def filled(det):
    """Encoder and head with the reference filler in layer order, biases zero, in eval mode."""
    net, head = RhcNet().eval(), RhcHead().eval()
    with torch.no_grad():
        for k, layer in enumerate(layers_in_order(net, head)):
            n_out, n_in = layer.weight.shape[:2]
            width = layer.weight.shape[3] if layer.weight.dim() == 4 else 1
            kernel = det(layer.weight.numel(), k).reshape(width, n_in, n_out) * math.sqrt(24 / (width * n_in))
            layer.weight.copy_(torch.from_numpy(kernel).permute(2, 1, 0).unsqueeze(2).view_as(layer.weight))
            layer.bias.zero_()
    return net, head


def sines():
    return torch.sin(0.01 * torch.arange(1, 13)[:, None] * torch.arange(5000, dtype=torch.float64))[None]


def error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_forward_equals_the_reference(det, oracles, reference):
    net, head = filled(det)
    stored = np.load(oracles / "rhcnet_forward.npz")
    with torch.inference_mode():
        embedding = net(sines().float(), torch.ones(1, 12))
        logits = head(embedding)
        published_z_score = net(sines().float())
    assert error(embedding.numpy(), stored["embed"]) < 1e-5
    assert torch.equal(embedding, published_z_score)
    assert embedding.norm().item() == pytest.approx(reference["embed_l2"], rel=1e-5)
    assert list(logits) == [
        "logit_mpap_gt_20",
        "logit_mpcwp_gt_15",
        "logit_pvr_gt_3",
        "logit_co_gt_4",
    ]
    probabilities = torch.stack([*logits.values()], dim=1).sigmoid().numpy()
    assert error(probabilities, stored["probs"]) < 1e-5
    published = reference["published_chais_graph_run"]["probs"]
    np.testing.assert_allclose(probabilities[0], published, atol=1e-6)


def test_mutations_are_seen(det, oracles):
    net, _ = filled(det)
    expected = np.load(oracles / "rhcnet_forward.npz")["embed"]
    x = sines().float()
    with torch.inference_mode():
        assert error(net.after_stem(net.stem(x[:, :, None])).numpy(), expected) > 1e-3  # no z-score
        late = net.stem(net.before_stem(x)).roll(1, dims=-1)
        assert error(net.after_stem(late).numpy(), expected) > 1e-3  # padding 8 before, 7 after
        net.swish = nn.ReLU()
        assert error(net(x).numpy(), expected) > 1e-3


def test_parameter_counts_are_the_published_ones(reference):
    encoder = sum(p.numel() for p in RhcNet().parameters())
    head = sum(p.numel() for p in RhcHead().parameters())
    assert encoder == reference["params_encoder_to_embed416"]
    assert encoder + head == reference["params_total"] == 3_042_660


def test_shapes_of_all_layers(reference):
    shapes = []
    net, head = RhcNet().eval(), RhcHead().eval()

    def hook(module, _inputs, output):
        if isinstance(module, nn.Conv2d):
            shapes.append(["Conv1D", [output.shape[-1] - 1, output.shape[1]]])  # the first output is dropped
        elif isinstance(module, nn.MaxPool2d):
            shapes.append(["MaxPooling1D", [output.shape[-1], output.shape[1]]])
        elif isinstance(module, nn.Linear):
            shapes.append(["Dense", [output.shape[-1]]])

    for module in (*net.modules(), *head.modules()):
        module.register_forward_hook(hook)
    with torch.inference_mode():
        head(net(torch.randn(1, 12, 5000)))
    assert shapes == [entry for entry in reference["shapes"] if entry[0] != "Flatten"]


def test_unreliability_of_the_published_example(reference):
    p_mpap, p_mpcwp, p_pvr, _ = reference["published_demo_output_[mPAP,PCWP,PVR,CO]"]
    expected = pytest.approx(reference["unreliability_U"], abs=1e-7)
    assert unreliability(p_mpap, p_mpcwp, p_pvr) == expected
    assert unreliability(*np.array([[p_mpap], [p_mpcwp], [p_pvr]]))[0] == expected
    assert (
        unreliability(*torch.tensor([[p_mpap], [p_mpcwp], [p_pvr]], dtype=torch.float64)).item() == expected
    )


@given(p=st.floats(0, 1), q=st.floats(0, 1))
def test_unreliability_is_zero_where_the_probabilities_agree(p, q):
    assert unreliability(1 - (1 - p) * (1 - q), p, q) == pytest.approx(0, abs=1e-12)
    assert 0 <= unreliability(p, q, 0.3) <= 1


def numpy_z_score(x, rows):
    return (x - x[rows].mean()) / x[rows].std()


@given(present=st.sets(st.integers(0, 11), min_size=1), gain=st.floats(0.01, 100), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_z_score_is_numpys_over_the_present_leads(present, gain, seed):
    rows = sorted(present)
    x = np.zeros((12, 64))
    x[rows] = np.random.default_rng(seed).normal(0.3, 0.5, size=(len(rows), 64))
    presence = torch.zeros(1, 12)
    presence[0, rows] = 1
    z = z_score(torch.from_numpy(x)[None, :, None], presence)[0, :, 0].numpy()
    np.testing.assert_allclose(z[rows], numpy_z_score(x, rows)[rows], atol=1e-9)
    assert not np.delete(z, rows, axis=0).any()
    scaled = z_score(torch.from_numpy(gain * x + (gain * x != 0))[None, :, None], presence)[0, :, 0].numpy()
    np.testing.assert_allclose(scaled, z, atol=1e-6)


def test_z_score_of_each_record_stands_alone():
    x, presence = torch.randn(3, 12, 1, 50), torch.ones(3, 12)
    presence[1, 3:] = 0
    x[1, 3:] = 0
    whole = z_score(x, presence)
    for i in range(3):
        torch.testing.assert_close(whole[i : i + 1], z_score(x[i : i + 1], presence[i : i + 1]))


@pytest.mark.parametrize("rows", [[0], [1, 7], [6, 7, 8, 9, 10, 11]])
def test_sliced_leads_equal_zeroed_leads(rows):
    net = RhcNet().eval()
    x, presence = torch.zeros(2, 12, 2500), torch.zeros(2, 12)
    x[:, rows], presence[:, rows] = torch.randn(2, len(rows), 2500), 1
    with torch.inference_mode():
        z = net.before_stem(x, presence)
        sliced = nn.functional.conv2d(
            z[:, rows], net.stem.weight[:, rows], net.stem.bias, padding=net.stem.padding
        )
        torch.testing.assert_close(net.after_stem(sliced), net(x, presence), rtol=0, atol=1e-6)


def test_stem_folds_with_the_statistics_behind_it():
    net = RhcNet().eval()
    rows = [0, 1, 6]
    x, presence = torch.zeros(1, 12, 1, 5000), torch.zeros(1, 12)
    x[:, rows], presence[:, rows] = torch.randn(1, 3, 1, 5000) + 0.2, 1
    mean, sd = x[:, rows].mean(), x[:, rows].std(correction=0)
    with torch.inference_mode():
        nn.init.normal_(net.stem.bias)
        shape = {"padding": net.stem.padding}
        of_signal = nn.functional.conv2d(x[:, rows], net.stem.weight[:, rows], **shape)
        of_ones = nn.functional.conv2d(torch.ones(1, 3, 1, 5000), net.stem.weight[:, rows], **shape)
        folded = (of_signal - mean * of_ones) / sd + net.stem.bias[None, :, None, None]
        torch.testing.assert_close(folded, net.stem(net.before_stem(x, presence)), rtol=0, atol=1e-5)


def test_eval_is_deterministic_and_training_drops():
    net, head = RhcNet().eval(), RhcHead().eval()
    x, presence = torch.randn(2, 12, 2500), torch.ones(2, 12)
    with torch.inference_mode():
        y = net(x, presence)
        assert y.shape == (2, net.embedding_size) == (2, 416)
        assert torch.equal(y, net(x[:, :, None], presence))
        assert torch.equal(head(y)[HEAD_OUTPUTS[0]], head(y)[HEAD_OUTPUTS[0]])
        head.train()
        assert not torch.equal(head(y)[HEAD_OUTPUTS[0]], head(y)[HEAD_OUTPUTS[0]])
        assert (net.train()(x, presence) == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
        assert torch.equal(RhcNet(dropout=0.0).train().dropout(y), y)


@pytest.mark.parametrize("value", [0.0, 0.75])
def test_absent_leads_and_flat_records_give_numbers(value):
    net = RhcNet()
    x = torch.full((2, 12, 5000), value, requires_grad=True)
    for presence in (torch.zeros(2, 12), torch.ones(2, 12), None):
        y = net(x, presence)
        assert y.isfinite().all()
        y.sum().backward()
        assert all(p.grad.isfinite().all() for p in (x, *net.parameters()))


def test_every_parameter_gets_a_gradient():
    net, head = RhcNet(dropout=0.0), RhcHead(dropout=0.0)
    sum(v.square().sum() for v in head(net(torch.randn(2, 12, 5000))).values()).backward()
    for module in (net, head):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_lengths_that_leave_no_four_steps():
    with pytest.raises(ValueError, match="reads 4096 to 5119 samples, not 2500; set resample_samples=5000"):
        RhcNet(resample_samples=2500)
    with pytest.raises(ValueError, match="not 5120"):
        RhcNet(resample_samples=0)(torch.zeros(1, 12, 5120), torch.ones(1, 12))
    assert RhcNet(resample_samples=0).eval()(torch.zeros(1, 12, 4096)).shape == (1, 416)
