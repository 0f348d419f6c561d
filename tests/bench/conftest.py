"""Bundles small enough to be measured in a moment; the engine and the processes are real."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "runtime_models", Path(__file__).parents[1] / "runtime" / "models.py"
)
assert _spec is not None
assert _spec.loader is not None
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A bundle with one variant, I,II/fp32, that means over 40 samples."""
    return models.make_bundle(tmp_path_factory.mktemp("bundles") / "small.ecgb")[0]


@pytest.fixture(scope="session")
def wrong(tmp_path_factory):
    """The same, but its file computes something else than its self-test says."""
    return models.make_bundle(tmp_path_factory.mktemp("bundles") / "wrong.ecgb", scale=1.5)[0]
