"""One lead set, one network: the derivation of leads, the presence vector and the calibration folded in exactly.

A K-lead variant takes only the K measured leads. With D = derivation_matrix(K), (12, K), and v =
presence_vector(K), the stem over 12 leads is linear before any norm, so

    stem(D x) + presence(v)  =  conv(x; W D) + presence(v),

which is one convolution over K leads. A linear probe on the standardized embedding becomes one linear layer in the
same way; Platt scaling, p = sigmoid(a * logit + b), is two numbers behind its logit. `masked_outputs` gives the same
numbers the long way round, through the 12-lead network: the reference of every gate and of the self-test.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgedge.errors import EngineError
from ecgedge.leads import derivation_matrix, format_lead_set, presence_vector
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.encoders import EdgeNet, PclrResNet, ResNet18
from ecgedge_train.encoders.causal import CausalConv2d
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.masking import fixed_lead_set
from ecgedge_train.model import ClassesHead, EcgModel, Encoder, HemodynamicsHead

_REFERENCE_BATCH = 64

Foldable: TypeAlias = EdgeNet | ResNet18 | PclrResNet
"""Encoders whose stem is linear over the leads from the input on."""


@dataclass(frozen=True)
class Platt:
    """p = sigmoid(a * logit + b) for each of the two thresholds; the default is no scaling."""

    a_15: float = 1.0
    b_15: float = 0.0
    a_18: float = 1.0
    b_18: float = 0.0

    @classmethod
    def from_calibration(cls, calibration: LeadSetCalibration | None) -> Platt:
        """Return the scaling of a lead set's calibration."""
        return cls() if calibration is None else cls(*calibration.platt_15, *calibration.platt_18)


class FoldedNetwork(nn.Module):
    """A K-lead network: forward takes ecg_mv (B, K, 1, T) and returns a tuple in the order of `output_names`."""

    def __init__(
        self, model: EcgModel, leads: Sequence[str], *, platt: Platt, probe: LinearProbe | None
    ) -> None:
        super().__init__()
        encoder = _foldable(model.encoder)
        self.resample = encoder.resample if isinstance(encoder, PclrResNet) else nn.Identity()
        self.stem = fold_stem(encoder, leads)
        self.tail = _Tail(encoder)
        self.outputs = OutputLayers(model, platt=platt, probe=probe)
        self.output_names = self.outputs.names

    def forward(self, ecg_mv: Tensor) -> tuple[Tensor, ...]:
        """(B, K, 1, T) millivolts to the outputs."""
        outputs: tuple[Tensor, ...] = self.outputs(self.tail(self.stem(self.resample(ecg_mv))))
        return outputs


class OutputLayers(nn.Module):
    """What stands behind the embedding: heads with their scaling, and the probe. `names` gives the order."""

    def __init__(self, model: EcgModel, *, platt: Platt, probe: LinearProbe | None) -> None:
        super().__init__()
        # A projection head serves training only; it does not ship.
        self.heads = nn.ModuleList(
            copy.deepcopy(head)
            for head in model.heads.values()
            if isinstance(head, (HemodynamicsHead, ClassesHead))
        )
        self.probe = None if probe is None else _probe_layer(probe)
        self.platt = platt
        self.class_labels = _class_labels(model)
        self.probe_labels = () if probe is None else probe.labels
        self.names = output_names(model, probe)

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """(B, E) to the outputs."""
        raw: dict[str, Tensor] = {}
        for head in self.heads:
            raw.update(head(embedding))
        outputs: dict[str, Tensor] = {"embedding": embedding}
        if "mpcwp_mmhg" in raw:
            outputs["p_gt_15"] = torch.sigmoid(self.platt.a_15 * raw["logit_gt_15"] + self.platt.b_15)
            outputs["p_gt_18"] = torch.sigmoid(self.platt.a_18 * raw["logit_gt_18"] + self.platt.b_18)
            outputs["mpcwp_mmhg"] = raw["mpcwp_mmhg"]
        if "class_logits" in raw:
            outputs.update(_by_label(torch.sigmoid(raw["class_logits"]), self.class_labels))
        if self.probe is not None:
            outputs.update(_by_label(torch.sigmoid(self.probe(embedding)), self.probe_labels))
        return tuple(outputs[name] for name in self.names)


def fold_lead_set(
    model: EcgModel,
    leads: Sequence[str],
    calibration: LeadSetCalibration | None,
    *,
    probe: LinearProbe | None = None,
) -> FoldedNetwork:
    """Return the K-lead network of a trained 12-lead model, in eval mode.

    Parameters
    ----------
    model
        Left as it is.
    leads
        The measured leads, in standard order.
    calibration
        Of this lead set; None for a model without hemodynamic heads.
    probe
        Linear classifier whose classes become further outputs.

    Raises
    ------
    EngineError
        If the encoder is unknown, two outputs have one name, or nothing would be put out.
    """
    return FoldedNetwork(model, leads, platt=Platt.from_calibration(calibration), probe=probe).eval()


def _foldable(encoder: Encoder) -> Foldable:
    if not isinstance(encoder, (EdgeNet, ResNet18, PclrResNet)):
        raise EngineError(
            f"the encoder {type(encoder).__name__} cannot be folded; export knows EdgeNet, ResNet18 and PclrResNet: "
            "distil it into one of these"
        )
    return encoder


def fold_stem(encoder: Foldable, leads: Sequence[str]) -> nn.Conv2d:
    """Return the convolution over the K measured leads, (C, K, 1, k), with the presence vector as its bias."""
    stem = encoder.stem
    weight = stem.weight if stem.weight.dim() == 4 else stem.weight.unsqueeze(2)
    with torch.no_grad():
        # In float64: the sum over leads must not cost the rounding that the gate is there to find.
        matrix = torch.from_numpy(derivation_matrix(leads)).double()
        if isinstance(encoder, PclrResNet):
            matrix = matrix[list(encoder.stem_leads)]
        folded_weight = torch.einsum("oihk,il->olhk", weight.double(), matrix)
        bias = None if stem.bias is None else stem.bias.double()
        if encoder.presence is not None:
            known = torch.from_numpy(presence_vector(leads)).double()
            shift = encoder.presence.weight.double() @ known + encoder.presence.bias.double()
            bias = shift if bias is None else bias + shift
        # A causal stem is padded on its left alone here, so that nothing has to be dropped behind it.
        causal = _ahead(encoder) > 0
        made = (CausalConv2d if causal else nn.Conv2d)(
            len(leads),
            stem.out_channels,
            (1, weight.shape[3]),
            stride=(1, int(stem.stride[-1])),
            padding=(0, 0 if causal else int(stem.padding[-1])),
            bias=bias is not None,
        )
        made.weight.copy_(folded_weight)
        if bias is not None and made.bias is not None:
            made.bias.copy_(bias)
    return made


def _ahead(encoder: Foldable) -> int:
    """Return how many of the stem's last outputs a causal encoder drops."""
    return 0 if isinstance(encoder, PclrResNet) else encoder.ahead


def output_names(model: EcgModel, probe: LinearProbe | None) -> tuple[str, ...]:
    """Return the names of a variant's outputs in their order: decisions first, the embedding last.

    Raises
    ------
    EngineError
        If two outputs would have one name.
    """
    names: list[str] = []
    if any(isinstance(head, HemodynamicsHead) for head in model.heads.values()):
        names += ["p_gt_15", "p_gt_18", "mpcwp_mmhg"]
    names += [f"p_{label}" for label in (*_class_labels(model), *(probe.labels if probe else ()))]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise EngineError(
            f"two outputs are called {', '.join(doubled)}; leave the probe out, or rename its labels"
        )
    return (*names, "embedding")


@torch.inference_mode()
def masked_outputs(
    model: EcgModel,
    ecg_mv: NDArray[np.float32],
    leads: Sequence[str],
    calibration: LeadSetCalibration | None,
    *,
    probe: LinearProbe | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return a lead set's outputs through the unfolded 12-lead model, as training evaluates it.

    Parameters
    ----------
    ecg_mv
        (N, 12, T) float32, all leads; those outside `leads` are masked here.

    Returns
    -------
    dict
        The outputs of `fold_lead_set`, by name and in its order: (N,) or (N, E) float32.
    """
    was_training = model.training
    model.eval()
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(ecg_mv), _REFERENCE_BATCH):
        batch = torch.from_numpy(ecg_mv[start : start + _REFERENCE_BATCH])
        features = model(*fixed_lead_set(batch, format_lead_set(leads)))
        parts.append({"embedding": features.embedding, **features.outputs})
    model.train(was_training)
    raw = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return named_outputs(raw, model, calibration, probe=probe)


def named_outputs(
    raw: dict[str, NDArray[np.float32]],
    model: EcgModel,
    calibration: LeadSetCalibration | None,
    *,
    probe: LinearProbe | None,
) -> dict[str, NDArray[np.float32]]:
    """Return a variant's outputs from the embedding and the heads' raw values, scaled in numpy."""
    outputs = _reference_outputs(raw, model, Platt.from_calibration(calibration), probe)
    return {name: outputs[name].astype(np.float32) for name in output_names(model, probe)}


def _reference_outputs(
    raw: dict[str, NDArray[np.float32]], model: EcgModel, platt: Platt, probe: LinearProbe | None
) -> dict[str, NDArray[np.floating]]:
    """Apply calibration and probe in numpy, from their definitions."""
    outputs: dict[str, NDArray[np.floating]] = {"embedding": raw["embedding"]}
    if "mpcwp_mmhg" in raw:
        outputs["p_gt_15"] = _sigmoid(platt.a_15 * raw["logit_gt_15"] + platt.b_15)
        outputs["p_gt_18"] = _sigmoid(platt.a_18 * raw["logit_gt_18"] + platt.b_18)
        outputs["mpcwp_mmhg"] = raw["mpcwp_mmhg"]
    if "class_logits" in raw:
        for column, label in enumerate(_class_labels(model)):
            outputs[f"p_{label}"] = _sigmoid(raw["class_logits"][:, column])
    if probe is not None:
        probabilities = probe.predict(raw["embedding"])
        for column, label in enumerate(probe.labels):
            outputs[f"p_{label}"] = probabilities[:, column]
    return outputs


def _sigmoid(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    # exp never overflows this way round; float64 because a logit of 20 leaves no digits in float32.
    z = np.exp(-np.abs(logits.astype(np.float64)))
    return np.asarray(np.where(logits >= 0, 1.0, z) / (1.0 + z))


def _by_label(probabilities: Tensor, labels: Sequence[str]) -> dict[str, Tensor]:
    return {f"p_{label}": column for label, column in zip(labels, probabilities.unbind(1), strict=True)}


def _class_labels(model: EcgModel) -> tuple[str, ...]:
    labels: list[str] = []
    for head in model.heads.values():
        if isinstance(head, ClassesHead):
            labels += head.labels
    return tuple(labels)


def _probe_layer(probe: LinearProbe) -> nn.Linear:
    """W ((e - mean) / scale) + b = (W / scale) e + (b - (W / scale) mean)."""
    weight = probe.weight.astype(np.float64) / probe.scale
    bias = probe.bias - weight @ probe.mean.astype(np.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


class _Tail(nn.Module):
    def __init__(self, encoder: Foldable) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        if not isinstance(self.encoder, PclrResNet):
            self.encoder.ahead = 0  # of a causal encoder; see fold_stem

    def forward(self, y: Tensor) -> Tensor:
        """Stem output (B, C, 1, T') to (B, E)."""
        return self.encoder.after_stem(y)
