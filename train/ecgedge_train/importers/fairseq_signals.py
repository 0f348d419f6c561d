"""Encoders of fairseq-signals checkpoints: W2V, CMSC and W2V+CMSC(+RLM) pretraining, ECG-FM among them.

Names and shapes are those of Oh et al.'s published code (CHIL 2022, PMLR 174). Of a checkpoint
{"cfg", "model", "optimizer_history", ...} the entry "model" is read. The gains of the positional convolution are
called weight_g and weight_v in older files and parametrizations.weight.original0 and original1 in newer ones.

What such a network expects: 12 leads in the standard order at 500 Hz, in crops of 5 s (2,500 samples, 156 tokens).
W2V+CMSC+RLM was trained on unfiltered millivolts, ECG-FM on z-scored crops. Our windows are 10 s at 250 Hz, so the
imported encoder resamples each to 5,000 samples, 312 tokens; position is relative in this network, so it takes them,
but it has never seen more than 156. For crops as in pretraining give windows of 5 s and `resample_samples=2500`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ecgedge.errors import EcgedgeError
from ecgedge_train.encoders.w2v import W2vEncoder, W2vSize
from ecgedge_train.importers.restricted_pickle import read_torch_checkpoint, read_torch_state_dict

PUBLISHED_HEADS = 12

_HEAD_KEYS = ("quantizer.", "project_q.", "final_proj.")
"""Pretraining only: not part of the encoder."""

_RENAMED = {
    "mask_emb": "mask_embedding",
    "feature_extractor.conv_layers.0.0.": "stem.",
    "feature_extractor.conv_layers.0.2.": "stem_norm.",
    "feature_extractor.conv_layers.1.0.": "convs.0.",
    "feature_extractor.conv_layers.2.0.": "convs.1.",
    "feature_extractor.conv_layers.3.0.": "convs.2.",
    "post_extract_proj.": "projection.",
    "layer_norm.": "feature_norm.",
    "conv_pos.pos_conv.0.weight_g": "positional.conv.parametrizations.weight.original0",
    "conv_pos.pos_conv.0.weight_v": "positional.conv.parametrizations.weight.original1",
    "conv_pos.pos_conv.0.": "positional.conv.",
    "encoder.layer_norm.": "context_norm.",
    "encoder.layers.": "layers.",
}
"""Beginnings of names, theirs to ours; the first that fits counts."""

_TELLING = {
    "projection.weight": 2,
    "layers.0.fc1.weight": 2,
    "positional.conv.parametrizations.weight.original1": 3,
}
"""The weights whose shapes give all widths, and their ranks."""


def import_fairseq_signals(
    path: Path, *, resample_samples: int = 5000, heads: int | None = None, dropout: float = 0.1
) -> W2vEncoder:
    """Build the encoder of a pretraining checkpoint, in eval mode.

    Parameters
    ----------
    path
        A .pt file of fairseq-signals. It is not unpickled, see restricted_pickle.py.
    resample_samples
        See `W2vEncoder`; 5000 for our windows of 10 s.
    heads
        Attention heads, which no shape tells. None: what the checkpoint's configuration says as far as it can be
        read, otherwise the published 12.
    dropout
        For later fine-tuning.

    Returns
    -------
    W2vEncoder
        Its `lead_shift` is zero: it ignores the presence vector, as the published network does.

    Raises
    ------
    EcgedgeError
        If the file cannot be read, or its model has entries that this encoder has not, or lacks some.
    """
    weights = rename_weights(read_torch_state_dict(path), path)
    heads = heads or _configured_heads(read_torch_checkpoint(path)) or PUBLISHED_HEADS
    size = _size_of(weights, heads, path)
    encoder = W2vEncoder(size=size, dropout=dropout, resample_samples=resample_samples)
    ours = {name: value for name, value in encoder.state_dict().items() if name.startswith("lead_shift.")}
    try:
        encoder.load_state_dict({**ours, **weights})
    except RuntimeError as error:
        raise EcgedgeError(f"{path} does not fit the W2V encoder: {error}") from error
    return encoder.eval()


def rename_weights(published: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the encoder's weights, float32, under our names.

    Raises
    ------
    EcgedgeError
        If a name is unknown.
    """
    weights: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, value in published.items():
        if name.startswith(_HEAD_KEYS):
            continue
        old = next((prefix for prefix in _RENAMED if name.startswith(prefix)), None)
        if old is None:
            unknown.append(name)
        else:
            weights[_RENAMED[old] + name.removeprefix(old)] = value.float()
    if unknown:
        raise EcgedgeError(
            f"{path} has {len(unknown)} entries that are not of a W2V or CMSC pretraining model: "
            f"{', '.join(unknown[:8])}; import the checkpoint of the pretraining, not a fine-tuned one"
        )
    return weights


def _size_of(weights: Mapping[str, Tensor], heads: int, path: Path) -> W2vSize:
    missing = [name for name, rank in _TELLING.items() if name not in weights or weights[name].dim() != rank]
    if missing:
        raise EcgedgeError(
            f"{path} lacks the encoder's {', '.join(missing)}; is it a W2V or CMSC checkpoint?"
        )
    projection, fc1, kernel = (weights[name].shape for name in _TELLING)
    if kernel[1] == 0 or projection[0] % kernel[1] or projection[0] % heads:
        raise EcgedgeError(
            f"{path} has a width of {projection[0]}, which is no multiple of {kernel[1]} channels a group or of "
            f"{heads} heads; give the right number of heads"
        )
    numbers = {found[1] for name in weights if (found := re.match(r"layers\.(\d+)\.", name))}
    return W2vSize(
        conv_width=projection[1],
        width=projection[0],
        feedforward=fc1[0],
        layers=len(numbers),
        heads=heads,
        positional_kernel=kernel[2],
        positional_groups=projection[0] // kernel[1],
    )


def _configured_heads(checkpoint: Any) -> int | None:
    for name in ("cfg", "model", "encoder_attention_heads"):
        if not isinstance(checkpoint, Mapping) or name not in checkpoint:
            return None
        checkpoint = checkpoint[name]
    return checkpoint if isinstance(checkpoint, int) and checkpoint > 0 else None
