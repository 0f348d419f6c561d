"""Heads behind the encoder. Hemodynamics and classes are deployed; the others serve training only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgedge_train.encoders.rhcnet import HEAD_OUTPUTS, RhcHead
from ecgedge_train.encoders.w2v import Tokens, W2vEncoder
from ecgedge_train.losses.hemodynamics import logit_name
from ecgedge_train.losses.tfc import perturbed_spectrum, spectrum
from ecgedge_train.quantizer import W2vHead, gumbel_temperature
from ecgedge_train.recipe import ExtraTarget


class Encoded(NamedTuple):
    """What a training head may read: the embedding (B, E), the input, and tokens with their mask if there are any."""

    embedding: Tensor
    ecg_mv: Tensor
    presence: Tensor
    tokens: Tokens | None = None
    token_mask: Tensor | None = None


class TrainingHead(nn.Module):
    """A head that reads more than the embedding, or whose output is a parameter; left out of every export."""

    def begin_step(self, step: int) -> None:
        """Prepare for an optimiser step, for what is on a schedule."""


class HemodynamicsHead(nn.Module):
    """Embedding (B, E) to two logits and the pressure in mmHg; the scale is part of the saved weights.

    Each of `extras` adds its value, named by its label, and one logit a cut (`logit_name`).
    """

    mean_mmhg: Tensor
    sd_mmhg: Tensor

    def __init__(
        self, embedding_size: int, *, mean_mmhg: float, sd_mmhg: float, extras: Sequence[ExtraTarget] = ()
    ) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.fc = nn.Linear(embedding_size, 3)
        self.register_buffer("mean_mmhg", torch.tensor(mean_mmhg))
        self.register_buffer("sd_mmhg", torch.tensor(sd_mmhg))
        self.extras = tuple(extras)
        self.extra = nn.ModuleList(nn.Linear(embedding_size, 1 + len(e.cuts)) for e in self.extras)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return logit_gt_15, logit_gt_18, mpcwp_mmhg, and what the extras add, each (B,)."""
        x = self.relu(embedding)
        y = self.fc(x)
        outputs = {
            "logit_gt_15": y[:, 0],
            "logit_gt_18": y[:, 1],
            "mpcwp_mmhg": y[:, 2] * self.sd_mmhg + self.mean_mmhg,
        }
        for target, layer in zip(self.extras, self.extra, strict=True):
            z = layer(x)
            outputs[target.label] = z[:, 0] * target.sd + target.mean
            for column, cut in enumerate(target.cuts, start=1):
                outputs[logit_name(target.label, cut)] = z[:, column]
        return outputs


RHCNET_TARGETS = (("mpap_mmhg", 20.0), ("mpcwp_mmhg", 15.0), ("pvr_wu", 3.0), ("co_l_min", 4.0))
"""Label and cut of each of `HEAD_OUTPUTS`, in their order."""


class RhcNetHead(nn.Module):
    """The published head of RHCnet, its four logits named by label and cut (`logit_name`)."""

    def __init__(self, embedding_size: int, *, dropout: float) -> None:
        super().__init__()
        self.published = RhcHead(embedding_size, dropout=dropout)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return logit_mpap_mmhg_gt_20, logit_mpcwp_mmhg_gt_15, logit_pvr_wu_gt_3, logit_co_l_min_gt_4, each (B,)."""
        found = self.published(embedding)
        return {
            logit_name(label, cut): found[name]
            for name, (label, cut) in zip(HEAD_OUTPUTS, RHCNET_TARGETS, strict=True)
        }


class ClassesHead(nn.Module):
    """Embedding (B, E) to one logit a class."""

    def __init__(self, embedding_size: int, *, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.labels = labels
        self.relu = nn.ReLU()
        self.fc = nn.Linear(embedding_size, len(labels))

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return class_logits, (B, n_classes)."""
        return {"class_logits": self.fc(self.relu(embedding))}


class ProjectionHead(nn.Module):
    """Two linear layers behind the embedding for a contrast; used in training only."""

    def __init__(self, embedding_size: int, *, projection_size: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(embedding_size, embedding_size)
        self.fc2 = nn.Linear(embedding_size, projection_size)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return projection, (B, projection_size)."""
        return {"projection": self.fc2(self.relu(self.fc1(embedding)))}


class MarginHead(TrainingHead):
    """The learnable boundary beta of the margin loss, 1.2 at first, as in Wu et al. (ICCV 2017) and Jeong et al."""

    def __init__(self, beta: float = 1.2) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(beta))

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        """Return margin_beta, a scalar."""
        del encoded
        return {"margin_beta": self.beta}


class IdentityHead(TrainingHead):
    """One direction a patient; the cosines to them are what ArcFace works on."""

    def __init__(self, embedding_size: int, *, patients: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(patients, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        """Return identity_cosine, (B, n_patients)."""
        z = functional.normalize(encoded.embedding, dim=1)
        return {"identity_cosine": functional.linear(z, functional.normalize(self.weight, dim=1))}


class FrequencyHead(TrainingHead):
    """The second encoder of TFC, which reads the spectrum, and the projections of both (256, then P).

    In training the second half of a batch, the views, has its spectrum perturbed; drawn like dropout.
    """

    def __init__(self, encoder: nn.Module, embedding_size: int, *, projection_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.project_time = _tfc_projection(embedding_size, projection_size)
        self.project_frequency = _tfc_projection(embedding_size, projection_size)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        """Return frequency_embedding (B, E), time_projection and frequency_projection (B, P)."""
        magnitude = spectrum(encoded.ecg_mv)
        if self.training:
            clean, view = magnitude.chunk(2)
            magnitude = torch.cat([clean, perturbed_spectrum(view, generator=torch.default_generator)])
        embedding = self.encoder(magnitude, encoded.presence)
        return {
            "frequency_embedding": embedding,
            "time_projection": self.project_time(encoded.embedding),
            "frequency_projection": self.project_frequency(embedding),
        }


class DistillHead(TrainingHead):
    """The linear map from the student's embedding to that of a teacher of another width."""

    def __init__(self, embedding_size: int, teacher_embedding_size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(embedding_size, teacher_embedding_size)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        """Return mapped_embedding, (B, E of the teacher)."""
        return {"mapped_embedding": self.fc(encoded.embedding)}


def _tfc_projection(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, n_out))


class TokenHead(TrainingHead):
    """Quantizer and projections of masked prediction; the quantizer's temperature falls with the step."""

    def __init__(self, encoder: W2vEncoder, *, groups: int, codes: int) -> None:
        super().__init__()
        self.prediction = W2vHead(encoder.size.conv_width, encoder.embedding_size, groups=groups, codes=codes)
        self.temperature = gumbel_temperature(0)

    def begin_step(self, step: int) -> None:
        """Set the temperature of this step."""
        self.temperature = gumbel_temperature(step)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        """Return what `losses.w2v_loss` compares, as tokens_* (see `quantizer.Predictions`) and tokens_penalty."""
        if encoded.tokens is None or encoded.token_mask is None:
            raise ValueError("masked prediction needs the w2v encoder and a token mask")
        found = self.prediction(encoded.tokens, encoded.token_mask, temperature=self.temperature)
        return {
            "tokens_predicted": found.predicted,
            "tokens_targets": found.targets,
            "tokens_codes": found.codes,
            "tokens_prob_perplexity": found.prob_perplexity,
            "tokens_code_perplexity": found.code_perplexity,
            "tokens_penalty": encoded.tokens.penalty,
        }
