"""Training throughput of the encoders and the share that augmentation and lead masking take.

Run: OMP_NUM_THREADS=1 python benchmarks/train_step.py [--out benchmarks/results/train_step.json]
Random windows in memory, float32, batch 64, one optimiser step; medians of interleaved rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch

from ecgedge_train.batches import Batch, make_views, step_generator
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.objectives import Targets, build_objective
from ecgedge_train.optimizer import build_optimizer
from ecgedge_train.recipe import Recipe, load_recipe
from ecgedge_train.runlog import environment

BATCH = 64
ROUNDS = 7
CPU = torch.device("cpu")


def step_of(recipe: Recipe, batch: Batch) -> Callable[[], None]:
    """Return one whole optimiser step: views, forward, backward, update."""
    model: EcgModel = build_model(recipe).train()
    objective, optimizer = build_objective(recipe.objective), build_optimizer(model, recipe.optimizer)

    def step() -> None:
        x, presence = make_views(batch, recipe, generator=step_generator(1, 0, 0), device=CPU)
        optimizer.zero_grad()
        objective.loss(model(x, presence).outputs, batch.targets).backward()
        optimizer.step()

    return step


def main() -> None:
    """Measure, print, and write JSON if asked."""
    g = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.randn(BATCH, 12, 2500, generator=g),
        torch.ones(BATCH, 12, dtype=torch.bool),
        Targets(15 + 8 * torch.randn(BATCH, 1, generator=g), torch.arange(BATCH)),
    )
    edge = load_recipe("sim_mpcwp")
    cases: dict[str, Callable[[], object]] = {
        "edgenet step": step_of(edge, batch),
        "of it views (shift, noise, leads)": lambda: make_views(
            batch, edge, generator=step_generator(1, 0, 0), device=CPU
        ),
        "resnet18 step": step_of(load_recipe("jeong_resnet18_sim"), batch),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, run in cases.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:36s} {1000 * seconds:8.1f} ms  {BATCH / seconds:8.0f} ECG/s")
    print(f"{'edgenet over resnet18':36s} {medians['resnet18 step'] / medians['edgenet step']:8.1f} x")
    if "--out" in sys.argv:
        facts = {
            "date": datetime.now(timezone.utc).isoformat(),
            **environment(CPU),
            "batch": BATCH,
            "seconds": medians,
        }
        Path(sys.argv[sys.argv.index("--out") + 1]).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
