"""Pruning: what is taken away was worth nothing, what is counted is the exported graph's, what is left is a recipe."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecgedge.errors import RecipeError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_export.channels import gates, without_channels
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_export.prune import Work, choose, importance
from ecgedge_train.encoders import EdgeNet
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe, recipe_from_plain, to_toml
from ecgedge_train.teacher import TeacherData, ask_teacher

WIDTHS = (12, 8, 16, 20, 24, 32, 36, 44, 60)


@pytest.fixture
def encoder(hemodynamic_model):
    """An EdgeNet with batch norms that do something, its own copy."""
    return copy.deepcopy(hemodynamic_model.encoder)


@pytest.fixture(scope="module")
def work(hemodynamic_model):
    return Work(hemodynamic_model, 2500)


def silence(encoder, seed=0):
    """Set random channels of every gate to zero output; return the others' indices."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for norms, width in zip(gates(encoder), WIDTHS, strict=True):
        order = torch.randperm(len(norms[0].weight), generator=generator)
        for norm in norms:
            with torch.no_grad():
                norm.weight[order[width:]] = 0.0
                norm.bias[order[width:]] = 0.0
        kept.append(order[:width].sort().values)
    return tuple(kept)


@pytest.mark.parametrize("causal", [False, True])
def test_without_silent_channels_it_is_the_same_function(encoder, causal):
    if causal:
        whole = EdgeNet(encoder.embedding_size, causal=True)
        whole.load_state_dict(encoder.state_dict())
        encoder = whole.eval()
    kept = silence(encoder)
    smaller = EdgeNet(encoder.embedding_size, widths=WIDTHS, causal=causal).eval()
    smaller.load_state_dict(without_channels(encoder, kept))
    # float64: another number of channels is summed in another order, and that is the only difference there may be.
    encoder, smaller = encoder.double(), smaller.double()
    x = torch.randn(3, 12, 2500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    presence = (torch.arange(12) % 3 != 0).double().expand(3, 12)
    with torch.no_grad():
        torch.testing.assert_close(smaller(x, presence), encoder(x, presence), rtol=0, atol=1e-12)


def test_a_channel_that_speaks_is_missed(encoder):
    kept = list(silence(encoder))
    kept[3] = kept[3][1:]
    smaller = EdgeNet(encoder.embedding_size, widths=[len(k) for k in kept]).eval()
    smaller.load_state_dict(without_channels(encoder, tuple(kept)))
    x = torch.randn(2, 12, 2500, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert not torch.allclose(smaller(x, torch.ones(2, 12)), encoder(x, torch.ones(2, 12)), atol=1e-3)


def test_the_count_is_that_of_the_exported_graph(work, hemodynamic_model, hemodynamic_recipe):
    full = EdgeNet().widths
    pruned = replace(hemodynamic_recipe, encoder=replace(hemodynamic_recipe.encoder, widths=WIDTHS))
    network = fold_lead_set(build_model(pruned).eval(), STANDARD_LEADS, None)
    graph = export_onnx(
        network, n_leads=12, window_samples=2500, output_names=network.output_names, metadata={}
    )
    assert work.macs(WIDTHS) == graph_cost(graph).macs
    # What the head of encoders/edgenet.py says of size s, with an embedding of 128 instead of these 32.
    embedding, head = 96 * 128, 3 * 96
    assert work.macs(full) == pytest.approx(14.4e6 - embedding - head, rel=0.005)


def test_choice_takes_the_worthless_first_and_stops_at_the_target(work):
    widths = EdgeNet().widths
    scores = [torch.arange(1, width + 1, dtype=torch.float32) + 1000.0 for width in widths]
    for score in (scores[1], scores[5]):
        score[:8] = 0.0  # two groups of four that say nothing
    full = work.macs(widths)
    gone = list(widths)
    gone[1], gone[5] = gone[1] - 8, gone[5] - 8
    kept = choose(scores, work, macs=work.macs(gone))
    assert [len(k) for k in kept] == gone
    assert int(kept[1].min()) == int(kept[5].min()) == 8
    for target in (0.8, 0.5, 0.2):
        kept = choose(scores, work, macs=target * full)
        now = [len(k) for k in kept]
        assert 0.6 * target * full < work.macs(now) <= target * full
        assert all(n % 4 == 0 for n in now)


@pytest.mark.parametrize(("macs", "message"), [(1e9, "already"), (1e4, "the least is")])
def test_targets_that_cannot_be(work, macs, message):
    scores = [torch.ones(width) for width in EdgeNet().widths]
    with pytest.raises(UsageError, match=message):
        choose(scores, work, macs=macs)


def student(teacher_recipe):
    part = {
        "name": "distill",
        "teacher": "big",
        "teacher_sha256": "a" * 64,
        "teacher_encoder": "edgenet",
        "teacher_trained_on": "ptbxl",
        "teacher_embedding_size": teacher_recipe.encoder.embedding_size,
        "class_logits": ["NORM"],
    }
    plain = {
        "name": "student",
        "data": {"source": "ptbxl", "batch_size": 8},
        "encoder": {"name": "edgenet", "embedding_size": 16},
        "objective": {
            "name": "combined",
            "parts": [part, {"name": "classes", "labels": ["NORM"], "weight": 0.0}],
        },
        "schedule": {"steps": 1},
    }
    return recipe_from_plain(plain)


@pytest.fixture(scope="module")
def taught(dataset, tmp_path_factory):
    recipe = load_recipe("ptbxl_supervised", ['objective.labels=["NORM"]', "encoder.embedding_size=24"])
    teacher = build_model(recipe).eval()
    wanted = student(recipe)
    part = wanted.objective.parts[0]
    said = ask_teacher(teacher, part, dataset, tmp_path_factory.mktemp("words"))
    return wanted, TeacherData(dataset, said, part, taught_by="")


def test_importance_is_the_gradient_of_a_gate(taught):
    """Against the definition: a factor behind each norm, its derivative by finite differences, one batch."""
    recipe, data = taught
    model = build_model(recipe).eval()
    scores = importance(model, recipe, data, batches=1)
    loss_of = loss_of_one_batch(recipe, data)
    for width, channel in ((0, 3), (1, 5), (2, 7), (8, 20)):
        values = []
        for factor in (1 + 1e-3, 1 - 1e-3):
            changed = copy.deepcopy(model).double()
            for norm in gates(changed.encoder)[width]:
                with torch.no_grad():
                    norm.weight[channel] *= factor
                    norm.bias[channel] *= factor
            values.append(loss_of(changed))
        slope = (values[0] - values[1]) / 2e-3
        assert float(scores[width][channel]) == pytest.approx(slope**2, rel=0.05, abs=1e-12)


def loss_of_one_batch(recipe, data):
    from ecgedge_train.batches import TRAIN_STREAM, BatchSource, make_views, step_generator
    from ecgedge_train.objectives import build_objective

    # The map to a teacher of another width is not trained yet: its term is left out of the judgement.
    part, head = recipe.objective.parts
    objective = build_objective(replace(recipe.objective, parts=(replace(part, embedding_weight=0.0), head)))
    (batch,) = BatchSource(data, "train", objective, recipe.data, seed=recipe.seed).load(0)
    generator = step_generator(recipe.seed, TRAIN_STREAM, 0)
    x, presence = make_views(batch, recipe, generator=generator, device=torch.device("cpu"))

    def loss_of(model):
        with torch.no_grad():
            features = model(x.double(), presence.double())
        outputs = {"embedding": features.embedding, **features.outputs}
        return float(objective.loss(outputs, batch.targets, generator))

    return loss_of


def test_a_silent_channel_has_no_importance(taught):
    recipe, data = taught
    model = build_model(recipe).eval()
    kept = silence(model.encoder)
    for score, stays in zip(importance(model, recipe, data, batches=2), kept, strict=True):
        silent = np.setdiff1d(np.arange(len(score)), stays.numpy())
        assert float(score[silent].abs().sum()) == 0.0
        assert float(score[stays].max()) > 0.0


def test_widths_stand_in_the_recipe(tmp_path):
    recipe = load_recipe("ptbxl_supervised", [f"encoder.widths={list(WIDTHS)}"])
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    model = build_model(load_recipe(tmp_path / "r.toml"))
    assert model.encoder.widths == WIDTHS
    assert model.encoder.stem.weight.shape == (12, 12, 1, 17)
    assert model.encoder.blocks[3].conv2.weight.shape[:2] == (60, 44)
    with pytest.raises(RecipeError, match="needs 9, or none"):
        load_recipe("ptbxl_supervised", ["encoder.widths=[8, 8]"])
