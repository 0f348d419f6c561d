"""Beds go to nodes by hashing: who dies moves only its own, who comes takes only its share."""

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.cluster.placement import place_bed, place_beds
from ecgedge.errors import UsageError

NAMES = st.text("abcdefghij0123456789.-", min_size=1, max_size=8)
NODES = st.lists(NAMES, min_size=2, max_size=8, unique=True)
BEDS = st.lists(NAMES, max_size=40, unique=True)


@given(beds=BEDS, nodes=NODES, data=st.data())
def test_a_node_that_dies_moves_its_own_beds_only(beds, nodes, data):
    dead = data.draw(st.sampled_from(nodes))
    before = place_beds(beds, nodes)
    after = place_beds(beds, [node for node in nodes if node != dead])
    for node, served in after.items():
        assert set(before[node]) <= set(served)
        assert set(served) - set(before[node]) <= set(before[dead])


@given(beds=BEDS, nodes=NODES, new=NAMES)
def test_a_new_node_takes_its_share_and_moves_nothing_else(beds, nodes, new):
    for bed in beds:
        assert place_bed(bed, [*nodes, new]) in (place_bed(bed, nodes), new)


@given(beds=BEDS, nodes=NODES, data=st.data())
def test_each_bed_has_one_place_whatever_the_order(beds, nodes, data):
    places = place_beds(beds, nodes)
    assert set(places) == set(nodes)
    assert sorted(bed for served in places.values() for bed in served) == sorted(beds)
    shuffled = data.draw(st.permutations(nodes))
    assert {node: set(served) for node, served in place_beds(beds, shuffled).items()} == {
        node: set(served) for node, served in places.items()
    }


@pytest.mark.parametrize("n_nodes", [3, 10, 50])
def test_the_load_is_even(n_nodes):
    n_beds = 300 * n_nodes
    places = place_beds([f"icu-{k}" for k in range(n_beds)], [f"node-{k}" for k in range(n_nodes)])
    # Each bed falls on a node with probability 1/n: five standard deviations of the binomial.
    spread = 5.0 * math.sqrt(300.0 * (1.0 - 1.0 / n_nodes))
    assert all(abs(len(served) - 300) < spread for served in places.values())


def test_the_score_is_sha256_of_both_names():
    a, b = (hashlib.sha256(f"{node}\nicu-3".encode()).hexdigest() for node in ("a", "b"))
    assert place_bed("icu-3", ["a", "b"]) == ("a" if a > b else "b")


def test_without_nodes_there_is_no_place():
    assert place_beds([], []) == {}
    with pytest.raises(UsageError, match="no node to serve bed icu-3; start one"):
        place_bed("icu-3", [])
