"""Euclidean distances against scipy and against loops."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from ecgedge_train.distances.l2 import l2_matrix, l2_matrix_torch

WINDOWS = np.random.default_rng(0).normal(size=(9, 4, 200)).astype(np.float32)
PRESENCE = (np.random.default_rng(1).random((9, 4)) < 0.5).astype(np.float32)
PRESENCE[0], PRESENCE[1] = [1, 1, 0, 0], [0, 0, 1, 1]


def by_numpy(windows, presence=None):
    return l2_matrix(windows, presence)


def by_torch(windows, presence=None):
    given = None if presence is None else torch.from_numpy(presence)
    return l2_matrix_torch(torch.from_numpy(windows), given).numpy()


both = pytest.mark.parametrize("matrix", [by_numpy, by_torch])


@both
def test_all_leads_there(matrix):
    flat = WINDOWS.reshape(9, -1).astype(np.float64)
    found = matrix(WINDOWS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, cdist(flat, flat), rtol=1e-6)


@both
def test_common_leads_scaled_to_all(matrix):
    found = matrix(WINDOWS, PRESENCE)
    for a in range(9):
        for b in range(9):
            common = (PRESENCE[a] > 0) & (PRESENCE[b] > 0)
            if a == b:
                assert found[a, b] == 0
            elif common.any():
                distance = np.linalg.norm(WINDOWS[a][common] - WINDOWS[b][common])
                assert found[a, b] == pytest.approx(distance * (4 / common.sum()) ** 0.5, rel=1e-6)
            else:
                assert found[a, b] == found.max()
    assert not (PRESENCE[0] * PRESENCE[1]).any()


@both
def test_a_small_difference_keeps_its_digits(matrix):
    """float32 products would lose it: the difference is 1e-5 of the values."""
    near = np.stack([WINDOWS[0], WINDOWS[0] * np.float32(1.00001)])
    expected = np.linalg.norm(near[0].astype(np.float64) - near[1])
    assert matrix(near)[0, 1] == pytest.approx(expected, rel=1e-4)


@both
def test_nothing_measured_is_no_nan(matrix):
    found = matrix(WINDOWS, np.zeros((9, 4), np.float32))
    assert (found == 0).all()
