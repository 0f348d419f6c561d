from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge_train.dataset.sampler import (
    batches,
    group_by_patient,
    pair_batches,
    patient_codes,
)
from ecgedge_train.distributed import World

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


@given(patients=PATIENTS, seed=SEEDS, epoch=st.integers(0, 50))
def test_ids_codes_and_groups_give_the_same_pairs(patients, seed, epoch):
    ids = np.array([f"p{p}" for p in patients], dtype=object)
    codes = np.unique(ids, return_inverse=True)[1]
    made = pair_batches(ids, 4, seed=seed, epoch=epoch)
    for other in (codes, group_by_patient(ids), group_by_patient(codes)):
        again = pair_batches(other, 4, seed=seed, epoch=epoch)
        assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


@given(ids=st.lists(st.text(max_size=3), min_size=1, max_size=40))
def test_patient_codes_are_those_of_a_sort(ids):
    texts = np.array(ids, dtype=object)
    assert np.array_equal(patient_codes(texts), np.unique(texts, return_inverse=True)[1])


def test_patient_codes_of_numbers_are_those_of_a_sort():
    assert patient_codes(np.array([30, -2, 30, 7])).tolist() == [2, 0, 2, 1]


def rank_slice(batch, rank, world):
    return batch[World(rank, world).part(len(batch))]


@given(world=st.sampled_from([1, 2, 4]), each=st.integers(1, 6), epoch=st.integers(0, 9))
def test_the_slices_of_all_ranks_are_the_global_batch_in_order(world, each, epoch):
    for batch in batches(60, world * each, seed=3, epoch=epoch, drop_last=True):
        parts = [rank_slice(batch, rank, world) for rank in range(world)]
        assert {len(part) for part in parts} == {each}
        assert np.array_equal(np.concatenate(parts), batch)


@given(world=st.sampled_from([1, 2, 4]), patients=PATIENTS, epoch=st.integers(0, 9))
def test_both_recordings_of_a_patient_stay_on_one_rank(world, patients, epoch):
    ids = np.array(patients)
    for batch in pair_batches(ids, 4, seed=1, epoch=epoch, drop_last=True):
        parts = [rank_slice(batch, rank, world) for rank in range(world)]
        assert all((ids[part[:, 0]] == ids[part[:, 1]]).all() for part in parts)
        on_rank = [set(ids[part].ravel().tolist()) for part in parts]
        assert sum(len(seen) for seen in on_rank) == len(set().union(*on_rank))


def trained_on(*, start: int, stop: int, rank: int, world: int) -> list[list[list[int]]]:
    """Give the pairs of steps start..stop-1 on a rank, made from nothing but (seed, step), over epochs of 5 steps."""
    ids = np.arange(90) // 2
    seen = []
    for step in range(start, stop):
        epoch = pair_batches(ids, 8, seed=11, epoch=step // 5, drop_last=True)
        assert len(epoch) == 5
        seen.append(rank_slice(epoch[step % 5], rank, world).tolist())
    return seen


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("killed_at", [3, 5, 8])
def test_a_run_killed_at_a_step_sees_the_same_batches_and_may_change_its_ranks(world, killed_at):
    ranks = range(world)
    whole = [trained_on(start=0, stop=12, rank=r, world=world) for r in ranks]
    before = [trained_on(start=0, stop=killed_at, rank=r, world=world) for r in ranks]
    after = [trained_on(start=killed_at, stop=12, rank=r, world=world) for r in ranks]
    assert [b + a for b, a in zip(before, after, strict=True)] == whole
    one = trained_on(start=0, stop=12, rank=0, world=1)
    assert [[pair for part in whole for pair in part[step]] for step in range(12)] == one
