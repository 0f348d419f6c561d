"""Multi-label binary cross-entropy, for the five PTB-XL superclasses or any other set of statements.

As in Strodthoff et al., "Deep learning for ECG analysis: benchmarks and insights from PTB-XL", JBHI 2021: one
independent sigmoid a class, mean over records and classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def multilabel_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean BCE over the labels that are known.

    Parameters
    ----------
    logits
        (B, n_classes).
    labels
        (B, n_classes) of 0 and 1, NaN where a record was not annotated for a class.

    Raises
    ------
    ValueError
        If the shapes differ or no label is known.
    """
    if logits.shape != labels.shape:
        raise ValueError(f"logits are {tuple(logits.shape)}, labels {tuple(labels.shape)}")
    known = ~torch.isnan(labels)
    if not bool(known.any()):
        raise ValueError("no record of the batch has a class label")
    return functional.binary_cross_entropy_with_logits(logits[known], labels[known].to(logits.dtype))
