"""Fixtures of the training tests: a small dataset in memory, the reference filler."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ecgedge_train.recipe import recipe_from_plain

HERE = Path(__file__).parent


def _load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_data = _load("memory_data").make_data


@pytest.fixture(scope="session")
def data():
    return make_data()


@pytest.fixture(scope="session")
def data_factory():
    return make_data


@pytest.fixture
def recipe_factory():
    """Small recipe by objective name, with sections overlaid."""
    objectives = {
        "hemodynamics": {"name": "hemodynamics"},
        "pclr": {"name": "pclr"},
        "classes": {"name": "classes", "labels": ["WIDE", "NARROW"]},
    }

    def make(objective="hemodynamics", **sections):
        plain = {
            "name": "test",
            "seed": 5,
            "data": {"source": "memory", "batch_size": 16},
            "input": {"window_samples": 500, "shift_s": 0.1, "noise_mv": 0.01},
            "objective": objectives[objective] if isinstance(objective, str) else objective,
            "schedule": {"steps": 12, "warmup_steps": 2},
            "optimizer": {"lr": 3e-3},
            "devices": {"device": "cpu", "threads": 1},
            "evaluate": {"every_steps": 5, "log_every_steps": 3, "checkpoint_every_steps": 4},
        }
        for name, table in sections.items():
            plain[name] = {**plain.get(name, {}), **table} if isinstance(table, dict) else table
        return recipe_from_plain(plain)

    return make


@pytest.fixture(scope="session")
def det():
    """The reference numbers' deterministic filler: n values in [-0.5, 0.5) for tensor number k."""

    def fill(n, k):
        h = (np.arange(n, dtype=np.uint64) + np.uint64(1 + k * 1000003)) & np.uint64(0xFFFFFFFF)
        for _ in range(2):
            h ^= h >> np.uint64(16)
            h = (h * np.uint64(0x45D9F3B)) & np.uint64(0xFFFFFFFF)
        h ^= h >> np.uint64(16)
        return h / 2.0**32 - 0.5

    return fill
