"""Beds are served here by the formula's bundle: every number that they say can be computed by hand.

It runs on the real engine: a real ONNX file in ONNX Runtime.
"""

import hand_made
import pytest

from ecgedge.leads import STANDARD_LEADS
from ecgedge.stream import Bed, Variants

from .helpers import RATE_HZ


@pytest.fixture(scope="session")
def formula():
    """What the model computes, in numpy: (B, K, T) to outputs by name."""
    return hand_made.formula


@pytest.fixture(scope="module")
def variants(formula_bundle):
    """Its variants, opened once for a file; here they take the place of the embedded bundle's."""
    with Variants(formula_bundle) as loaded:
        yield loaded


@pytest.fixture
def new_bed(formula_bundle, variants):
    def make(leads=STANDARD_LEADS, rate_hz=RATE_HZ, **changes):
        return Bed(formula_bundle, leads=leads, rate_hz=rate_hz, variants=variants, **changes)

    return make
