"""Encoder sections of the recipe; `name` decides which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ecgedge_train.recipe.sections import require


def _check_widths(widths: tuple[int, ...], n: int) -> None:
    require(len(widths) in (0, n), f"widths has {len(widths)} numbers; it needs {n}, or none")
    require(all(width >= 1 for width in widths), "every one of widths must be at least 1")


@dataclass(frozen=True)
class EdgeNetRecipe:
    """Encoder for the bedside, see encoders/edgenet.py. `causal`: no sample looks ahead of its own time.

    `widths` are the nine channel counts of a pruned network: of the stem, then inside and after each block.
    """

    name: Literal["edgenet"] = "edgenet"
    embedding_size: int = 128
    dropout: float = 0.1
    size: Literal["s", "m"] = "s"
    causal: bool = False
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse widths that make no network."""
        _check_widths(self.widths, 9)


@dataclass(frozen=True)
class ResNet18Recipe:
    """Encoder of the SSL-DML paper, see encoders/resnet18.py. `causal`: no sample looks ahead of its own time.

    `widths` are the twelve channel counts of a pruned network: of a stage's sums, then inside its two blocks.
    """

    name: Literal["resnet18"]
    embedding_size: int = 128
    dropout: float = 0.2
    init: Literal["he", "published"] = "he"
    causal: bool = False
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse widths that make no network."""
        _check_widths(self.widths, 12)


@dataclass(frozen=True)
class PclrResNetRecipe:
    """Encoder of the PCLR paper (320 wide), see encoders/pclr.py; `resample_samples` 0 takes windows as they are."""

    name: Literal["pclr_resnet"]
    variant: Literal["12", "I", "II", "C3PO"] = "12"
    resample_samples: int = 0

    def __post_init__(self) -> None:
        """Refuse a negative length."""
        require(self.resample_samples >= 0, "resample_samples must not be negative")


@dataclass(frozen=True)
class RhcNetRecipe:
    """Encoder of RHCnet and CHAIS (416 wide), see encoders/rhcnet.py; it needs 5,000 samples."""

    name: Literal["rhcnet"]
    dropout: float = 0.5
    resample_samples: int = 5000

    def __post_init__(self) -> None:
        """Refuse a negative length."""
        require(self.resample_samples >= 0, "resample_samples must not be negative")


@dataclass(frozen=True)
class W2vRecipe:
    """Convolution stem and transformer of the W2V+CMSC+RLM paper, see encoders/w2v.py.

    `feature_gradient` scales the gradient into the convolutions: 0.1 as published for pretraining, 1 to train without a
    quantizer, 0 to freeze them. `checkpointing` recomputes the transformer's activations in the backward pass: less
    memory, more time.
    """

    name: Literal["w2v"]
    size: Literal["base", "small", "tiny"] = "tiny"
    dropout: float = 0.1
    resample_samples: int = 0
    feature_gradient: float = 0.1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        """Refuse a negative length."""
        require(self.resample_samples >= 0, "resample_samples must not be negative")


EncoderRecipe: TypeAlias = EdgeNetRecipe | ResNet18Recipe | PclrResNetRecipe | RhcNetRecipe | W2vRecipe

ENCODERS: Mapping[str, type[Any]] = {
    "edgenet": EdgeNetRecipe,
    "resnet18": ResNet18Recipe,
    "pclr_resnet": PclrResNetRecipe,
    "rhcnet": RhcNetRecipe,
    "w2v": W2vRecipe,
}
"""The class of an encoder section by its `name`."""
