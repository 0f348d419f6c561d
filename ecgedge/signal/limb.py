"""Do the limb leads belong to one heart? Einthoven's and Goldberger's equations as one number.

Of the six limb leads two are free: III = II - I, aVR = -(I + II)/2, and so on. With D the (leads, 2) matrix that makes
the measured ones of I and II, what of the samples X (leads, n) no I and II explain is P X with P = 1 - D D^+, and

    contradiction = sqrt(trace(P G) / trace(G)),        G = X X^T,

the share of their amplitude that contradicts. It holds after the front end as before, since the filters are linear and
the same for all leads. G is a sum of whole numbers over samples, so blocks add up exactly.

Leads that the source has computed itself agree by construction: then this says that nothing has happened to them since.
A lead that was scaled, swapped with another one, delayed, or replaced contradicts the others. Swapped electrodes do
not: they give another set of leads, which is consistent in itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ecgedge.leads import LIMB_LEADS, derivation_matrix, standard_rows

F64 = NDArray[np.float64]

CONTRADICTION = 0.05
"""380 records of PTB-XL, made by devices that compute four of the leads: 0.011 at most, most of it rounding."""

_STEP = 5
"""Every fifth sample at 250 Hz is enough for a mean square."""
_ROUNDING_COUNTS = 4.0
"""Mean square residuals below this (1 uV) are those of rounded samples in leads that are nearly silent."""


def limb_rows(leads: Sequence[str]) -> list[int]:
    """Return the rows of the limb leads among `leads`; none unless there are three: fewer cannot contradict."""
    rows = [row for row, lead in enumerate(leads) if lead in LIMB_LEADS]
    return rows if len(rows) >= 3 else []


def limb_products(counts: NDArray[np.int16]) -> F64:
    """Return what is kept of a block: the leads' products, exact whole numbers, to be summed over blocks.

    Parameters
    ----------
    counts
        (..., limb leads, n) int16; the same n always means the same samples, so let blocks begin at multiples of 5.

    Returns
    -------
    NDArray
        (..., limb leads, limb leads) float64.
    """
    some = counts[..., ::_STEP].astype(np.float64)
    products: F64 = np.matmul(some, np.swapaxes(some, -1, -2))
    return products


def contradiction(products: F64, leads: Sequence[str], *, n_samples: int) -> F64:
    """Return the share of the limb leads' amplitude that contradicts, 0 to 1; 0 where it is no more than rounding.

    Parameters
    ----------
    products
        (..., limb leads, limb leads): the sum over a window's blocks.
    leads
        Names of the limb leads, in the order of the products.
    n_samples
        Of the window.
    """
    residual = np.einsum("ij,...ji->...", misfit(tuple(leads)), products)
    total = np.trace(products, axis1=-2, axis2=-1)
    counted = -(-n_samples // _STEP) * len(leads)
    heard = (total > 0.0) & (residual > counted * _ROUNDING_COUNTS**2)
    share = np.divide(residual, total, out=np.zeros(np.shape(total)), where=heard)
    amplitude: F64 = np.sqrt(share)
    return amplitude


def odd_leads(products: F64, leads: Sequence[str], *, n_samples: int) -> tuple[str, ...]:
    """Return the one lead without which the others agree, or all of them where there is no such lead, or several.

    Parameters
    ----------
    products
        (limb leads, limb leads), of a window that contradicts itself.
    leads, n_samples
        As for `contradiction`.
    """
    suspects = []
    for drop, lead in enumerate(leads):
        rest = [row for row in range(len(leads)) if row != drop]
        others = [leads[row] for row in rest]
        if len(others) < 3 or not _free(tuple(others)):
            continue
        if contradiction(products[np.ix_(rest, rest)], others, n_samples=n_samples) <= CONTRADICTION:
            suspects.append(lead)
    return tuple(suspects) if len(suspects) == 1 else tuple(leads)


@lru_cache(maxsize=64)
def misfit(leads: tuple[str, ...]) -> F64:
    """Return P, (leads, leads), of leads by name; read-only."""
    made_of = derivation_matrix(("I", "II"))[standard_rows(leads)].astype(np.float64)
    left_over: F64 = np.eye(len(leads)) - made_of @ np.linalg.pinv(made_of)
    left_over.setflags(write=False)
    return left_over


def _free(leads: tuple[str, ...]) -> bool:
    """Whether these leads can contradict each other."""
    return bool(np.trace(misfit(leads)) > 0.5)
