"""From shards to a GPU without a wait: threads gather into pinned buffers, a stream of its own copies them.

Counts travel as int16 and become millivolts on the device; shift, noise and lead masks are drawn there too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ecgedge_train.dataset import EcgDataset


def feed(
    data: EcgDataset, order: list[np.ndarray[Any, Any]], device: torch.device, *, threads: int, depth: int = 8
) -> Iterator[Tensor]:
    """Yield the counts of each batch, (B, 12, T) int16 on `device`; all batches have the size of the first."""
    cuda = device.type == "cuda"
    depth = min(depth, len(order))
    shape = (len(order[0]), 12, data.info.window_samples)
    buffers = [torch.empty(shape, dtype=torch.int16, pin_memory=cuda) for _ in range(depth)]
    # By a buffer's place: what tells that the batch in it has been copied.
    copied: dict[int, torch.cuda.Event] = {}
    stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def load(i: int) -> Tensor:
        slot = i % depth
        if slot in copied:
            copied[slot].synchronize()  # the batch that was here before has left the buffer
        data.gather(order[i], np.int16, out=buffers[slot].numpy())
        return buffers[slot]

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Tensor]] = deque(pool.submit(load, i) for i in range(depth))
        for i in range(len(order)):
            counts = waiting.popleft().result()
            with torch.cuda.stream(stream) if stream is not None else nullcontext():
                on_device = counts.to(device, non_blocking=True) if cuda else counts.clone()
            if stream is not None:
                copied[i % depth] = stream.record_event()
                torch.cuda.current_stream(device).wait_stream(stream)
                # The allocator must not give the memory away while the step still reads it.
                on_device.record_stream(torch.cuda.current_stream(device))
            if i + depth < len(order):
                waiting.append(pool.submit(load, i + depth))
            yield on_device


def device_views(
    counts: Tensor, *, lsb_mv: float, generator: torch.Generator, max_shift: int = 125, noise_mv: float = 0.01
) -> tuple[Tensor, Tensor]:
    """Scale, shift (zeros come in), add noise and drop leads; everything is drawn by a generator on the device.

    Parameters
    ----------
    counts
        (B, 12, T) int16.
    lsb_mv
        Millivolts a count.
    generator
        On the device of `counts`.
    max_shift, noise_mv
        Largest shift in samples; standard deviation of the noise.

    Returns
    -------
    tuple of Tensor
        (B, 12, T) float32 mV and (B, 12) presence.
    """
    batch, leads, n = counts.shape
    where = counts.device
    shift = torch.randint(-max_shift, max_shift + 1, (batch, 1), device=where, generator=generator)
    source = torch.arange(n, device=where) - shift
    inside = (source >= 0) & (source < n)
    index = source.clamp_(0, n - 1)[:, None, :].expand(batch, leads, n)
    kept = torch.rand(batch, leads, device=where, generator=generator) < 0.5
    kept |= ~kept.any(dim=1, keepdim=True)
    x = counts.gather(2, index) * lsb_mv
    x = torch.where(inside[:, None, :], x, 0.0)
    x += noise_mv * torch.randn(x.shape, device=where, generator=generator)
    presence = kept.float()
    return x * presence[:, :, None], presence
