"""Reference numbers that no test beside the code they belong to checks.

Left unchecked, and why: library versions and notes; `dropout_input`, `dropout_features` (0 parameters);
`rlm_np_seed0_five_draws_survivors` (numpy's draw order, ours draws with torch: the statistics are checked); errors that
the published code raises (`rlm_conditional_mode`, `margin_loss_with_pressure_labels`, `labelbased_*_labels`,
`dist_miner_NONmatrix_*`: ours must not raise them, see test_published_defects.py); `poly_lr_value_iter1` (a schedule
that the published code never applies; ours is a cosine).
"""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ecgedge_train.distances.dtw import dtw_pair
from ecgedge_train.distances.l2 import l2_matrix
from ecgedge_train.encoders import PclrResNet, ResNet18, RhcNet, W2vEncoder
from ecgedge_train.encoders.rhcnet import RhcHead
from ecgedge_train.encoders.w2v import count_tokens
from ecgedge_train.heads import ProjectionHead
from ecgedge_train.losses import margin_loss, nt_xent_accuracy
from ecgedge_train.masking import apply_lead_mask, bernoulli_lead_mask
from ecgedge_train.miners import distance_triplets, semihard_triplets, softhard_triplets
from ecgedge_train.quantizer import gumbel_temperature
from ecgedge_train.token_masking import published_token_mask

GRAPHS = {"12": "PCLR", "I": "PCLR_lead_I", "II": "PCLR_lead_II"}


@pytest.fixture(scope="module")
def known(oracles):
    return {path.stem: json.loads(path.read_text()) for path in oracles.glob("*.json")}


@pytest.fixture(scope="module")
def w2v_reference():
    path = Path(__file__).with_name("w2v_reference.py")
    spec = importlib.util.spec_from_file_location("w2v_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def count(parameters):
    return sum(p.numel() for p in parameters)


def sines(n_leads, n_samples):
    t, c = torch.arange(n_samples, dtype=torch.float64), torch.arange(1, n_leads + 1)[:, None]
    return torch.sin(0.01 * c * t)


def kernel_of(det, weight, k):
    """Kernel number k of the Keras networks, (k, in, out) turned to (out, in, 1, k)."""
    n_out, n_in, _, width = weight.shape
    filler = det(weight.numel(), k).reshape(width, n_in, n_out) * math.sqrt(24 / (width * n_in))
    return torch.from_numpy(filler).permute(2, 1, 0)[:, :, None]


def pclr_convolutions(net):
    return [net.stem, *(c for u in net.units for c in (u.conv1, u.conv2, u.shortcut))]


@pytest.fixture
def pclr_net(det):
    def make(variant):
        net = PclrResNet(variant=variant).eval()
        with torch.no_grad():
            for k, conv in enumerate(pclr_convolutions(net)):
                conv.weight.copy_(kernel_of(det, conv.weight, k))
        return net

    return make


def test_second_number_of_the_filler(det, known):
    assert det(4, 1).tolist() == known["det_selftest"]["det(4,1)"]


class TestPclr:
    @pytest.mark.parametrize("variant", GRAPHS)
    def test_embedding_and_every_convolution_of_the_published_graph(self, variant, known, pclr_net):
        graph, net = known["pclr_published_graphs"][GRAPHS[variant]], pclr_net(variant)
        samples, leads = graph["input"]
        shapes = []
        for conv in pclr_convolutions(net):
            # The stem pads to both sides alike, and its first output is dropped.
            conv.register_forward_hook(
                lambda _m, _i, y: shapes.append([min(y.shape[-1], samples), y.shape[1]])
            )
        x = torch.zeros(1, 12, samples)
        x[0, list(net.stem_leads)] = sines(leads, samples).float()
        with torch.inference_mode():
            y = net(x)[0]
        np.testing.assert_allclose(y[:8], graph["embed_first8"], rtol=2e-5, atol=2e-4)
        assert y.sum().item() == pytest.approx(graph["embed_sum"], rel=1e-5)
        assert sorted(shapes) == sorted(shape[2:] for _, _, shape in graph["conv_out_shapes"])
        kernels = [[c.weight.shape[3], c.weight.shape[1], c.weight.shape[0]] for c in pclr_convolutions(net)]
        assert sorted(kernels) == sorted(shape for _, shape, _ in graph["fill_order_kernel(k,in,out)"])
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(m.eps == pytest.approx(graph["bn_eps"][0], rel=1e-6) for m in norms)

    def test_sums_inside_the_network(self, known, pclr_net):
        net, sums = pclr_net("12"), []
        for unit in net.units:
            unit.register_forward_hook(lambda _m, _i, out: sums.append(out[1][0, :, 0].double()))
        with torch.inference_mode():
            net(sines(12, 4096).float()[None])
        for y, (shape, mean, sd) in zip(sums, known["pclr"]["add_outputs_shape_mean_std"], strict=True):
            assert [1, *y.T.shape] == shape
            assert y.mean().item() == pytest.approx(mean, abs=1e-5)
            assert y.std(correction=0).item() == pytest.approx(sd, rel=1e-5)

    def test_parameters_with_the_projection(self, known):
        net, head = PclrResNet(), ProjectionHead(320, projection_size=320)
        statistics = sum(m.running_mean.numel() * 2 for m in net.modules() if isinstance(m, nn.BatchNorm2d))
        trainable = count(net.parameters()) + count(head.parameters())
        assert trainable == known["pclr"]["trainable_params"] == 6_596_624
        assert trainable + statistics == known["pclr"]["total_params"] == 6_600_352

    def test_lead_i(self, known):
        net, lengths = PclrResNet(variant="I").eval(), []
        statistics = sum(m.running_mean.numel() * 2 for m in net.modules() if isinstance(m, nn.BatchNorm2d))
        assert count(net.parameters()) + statistics == known["pclr"]["encoder_params_ch1_len4096"]
        for unit in net.units:
            unit.register_forward_hook(lambda _m, _i, out: lengths.append(out[1].shape[-1]))
        with torch.inference_mode():
            net(torch.zeros(1, 12, 4096))
        assert lengths == known["pclr"]["len_chain_ch1_len4096"]

    def test_accuracy_of_the_contrast(self, known):
        numbers = known["pclr"]
        i = torch.arange(48, dtype=torch.float64)
        hidden = (torch.sin(0.7 * i) + 0.1 * torch.cos(1.3 * i)).reshape(8, 6)
        assert float(nt_xent_accuracy(*hidden.chunk(2))) == numbers["simclr_accuracy"] == 0
        first = hidden[:4]
        near = numbers["simclr_accuracy_near_identical_views"]
        assert float(nt_xent_accuracy(first, first + 0.01)) == near == 1


class TestRhcNet:
    def test_every_dense_layer_and_the_published_example(self, det, known):
        # In float64, so that only the published run's own rounding is between us, on every processor.
        numbers, net, head = known["rhcnet"], RhcNet().eval().double(), RhcHead().eval().double()
        hidden = [m for m in head.hidden if isinstance(m, nn.Linear)]
        convolutions = [net.stem, *(conv for block in net.blocks for conv in block.convs)]
        norms = []
        with torch.no_grad():
            for k, layer in enumerate([*convolutions, net.fc, *hidden, head.fc]):
                weight = layer.weight if layer.weight.dim() == 4 else layer.weight[:, :, None, None]
                layer.weight.copy_(kernel_of(det, weight, k).view_as(layer.weight))
                layer.bias.zero_()
        for layer in (*hidden, head.fc):
            layer.register_forward_hook(lambda _m, _i, y: norms.append(float(y.norm())))
        with torch.inference_mode():
            y = net(sines(12, 5000).double()[None])
            logits = torch.stack([*head(y).values()], dim=1)
        np.testing.assert_allclose(y[0, :8], numbers["embed_first8"], atol=2e-5)
        np.testing.assert_allclose(logits[0].sigmoid(), numbers["probs_[mPAP,PCWP,PVR,CO]"], atol=1e-6)
        assert norms == pytest.approx(numbers["published_chais_graph_run"]["dense_outputs_l2"], rel=1e-5)


class TestResNet18:
    def test_first_outputs(self, det, known):
        net = ResNet18(128).eval()
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
            y = net(sines(12, 2496).float()[None])[0]
        np.testing.assert_allclose(y[:8], known["ssldml_resnet18"]["output_first8"], rtol=2e-5, atol=2e-4)


class TestW2v:
    def test_stem_of_full_width(self, det, known):
        numbers = known["fairseq_signals"]
        net = W2vEncoder(size="small").eval()
        convs = {"stem.weight": 0, "convs.0.weight": 3, "convs.1.weight": 4, "convs.2.weight": 5}
        published = [shape for _, name, shape in numbers["conv_params"] if len(shape) == 3]
        assert [list(net.get_parameter(name).squeeze(2).shape) for name in convs] == published
        with torch.no_grad():
            for name, k in convs.items():
                p = net.get_parameter(name)
                values = det(p.numel(), k) * math.sqrt(24 / math.prod(p.shape[1:]))
                p.copy_(torch.from_numpy(values.reshape(p.shape)))
        raw = []
        net.feature_norm.register_forward_pre_hook(lambda _, args: raw.append(args[0]))
        with torch.inference_mode():
            net.tokens(sines(12, 2500).float()[None], torch.ones(1, 12))
        y = raw[0].transpose(1, 2)
        assert list(y.shape) == numbers["conv_out_shape"]
        np.testing.assert_allclose(y[0, :4, 0], numbers["conv_out_first"], atol=1e-5)
        np.testing.assert_allclose(y[0, -4:, -1], numbers["conv_out_last"], atol=1e-5)

    def test_stride_and_receptive_field(self, known):
        numbers = known["fairseq_signals"]
        for n, tokens in numbers["conv_out_lengths_measured"].items():
            assert count_tokens(int(n)) == tokens
        stride, field = numbers["total_stride"], numbers["receptive_field_samples"]
        assert count_tokens(field) == 1
        assert count_tokens(field + stride) == 2
        assert count_tokens(field + stride - 1) == 1

    def test_tiny_network(self, known, oracles, det, w2v_reference):
        numbers = known["fairseq_signals"]["tiny_model"]
        net, head = w2v_reference.tiny_encoder(oracles, det), w2v_reference.tiny_head(oracles, det)
        shift = count(net.lead_shift.parameters())
        assert count(net.parameters()) - shift + count(head.parameters()) == numbers["total_params"]
        b, c, t = torch.arange(4)[:, None, None], torch.arange(1, 13)[:, None], torch.arange(320)
        x = torch.sin(0.03 * c * t + b.double()).float()
        with torch.inference_mode():
            y = net.tokens(x, torch.ones(4, 12)).context
        assert list(y.shape) == numbers["features_shape"]
        np.testing.assert_allclose(y[0, 0, :8], numbers["features_b0_t0_first8"], atol=5e-6)
        assert y.norm().item() == pytest.approx(numbers["features_sum_l2"][1], rel=1e-5)

    def test_extremes_of_the_published_mask(self, known):
        numbers = known["fairseq_signals"]["mask_fraction_T156_p0.65_l10_B4_2000draws"]
        random = np.random.RandomState(1)
        counts = [int(published_token_mask(4, 156, random=random)[0].sum()) for _ in range(2000)]
        assert abs(min(counts) - numbers["min_per_row"]) <= 6
        assert abs(max(counts) - numbers["max_per_row"]) <= 6

    def test_temperature_reaches_its_floor_at_the_published_update(self, known):
        by_update = known["fairseq_signals"]["gumbel_temp_by_update"]
        assert gumbel_temperature(277_258) == pytest.approx(by_update["277258"], abs=1e-12)
        assert gumbel_temperature(277_259) == by_update["277259"] == 0.5

    def test_dependent_leads_of_one_and_three(self, known):
        x = torch.zeros(1, 12, 1)
        x[0, 0], x[0, 1] = 1.0, 3.0
        kept = torch.zeros(1, 12, dtype=torch.bool)
        kept[0, :2] = True
        masked, _ = apply_lead_mask(x, kept)
        expected = known["fairseq_signals"]["adjust_channel_dependency_I1_II3"]
        assert masked[0, :6, 0].tolist() == pytest.approx(expected, abs=1e-6)

    def test_share_of_crops_with_no_lead_left(self, known):
        numbers = known["fairseq_signals"]["rlm_stats_20000"]
        kept = bernoulli_lead_mask(200_000, generator=torch.Generator().manual_seed(8))
        share = (~kept.any(1)).double().mean().item()
        assert numbers["expected_all_masked"] == 2**-12
        for value, n in ((share, 200_000), (numbers["fraction_all_leads_masked"], 20_000)):
            assert value == pytest.approx(2**-12, abs=4 * math.sqrt(2**-12 / n))


class TestMetricLearning:
    def test_distances_of_the_margin_loss(self, known):
        numbers = known["ssldml_losses_miners"]
        x, rows = torch.tensor(numbers["embeddings"]), torch.tensor(numbers["fixed_triplets_a_p_n"])
        a, p, n = x[rows].unbind(1)
        for other, key in ((p, "margin_d_ap"), (n, "margin_d_an")):
            d = ((a - other).square().sum(1) + 1e-8).sqrt()
            np.testing.assert_allclose(d, numbers[key], rtol=1e-6)
            # With the boundary far off on one side only these distances are left in the loss.
            sign = 1.0 if other is p else -1.0
            loss = margin_loss(x, rows, torch.tensor(-100.0 * sign), margin=0.2)
            assert float(loss) == pytest.approx(100.2 + sign * float(np.mean(numbers[key])), rel=1e-6)

    @pytest.mark.parametrize("miner", ["semihard", "softhard"])
    def test_the_published_draws_are_among_ours(self, miner, known):
        numbers = known["ssldml_losses_miners"]
        distances, classes = torch.tensor(numbers["dist_matrix"]), torch.tensor(numbers["class_labels"])
        g = torch.Generator().manual_seed(0)
        mine = {"semihard": semihard_triplets, "softhard": softhard_triplets}[miner]
        drawn = {tuple(row) for _ in range(400) for row in mine(distances, classes, generator=g).tolist()}
        key = {"semihard": "semihard_seed926_margin0.2", "softhard": "softhard_seed926"}[miner]
        assert {tuple(row) for row in numbers[key]} <= drawn

    @pytest.mark.parametrize("k", [2, 3])
    def test_the_published_draws_by_distance_are_among_ours(self, k, known):
        numbers = known["ssldml_losses_miners"]
        distances = torch.tensor(numbers["dist_matrix"])
        g = torch.Generator().manual_seed(0)
        drawn = {
            tuple(row)
            for _ in range(200)
            for row in distance_triplets(distances, generator=g, n_farthest=k).tolist()
        }
        assert {tuple(row) for row in numbers[f"dist_miner_matrix_topk{k}_seed926"]} <= drawn
        assert len(drawn) <= 8 * k

    def test_warping_leads_instead_of_time_is_the_published_mistake(self, known):
        numbers = known["dtw_axis"]
        c, t = np.arange(3)[:, None], np.arange(60)

        def bumps(shift):
            wave = np.sin(0.2 * (c + 1) * (t - shift) / 3)
            return (wave + 0.5 * np.exp(-0.5 * ((t - 20 - shift) / 2) ** 2) * (c - 1)).astype(np.float32)

        a, b = bumps(0), bumps(5)
        wrong = numbers["dtw_ndim_lead_time_as_published_shape_(leads,time)"]["ab"]
        assert dtw_pair(a.T.copy(), b.T.copy()) == pytest.approx(wrong, rel=1e-5)
        assert dtw_pair(a, b) < 0.3 * wrong
        per_lead = np.mean([dtw_pair(a[i : i + 1], b[i : i + 1]) for i in range(3)])
        assert per_lead == pytest.approx(numbers["mean_of_per_lead_1d_dtw"]["ab"], rel=1e-5)

    def test_euclidean_is_not_the_published_mean_difference(self, known):
        numbers = known["ssldml_losses_miners"]
        x = np.sin(0.3 * np.arange(40)).reshape(4, 2, 5).astype(np.float32)
        assert list(x.shape) == numbers["calc_euclidean_input_shape"]
        published = np.array(numbers["calc_euclidean_matrix"])
        assert numbers["calc_euclidean_is_mean_abs_diff"]
        np.testing.assert_allclose(np.abs(x[:, None] - x[None]).mean((2, 3)), published, atol=1e-6)
        ours = l2_matrix(x)
        np.testing.assert_allclose(ours, np.sqrt(((x[:, None] - x[None]) ** 2).sum((2, 3))), atol=1e-5)
        assert np.abs(ours - published).max() > 1


def test_cosine_of_the_info_nce_case_has_the_published_shape(det, known):
    numbers = known["fairseq_signals"]["infonce"]
    x, y = (torch.from_numpy(det(48, k).reshape(2, 3, 8)) for k in (1, 2))
    negatives = torch.from_numpy(det(192, 3).reshape(4, 2, 3, 8)).clone()
    logits = functional.cosine_similarity(x[None], torch.cat([y[None], negatives]), dim=-1) / 0.1
    assert list(logits.shape) == numbers["logits_shape_(1+neg,B,T)"]
    np.testing.assert_allclose(logits[:, 1, 2], numbers["logits_b1_t2"], atol=1e-4)
