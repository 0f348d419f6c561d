"""Which channels of an encoder can only stay or go together, and what a network without some of them weighs.

An addition joins what it adds. In an EdgeNet each block has a shortcut with weights of its own, so only the block's
second convolution and that shortcut are joined. In a ResNet18 the second block of a stage, and the first of the first
stage, add their input as it is: all that a stage sums, from the stem's output on, is one set of channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ecgedge_train.encoders import EdgeNet, ResNet18
from ecgedge_train.encoders.edgenet import KERNELS
from ecgedge_train.encoders.resnet18 import STRIDES
from ecgedge_train.recipe import EdgeNetRecipe, ResNet18Recipe

Prunable = EdgeNet | ResNet18
PRUNABLE = (EdgeNet, ResNet18)
PRUNABLE_RECIPES = (EdgeNetRecipe, ResNet18Recipe)

Kept = tuple[Tensor, ...]
"""Indices of the channels that stay, ascending; one tensor for each of the encoder's `widths`."""


@dataclass(frozen=True)
class Channels:
    """Channels of one width, by the names of the encoder's modules.

    Attributes
    ----------
    norms
        The batch norms behind each layer that puts them out; every addition of these joins them.
    made_by
        Those layers.
    read_by
        Layers that take them in.
    """

    norms: tuple[str, ...]
    made_by: tuple[str, ...]
    read_by: tuple[str, ...]


def channels(encoder: Prunable) -> tuple[Channels, ...]:
    """Return all channels that can go, in the order of the encoder's `widths`."""
    return _of_edgenet() if isinstance(encoder, EdgeNet) else _of_resnet18()


def _of_edgenet() -> tuple[Channels, ...]:
    blocks = [f"blocks.{i}" for i in range(len(KERNELS))]
    found = [Channels(("bn",), ("stem", "presence"), _entries(blocks[0]))]
    for block, behind in zip(blocks, [*blocks[1:], None], strict=True):
        readers = ("fc",) if behind is None else _entries(behind)
        out = Channels(
            (f"{block}.bn2", f"{block}.shortcut.1"), (f"{block}.conv2", f"{block}.shortcut.0"), readers
        )
        found += [_inside(block), out]
    return tuple(found)


def _entries(block: str) -> tuple[str, ...]:
    return f"{block}.conv1", f"{block}.shortcut.0"


def _inside(block: str) -> Channels:
    return Channels((f"{block}.bn1",), (f"{block}.conv1",), (f"{block}.conv2",))


def _of_resnet18() -> tuple[Channels, ...]:
    found: list[Channels] = []
    for stage in range(len(STRIDES)):
        first, second = f"stages.{stage}.0", f"stages.{stage}.1"
        behind = f"stages.{stage + 1}.0"
        entry = ("bn1", "stem") if stage == 0 else (f"{first}.downsample.1", f"{first}.downsample.0")
        readers = (f"{behind}.conv1", f"{behind}.downsample.0") if stage + 1 < len(STRIDES) else ("fc",)
        if stage == 0:
            readers = (f"{first}.conv1", *readers)
        summed = Channels(
            (entry[0], f"{first}.bn2", f"{second}.bn2"),
            (entry[1], f"{first}.conv2", f"{second}.conv2"),
            (f"{second}.conv1", *readers),
        )
        found += [summed, _inside(first), _inside(second)]
    return tuple(found)


def gates(encoder: Prunable) -> list[tuple[nn.BatchNorm2d, ...]]:
    """Return the norms whose channels stay or go together, in the order of the encoder's `widths`."""
    return [tuple(_norm(encoder.get_submodule(name)) for name in part.norms) for part in channels(encoder)]


def _norm(module: nn.Module) -> nn.BatchNorm2d:
    if not isinstance(module, nn.BatchNorm2d):
        raise TypeError(f"a batch norm was expected, not {type(module).__name__}")
    return module


def with_widths(encoder: Prunable, widths: Sequence[int]) -> Prunable:
    """Return an encoder of the same kind and embedding, with other widths and new weights."""
    return type(encoder)(encoder.embedding_size, widths=widths)


def without_channels(encoder: Prunable, kept: Kept) -> dict[str, Tensor]:
    """Return the weights of the encoder that has only the `kept` channels."""
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    for part, stay, width in zip(channels(encoder), kept, encoder.widths, strict=True):
        rows |= dict.fromkeys([*part.made_by, *part.norms], stay)
        columns |= {name: _copies(stay, width, _inputs(encoder, name)) for name in part.read_by}
    return {name: _cut(name, tensor, rows, columns) for name, tensor in encoder.state_dict().items()}


def _inputs(encoder: Prunable, name: str) -> int:
    return int(encoder.get_parameter(f"{name}.weight").shape[1])


def _copies(stay: Tensor, width: int, inputs: int) -> Tensor:
    """Return the inputs that stay of a layer which takes the channels in once or, as mean and maximum, twice."""
    return torch.cat([stay + begin for begin in range(0, inputs, width)])


def _cut(name: str, tensor: Tensor, rows: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> Tensor:
    module = name.rpartition(".")[0]
    if tensor.dim() and module in rows:
        tensor = tensor[rows[module]]
    if tensor.dim() > 1 and module in columns:
        tensor = tensor[:, columns[module]]
    return tensor.clone()
