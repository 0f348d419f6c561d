from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge_train.dataset import batches, pair_batches

PATIENTS = st.lists(st.integers(0, 12), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**32)


@given(n=st.integers(1, 200), size=st.integers(1, 50), seed=SEEDS, epoch=st.integers(0, 1000))
def test_batches_are_a_permutation_that_depends_on_seed_and_epoch_alone(n, size, seed, epoch):
    made = batches(n, size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(made)) == list(range(n))
    assert all(len(b) == size for b in made[:-1])
    again = batches(n, size, seed=seed, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


@given(n=st.integers(1, 200), size=st.integers(1, 50))
def test_drop_last_leaves_whole_batches_only(n, size):
    whole = batches(n, size, seed=1, epoch=2, drop_last=True)
    assert len(whole) == n // size
    assert all(len(b) == size for b in whole)


def test_epochs_and_seeds_differ():
    orders = {tuple(np.concatenate(batches(50, 8, seed=s, epoch=e))) for s in range(3) for e in range(3)}
    assert len(orders) == 9


@given(patients=PATIENTS, size=st.integers(1, 8), seed=SEEDS, epoch=st.integers(0, 50))
def test_pairs_are_of_one_patient_each_patient_once_and_differ_where_they_can(patients, size, seed, epoch):
    ids = np.array([f"p{p}" for p in patients], dtype=object)
    made = pair_batches(ids, size, seed=seed, epoch=epoch)
    pairs = np.concatenate(made)
    assert (ids[pairs[:, 0]] == ids[pairs[:, 1]]).all()
    assert sorted(ids[pairs[:, 0]]) == sorted(set(ids))
    for a, b in pairs:
        assert (a == b) == (list(ids).count(ids[a]) == 1)
    again = pair_batches(ids, size, seed=seed, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_over_many_epochs_every_ordered_pair_is_drawn_about_equally():
    ids = np.array([7, 7, 7, 7])
    drawn = [tuple(pair_batches(ids, 1, seed=0, epoch=e)[0][0]) for e in range(3600)]
    counts = [drawn.count((a, b)) for a in range(4) for b in range(4) if a != b]
    # 12 ordered pairs, 300 each expected; 5 standard deviations of a binomial are 83.
    assert min(counts) > 217
    assert max(counts) < 383


def test_impossible_batches_are_refused():
    with pytest.raises(ValueError, match="from 0 rows"):
        batches(0, 4, seed=0, epoch=0)
    with pytest.raises(ValueError, match="batches of 0"):
        pair_batches(np.array([1]), 0, seed=0, epoch=0)
