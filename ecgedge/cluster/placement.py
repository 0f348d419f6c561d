"""Which node serves which bed: rendezvous hashing (Thaler and Ravishankar, IEEE/ACM Trans. Networking 6(1), 1998).

Each node has a score for each bed, and the highest serves it. So a node that dies moves its own beds only, a new one
takes only what it wins, and whoever knows the nodes' names knows the places, without a table to agree on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ecgedge.errors import UsageError


def score(node: str, bed: str) -> bytes:
    """Return a node's score for a bed: SHA-256 over both names, the same on every machine."""
    return hashlib.sha256(f"{node}\n{bed}".encode()).digest()


def place_bed(bed: str, nodes: Iterable[str]) -> str:
    """Return the node that serves `bed`, whatever the order of `nodes`.

    Raises
    ------
    UsageError
        If there is no node.
    """
    best = max(nodes, key=lambda node: (score(node, bed), node), default=None)
    if best is None:
        raise UsageError(f"there is no node to serve bed {bed}; start one, then it is placed")
    return best


def place_beds(beds: Iterable[str], nodes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the beds of every node, also of those that have none, in the order given.

    Raises
    ------
    UsageError
        If there are beds and no node.
    """
    names = tuple(nodes)
    places: dict[str, list[str]] = {node: [] for node in names}
    for bed in beds:
        places[place_bed(bed, names)].append(bed)
    return {node: tuple(found) for node, found in places.items()}
