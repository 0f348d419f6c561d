"""Dropout of the encoders: torch's own in meaning, with another draw."""

import pytest
import torch
from torch import nn

from ecgedge_train.encoders.dropout import Dropout
from ecgedge_train.encoders.resnet18 import ResNet18


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_drops_the_share_it_is_told_and_keeps_the_mean(p, dtype):
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(400, 401, dtype=dtype))
    theirs = nn.Dropout(p)(torch.ones(99, dtype=dtype))
    assert set(y.unique().tolist()) == set(theirs.unique().tolist())
    dropped = (y == 0).double().mean().item()
    assert dropped == pytest.approx(p, abs=5 * (p * (1 - p) / y.numel()) ** 0.5)
    assert y.double().mean().item() == pytest.approx(1, abs=0.02)


def test_each_element_is_drawn_alone():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(1 << 18)) != 0).double()
    for lag in (1, 2, 3, 4, 8):  # four elements share a random word
        assert (kept[lag:] * kept[:-lag]).mean().item() == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_any_number_of_elements(n):
    assert Dropout(0.5)(torch.ones(n)).shape == (n,)


def test_a_seed_decides_in_any_memory_order():
    x = torch.randn(3, 8, 1, 25).to(memory_format=torch.channels_last)
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        y = Dropout(0.3)(x)
        assert y.is_contiguous(memory_format=torch.channels_last)
        masks.append(y != 0)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert (Dropout(0.3)(torch.ones(6, 4)[::2, ::3]) >= 0).all()


def test_the_gradient_passes_where_a_value_does():
    torch.manual_seed(0)
    x = torch.randn(1000, requires_grad=True)
    y = Dropout(0.2)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_nothing_and_everything_and_evaluation_are_torch_s():
    x = torch.randn(50)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(50))
    assert torch.equal(Dropout(0.5).eval()(x), x)


def test_the_encoders_have_it():
    kinds = {type(m) for m in ResNet18(8).modules() if isinstance(m, nn.Dropout)}
    assert kinds == {Dropout}
