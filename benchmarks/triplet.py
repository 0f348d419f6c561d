"""Triplet loss and its miners, whole-batch against a loop over pairs and triplets.

Run: OMP_NUM_THREADS=1 python benchmarks/triplet.py [--out benchmarks/results/triplet.json]

A case is what a training step does: mine the triplets of a batch of (B, 128) embeddings, triplet loss, gradient. The
loops do the same in the plainest Python: the miner visits every pair, the loss every triplet, one small tensor
operation at a time. `labels` mines by pressures, `distance` by a precomputed matrix of distances between ECGs,
`semihard` and `softhard` by classes and the distances of the embeddings, which count too. Both ways must give the
same loss wherever nothing is drawn. One thread, medians of interleaved rounds; read the ratios.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from common import machine, medians, ratio, seconds, take_turns, write_json
from torch import Tensor

from ecgedge_train.losses.triplet import triplet_loss
from ecgedge_train.miners import (
    distance_triplets,
    embedding_distances,
    label_distance_triplets,
    semihard_triplets,
    softhard_triplets,
)

WIDTH = 128
MARGIN = 0.2
Triplets = Sequence[tuple[int, int, int]]


def loop_labels(labels: Sequence[float]) -> Triplets:
    """Nearest and farthest label of each anchor, visiting every pair."""
    found = []
    for a, y in enumerate(labels):
        positive, near, negative, far = -1, math.inf, -1, -math.inf
        for i, other in enumerate(labels):
            gap = abs(other - y)
            if i != a and gap < near:
                positive, near = i, gap
            if i != a and gap > far:
                negative, far = i, gap
        found.append((a, positive, negative))
    return found


def loop_distance(distance: Sequence[Sequence[float]], draw: random.Random) -> Triplets:
    """Nearest row and one of the two farthest of each anchor, visiting every pair."""
    found = []
    for a, row in enumerate(distance):
        ranked = sorted((d, i) for i, d in enumerate(row) if i != a)
        found.append((a, ranked[0][1], draw.choice(ranked[-2:])[1]))
    return found


def loop_distances(z: Tensor) -> list[list[float]]:
    """Distance of every pair of embeddings, a pair at a time."""
    return [[float((x - y).norm()) for y in z] for x in z]


def loop_classes(
    d: list[list[float]], classes: Sequence[int], draw: random.Random, *, soft: bool
) -> Triplets:
    """Semi-hard or soft-hard triplets, visiting every pair."""
    found = []
    for a, row in enumerate(d):
        same = [i for i, c in enumerate(classes) if c == classes[a] and i != a]
        other = [i for i, c in enumerate(classes) if c != classes[a]]
        if soft:
            nearest, farthest = min(row[i] for i in other), max(row[i] for i in same)
            positive = draw.choice([i for i in same if row[i] > nearest] or same)
            wanted = [i for i in other if row[i] < farthest]
        else:
            positive = draw.choice(same)
            wanted = [i for i in other if row[positive] < row[i] < row[positive] + MARGIN]
        found.append((a, positive, draw.choice(wanted or other)))
    return found


def loop_loss(z: Tensor, triplets: Triplets) -> Tensor:
    """Triplet loss, a triplet at a time."""
    terms = []
    for a, p, n in triplets:
        near, far = (z[a] - z[p]).square().sum(), (z[a] - z[n]).square().sum()
        terms.append(torch.relu(near - far + MARGIN))
    return torch.stack(terms).mean()


def cases(batch: int) -> dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Return the whole-batch loss and the loop of each miner."""
    g = torch.Generator().manual_seed(batch)
    draw = random.Random(batch)  # noqa: S311 - which triplet is drawn is no secret
    labels = 15.7 + 8.1 * torch.randn(batch, generator=g)
    classes = (labels > 18).long()
    ecgs = torch.randn(batch, 40, generator=g)
    distance = torch.cdist(ecgs, ecgs)
    plain_distance, plain_labels, plain_classes = distance.tolist(), labels.tolist(), classes.tolist()

    def loop_by_class(z: Tensor, *, soft: bool) -> Tensor:
        return loop_loss(z, loop_classes(loop_distances(z.detach()), plain_classes, draw, soft=soft))

    return {
        "labels": (
            lambda z: triplet_loss(z, label_distance_triplets(labels)),
            lambda z: loop_loss(z, loop_labels(plain_labels)),
        ),
        "distance": (
            lambda z: triplet_loss(z, distance_triplets(distance, generator=g)),
            lambda z: loop_loss(z, loop_distance(plain_distance, draw)),
        ),
        "semihard": (
            lambda z: triplet_loss(z, semihard_triplets(embedding_distances(z), classes, generator=g)),
            lambda z: loop_by_class(z, soft=False),
        ),
        "softhard": (
            lambda z: triplet_loss(z, softhard_triplets(embedding_distances(z), classes, generator=g)),
            lambda z: loop_by_class(z, soft=True),
        ),
    }


def step(loss: Callable[[Tensor], Tensor], z: Tensor, repeats: int) -> Callable[[], float]:
    """Return a case: seconds of one mining, loss and gradient, averaged over some."""

    def once() -> None:
        for _ in range(repeats):
            z.grad = None
            torch.autograd.backward(loss(z))

    return lambda: seconds(once) / repeats


def main(
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None, rounds: int = 9
) -> None:
    """Measure, print the table, and write it."""
    torch.set_num_threads(1)
    said: dict[str, list[float]] = {}
    ratios: dict[str, float] = {}
    for batch in (64, 128):
        z = torch.randn(batch, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
        made = cases(batch)
        torch.testing.assert_close(made["labels"][0](z), made["labels"][1](z))
        runs: dict[str, Callable[[], float]] = {}
        for name, (whole, loop) in made.items():
            runs[f"{name} {batch}"] = step(whole, z, 20)
            runs[f"{name} {batch}, loop"] = step(loop, z, 1)
        times = take_turns(runs, rounds=rounds)
        for name in made:
            ratios[f"{name} {batch}"] = ratio(times, f"{name} {batch}, loop", f"{name} {batch}")
        said |= times
    middle = medians(said)
    for name, value in ratios.items():
        print(
            f"{name:14} {1e3 * middle[name]:7.2f} ms   loop {1e3 * middle[name + ', loop']:8.2f} ms   x{value:.1f}"
        )
    if out is not None:
        write_json(
            out,
            {
                **machine("torch", "numpy"),
                "threads": torch.get_num_threads(),
                "width": WIDTH,
                "loop_by_whole_batch": ratios,
                "seconds": {
                    name: {"median": middle[name], "rounds": values} for name, values in said.items()
                },
            },
        )


if __name__ == "__main__":
    typer.run(main)
