"""Several processes: who they are, gathering with gradients, batch norm over all of them.

Started by `torchrun`; gloo on CPUs, NCCL on GPUs. Under DistributedDataParallel gradients are averaged over the W
processes, so a loss here is the mean over a process's own rows, contrasted with the rows of all. Gathering is a
function with a gradient: with a detached gather the loss value is still right and its gradient is half of what it
should be, which no loss curve shows.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from ecgedge_train.losses.gather import Gather

_PATIENCE: Final = timedelta(hours=3)
"""How long processes wait for one another: the first one evaluates and calibrates alone."""


@dataclass(frozen=True)
class World:
    """One process among all: `rank` of `size`, and `local_rank` on its machine (its GPU)."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return this process's share of n items of a batch; `n` must be a multiple of the size.

        Raises
        ------
        ValueError
            If it is not: unequal shares would weight some records more.
        """
        if n % self.size:
            raise ValueError(f"{n} items cannot be shared equally by {self.size} processes")
        share = n // self.size
        return slice(self.rank * share, (self.rank + 1) * share)


_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Let this process do something by itself, such as an evaluation: inside, the world is one of one."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def current_world() -> World:
    """Return the process group that is open, or a world of one."""
    if _ALONE.get() or not (distributed.is_available() and distributed.is_initialized()):
        return World()
    return World(distributed.get_rank(), distributed.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def open_world(device_type: str) -> Iterator[World]:
    """Join the process group that `torchrun` announces in the environment; without one, a world of one.

    A group that the caller has opened is used as it is and left open.
    """
    announced = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not announced or distributed.is_initialized():
        yield current_world()
        return
    if device_type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield current_world()
    finally:
        leave_world()


def leave_world() -> None:
    """Leave the process group; whatever uses it should be out of scope.

    What holds it in a cycle of references, as DistributedDataParallel does, goes first: a group that outlives this call
    is torn down by the interpreter's end, and now and then that ends a process which has done its work with an abort.
    """
    gc.collect()
    distributed.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if current_world().size > 1:
        distributed.barrier()


class _Gather(torch.autograd.Function):
    """(b, ...) of each rank to (W b, ...) of all, in rank order; the gradient of each block is summed to its owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        own = x.contiguous()
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        distributed.all_reduce(total)
        start = distributed.get_rank() * ctx.rows
        return total[start : start + ctx.rows]


class _Sum(torch.autograd.Function):
    """The sum over all ranks; so is its gradient."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows of all processes in rank order, with gradients; `x` itself in a world of one."""
    if current_world().size == 1:
        return x
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return gathered


def world_gather() -> Gather:
    """Return what contrastive losses need to see the rows of all processes."""
    return Gather(current_world().rank, gather_rows)


def sum_over_world(x: Tensor) -> Tensor:
    """Return the sum over all processes, with gradients."""
    if current_world().size == 1:
        return x
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]  # torch too
    return total


def mean_over_world(mean: Tensor, count: int) -> Tensor:
    """Weigh the mean of this process's `count` values so that the average over processes is the mean of all values.

    Gradients are averaged over processes; where one knows fewer labels than another, plain means would give its
    labels more weight. Every process must call this, with a count of 0 too.
    """
    world = current_world().size
    if world == 1:
        return mean
    known = torch.tensor(float(count), device=mean.device)
    return mean * (known * world / sum_over_world(known).clamp(min=1))


def agree(value: int) -> bool:
    """Return whether all processes have the same value."""
    world = current_world().size
    if world == 1:
        return True
    found: list[int | None] = [None] * world
    distributed.all_gather_object(found, value)
    return len(set(found)) == 1


class GatheredBatchNorm(nn.Module):
    """Batch norm whose statistics are those of the batch of all processes; for CPUs, where SyncBatchNorm is not.

    Takes over the parameters and buffers of `norm`, under the same names, so that weights load either way.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, 0.1 if norm.momentum is None else norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same, over the rows of all processes in training."""
        if not self.training:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        kind = x.dtype
        # Under autocast x is bfloat16, whose sums would lose the mean's third digit.
        x = x.to(torch.promote_types(kind, torch.float32))
        axes = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        n = x.numel() // x.shape[1] * current_world().size
        mean = sum_over_world(x.sum(axes)) / n
        centred = x - mean.view(shape)
        variance = sum_over_world(centred.square().sum(axes)) / n
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            self.num_batches_tracked += 1
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape)).to(kind)


def synchronise_batch_norms(model: nn.Module, device_type: str) -> nn.Module:
    """Make every batch norm of the model count the rows of all processes.

    With statistics of its own, each process could tell its views from those of the others: the contrast leaks.
    """
    if device_type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch too
        return converted
    for name, child in list(model.named_children()):
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(model, name, GatheredBatchNorm(child))
        else:
            synchronise_batch_norms(child, device_type)
    return model
