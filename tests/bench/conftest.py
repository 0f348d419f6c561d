"""Bundles small enough to be measured in a moment; the engine and the processes are real."""

import pytest
from hand_made import make_bundle


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A bundle with one variant, I,II/fp32, that means over 40 samples."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "small.ecgb")[0]


@pytest.fixture(scope="session")
def wrong(tmp_path_factory):
    """The same, but its file computes something else than its self-test says."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "wrong.ecgb", scale=1.5)[0]
