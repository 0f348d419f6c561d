"""Miners: which rows make a triplet. Labels, classes or distances in, (K, 3) int64 out: anchor, positive, negative.

One triplet an anchor. An anchor without a valid triplet is left out, so K may be smaller than the number of anchors,
or zero; an anchor is never its own positive or negative. Draws come from a CPU generator and are the same on every
device. Nothing here carries a gradient.

With several ranks, rows are gathered first: candidates are the rows of all ranks, `anchors` the indices of this
rank's rows among them.
"""

from ecgedge_train.miners.classes import (
    classes_from_cuts,
    embedding_distances,
    npair_triplets,
    semihard_triplets,
    softhard_triplets,
)
from ecgedge_train.miners.distance import distance_triplets
from ecgedge_train.miners.labels import label_distance_triplets

__all__ = [
    "classes_from_cuts",
    "distance_triplets",
    "embedding_distances",
    "label_distance_triplets",
    "npair_triplets",
    "semihard_triplets",
    "softhard_triplets",
]
