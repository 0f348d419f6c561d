"""Structured pruning: whole channels of an EdgeNet or a ResNet18 go, until the network takes no more work than it may.

Molchanov et al., "Importance estimation for neural network pruning", CVPR 2019 (arXiv:1906.10771), eq. 8 with a gate
behind each batch norm ("Taylor-FO-BN"). Symbols: a gate g = 1 multiplies channel m behind its norm, gamma * x + beta;
E is the loss of a batch.

    importance(m) = mean over batches of (dE/dg_m)^2,    dE/dg_m = gamma * dE/dgamma + beta * dE/dbeta

Channels that an addition joins (`channels.py`) share a gate, so their terms are summed before the square, and they stay
or go together. A channel whose norms are 0 puts out 0 and has the importance 0: the
network without it is the same function.

Channels go in groups of four, which is how engines lay them out; the next to go is the group with the least importance
for each multiplication that it saves. The work is what `onnx_file.graph_cost` counts on the exported graph.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch import Tensor, nn

from ecgedge.errors import UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_export.channels import PRUNABLE, PRUNABLE_RECIPES, Kept, gates, with_widths, without_channels
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx, graph_cost
from ecgedge_train.batches import TRAIN_STREAM, BatchSource, make_views, step_generator
from ecgedge_train.checkpoint import (
    DATA_FILE,
    ENVIRONMENT_FILE,
    MODEL_FILE,
    RECIPE_FILE,
    save_tensors,
    write_text,
)
from ecgedge_train.dataset.index import file_sha256
from ecgedge_train.inference import TrainingData
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.objectives import build_objective
from ecgedge_train.recipe import (
    CombinedObjective,
    ObjectiveRecipe,
    Recipe,
    distillation_of,
    to_toml,
)
from ecgedge_train.run import Run
from ecgedge_train.session import load_encoder, load_heads

PRUNED_FOLDER: Final = "pruned"
GROUP: Final = 4
_BATCHES: Final = 16


def prune_run(start: Run, recipe: Recipe, data: TrainingData, folder: Path, *, macs: float) -> None:
    """Prune a run's encoder and leave it, not yet fine-tuned, as a run in `folder`.

    Parameters
    ----------
    start
        Whose weights are pruned; its encoder must be an EdgeNet or a ResNet18.
    recipe
        Of the student that goes on from it, with the encoder as it is before; its objective judges the channels.
    data
        With the labels that the objective wants.
    folder
        Where to; what is there is kept if it was made from the same weights for the same target.
    macs
        At most so many multiplications a window, with all 12 leads.

    Raises
    ------
    UsageError
        If the encoder is another, the target cannot be reached, or `folder` holds something else.
    """
    encoder = start.model.encoder
    if not isinstance(encoder, PRUNABLE) or not isinstance(recipe.encoder, PRUNABLE_RECIPES):
        raise UsageError(
            f"{start.path}: only EdgeNet and ResNet18 can be pruned, and its encoder is {start.recipe.encoder.name}; "
            "distil it into one of these first"
        )
    facts = {
        "pruned_from": start.path.name,
        "weights_sha256": file_sha256(start.path / MODEL_FILE),
        "macs": macs,
    }
    if _is_done(folder, facts):
        return
    model = build_model(recipe)
    load_encoder(model, recipe.encoder, start.path)
    load_heads(model, start.path)
    work = Work(model, recipe.input.window_samples)
    kept = choose(importance(model, recipe, data), work, macs=macs)
    pruned = replace(recipe, encoder=replace(recipe.encoder, widths=tuple(len(k) for k in kept)))
    smaller = build_model(pruned)
    smaller.heads.load_state_dict(model.heads.state_dict())
    smaller.encoder.load_state_dict(without_channels(encoder, kept))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / DATA_FILE, json.dumps(data.info.for_run(), indent=1) + "\n")
    write_text(folder / ENVIRONMENT_FILE, json.dumps(facts, indent=1) + "\n")
    write_text(folder / RECIPE_FILE, to_toml(pruned))
    save_tensors(folder / MODEL_FILE, smaller.state_dict())


def _is_done(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Say whether the folder holds the finished work; another's is refused."""
    if not (folder / MODEL_FILE).is_file():
        return False
    known = json.loads((folder / ENVIRONMENT_FILE).read_text("utf-8"))
    if known != facts:
        raise UsageError(f"{folder} was pruned from {known}, not from {dict(facts)}; choose another --out")
    return True


def importance(
    model: EcgModel, recipe: Recipe, data: TrainingData, *, batches: int = _BATCHES
) -> list[Tensor]:
    """Return (channels,) importances for each of the encoder's widths, over some batches of training views."""
    objective = build_objective(_comparable(recipe, model.encoder.embedding_size))
    source = BatchSource(data, "train", objective, replace(recipe.data, accumulate=1), seed=recipe.seed)
    device = torch.device("cpu")
    if not isinstance(model.encoder, PRUNABLE):
        raise TypeError("only EdgeNet and ResNet18 have gates")
    norms = gates(model.encoder)
    scores = [torch.zeros_like(group[0].weight) for group in norms]
    model.eval()
    for step in range(batches):
        generator = step_generator(recipe.seed, TRAIN_STREAM, step)
        (batch,) = source.load(step)
        x, presence = make_views(batch, recipe, generator=generator, device=device)
        model.zero_grad(set_to_none=True)
        features = model(x, presence)
        loss = objective.loss({"embedding": features.embedding, **features.outputs}, batch.targets, generator)
        torch.autograd.backward(loss)
        for score, group in zip(scores, norms, strict=True):
            score += _gate_gradient(group).square() / batches
    model.zero_grad(set_to_none=True)
    return scores


def _gate_gradient(group: Sequence[nn.BatchNorm2d]) -> Tensor:
    terms = []
    for norm in group:
        if norm.weight.grad is None or norm.bias.grad is None:
            raise ValueError("the loss does not depend on this norm")
        terms.append(norm.weight.detach() * norm.weight.grad + norm.bias.detach() * norm.bias.grad)
    return torch.stack(terms).sum(dim=0)


def _comparable(recipe: Recipe, embedding_size: int) -> ObjectiveRecipe:
    """Return the objective without the embedding's own term where a map that is not trained yet would stand between."""
    objective, part = recipe.objective, distillation_of(recipe.objective)
    if part is None:
        raise TypeError("channels are judged by what a teacher said")
    if part.teacher_embedding_size == embedding_size:
        return objective
    usable = replace(part, embedding_weight=0.0, relation_weight=part.relation_weight or 1.0)
    if isinstance(objective, CombinedObjective):
        return replace(objective, parts=tuple(usable if p is part else p for p in objective.parts))
    return usable


class Work:
    """Counts the multiplications of a model's 12-lead network with other widths, from one export."""

    def __init__(self, model: EcgModel, window_samples: int) -> None:
        if not isinstance(model.encoder, PRUNABLE):
            raise TypeError("only EdgeNet and ResNet18 have widths")
        network = fold_lead_set(model, STANDARD_LEADS, None)
        self._encoder = model.encoder
        self._graph = export_onnx(
            network,
            n_leads=len(STANDARD_LEADS),
            window_samples=window_samples,
            output_names=network.output_names,
            metadata={},
        )
        for tensor in self._graph.graph.initializer:
            if len(tensor.dims) > 1:
                tensor.CopyFrom(_shape_alone(tensor, tensor.dims))

    def macs(self, widths: Sequence[int]) -> int:
        """Return what `graph_cost` counts once the weights have the shapes of these widths."""
        with torch.device("meta"):
            shapes = {name: t.shape for name, t in with_widths(self._encoder, widths).state_dict().items()}
        graph = onnx.ModelProto()
        graph.CopyFrom(self._graph)
        for tensor in graph.graph.initializer:
            shape = shapes.get(tensor.name.removeprefix("tail.encoder."))
            if shape is not None:
                tensor.CopyFrom(_shape_alone(tensor, shape))
        return graph_cost(graph).macs


def _shape_alone(tensor: onnx.TensorProto, dims: Iterable[int]) -> onnx.TensorProto:
    """Return a weight without its numbers, which counting does not need."""
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=dims)


@dataclass(frozen=True)
class _Unit:
    """Channels of one width that go together, and what losing them costs for each multiplication saved."""

    width: int
    channels: Tensor
    price: float


def choose(scores: Sequence[Tensor], work: Work, *, macs: float, group: int = GROUP) -> Kept:
    """Return the channels that stay: the dearest that take no more than `macs`, at least a group of each width.

    Parameters
    ----------
    scores
        From `importance`.
    work, macs
        What counts, and how much there may be.
    group
        Channels go so many at a time; odd ones beyond a multiple of it go first.

    Raises
    ------
    UsageError
        If nothing has to go, or not enough can.
    """
    widths = [len(score) for score in scores]
    full = work.macs(widths)
    if macs >= full:
        raise UsageError(f"the network takes {full / 1e6:.2f} million MACs already; give --macs below that")
    units = sorted(_units(scores, widths, full, work, group), key=lambda unit: unit.price)

    def left(gone: int) -> list[int]:
        remaining = list(widths)
        for unit in units[:gone]:
            remaining[unit.width] -= len(unit.channels)
        return remaining

    least = work.macs(left(len(units)))
    if least > macs:
        raise UsageError(
            f"--macs {macs / 1e6:.2f} million cannot be reached: the least is {least / 1e6:.2f} million"
        )
    gone = bisect_left(range(len(units) + 1), -macs, key=lambda n: -work.macs(left(n)))
    stay = [torch.ones(width, dtype=torch.bool) for width in widths]
    for unit in units[:gone]:
        stay[unit.width][unit.channels] = False
    return tuple(mask.nonzero()[:, 0] for mask in stay)


def _units(
    scores: Sequence[Tensor], widths: Sequence[int], full: int, work: Work, group: int
) -> Iterator[_Unit]:
    for i, score in enumerate(scores):
        order = torch.argsort(score, stable=True)
        cuts = list(range(len(score) % group or group, len(score), group))
        if not cuts:
            continue
        fewer = [width - (group if i == k else 0) for k, width in enumerate(widths)]
        saved = (full - work.macs(fewer)) / group
        for start, stop in zip([0, *cuts], cuts, strict=False):
            channels = order[start:stop]
            yield _Unit(i, channels, float(score[channels].mean()) / saved)
