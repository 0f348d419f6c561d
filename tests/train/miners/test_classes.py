"""Class miners: draws stay in the published candidate sets and reach all of them; another library's semi-hard set."""

import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import TripletMarginMiner

from ecgedge_train.miners import (
    classes_from_cuts,
    embedding_distances,
    npair_triplets,
    semihard_triplets,
    softhard_triplets,
)
from ecgedge_train.miners.rows import draw_below, draw_true

SEEDS = 120


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def known(oracles):
    return json.loads((oracles / "ssldml_losses_miners.json").read_text())


@pytest.fixture(scope="module")
def classes(known):
    return torch.tensor(known["class_labels"])


@pytest.fixture(scope="module")
def matrix(known):
    return torch.tensor(known["dist_matrix"])


def same(classes, a):
    return {i for i, c in enumerate(classes.tolist()) if c == classes[a] and i != a}


def other(classes, a):
    return {i for i, c in enumerate(classes.tolist()) if c != classes[a]}


def drawn(mine):
    """All (anchor, positive, negative) over many seeds."""
    batches = [mine(seeded(seed)) for seed in range(SEEDS)]
    assert all(rows.dtype == torch.int64 for rows in batches)
    return {tuple(row) for rows in batches for row in rows.tolist()}


def test_distances_of_embeddings_are_the_published_matrix(known, matrix):
    x = torch.tensor(known["embeddings"], requires_grad=True)
    torch.testing.assert_close(embedding_distances(x), matrix, atol=1e-5, rtol=0)
    assert not embedding_distances(x).requires_grad
    torch.testing.assert_close(
        embedding_distances(x, anchors=torch.tensor([6, 1])), matrix[[6, 1]], atol=1e-5, rtol=0
    )


def test_npair_draws_every_pair_of_a_class_and_every_other_row(known, classes):
    rows = drawn(lambda g: npair_triplets(classes, generator=g))
    assert {tuple(row) for row in known["npair_seed926"]} <= {
        (a, p, n) for a in range(8) for p in same(classes, a) for n in other(classes, a)
    }
    for a in range(8):
        assert {p for i, p, _ in rows if i == a} == same(classes, a)
        assert {n for i, _, n in rows if i == a} == other(classes, a)


def test_semihard_draws_the_published_candidates(known, classes, matrix):
    rows = drawn(lambda g: semihard_triplets(matrix, classes, generator=g, margin=0.2))
    for a in range(8):
        published = known["semihard_negatives_by_anchor_and_positive"][str(a)]
        assert {p for i, p, _ in rows if i == a} == {int(p) for p in published} == same(classes, a)
        for p, negatives in published.items():
            seen = {n for i, j, n in rows if (i, j) == (a, int(p))}
            assert seen == (set(negatives) or other(classes, a))


def test_softhard_draws_the_published_candidates(known, classes, matrix):
    rows = drawn(lambda g: softhard_triplets(matrix, classes, generator=g))
    for a in range(8):
        published = known["softhard_candidates_by_anchor"][str(a)]
        assert {p for i, p, _ in rows if i == a} == set(published["pos"])
        assert {n for i, _, n in rows if i == a} == set(published["neg"])


def test_softhard_falls_back_to_any():
    x = torch.tensor(
        [[0.0], [0.1], [0.3], [10.0], [10.2], [10.5]]
    )  # every positive is nearer than any negative
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    rows = drawn(lambda g: softhard_triplets(embedding_distances(x), classes, generator=g))
    for a in range(6):
        assert {p for i, p, _ in rows if i == a} == same(classes, a)
        assert {n for i, _, n in rows if i == a} == other(classes, a)


def test_semihard_has_the_candidates_of_another_library():
    x = torch.randn(14, 3, generator=seeded(2))
    classes = torch.arange(14) % 3
    distance = LpDistance(normalize_embeddings=False, p=2, power=1)
    miner = TripletMarginMiner(margin=0.4, type_of_triplets="semihard", distance=distance)
    theirs = {tuple(int(i) for i in row) for row in zip(*miner(x, classes), strict=True)}
    pairs = {(a, p) for a, p, _ in theirs}
    ours = set()
    for seed in range(600):
        rows = semihard_triplets(embedding_distances(x), classes, generator=seeded(seed), margin=0.4).tolist()
        ours |= {
            (a, p, n) for a, p, n in rows if (a, p) in pairs
        }  # without a candidate we fall back, they drop
    assert ours == theirs


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=14), st.integers(0, 9999))
def test_triplets_are_valid_and_none_is_missed(codes, seed):
    classes = torch.tensor(codes, dtype=torch.int64)
    d = torch.rand(len(codes), len(codes), generator=seeded(seed))
    complete = [a for a, c in enumerate(codes) if c >= 0 and codes.count(c) > 1 and {*codes} - {c, -1}]
    for rows in (
        npair_triplets(classes, generator=seeded(seed)),
        semihard_triplets(d, classes, generator=seeded(seed)),
        softhard_triplets(d, classes, generator=seeded(seed)),
    ):
        a, p, n = rows.T
        assert a.tolist() == complete
        assert bool((a != p).all())
        assert bool((classes[a] == classes[p]).all())
        assert bool((classes[a] != classes[n]).all())
        assert bool((classes[n] >= 0).all())


def test_bool_classes_are_classes(classes):
    by_number = npair_triplets(classes, generator=seeded(1))
    assert torch.equal(npair_triplets(classes.bool(), generator=seeded(1)), by_number)


def test_gathered_anchors_draw_among_all_rows(classes, matrix):
    anchors = torch.tensor([3, 0])
    rows = drawn(lambda g: semihard_triplets(matrix[anchors], classes, generator=g, anchors=anchors))
    assert {a for a, _, _ in rows} == {0, 3}
    assert {(p, n) for a, p, n in rows if a == 3 and p == 2} == {(2, 4)}
    assert {p for a, p, _ in rows if a == 3} == same(classes, 3)


def test_cuts_make_classes_strictly_above():
    y = torch.tensor([8.0, 15.0, 15.5, 18.0, 18.01, 40.0, torch.nan])
    assert classes_from_cuts(y, (15, 18)).tolist() == [0, 0, 1, 1, 2, 2, -1]
    assert classes_from_cuts(torch.tensor([18, 19]), (18,)).tolist() == [0, 1]
    for cuts in [(), (18, 15), (15, 15)]:
        with pytest.raises(ValueError, match="must increase"):
            classes_from_cuts(y, cuts)


def test_pressures_are_refused_as_classes(known, matrix):
    # "The same class" would be exactly the same pressure, as it is in the published regression runs.
    with pytest.raises(ValueError, match="classes_from_cuts"):
        npair_triplets(torch.tensor(known["pcwp_labels"]), generator=seeded(0))
    rows = npair_triplets(classes_from_cuts(torch.tensor(known["pcwp_labels"]), (18,)), generator=seeded(0))
    assert len(rows) == 8


def test_refuses_distances_of_another_batch(classes, matrix):
    for mine in (semihard_triplets, softhard_triplets):
        with pytest.raises(ValueError, match="a row an anchor"):
            mine(matrix[:4], classes, generator=seeded(0))


def test_draws_are_uniform():
    candidates = torch.tensor([[False, True, True, False, True], [False] * 5]).repeat(30_000, 1)
    columns = draw_true(candidates, seeded(0))
    assert bool((columns[1::2] == -1).all())
    counts = Counter(columns[::2].tolist())
    assert set(counts) == {1, 2, 4}
    assert all(abs(count - 10_000) < 5 * 82 for count in counts.values())  # SD of such a count is 82


def test_a_draw_is_below_its_count_even_for_the_largest_random_number(monkeypatch):
    counts = torch.arange(1, 1 << 18)
    largest = 1 - 2**-24  # of 24 random bits
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, largest))
    assert bool((draw_below(counts, seeded(0)) < counts).all())
    assert draw_below(torch.zeros(3, dtype=torch.int64), seeded(0)).tolist() == [0, 0, 0]
