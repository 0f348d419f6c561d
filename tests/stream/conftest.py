"""A bundle whose model is a formula, so that every number a bed says can be computed by hand.

It runs on the real engine: a real ONNX file in ONNX Runtime.
"""

import hand_made
import pytest

from ecgedge.leads import STANDARD_LEADS


@pytest.fixture(scope="session")
def formula():
    """What the model computes, in numpy: (B, K, T) to outputs by name."""
    return hand_made.formula


@pytest.fixture(scope="session")
def formula_bundle(tmp_path_factory):
    lead_sets = (STANDARD_LEADS, ("I", "II"), ("II",))
    return hand_made.make_formula_bundle(tmp_path_factory.mktemp("bundle") / "formula.ecgb", lead_sets)
