"""The W2V encoder against numbers made by running the published code."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecgedge.leads import derivation_matrix, presence_vector
from ecgedge_train.encoders.w2v import W2vEncoder, W2vSize
from ecgedge_train.encoders.w2v_conv import PositionalConv, count_tokens, scale_gradient
from ecgedge_train.masking import fixed_lead_set
from ecgedge_train.quantizer import W2vHead

spec = importlib.util.spec_from_file_location("w2v_reference", Path(__file__).parent / "w2v_reference.py")
w2v_reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(w2v_reference)

ALL = torch.ones(4, 12)


@pytest.fixture
def reference(oracles):
    return w2v_reference.read_reference(oracles)


@pytest.fixture
def tiny(oracles, det):
    return w2v_reference.tiny_encoder(oracles, det)


@pytest.fixture
def small_net():
    """Untrained but not trivial: the presence vector has weights."""
    torch.manual_seed(1)
    net = W2vEncoder(size=w2v_reference.TINY)
    nn.init.normal_(net.lead_shift.weight)
    return net.eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


class TestSizes:
    def test_parameter_counts_are_the_published_ones(self, reference):
        with torch.device("meta"):
            base, small, head = W2vEncoder(size="base"), W2vEncoder(size="small"), W2vHead(256, 768)
        published = reference["full_params"]
        ours = {
            "encoder": count(base.layers) + count(base.context_norm),
            "feature_extractor": count(base.stem) + count(base.stem_norm) + count(base.convs),
            "post_extract_proj": count(base.projection),
            "conv_pos": count(base.positional),
            "layer_norm": count(base.feature_norm),
            "mask_emb": base.mask_embedding.numel(),
            "quantizer": count(head.quantizer),
            "project_q": count(head.project_target),
            "final_proj": count(head.project_context),
        }
        assert ours == {name: published[name] for name in ours}
        shift = 12 * 256 + 256
        assert count(base) - shift == reference["full_params_after_remove_pretraining_modules"] == 90_374_016
        assert count(base) + count(head) - shift == published["TOTAL"] == 90_883_072
        assert count(small) + count(head) - shift == reference["small_8layer_params"]

    def test_token_counts_are_the_published_ones(self, reference):
        for n, tokens in reference["conv_out_lengths"].items():
            assert count_tokens(int(n)) == tokens

    @pytest.mark.parametrize("n", [37, 160, 500, 1250])
    def test_token_count_is_that_of_the_network(self, small_net, n):
        tokens = small_net.tokens(torch.randn(2, 12, n), ALL[:2])
        assert tokens.context.shape == (2, small_net.n_tokens(n), 32)
        assert tokens.features.shape == (2, small_net.n_tokens(n), 16)

    def test_default_size_encodes_our_windows(self):
        net = W2vEncoder().eval()
        assert net.embedding_size == 128
        assert net(torch.randn(1, 12, 2500), ALL[:1]).shape == (1, 128)

    def test_resampling_is_part_of_the_network(self, small_net):
        net = W2vEncoder(size=w2v_reference.TINY, resample_samples=320).eval()
        net.load_state_dict(small_net.state_dict())
        x = torch.randn(2, 12, 160)
        long = np.stack(
            [np.interp(np.linspace(0, 1, 320), np.linspace(0, 1, 160), c) for c in x.reshape(24, 160)]
        )
        long = torch.from_numpy(long.reshape(2, 12, 320)).float()
        assert net.n_tokens(160) == 20
        torch.testing.assert_close(net(x, ALL[:2]), small_net(long, ALL[:2]), rtol=1e-4, atol=1e-5)


class TestReferenceNumbers:
    @pytest.mark.parametrize("all_leads", [True, False])
    def test_convolutions(self, reference, oracles, det, all_leads):
        stored = np.load(oracles / "w2v_conv_forward.npz")
        net = W2vEncoder(size=W2vSize(width=16, feedforward=16, layers=0, heads=1)).eval()
        convs = {"stem.weight": 0, "convs.0.weight": 3, "convs.1.weight": 4, "convs.2.weight": 5}
        with torch.no_grad():
            for name, k in convs.items():
                p = net.get_parameter(name)
                values = det(p.numel(), k) * math.sqrt(24 / math.prod(p.shape[1:]))
                p.copy_(torch.from_numpy(values.reshape(p.shape)))
        raw = []
        net.feature_norm.register_forward_pre_hook(lambda _, args: raw.append(args[0]))
        x = torch.from_numpy(stored["x"].copy())
        if not all_leads:
            x[:, 6:] = 0
        with torch.inference_mode():
            tokens = net.tokens(x, ALL[:1])
        y = raw[0][0].T.numpy()
        known = reference["conv_out_sum_l2" if all_leads else "conv_out_leads6to11_zero_sum_l2"]
        assert np.linalg.norm(y) == pytest.approx(known[1], rel=1e-5)
        assert y.sum(dtype=np.float64) == pytest.approx(known[0], rel=1e-5)
        assert float(tokens.penalty) == pytest.approx(known[1] ** 2 / y.size, rel=1e-5)
        if all_leads:
            assert relative_error(y, stored["y"][0]) < 1e-5

    def test_no_signal_gives_no_features(self, reference, small_net):
        nn.init.zeros_(small_net.lead_shift.weight)
        tokens = small_net.tokens(torch.zeros(1, 12, 320), ALL[:1])
        assert float(tokens.penalty.detach()) == reference["conv_out_all_zero_input_l2"] == 0.0

    def test_whole_network(self, reference, oracles, tiny):
        stored = np.load(oracles / "w2v_tiny_forward.npz")
        x = torch.from_numpy(stored["x"])
        with torch.inference_mode():
            context = tiny.tokens(x, ALL).context.numpy()
            pooled = tiny(x, ALL).numpy()
        assert relative_error(context, stored["y"]) < 1e-5
        assert np.linalg.norm(context) == pytest.approx(50.5964, abs=1e-3)
        np.testing.assert_allclose(pooled, stored["y"].mean(axis=1), atol=2e-6)
        np.testing.assert_allclose(pooled[0, :8], reference["tiny_model"]["mean_pooled_b0_first8"], atol=2e-6)

    def test_positional_convolution(self, reference, det):
        known = reference["pos_conv"]
        conv = PositionalConv(32, kernel=8, groups=4)
        with torch.no_grad():
            for k, name, shape in known["params"]:
                p = conv.conv.get_parameter(name.removeprefix("pos_conv.0."))
                p.copy_(w2v_reference.fill(det, name, shape, k))
        x = torch.from_numpy(det(320, 9).reshape(1, 10, 32)).float()
        with torch.inference_mode():
            y = conv(x).numpy()
        assert list(y.shape) == known["out_shape"]
        assert y.sum() == pytest.approx(known["sum_l2"][0], rel=1e-5)
        assert np.linalg.norm(y) == pytest.approx(known["sum_l2"][1], rel=1e-5)
        np.testing.assert_allclose(y.ravel()[:4], known["first4"], rtol=1e-4)

    def test_pooling_is_a_true_mean(self, reference, small_net, monkeypatch):
        # The published one divides by the number of non-zero entries, and by zero for a silent channel.
        published = np.array(reference["pooling_ref_sum_over_nonzero"])
        given = torch.tensor(reference["pooling_input"])
        monkeypatch.setattr(small_net, "_transform", lambda _: given)
        pooled = small_net(torch.randn(1, 12, 320), ALL[:1]).numpy()
        np.testing.assert_allclose(pooled, reference["pooling_true_mean"], rtol=1e-6)
        assert not np.allclose(pooled, published)


class TestGradients:
    def test_scaled_gradient_is_the_published_one(self, reference):
        x = torch.tensor([1.1, -3.3, 1e30], requires_grad=True)
        y = scale_gradient(x, 0.1)
        assert torch.equal(y, x)
        y.sum().backward()
        np.testing.assert_allclose(x.grad, reference["gradmultiply_grad"], rtol=1e-7)

    def test_only_the_convolutions_learn_slower(self, small_net):
        x = torch.randn(2, 12, 320)
        grads = {}
        for scale in (1.0, 0.1):
            small_net.feature_gradient = scale
            small_net.zero_grad()
            small_net(x, ALL[:2]).square().sum().backward()
            grads[scale] = {n: p.grad.clone() for n, p in small_net.named_parameters() if p.grad is not None}
        for name, grad in grads[0.1].items():
            slow = name.startswith(("stem", "convs", "lead_shift"))
            torch.testing.assert_close(grad, grads[1.0][name] * (0.1 if slow else 1.0), rtol=1e-4, atol=1e-6)

    def test_checkpointing_changes_memory_and_nothing_else(self, small_net):
        net = W2vEncoder(size=w2v_reference.TINY, checkpointing=True)
        net.load_state_dict(small_net.state_dict())
        x, results = torch.randn(2, 12, 320), []
        for each in (small_net.train(), net.train()):
            torch.manual_seed(3)  # dropout
            y = each(x, ALL[:2])
            y.square().sum().backward()
            results.append((y.detach(), each.layers[0].fc1.weight.grad, each.stem.weight.grad))
        for plain, again in zip(*results, strict=True):
            torch.testing.assert_close(plain, again)

    def test_every_weight_but_the_mask_vector_gets_a_gradient(self, small_net):
        small_net(torch.randn(2, 12, 320), ALL[:2]).square().sum().backward()
        without = {name for name, p in small_net.named_parameters() if p.grad is None}
        assert without == {"mask_embedding"}


class TestMasking:
    def test_a_hidden_token_says_nothing(self, small_net):
        x = torch.randn(2, 12, 320)
        mask = torch.zeros(2, 20, dtype=torch.bool)
        mask[:, 4:9] = True
        plain = small_net.tokens(x, ALL[:2])
        hidden = small_net.tokens(x, ALL[:2], mask)
        torch.testing.assert_close(hidden.features, plain.features)  # the quantizer sees what was there
        assert not torch.allclose(hidden.context, plain.context)
        nn.init.constant_(small_net.mask_embedding, 3.0)
        assert not torch.allclose(small_net.tokens(x, ALL[:2], mask).context, hidden.context)

    def test_context_depends_on_the_open_tokens_only(self, small_net):
        small_net.stem_norm = (
            nn.Identity()
        )  # it mixes all times, so that an open token would tell of a hidden one
        x = torch.randn(1, 12, 320)
        other = x.clone()
        other[:, :, 4 * 16 : 9 * 16] = torch.randn(12, 80)
        mask = torch.zeros(1, 20, dtype=torch.bool)
        mask[:, 4:9] = True
        a, b = (small_net.tokens(each, ALL[:1], mask).context for each in (x, other))
        torch.testing.assert_close(a, b)
        assert not torch.allclose(
            small_net.tokens(x, ALL[:1]).context, small_net.tokens(other, ALL[:1]).context
        )

    def test_refuses_another_shape(self, small_net):
        with pytest.raises(ValueError, match=r"\(2, 19\)"):
            small_net.tokens(torch.randn(2, 12, 320), ALL[:2], torch.zeros(2, 19, dtype=torch.bool))


class TestLeads:
    def test_published_weights_ignore_the_presence_vector(self, tiny):
        x = torch.randn(4, 12, 320)
        assert torch.equal(tiny(x, ALL), tiny(x, torch.zeros(4, 12)))

    def test_presence_matters_once_it_has_weights(self, small_net):
        # Ahead of the first norm, which takes away each channel's mean, a bias per channel would do nothing.
        x = torch.randn(4, 12, 320)
        assert not torch.allclose(small_net(x, ALL), small_net(x, torch.zeros(4, 12)), atol=1e-3)
        shifted = small_net.stem(x) + torch.randn(16)[:, None]
        torch.testing.assert_close(
            small_net.stem_norm(shifted), small_net.stem_norm(small_net.stem(x)), atol=1e-4, rtol=1e-4
        )

    @settings(max_examples=15, deadline=None)
    @given(st.sets(st.sampled_from(("I", "II", "V1", "V2", "V5")), min_size=1))
    def test_a_lead_set_folds_exactly(self, chosen):
        leads = tuple(lead for lead in ("I", "II", "V1", "V2", "V5") if lead in chosen)
        torch.manual_seed(2)
        net = W2vEncoder(size=w2v_reference.TINY).eval()
        nn.init.normal_(net.lead_shift.weight)
        x = torch.randn(2, 12, 160)
        expected = net(*fixed_lead_set(x, ",".join(leads)))
        rows = [
            ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6").index(n)
            for n in leads
        ]
        with torch.no_grad():
            matrix = torch.from_numpy(derivation_matrix(leads))
            net.stem.weight = nn.Parameter(torch.einsum("oik,il->olk", net.stem.weight, matrix))
            net.stem_norm.bias += net.lead_shift(torch.from_numpy(presence_vector(leads)))
            nn.init.zeros_(net.lead_shift.weight)
            nn.init.zeros_(net.lead_shift.bias)
        torch.testing.assert_close(net(x[:, rows], ALL[:2]), expected, rtol=1e-4, atol=1e-5)


def test_eval_is_deterministic_and_dropout_is_on_in_training(small_net):
    x = torch.randn(2, 12, 320)
    assert torch.equal(small_net(x, ALL[:2]), small_net(x, ALL[:2]))
    small_net.train()
    assert not torch.equal(small_net(x, ALL[:2]), small_net(x, ALL[:2]))


def test_quantizer_inputs_have_dropout_and_the_penalty_has_none(small_net):
    x = torch.randn(2, 12, 320)
    plain = small_net.tokens(x, ALL[:2])
    dropped = small_net.train().tokens(x, ALL[:2])
    gone = dropped.features == 0
    assert 0.05 < gone.double().mean() < 0.15  # of 640 values, at a rate of 0.1
    torch.testing.assert_close(dropped.features[~gone], plain.features[~gone] / 0.9)
    torch.testing.assert_close(dropped.penalty, plain.penalty)


def test_refuses_a_width_that_heads_cannot_share():
    with pytest.raises(ValueError, match="5 heads"):
        W2vEncoder(size=W2vSize(conv_width=8, width=32, feedforward=8, layers=1, heads=5))
