"""Label-distance triplets against the published code's rows and a loop over the definition."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge_train.miners import label_distance_triplets

PRESSURES = [8.0, 12.0, 21.0, 25.0, 15.0, 30.0, 10.0, 19.0]
PUBLISHED = [[0, 6, 5], [1, 6, 5], [2, 7, 0], [3, 2, 0], [4, 1, 5], [5, 3, 0], [6, 0, 5], [7, 2, 0]]


def loop(labels):
    """The definition, an anchor at a time."""
    rows = []
    for a, y in enumerate(labels):
        others = [(abs(v - y), i) for i, v in enumerate(labels) if i != a and not np.isnan(v)]
        if np.isnan(y) or not others:
            continue
        near = min(others)
        far = max(others, key=lambda pair: (pair[0], -pair[1]))
        if far[0] > near[0]:
            rows.append([a, near[1], far[1]])
    return rows


def test_published_rows(oracles):
    known = json.loads((oracles / "ssldml_losses_miners.json").read_text())
    assert known["labelbased_pcwp"] == PUBLISHED
    assert label_distance_triplets(torch.tensor(known["pcwp_labels"])).tolist() == PUBLISHED


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.int8]
)
def test_every_dtype_gives_the_same_rows(dtype):
    # The published miner raises OverflowError for integer labels, and an unsigned difference would wrap round.
    assert label_distance_triplets(torch.tensor(PRESSURES).to(dtype)).tolist() == PUBLISHED


def test_bool_labels_ties_go_to_the_lowest_index():
    labels = torch.tensor([True, False, False, True, True])
    expected = [[0, 3, 1], [1, 2, 0], [2, 1, 0], [3, 0, 1], [4, 0, 1]]
    assert label_distance_triplets(labels).tolist() == expected
    assert loop(labels.double().tolist()) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(st.integers(0, 6).map(float), st.floats(1, 53), st.just(float("nan"))), max_size=12)
)
def test_equals_the_loop(labels):
    triplets = label_distance_triplets(torch.tensor(labels, dtype=torch.float64))
    assert triplets.dtype == torch.int64
    assert triplets.shape[1] == 3
    assert triplets.tolist() == loop(labels)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 20))
def test_permuting_the_batch_permutes_the_triplets(seed, n):
    g = torch.Generator().manual_seed(seed)
    labels = torch.rand(n, generator=g, dtype=torch.float64)  # all differences are distinct
    order = torch.randperm(n, generator=g)
    moved = order[label_distance_triplets(labels[order])]
    assert sorted(moved.tolist()) == label_distance_triplets(labels).tolist()


def test_unknown_labels_are_in_no_triplet():
    labels = torch.tensor([*PRESSURES, torch.nan])
    labels[5] = torch.nan
    triplets = label_distance_triplets(labels)
    assert triplets[:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert not bool(((triplets == 5) | (triplets == 8)).any())


@pytest.mark.parametrize("labels", [[], [3.0], [3.0, 4.0], [7.0] * 5, [torch.nan] * 4])
def test_nothing_to_tell_apart_gives_no_triplet(labels):
    assert label_distance_triplets(torch.tensor(labels)).shape == (0, 3)


def test_gathered_rows_are_the_whole_batch_s_rows_of_these_anchors():
    anchors = torch.tensor([6, 2])
    assert label_distance_triplets(torch.tensor(PRESSURES), anchors=anchors).tolist() == [
        PUBLISHED[6],
        PUBLISHED[2],
    ]


def test_refuses_a_column():
    with pytest.raises(ValueError, match=r"\(B,\)"):
        label_distance_triplets(torch.zeros(8, 1))
