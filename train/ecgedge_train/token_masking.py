"""Which tokens W2V pretraining hides: spans, the same number in every row.

Oh et al., CHIL 2022 (PMLR 174), after wav2vec 2.0 (Baevski et al., NeurIPS 2020, section 3.1). Symbols: B batch,
N tokens, p probability (0.65), L span (10 tokens), n spans = int(p N / L + u) with u uniform in [0, 1).

The published mask puts n spans anywhere, overlaps allowed, and then cuts every row down to the batch's smallest
count. So its masked share falls with the batch size, from 0.494 of 156 tokens for one crop to 0.354 for 128, and the
task of a small machine is not that of a large one. Ours fixes the count of each row to what the published mask has
on average for one crop (`expected_mask_fraction`), whatever the batch.
"""

from __future__ import annotations

from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def draw_token_mask(
    batch: int,
    n_tokens: int,
    *,
    generator: torch.Generator,
    probability: float = 0.65,
    span: int = 10,
    min_spans: int = 2,
) -> Tensor:
    """Draw a mask with `count_masked` tokens in every row.

    Spans arrive in random order at random places, overlaps allowed, until the row's count is reached; the last one
    is cut short. Unlike the published cut, which takes out single tokens, this leaves no holes inside spans.

    Parameters
    ----------
    batch, n_tokens
        B and N.
    generator
        On the CPU.
    probability, span, min_spans
        p, L and the smallest n.

    Returns
    -------
    Tensor
        (B, N) bool on the CPU, True where a token is hidden.

    Raises
    ------
    ValueError
        If the crop is not longer than one span.
    """
    n_masked = count_masked(n_tokens, probability=probability, span=span, min_spans=min_spans)
    arrival = torch.rand(batch, n_tokens - span + 1, generator=generator)
    # A token is hidden when the first of the up to L spans over it arrives.
    edge = functional.pad(-arrival, (span - 1, span - 1), value=-2.0)
    hidden_at = -functional.max_pool1d(edge, span, stride=1)
    first = hidden_at.argsort(dim=1, stable=True)[:, :n_masked]
    return torch.zeros(batch, n_tokens, dtype=torch.bool).scatter_(1, first, value=True)


def count_masked(n_tokens: int, *, probability: float = 0.65, span: int = 10, min_spans: int = 2) -> int:
    """Return how many of N tokens `draw_token_mask` hides: the published mean for one crop, rounded (156: 77).

    Raises
    ------
    ValueError
        If the crop is not longer than one span.
    """
    if n_tokens <= span:
        raise ValueError(f"{n_tokens} tokens cannot be masked in spans of {span}; use a longer window")
    share = expected_mask_fraction(n_tokens, probability=probability, span=span, min_spans=min_spans)
    return min(max(round(share * n_tokens), 2), n_tokens - 1)


def expected_mask_fraction(
    n_tokens: int, *, probability: float = 0.65, span: int = 10, min_spans: int = 2
) -> float:
    """Return the exact mean share that the published mask hides of one crop (156: 0.4947, 312: 0.4919).

    Its n starts are drawn without replacement from S = N - L places. Token t is hidden unless all of them miss the
    c_t places whose span covers it, so

        share = mean over t of 1 - C(S - c_t, n) / C(S, n),

    averaged over the two values of n, which are floor(p N / L) and one more with the odds of the fraction.
    """
    spans = probability * n_tokens / span
    whole = int(spans)
    share = 0.0
    for n, odds in ((whole, 1.0 - (spans - whole)), (whole + 1, spans - whole)):
        n_spans = max(n, min_spans)
        places = _start_places(n_tokens, span, n_spans)
        for t in range(n_tokens):
            covering = max(0, min(t, places - 1) - max(0, t - span + 1) + 1)
            share += odds * (1.0 - comb(places - covering, n_spans) / comb(places, n_spans)) / n_tokens
    return share


def published_token_mask(
    batch: int,
    n_tokens: int,
    *,
    random: np.random.RandomState,
    probability: float = 0.65,
    span: int = 10,
    min_spans: int = 2,
) -> NDArray[np.bool_]:
    """Draw the published mask, number for number, for comparison with published runs.

    Returns
    -------
    ndarray
        (B, N) bool; all rows have as many True as the row that got fewest.
    """
    n_spans = max(int(probability * n_tokens / span + random.rand()), min_spans)
    rows = []
    for _ in range(batch):
        starts = random.choice(_start_places(n_tokens, span, n_spans), n_spans, replace=False)
        covered = np.unique(starts[:, None] + np.arange(span))
        rows.append(covered[covered < n_tokens])
    fewest = min(len(row) for row in rows)
    mask = np.zeros((batch, n_tokens), dtype=np.bool_)
    for i, row in enumerate(rows):
        mask[i, random.choice(row, fewest, replace=False) if len(row) > fewest else row] = True
    return mask


def _start_places(n_tokens: int, span: int, n_spans: int) -> int:
    """Return how many first tokens the published draw chooses from; the very last token is never hidden."""
    places = n_tokens - span
    return places if places > n_spans else n_spans + 1
