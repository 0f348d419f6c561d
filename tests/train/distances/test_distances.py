"""What every distance owes its caller."""

import subprocess
import sys

import numpy as np
import pytest

from ecgedge_train.distances import DISTANCES

RNG = np.random.default_rng(8)
WINDOWS = (0.3 * RNG.normal(size=(6, 12, 1000))).astype(np.float32)
WINDOWS[3] = 0.0
PRESENCE = np.ones((6, 12), np.float32)
PRESENCE[1, 2:] = 0
PRESENCE[2, :6] = 0


def test_the_names():
    assert set(DISTANCES) == {"dtw", "dtw_exact", "l2", "median_beat"}


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_a_matrix_to_mine_from(name):
    before = WINDOWS.copy()
    found = DISTANCES[name](WINDOWS * PRESENCE[:, :, None], PRESENCE)
    assert found.shape == (6, 6)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found == found.T).all()
    assert (np.diag(found) == 0).all()
    assert (found[~np.eye(6, dtype=bool)] > 0).all()
    assert found[1, 2] == found.max()  # no common lead
    assert (before == WINDOWS).all()


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_units_carry_through(name):
    """All are lengths in mV (the rhythm's part of median_beat is zero between equals in rhythm)."""
    one = WINDOWS[:3]
    batch = np.stack([one[0], 0.5 * one[0]])
    once, twice = (DISTANCES[name](k * batch, np.ones((2, 12), np.float32))[0, 1] for k in (1, 2))
    assert twice == pytest.approx(2 * once, rel=1e-5)


def test_importing_is_cheap():
    code = "import sys, ecgedge_train.distances; print([m for m in ('numba', 'triton', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
