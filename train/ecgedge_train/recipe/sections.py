"""Sections of the recipe that are the same for every objective: data, input, masking, optimizer, schedule, devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ecgedge.leads import parse_lead_set


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class DataRecipe:
    """Which dataset the recipe is made for, and how it is read.

    `batch_size` items make an optimiser step, over all processes; `accumulate` cuts them into that many pieces, one
    after another, when they do not fit into memory (a contrast then sees one piece). `train_labels` above 0 trains a
    supervised objective on that many labelled records only, the same ones for the same seed.
    """

    source: str
    batch_size: int = 64
    accumulate: int = 1
    train_labels: int = 0

    def __post_init__(self) -> None:
        """Refuse a batch that batch norm cannot use."""
        require(self.accumulate >= 1, f"accumulate {self.accumulate} is below 1")
        require(self.train_labels >= 0, "train_labels must not be negative")
        require(self.batch_size >= 2, f"batch_size {self.batch_size} is below 2, which batch norm needs")
        require(
            self.batch_size % self.accumulate == 0,
            f"batch_size {self.batch_size} cannot be cut into {self.accumulate} equal pieces",
        )


@dataclass(frozen=True)
class InputRecipe:
    """Shape of the model input, and the augmentation of training windows; of evaluation, only the tune loss has it.

    `shift_s`: uniform time shift up to this either way, edge filled with zeros. `noise_mv`: SD of added white noise.
    """

    window_samples: int = 2500
    shift_s: float = 0.0
    noise_mv: float = 0.0

    def __post_init__(self) -> None:
        """Refuse windows too short for the encoders."""
        require(self.window_samples >= 250, f"window_samples {self.window_samples} is below 250 (1 s)")
        require(self.shift_s >= 0 and self.noise_mv >= 0, "shift_s and noise_mv must not be negative")


@dataclass(frozen=True)
class MaskingRecipe:
    """Shares of training windows by lead set: all 12, one of `lead_sets`, Bernoulli; see masking.py."""

    full_probability: float = 0.3
    device_probability: float = 0.5
    bernoulli_keep: float = 0.5
    lead_sets: tuple[str, ...] = ("limb", "I,II,V1,V5", "I,II,V2", "I,II,V1", "I,II", "I", "II")

    def __post_init__(self) -> None:
        """Refuse shares beyond 1 and unknown leads."""
        shares = (self.full_probability, self.device_probability, self.bernoulli_keep)
        require(all(0 <= p <= 1 for p in shares), "probabilities must lie between 0 and 1")
        require(sum(shares[:2]) <= 1 + 1e-9, "full_probability + device_probability is above 1")
        require(bool(self.lead_sets) or self.device_probability == 0, "device_probability needs lead_sets")
        for lead_set in self.lead_sets:
            parse_lead_set(lead_set)


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW; weight decay on kernels only, not on norms and biases. `clip_norm` 0 means no clipping.

    `encoder_lr_factor` scales the rate of the encoder in fine-tuning; 0 freezes it.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    clip_norm: float = 1.0
    encoder_lr_factor: float = 1.0

    def __post_init__(self) -> None:
        """Refuse rates that cannot train."""
        require(0 <= self.encoder_lr_factor <= 1, "encoder_lr_factor must lie between 0 and 1")
        require(0 < self.lr < 1, f"lr {self.lr:g} is not between 0 and 1")
        require(
            self.clip_norm >= 0 and self.weight_decay >= 0, "clip_norm and weight_decay must not be negative"
        )


@dataclass(frozen=True)
class ScheduleRecipe:
    """Linear warm-up, then a cosine from lr down to lr * final_lr_fraction, by optimiser step."""

    steps: int
    warmup_steps: int = 0
    final_lr_fraction: float = 0.01

    def __post_init__(self) -> None:
        """Refuse an empty schedule."""
        require(self.steps >= 1, "steps must be at least 1")
        require(0 <= self.warmup_steps < self.steps, "warmup_steps must be smaller than steps")


@dataclass(frozen=True)
class DevicesRecipe:
    """Where to compute. `threads` 0 leaves torch's own choice; bf16 means autocast."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class EvaluateRecipe:
    """When the tune split is looked at and checkpoints are written, in steps; and what is calibrated after."""

    every_steps: int = 200
    log_every_steps: int = 20
    checkpoint_every_steps: int = 200
    batch_size: int = 128
    max_records: int = 2000
    keep: Literal["best", "last"] = "best"
    lead_sets: tuple[str, ...] = ("12", "I,II,V1", "I,II", "I", "II")
    interval_coverage: float = 0.9

    def __post_init__(self) -> None:
        """Refuse periods below one step and unknown leads."""
        periods = (self.every_steps, self.log_every_steps, self.checkpoint_every_steps)
        require(min(periods) >= 1, "the *_every_steps must be at least 1")
        require(
            self.batch_size >= 1 and self.max_records >= 1, "batch_size and max_records must be at least 1"
        )
        require(0 < self.interval_coverage < 1, "interval_coverage must lie between 0 and 1")
        require(bool(self.lead_sets), "lead_sets must name at least one lead set")
        for lead_set in self.lead_sets:
            parse_lead_set(lead_set)
