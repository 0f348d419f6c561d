"""Pruning of a ResNet18, whose stages add up over several blocks; a narrow one, since every width is a number of it."""

from dataclasses import replace

import pytest
import torch

from ecgedge.errors import RecipeError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_export.channels import channels, gates, without_channels
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_export.prune import Work, choose
from ecgedge_export.sweep import _unpruned
from ecgedge_train.encoders import ResNet18
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe

FULL = (16, 16, 12, 24, 20, 24, 32, 24, 28, 40, 32, 36)
WIDTHS = (12, 8, 12, 20, 16, 12, 24, 20, 16, 36, 20, 24)
RECIPE = ("jeong2023", [f"encoder.widths={list(FULL)}", "encoder.embedding_size=16"])


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(*RECIPE)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    net = ResNet18(16, widths=FULL)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.eval()


def silence(encoder):
    """Set random channels of every gate to zero output; return the others' indices."""
    kept = []
    for norms, width in zip(gates(encoder), WIDTHS, strict=True):
        order = torch.randperm(len(norms[0].weight))
        for norm in norms:
            with torch.no_grad():
                norm.weight[order[width:]] = 0.0
                norm.bias[order[width:]] = 0.0
        kept.append(order[:width].sort().values)
    return tuple(kept)


@pytest.mark.parametrize("causal", [False, True])
def test_without_silent_channels_it_is_the_same_function(encoder, causal):
    whole = ResNet18(16, widths=FULL, causal=causal)
    whole.load_state_dict(encoder.state_dict())
    kept = silence(whole)
    smaller = ResNet18(16, widths=WIDTHS, causal=causal)
    smaller.load_state_dict(without_channels(whole, kept))
    x = torch.randn(3, 12, 2500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(smaller.double().eval()(x), whole.double().eval()(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [0, 2, 3, 9])
def test_a_channel_that_speaks_is_missed(encoder, width):
    kept = list(silence(encoder))
    kept[width] = kept[width][1:]
    smaller = ResNet18(16, widths=[len(k) for k in kept]).eval()
    smaller.load_state_dict(without_channels(encoder, tuple(kept)))
    x = torch.randn(2, 12, 2500, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert not torch.allclose(smaller(x), encoder(x), atol=1e-3)


def test_every_layer_is_made_once_and_every_norm_is_in_one_group(encoder):
    parts = channels(encoder)
    made = [name for part in parts for name in part.made_by]
    read = [name for part in parts for name in part.read_by]
    convolutions = [n for n, m in encoder.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted(made) == sorted(convolutions)
    assert sorted(read) == sorted([*convolutions[1:], "fc"])
    norms = [n for n, m in encoder.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert sorted(name for part in parts for name in part.norms) == sorted(norms)


def test_the_published_widths_are_the_default(encoder):
    published = ResNet18()
    assert published.widths == tuple(width for width in (64, 128, 256, 512) for _ in range(3))
    assert sum(p.numel() for p in published.parameters()) == 8_803_072
    assert [len(group[0].weight) for group in gates(encoder)] == list(FULL)


def test_the_count_is_that_of_the_exported_graph(recipe):
    work = Work(build_model(recipe).eval(), 2500)
    pruned = replace(recipe, encoder=replace(recipe.encoder, widths=WIDTHS))
    network = fold_lead_set(build_model(pruned).eval(), STANDARD_LEADS, None)
    graph = export_onnx(
        network, n_leads=12, window_samples=2500, output_names=network.output_names, metadata={}
    )
    assert work.macs(WIDTHS) == graph_cost(graph).macs
    target = 0.4 * work.macs(FULL)
    kept = choose([torch.rand(width) + 1.0 for width in FULL], work, macs=target)
    assert 0.6 * target < work.macs([len(k) for k in kept]) <= target
    # What a sweep asks of a student that it finds: whether it was made for this, however many channels it has left.
    assert _unpruned(pruned) == _unpruned(recipe)


def test_widths_are_checked():
    with pytest.raises(RecipeError, match="needs 12, or none"):
        load_recipe("jeong2023", ["encoder.widths=[8, 8]"])
    with pytest.raises(ValueError, match="three a stage make 12"):
        ResNet18(widths=(8, 8))
