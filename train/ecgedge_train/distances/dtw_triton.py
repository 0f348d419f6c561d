"""DTW of a batch on an NVIDIA GPU: what `dtw_matrix` computes, for windows that are already on the card.

Import this module only where a CUDA tensor is to be worked on: it needs triton, which comes with PyTorch's CUDA builds.

One program takes one pair and walks the anti-diagonals of D; the band's cells on one anti-diagonal wait only for
the two before it, so they are one vector. With k = i - j and radius r, an anti-diagonal d = i + j holds the k of its
own parity: k = -r, -r+2, ..., r if d and r agree ("wide"), k = -r+1, ..., r-1 otherwise ("narrow"). Counted by q
from the left of each,

    D(i-1, j-1)  is two anti-diagonals back, at the same q;
    D(i-1, j) and D(i, j-1)  are one back: at q - 1 and q for a wide one, at q and q + 1 for a narrow one.

So the state is two vectors in registers, and each step shifts one of them by one place; nothing of D goes to memory.
With the defaults (10 s at 250 Hz, paa 4, band 5 %: n = 625, r = 31) an anti-diagonal is 32 cells, exactly one warp,
and the shift is one shuffle without a barrier. Consecutive lanes read consecutive samples of both ECGs, one
ascending, one descending: a read is one or two cache lines, and 31 of its 32 values are in L1 from the step before.
The batch itself (2 MB) stays in L2. 64 ECGs are 2,016 warps of 1,249 steps, about 15 on each of an H100's 132
multiprocessors, all resident at once, so that they hide each other's latency.

Not measured: any time on a GPU. The loop is 164 instructions a step and warp, so an H100 or H200 needs half a
millisecond for the default if it issues one in every cycle it can; the exact distance (band 10 %, full rate: 256
places an anti-diagonal, two warps a pair, the shift through shared memory and a barrier) needs tens of milliseconds.
What was checked: the kernel gives the CPU's numbers under triton's interpreter, and compiles for compute capability
9.0 to what is described here, with 63 registers (96 for the exact distance) and no spill.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ecgedge_train.distances.dtw import band_radius
from ecgedge_train.distances.l2 import scale_to_all_leads

MIN_WIDTH = 32
CELLS_A_WARP = 128
"""Four cells a thread: fewer warps meet at the barrier of a wide band's shift."""


def dtw_matrix_cuda(
    windows: Tensor, presence: Tensor | None = None, *, band_fraction: float = 0.05, paa: int = 4
) -> Tensor:
    """Return the DTW distance of every pair, as `ecgedge_train.distances.dtw.dtw_matrix`, on the windows' device.

    Parameters
    ----------
    windows
        (B, L, T) float32 mV on a CUDA device (on the CPU only under TRITON_INTERPRET=1).
    presence
        (B, L), 1 where a lead was measured; None: all were.
    band_fraction, paa
        As `dtw_matrix`.

    Returns
    -------
    Tensor
        (B, B) float32; symmetric, zeros on the diagonal.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `band_fraction` or `paa` is out of range.
    """
    if windows.dim() != 3 or not 1 <= paa <= windows.shape[-1]:
        raise ValueError(
            f"windows have shape {tuple(windows.shape)}, paa is {paa}; expected (batch, leads, samples), paa <= samples"
        )
    batch, leads = windows.shape[:2]
    measured = windows.new_ones(batch, leads) if presence is None else (presence > 0).to(windows)
    if measured.shape != (batch, leads):
        raise ValueError(f"presence has shape {tuple(measured.shape)}; expected {(batch, leads)}")
    # The last, shorter group is averaged on its own, which is what ceil_mode does.
    frames = torch.nn.functional.avg_pool1d(windows, paa, ceil_mode=True).contiguous()
    n = frames.shape[-1]
    radius = band_radius(n, band_fraction)
    width = max(MIN_WIDTH, triton.next_power_of_2(radius + 1))
    pairs = torch.triu_indices(batch, batch, offset=1, dtype=torch.int32, device=windows.device)
    squared = windows.new_zeros(batch, batch)
    n_pairs = pairs.shape[1]
    if n_pairs > 0:
        _kernel[(n_pairs,)](
            frames,
            measured.contiguous(),
            pairs,
            squared,
            n,
            radius,
            n_pairs,
            batch,
            LEADS=leads,
            WIDTH=width,
            MASKED=presence is not None,
            num_warps=min(max(width // CELLS_A_WARP, 1), 16),
            enable_fp_fusion=True,
        )
    distances = scale_to_all_leads((squared * paa).sqrt(), measured)
    return distances.fill_diagonal_(0.0)


def _dtw_of_pair(
    frames: tl.tensor,
    measured: tl.tensor,
    pairs: tl.tensor,
    squared: tl.tensor,
    n: tl.tensor,
    radius: tl.tensor,
    n_pairs: tl.tensor,
    batch: tl.tensor,
    LEADS: tl.constexpr,  # noqa: N803 - triton's way to mark what is fixed at compilation
    WIDTH: tl.constexpr,  # noqa: N803 - the same
    MASKED: tl.constexpr,  # noqa: N803 - the same
) -> None:
    """Program p writes D(n, n) of pair p into both halves of `squared`; symbols as above."""
    p = tl.program_id(0)
    a = tl.load(pairs + p)
    b = tl.load(pairs + n_pairs + p)
    ecg_a = frames + a.to(tl.int64) * LEADS * n
    ecg_b = frames + b.to(tl.int64) * LEADS * n
    q = tl.arange(0, WIDTH)
    before = tl.full((WIDTH,), float("inf"), tl.float32)
    last = tl.full((WIDTH,), float("inf"), tl.float32)
    for d in range(2 * n - 1):
        narrow = (d + radius) & 1
        k = 2 * q - radius + narrow
        i = (d + k) >> 1
        j = (d - k) >> 1
        inside = (k <= radius) & (i >= 0) & (i < n) & (j >= 0) & (j < n)
        cost = tl.zeros((WIDTH,), tl.float32)
        for lead in tl.static_range(LEADS):
            at_i = tl.load(ecg_a + lead * n + i, mask=inside, other=0.0)
            at_j = tl.load(ecg_b + lead * n + j, mask=inside, other=0.0)
            difference = at_i - at_j
            if MASKED:
                difference *= tl.load(measured + a * LEADS + lead) * tl.load(measured + b * LEADS + lead)
            cost += difference * difference
        beside = q + 2 * narrow - 1
        exists = (beside >= 0) & (beside < WIDTH)
        shifted = tl.gather(last, tl.where(exists, beside, 0), 0)
        best = tl.minimum(tl.minimum(last, tl.where(exists, shifted, float("inf"))), before)
        best = tl.where(d == 0, 0.0, best)
        before = last
        last = tl.where(inside, cost + best, float("inf"))
    # The last anti-diagonal is the one cell D(n, n); all its other places are infinite.
    result = tl.min(last, axis=0)
    tl.store(squared + a * batch + b, result)
    tl.store(squared + b * batch + a, result)


_kernel = triton.jit(_dtw_of_pair)
