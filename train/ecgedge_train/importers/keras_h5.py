"""Weights out of a Keras `.h5` file.

What is read: the datasets `<layer>/.../<variable>` below the group `model_weights` (or below the root of a file
that holds weights only), and the input shape out of the JSON attribute `model_config`. Keras 2 writes
`<layer>/<layer>/kernel:0`, Keras 3 `<layer>/<layer>/kernel`; both become the key `<layer>/kernel`. The optimiser's
state has a group of its own and is left where it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EcgedgeError

VARIABLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class KerasWeights:
    """The variables of a Keras model.

    Attributes
    ----------
    path
        Where they were read, for messages.
    tensors
        float32 arrays by `<layer>/<variable>`, such as "conv1d_2/kernel"; kernels are (k, in, out).
    input_shape
        (samples, channels) of the model's input; None where the file does not say.
    """

    path: Path
    tensors: Mapping[str, NDArray[np.float32]]
    input_shape: tuple[int, int] | None


def read_keras_h5(path: Path) -> KerasWeights:
    """Read a Keras `.h5` file.

    Raises
    ------
    EcgedgeError
        If the file is missing, a Git LFS pointer, no HDF5 file, damaged, or has no weights.
    """
    refuse_lfs_pointer(path)
    tensors: dict[str, NDArray[np.float32]] = {}
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            group.visititems(lambda name, item: _collect(tensors, name, item))
            shape = _input_shape(file.attrs.get("model_config"))
    except (OSError, RuntimeError, KeyError, ValueError, AttributeError) as error:
        # What h5py raises on damage depends on where the damage is.
        raise EcgedgeError(
            f"{path} cannot be read as a Keras .h5 file ({error}); a .keras file can be saved again as .h5"
        ) from error
    if not tensors:
        raise EcgedgeError(
            f"{path} holds no Keras layer weights (no dataset like model_weights/conv1d/conv1d/kernel); "
            "save the model with model.save('NAME.h5')"
        )
    return KerasWeights(path, tensors, shape)


def refuse_lfs_pointer(path: Path) -> None:
    """Raise if `path` is missing or is what Git leaves in place of a file kept in Git LFS.

    Raises
    ------
    EcgedgeError
        In both cases.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise EcgedgeError(f"{path} cannot be read ({error}); give a published file or folder") from error
    if head == _LFS_POINTER:
        raise EcgedgeError(
            f"{path} is a Git LFS pointer, a few lines of text in place of the weights; "
            "run 'git lfs pull' in the repository that it came from"
        )


def _collect(tensors: dict[str, NDArray[np.float32]], name: str, item: object) -> None:
    layer, _, rest = name.partition("/")
    variable = rest.rpartition("/")[2].removesuffix(":0")
    if variable in VARIABLES and isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
        tensors[f"{layer}/{variable}"] = np.asarray(item[()], dtype=np.float32)


def _input_shape(config: Any) -> tuple[int, int] | None:
    """Find (samples, channels) in `model_config`: `batch_input_shape` in Keras 2, `batch_shape` in Keras 3."""
    if config is None:
        return None
    try:
        layers = json.loads(config)["config"]["layers"]
        inputs = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
        _, samples, channels = inputs[0].get("batch_input_shape") or inputs[0]["batch_shape"]
        return int(samples), int(channels)
    except (ValueError, KeyError, IndexError, TypeError):
        return None
