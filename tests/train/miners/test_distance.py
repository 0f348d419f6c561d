"""Distance triplets against the published sets, and the published code's two failures."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge_train.miners import distance_triplets

POSITIVES = [7, 3, 0, 5, 6, 3, 4, 0]
FARTHEST = [[1, 6], [2, 0], [1, 3], [4, 2], [5, 7], [4, 6], [7, 5], [6, 4]]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_distance(seed, n):
    x = torch.rand(n, 3, generator=seeded(seed), dtype=torch.float64)
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


@pytest.fixture(scope="module")
def known(oracles):
    return json.loads((oracles / "ssldml_losses_miners.json").read_text())


@pytest.fixture
def matrix(known):
    return torch.tensor(known["dist_matrix"])


def test_published_positives_and_all_of_the_two_farthest_are_drawn(known, matrix):
    assert known["dist_miner_positive_argmin"] == POSITIVES
    assert known["dist_miner_top2_farthest"] == FARTHEST
    seen = [set() for _ in POSITIVES]
    for seed in range(40):
        triplets = distance_triplets(matrix, generator=seeded(seed))
        assert triplets[:, :2].tolist() == [[a, p] for a, p in enumerate(POSITIVES)]
        for a, _, n in triplets.tolist():
            seen[a].add(n)
    assert seen == [set(pair) for pair in FARTHEST]


@pytest.mark.parametrize("n_farthest", [1, 3, 5])
def test_positive_is_the_nearest_and_never_a_far_one(n_farthest):
    # Without a precomputed matrix the published miner sorted the wrong way: its positive was the second farthest.
    d = random_distance(3, 20)
    for seed in range(10):
        for a, p, n in distance_triplets(d, generator=seeded(seed), n_farthest=n_farthest).tolist():
            others = d[a][torch.arange(20) != a].sort().values
            assert d[a, p] == others[0]
            assert d[a, n] >= others[-n_farthest]


def test_one_farthest_needs_no_luck(matrix):
    rows = [distance_triplets(matrix, generator=seeded(s), n_farthest=1).tolist() for s in range(3)]
    assert rows[0] == rows[1] == rows[2]
    assert [n for _, _, n in rows[0]] == matrix.argmax(dim=1).tolist()


def test_random_negative_is_any_but_anchor_and_positive(matrix):
    seen = [set() for _ in POSITIVES]
    for seed in range(150):
        for a, p, n in distance_triplets(matrix, generator=seeded(seed), random_negative=True).tolist():
            assert p == POSITIVES[a]
            seen[a].add(n)
    assert seen == [set(range(8)) - {a, p} for a, p in enumerate(POSITIVES)]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 9999),
    st.lists(st.integers(0, 3), min_size=3, max_size=14),
    st.integers(1, 4),
    st.booleans(),
)
def test_own_patient_is_never_the_negative(seed, patients, n_farthest, any_negative):
    codes = torch.tensor(patients)
    d = random_distance(seed, len(codes))
    triplets = distance_triplets(
        d,
        generator=seeded(seed),
        n_farthest=n_farthest,
        random_negative=any_negative,
        same_patient=codes,
    )
    a, p, n = triplets.T
    assert bool((codes[a] != codes[n]).all())
    assert bool(((a != p) & (a != n) & (p != n)).all())
    assert bool((d[a, p] < d[a, n]).all())
    nearest = (d + torch.diag(torch.full((len(d),), torch.inf))).min(dim=1)
    left_out = set(range(len(d))) - set(a.tolist())
    for row in left_out:  # only where every row of another patient is the positive itself
        assert set(torch.nonzero(codes != codes[row])[:, 0].tolist()) <= {int(nearest.indices[row])}


def test_all_candidates_excluded_ends_and_leaves_the_anchor_out(matrix):
    # The published miner draws again until the draw is allowed: for ever, if none is.
    assert distance_triplets(matrix, generator=seeded(0), same_patient=torch.zeros(8)).shape == (0, 3)
    two_patients = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    triplets = distance_triplets(matrix, generator=seeded(0), same_patient=two_patients)
    # Row 7 is the nearest of row 0, so row 0 has no negative left.
    assert triplets[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert triplets[:-1, 2].tolist() == [7] * 6
    assert distance_triplets(torch.zeros(5, 5), generator=seeded(0)).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.float64])
def test_every_dtype_gives_the_same_rows(dtype):
    d = (random_distance(2, 12) * 400).round()
    expected = distance_triplets(d, generator=seeded(0))
    assert torch.equal(distance_triplets(d.to(dtype), generator=seeded(0)), expected)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_rows_give_no_triplet(n):
    assert distance_triplets(torch.ones(n, n), generator=seeded(0)).shape == (0, 3)


def test_unknown_distances_are_in_no_triplet(matrix):
    matrix[4], matrix[:, 4] = torch.nan, torch.nan
    for seed in range(10):
        assert not bool((distance_triplets(matrix, generator=seeded(seed), n_farthest=3) == 4).any())


def test_gathered_anchors_take_their_rows_of_the_matrix(matrix):
    anchors = torch.tensor([5, 1])
    triplets = distance_triplets(matrix[anchors], generator=seeded(0), n_farthest=1, anchors=anchors)
    assert triplets.tolist() == [[5, 3, 4], [1, 3, 2]]


def test_same_generator_state_same_triplets():
    d = random_distance(1, 30)
    first, again, other = (distance_triplets(d, generator=seeded(s), n_farthest=5) for s in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_refuses_other_shapes_and_no_farthest(matrix):
    with pytest.raises(ValueError, match="a row an anchor"):
        distance_triplets(matrix[:4], generator=seeded(0))
    with pytest.raises(ValueError, match="n_farthest"):
        distance_triplets(matrix, generator=seeded(0), n_farthest=0)
