"""Several processes give the gradients, and the training, of one: the loss value alone would not prove it."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from ranks import run_ranks
from safetensors.torch import load_file
from torch import nn

from ecgedge_train.distributed import GatheredBatchNorm, World, alone, current_world, synchronise_batch_norms
from ecgedge_train.loop import train
from ecgedge_train.model import build_model
from ecgedge_train.recipe import to_toml

CHILD = Path(__file__).with_name("distributed_child.py")


def launch(processes, *arguments, folder, **environment):
    ends = run_ranks(CHILD, processes, *arguments, folder=folder, **environment)
    assert all(code == 0 for _, code in ends), "\n".join(text for text, _ in ends)


def child_module():
    spec = importlib.util.spec_from_file_location("distributed_child", CHILD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[2, 4])
def gathered(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("gathered") / "gradients.pt"
    launch(request.param, "gradients", out, folder=out.parent)
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize("name", ["pclr", "simclr", "cmsc", "cmsc_published", "tfc", "label_triplet"])
def test_gradients_equal_those_of_one_process(gathered, name):
    loss, gradients = child_module().gradients(name)
    said, found = gathered[name]
    assert said.item() == pytest.approx(loss.item(), rel=1e-12)
    for parameter, expected in gradients.items():
        error = (found[parameter] - expected).norm() / expected.norm()
        # A bias in front of a batch norm has no gradient but rounding.
        assert error < 1e-6 or expected.norm() < 1e-12, (parameter, float(error))
    assert gradients["conv.weight"].norm() > 1e-6


def test_a_detached_gather_would_be_seen(gathered):
    child = child_module()
    _, found = gathered["pclr"]
    net = child.Net()
    torch.manual_seed(2)
    x = torch.randn(2, child.ITEMS, 12, 40, dtype=torch.float64)
    z = net(torch.cat([x[0], x[1]]))
    # What a detached gather differentiates: columns held fixed.
    first, second = z.chunk(2)
    fixed = child.world_gather().__class__(0, lambda rows: rows.detach())
    child.nt_xent(first, second, patients=child.PATIENTS, gather=fixed).backward()
    ratio = net.fc.weight.grad.norm() / found["fc.weight"].norm()
    assert abs(ratio - 1) > 0.1


class TestBatchNorm:
    def test_equals_torch_in_one_process(self):
        torch.manual_seed(0)
        ours = GatheredBatchNorm(nn.BatchNorm2d(5))
        theirs = nn.BatchNorm2d(5)
        x = torch.randn(7, 5, 1, 30, requires_grad=True)
        for _ in range(2):
            y, expected = ours(x), theirs(x)
            assert torch.allclose(y, expected, atol=1e-5)
        mine, other = (torch.autograd.grad(v.square().sum() + v[0].sum(), x)[0] for v in (y, expected))
        assert torch.allclose(mine, other, atol=1e-4)
        assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
        assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-5)
        assert ours.num_batches_tracked == 2
        assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-5)

    def test_bfloat16_goes_in_and_comes_out(self):
        torch.manual_seed(0)
        x = torch.randn(9, 3, 20).to(torch.bfloat16)
        ours = GatheredBatchNorm(nn.BatchNorm1d(3))
        y = ours(x)
        assert y.dtype == torch.bfloat16
        expected = nn.BatchNorm1d(3)(x.float())
        assert torch.allclose(y.float(), expected, atol=0.02)
        assert ours.running_var.dtype == torch.float32

    def test_weights_keep_their_names(self):
        net = nn.Sequential(nn.Conv1d(2, 3, 1), nn.Sequential(nn.BatchNorm1d(3)))
        names = list(net.state_dict())
        assert list(synchronise_batch_norms(net, "cpu").state_dict()) == names
        assert isinstance(net[1][0], GatheredBatchNorm)


def test_shares_are_equal_or_refused():
    assert World(1, 4).part(8) == slice(2, 4)
    with pytest.raises(ValueError, match="9 items cannot be shared equally by 4"):
        World(1, 4).part(9)


def test_alone_in_the_world():
    with alone():
        assert current_world() == World()


@pytest.fixture
def exact(recipe_factory):
    """A recipe whose steps do not depend on the number of processes: no dropout, no noise."""
    return recipe_factory(
        "pclr",
        encoder={"name": "edgenet", "dropout": 0.0},
        input={"noise_mv": 0.0},
        schedule={"steps": 8, "warmup_steps": 2},
        evaluate={"every_steps": 4, "checkpoint_every_steps": 3},
        optimizer={"lr": 1e-3},
    )


def test_training_in_two_processes_equals_one_and_resumes(data, exact, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(exact))
    train(exact, data, tmp_path / "one")
    launch(2, "train", tmp_path / "two", file, folder=tmp_path)
    launch(2, "train", tmp_path / "resumed", file, folder=tmp_path, STOP_AT="5")
    launch(2, "train", tmp_path / "resumed", file, folder=tmp_path, RESUME="1")
    one, two, resumed = (load_file(tmp_path / d / "model.safetensors") for d in ("one", "two", "resumed"))
    start = build_model(exact).state_dict()
    assert all(torch.equal(two[name], resumed[name]) for name in two)
    moved, apart = (
        sum((a[name] - b[name]).float().square().sum() for name in one).sqrt()
        for a, b in ((one, start), (one, two))
    )
    # Adam turns the rounding of a gradient near zero into a step of full size, so not bit by bit.
    assert apart < 0.02 * moved
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / d / "metrics.jsonl").read_text().splitlines()]
        for d in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert sum('"kind": "tune"' in line for line in lines) == 2  # one process writes
