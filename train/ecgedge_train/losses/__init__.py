"""Losses: one paper, one file. Tensors in, a scalar (or per-item terms) out; no knowledge of ranks or loops."""

from ecgedge_train.losses.classes import multilabel_bce
from ecgedge_train.losses.hemodynamics import Hemodynamics, hemodynamics_loss
from ecgedge_train.losses.ntxent import nt_xent, nt_xent_accuracy
from ecgedge_train.losses.triplet import triplet_loss, triplet_terms

__all__ = [
    "Hemodynamics",
    "hemodynamics_loss",
    "multilabel_bce",
    "nt_xent",
    "nt_xent_accuracy",
    "triplet_loss",
    "triplet_terms",
]
