"""The rank-4 form computes the same, bit for bit where the order of sums is the same."""

import numpy as np
import pytest
import torch
from torch import nn

from ecgedge.errors import EngineError
from ecgedge_export.rank4 import to_rank4


def both(network, x):
    network.eval()
    with torch.no_grad():
        return network(x), to_rank4(network)(x.unsqueeze(2)).squeeze(2)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(3, 4, 7, stride=2, padding=3, bias=False),
        nn.Conv1d(4, 4, 5, padding=4, dilation=2, groups=2),
        nn.BatchNorm1d(4),
        nn.BatchNorm1d(4, affine=False),
        nn.MaxPool1d(3, stride=2, padding=1),
        nn.MaxPool1d(2, ceil_mode=True),
        nn.AvgPool1d(4, stride=3, padding=1, count_include_pad=False),
        nn.AdaptiveAvgPool1d(1),
        nn.AdaptiveMaxPool1d(5),
    ],
    ids=str,
)
def test_layers(layer):
    channels = 3 if isinstance(layer, nn.Conv1d) and layer.in_channels == 3 else 4
    x = torch.randn(2, channels, 33, generator=torch.Generator().manual_seed(0))
    if isinstance(layer, nn.BatchNorm1d):
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
    expected, found = both(layer, x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nested_and_copied():
    network = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()))
    converted = to_rank4(network)
    assert isinstance(network[0], nn.Conv1d)
    assert not any("1d" in type(module).__name__ for module in converted.modules())
    expected, found = both(network, torch.randn(1, 2, 20))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_layer_without_a_form():
    with pytest.raises(EngineError, match=r"Sequential\.0 is a ConvTranspose1d"):
        to_rank4(nn.Sequential(nn.ConvTranspose1d(2, 2, 3)))


def test_same_padding_is_refused():
    with pytest.raises(EngineError, match="padding 'same'"):
        to_rank4(nn.Conv1d(2, 2, 3, padding="same"))


def test_a_batch_norm_that_was_training_still_is():
    assert to_rank4(nn.Sequential(nn.BatchNorm1d(2)).train())[0].training
