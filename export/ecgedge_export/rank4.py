"""One-dimensional networks as two-dimensional ones of height 1, with the same weights and the same answers.

ONNX Runtime lays out only rank-4 convolutions in blocks, and TensorRT wants two spatial dimensions (its parser
would wrap every Conv1d in Unsqueeze and Squeeze, between the quantizers and the convolution).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import nn

from ecgedge.errors import EngineError

Network = TypeVar("Network", bound=nn.Module)


def to_rank4(network: Network) -> Network:
    """Return a copy of `network` that takes (B, C, 1, T) where the original takes (B, C, T).

    Conv1d, BatchNorm1d, MaxPool1d, AvgPool1d, AdaptiveAvgPool1d and AdaptiveMaxPool1d become their
    two-dimensional forms; everything else stays, and so does `forward`: it must not name the last axis's number.
    A BatchNorm1d on pooled features (B, C) has no such form: convert the encoder, not the heads.

    Raises
    ------
    EngineError
        If a one-dimensional layer has no exact two-dimensional form here.
    """
    return cast("Network", _convert(copy.deepcopy(network), place=type(network).__name__))


def _convert(module: nn.Module, *, place: str) -> nn.Module:
    for kind, make in _CONVERTERS.items():
        if type(module) is kind:
            return make(module)
    if type(module).__name__.endswith("1d"):
        raise EngineError(
            f"{place} is a {type(module).__name__}, for which there is no rank-4 form; "
            "use layers out of " + ", ".join(kind.__name__ for kind in _CONVERTERS)
        )
    for name, child in module.named_children():
        setattr(module, name, _convert(child, place=f"{place}.{name}"))
    return module


def _conv(conv: Any) -> nn.Module:
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise EngineError(
            f"Conv1d with padding {conv.padding!r}, mode {conv.padding_mode}: use numbers and zeros"
        )
    made = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (1, conv.kernel_size[0]),
        stride=(1, conv.stride[0]),
        padding=(0, conv.padding[0]),
        dilation=(1, conv.dilation[0]),
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        made.weight.copy_(conv.weight.unsqueeze(2))
        if conv.bias is not None and made.bias is not None:
            made.bias.copy_(conv.bias)
    return made.train(conv.training)


def _norm(norm: Any) -> nn.Module:
    made = nn.BatchNorm2d(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
    )
    made.load_state_dict(norm.state_dict())
    return made.train(norm.training)


def _one(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def _max_pool(pool: Any) -> nn.Module:
    return nn.MaxPool2d(
        (1, _one(pool.kernel_size)),
        stride=(1, _one(pool.stride)),
        padding=(0, _one(pool.padding)),
        dilation=(1, _one(pool.dilation)),
        ceil_mode=pool.ceil_mode,
    )


def _avg_pool(pool: Any) -> nn.Module:
    return nn.AvgPool2d(
        (1, _one(pool.kernel_size)),
        stride=(1, _one(pool.stride)),
        padding=(0, _one(pool.padding)),
        ceil_mode=pool.ceil_mode,
        count_include_pad=pool.count_include_pad,
    )


_CONVERTERS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Conv1d: _conv,
    nn.BatchNorm1d: _norm,
    nn.MaxPool1d: _max_pool,
    nn.AvgPool1d: _avg_pool,
    nn.AdaptiveAvgPool1d: lambda pool: nn.AdaptiveAvgPool2d((1, _one(pool.output_size))),
    nn.AdaptiveMaxPool1d: lambda pool: nn.AdaptiveMaxPool2d((1, _one(pool.output_size))),
}
