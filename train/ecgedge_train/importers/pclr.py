"""PCLR's published weights.

What is read: the released Keras files (`PCLR.h5`, `c3po_pclr.h5`, ...; see keras_h5.py) and the released SavedModel
folders (`PCLR/`, `PCLR_lead_I/`, `PCLR_lead_II/`; see saved_model.py). Of these:

- 13 convolutions `conv1d`, `conv1d_1`, ..., kernels (k, in, out), no bias. Keras numbers layers in the order they
  were made: the stem, then a unit's shortcut, its first and its second convolution.
- 8 or 9 norms `batch_normalization`, ...: the stem's (not for lead II), then two a unit.
- The projection head (`projection_0`, `projection`), where there is one, is not read: it served training.

A model made later in a program starts at higher numbers; only the order counts. The variant follows from the stem's
channels, the number of norms and the input's length.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgedge.errors import EcgedgeError
from ecgedge_train.encoders.pclr import VARIANTS, WIDTHS, PclrResNet, Variant
from ecgedge_train.importers.keras_h5 import KerasWeights, read_keras_h5
from ecgedge_train.importers.saved_model import read_saved_model

_CONVOLUTIONS = 1 + 3 * len(WIDTHS)
_NORM_VARIABLES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def import_pclr(path: Path, *, variant: str | None = None) -> PclrResNet:
    """Build the encoder that a published file holds, in eval mode.

    Parameters
    ----------
    path
        A Keras `.h5` file or a SavedModel folder.
    variant
        "12", "I", "II" or "C3PO"; None finds it in the file. Needed only where the file does not say the length of
        its input, which is all that tells "12" from "C3PO".

    Returns
    -------
    PclrResNet
        It resamples every input to the published length: `variant` and `resample_samples` (its `resample.n_samples`)
        rebuild it.

    Raises
    ------
    EcgedgeError
        If the file cannot be read, a key is missing or has another shape, or it is not the variant asked for.
    """
    weights = read_saved_model(path) if path.is_dir() else read_keras_h5(path)
    convolutions = _layers(weights, "conv1d", kind="kernel")
    norms = _layers(weights, "batch_normalization", kind="gamma")
    _require_run(weights, convolutions, "conv1d", count=_CONVOLUTIONS, kind="kernel")
    span = _number(norms[-1]) - _number(norms[0]) + 1 if norms else 0
    _require_run(weights, norms, "batch_normalization", count=span, kind="gamma")
    found = _find_variant(weights, convolutions[0], n_norms=len(norms), asked=variant)
    net = PclrResNet(variant=found, resample_samples=VARIANTS[found].n_samples)
    keys = _keys(convolutions, norms, stem_norm=VARIANTS[found].stem_norm)
    state = net.state_dict()
    for name, key in keys.items():
        state[name] = _tensor(weights, key, state[name])
    net.load_state_dict(state)
    return net.eval()


def _layers(weights: KerasWeights, base: str, *, kind: str) -> list[str]:
    """Return the layers called `base`, `base_1`, ... that have a variable `kind`, in the order of their numbers."""
    pattern = re.compile(rf"({base}(?:_\d+)?)/{kind}")
    matches = [match[1] for match in map(pattern.fullmatch, weights.tensors) if match]
    return sorted(matches, key=_number)


def _number(layer: str) -> int:
    """Return the number behind the last underscore; the first layer of a kind has none and counts as 0."""
    tail = layer.rpartition("_")[2]
    return int(tail) if tail.isdigit() else 0


def _require_run(weights: KerasWeights, layers: list[str], base: str, *, count: int, kind: str) -> None:
    """Raise unless the layers are `count` with numbers in a row."""
    first = _number(layers[0]) if layers else 0
    expected = [f"{base}_{i}" if i else base for i in range(first, first + count)]
    if missing := [name for name in expected if name not in layers]:
        raise EcgedgeError(
            f"{weights.path} has no {missing[0]}/{kind}: PCLR has {count} layers {base}, here are {len(layers)} "
            f"({', '.join(layers) or 'none'}); is it PCLR's network?"
        )
    if len(layers) > count:
        raise EcgedgeError(
            f"{weights.path} has {len(layers)} layers {base} where PCLR has {count} ({layers[count]} is one too "
            "many); is it PCLR's network?"
        )


def _find_variant(weights: KerasWeights, stem: str, *, n_norms: int, asked: str | None) -> Variant:
    n_leads = weights.tensors[f"{stem}/kernel"].shape[1:2]
    fitting = [
        name
        for name in get_args(Variant)
        if (len(VARIANTS[name].leads),) == n_leads
        and 2 * len(WIDTHS) + VARIANTS[name].stem_norm == n_norms
        and (weights.input_shape is None or weights.input_shape[0] == VARIANTS[name].n_samples)
    ]
    seen = f"{weights.path} has a stem over {n_leads[0] if n_leads else 0} leads, {n_norms} norms and an input of "
    seen += f"{weights.input_shape[0] if weights.input_shape else 'unknown'} samples"
    if not fitting:
        known = "; ".join(
            f"{name}: {len(spec.leads)}, {2 * len(WIDTHS) + spec.stem_norm}, {spec.n_samples}"
            for name, spec in VARIANTS.items()
        )
        raise EcgedgeError(f"{seen}, which is no published variant ({known})")
    if asked is None and len(fitting) > 1:
        raise EcgedgeError(f"{seen}, which fits {' and '.join(fitting)}; say which variant it is")
    if asked is not None and asked not in fitting:
        raise EcgedgeError(f"{seen}: that is variant {' or '.join(fitting)}, not {asked}")
    chosen: Variant = next(name for name in fitting if asked in (None, name))
    return chosen


def _keys(convolutions: list[str], norms: list[str], *, stem_norm: bool) -> dict[str, str]:
    """Return the key in the file of every entry of the encoder's state."""
    keys = {"stem.weight": f"{convolutions[0]}/kernel"}
    norm_places = ["stem_bn"] if stem_norm else []
    for unit in range(len(WIDTHS)):
        for layer, offset in (("shortcut", 1), ("conv1", 2), ("conv2", 3)):
            keys[f"units.{unit}.{layer}.weight"] = f"{convolutions[3 * unit + offset]}/kernel"
        norm_places += [f"units.{unit}.bn1", f"units.{unit}.bn2"]
    for place, norm in zip(norm_places, norms, strict=True):
        keys |= {f"{place}.{ours}": f"{norm}/{theirs}" for theirs, ours in _NORM_VARIABLES.items()}
    return keys


def _tensor(weights: KerasWeights, key: str, like: Tensor) -> Tensor:
    """Return a variable in our layout: a kernel (k, in, out) becomes (out, in, 1, k)."""
    if key not in weights.tensors:
        raise EcgedgeError(f"{weights.path} has no {key}; it is incomplete")
    array: NDArray[np.float32] = weights.tensors[key]
    if key.endswith("/kernel") and array.ndim == 3:
        array = array.transpose(2, 1, 0)[:, :, None, :]
    if array.shape != tuple(like.shape):
        raise EcgedgeError(
            f"{weights.path}: {key} has the shape {weights.tensors[key].shape}, which as (out, in, 1, k) is not "
            f"{tuple(like.shape)}"
        )
    if not np.isfinite(array).all():
        raise EcgedgeError(f"{weights.path}: {key} holds values that are no finite numbers; it is damaged")
    return torch.from_numpy(np.array(array))
