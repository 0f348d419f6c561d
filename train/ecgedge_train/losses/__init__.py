"""Losses: one paper, one file. Tensors in, a scalar (or per-item terms) out; no knowledge of ranks or loops."""

from ecgedge_train.losses.angular import angular_loss, angular_npair_loss
from ecgedge_train.losses.arcface import arcface_logits, arcface_loss
from ecgedge_train.losses.classes import multilabel_bce
from ecgedge_train.losses.clocs import clocs_loss
from ecgedge_train.losses.cmsc import Gathered, cmsc_loss
from ecgedge_train.losses.hemodynamics import Hemodynamics, hemodynamics_loss
from ecgedge_train.losses.hint import hint_loss
from ecgedge_train.losses.margin import margin_loss
from ecgedge_train.losses.npair import npair_loss
from ecgedge_train.losses.ntxent import nt_xent, nt_xent_accuracy
from ecgedge_train.losses.rmse import rmse_loss
from ecgedge_train.losses.similarity import similarity_loss
from ecgedge_train.losses.soft_targets import soft_target_loss
from ecgedge_train.losses.tfc import TimeFrequency, tfc_loss
from ecgedge_train.losses.triplet import triplet_loss, triplet_terms
from ecgedge_train.losses.w2v import sample_negatives, w2v_loss

__all__ = [
    "Gathered",
    "Hemodynamics",
    "TimeFrequency",
    "angular_loss",
    "angular_npair_loss",
    "arcface_logits",
    "arcface_loss",
    "clocs_loss",
    "cmsc_loss",
    "hemodynamics_loss",
    "hint_loss",
    "margin_loss",
    "multilabel_bce",
    "npair_loss",
    "nt_xent",
    "nt_xent_accuracy",
    "rmse_loss",
    "sample_negatives",
    "similarity_loss",
    "soft_target_loss",
    "tfc_loss",
    "triplet_loss",
    "triplet_terms",
    "w2v_loss",
]
