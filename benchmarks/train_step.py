"""Training step of the encoders against the matrix peak of the same core: fp32 and bf16.

Run: OMP_NUM_THREADS=1 python benchmarks/train_step.py [--batch 32] [--rounds 7] [--out FILE]

One step is forward, loss, backward and AdamW on random windows in memory; one thread; the cases take turns. FLOPs
are counted operator by operator (torch.utils.flop_counter), 2 a multiply-add, forward and backward, convolutions
and matrices only: norms, ReLU, dropout and the optimiser are time, not FLOPs.

Two peaks are measured in each turn. `sgemm` is torch's 2048 x 2048 matrix product, the usual one, but on AMD
processors MKL leaves half of AVX-512 unused. `conv` is the fastest fp32 kernel of oneDNN, a convolution of 7 taps
from 256 to 256 channels: what the core can do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import common
import torch
import typer
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ecgedge_train.encoders import EdgeNet, ResNet18
from ecgedge_train.encoders.channels_last import to_channels_last

SAMPLES = 2500
GEMM = 2048
CONV_BATCH, CONV_CHANNELS, CONV_SAMPLES, CONV_TAPS = 16, 256, 628, 7


def training_step(encoder: nn.Module, batch: int, *, bf16: bool) -> Callable[[], None]:
    """Return one optimiser step of an encoder on one batch."""
    to_channels_last(encoder)
    encoder.train()
    g = torch.Generator().manual_seed(0)
    ecg_mv, presence = torch.randn(batch, 12, SAMPLES, generator=g), torch.ones(batch, 12)
    wanted = torch.randn(batch, 128, generator=g)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embedding = encoder(ecg_mv, presence)
        loss = functional.mse_loss(embedding.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def flops(step: Callable[[], None]) -> int:
    """Count the convolution and matrix FLOPs of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def peaks() -> dict[str, tuple[Callable[[], object], int]]:
    """Return the kernels that stand for the core's limit, with their FLOPs."""
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(GEMM, GEMM, generator=g), torch.randn(GEMM, GEMM, generator=g)
    a16, b16 = a.bfloat16(), b.bfloat16()
    x = torch.randn(CONV_BATCH, CONV_CHANNELS, 1, CONV_SAMPLES, generator=g)
    w = torch.randn(CONV_CHANNELS, CONV_CHANNELS, 1, CONV_TAPS, generator=g)
    x, w = x.to(memory_format=torch.channels_last), w.to(memory_format=torch.channels_last)
    x16, w16 = x.bfloat16(), w.bfloat16()
    conv = partial(functional.conv2d, padding=(0, CONV_TAPS // 2))
    gemm_flops = 2 * GEMM**3
    conv_flops = 2 * CONV_BATCH * CONV_CHANNELS**2 * CONV_SAMPLES * CONV_TAPS
    return {
        "sgemm": (lambda: a @ b, gemm_flops),
        "bf16 gemm": (lambda: a16 @ b16, gemm_flops),
        "conv": (lambda: conv(x, w), conv_flops),
        "bf16 conv": (lambda: conv(x16, w16), conv_flops),
    }


def where_the_time_goes(step: Callable[[], None], *, n: int = 8) -> dict[str, float]:
    """Return the share of a step of its slowest operators."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    events = sorted(seen.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    return {e.key: e.self_cpu_time_total / total for e in events[:n]}


def main(
    batch: int = 32,
    rounds: int = 7,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Measure, print the table, and write it."""
    torch.set_num_threads(1)
    steps = {
        f"{name} {'bf16' if bf16 else 'fp32'}": training_step(make(), batch, bf16=bf16)
        for name, make in (("resnet18", ResNet18), ("edgenet s", EdgeNet))
        for bf16 in (False, True)
    }
    runs: dict[str, tuple[Callable[[], object], int]] = {
        **{name: (step, flops(step)) for name, step in steps.items()},
        **peaks(),
    }
    said = common.take_turns(
        {name: partial(flops_per_second, run, count) for name, (run, count) in runs.items()},
        rounds=rounds,
    )
    gflops = {name: value / 1e9 for name, value in common.medians(said).items()}
    ecg_per_s = {name: gflops[name] * 1e9 * batch / runs[name][1] for name in steps}
    ratios = {
        f"{name} of {peak}": common.ratio(said, name, peak)
        for name in steps
        for peak in (("bf16 gemm", "bf16 conv") if name.endswith("bf16") else ("sgemm", "conv"))
    }
    ratios |= {
        f"{n} bf16 over fp32": common.ratio(said, f"{n} bf16", f"{n} fp32") for n in ("resnet18", "edgenet s")
    }
    for name, value in gflops.items():
        rate = (
            f"{ecg_per_s[name]:8.1f} ECG/s {runs[name][1] / batch / 1e9:6.2f} GFLOP/ECG"
            if name in steps
            else ""
        )
        print(f"{name:<18} {value:8.1f} GFLOP/s {rate}")
    for name, value in ratios.items():
        print(f"{name:<30} {value:6.2f}")
    shares = {name: where_the_time_goes(step) for name, step in steps.items()}
    for name, share in shares.items():
        print(
            f"{name}: " + ", ".join(f"{op.removeprefix('aten::')} {part:.0%}" for op, part in share.items())
        )
    if out is not None:
        result = {
            **common.machine("torch"),
            "threads": 1,
            "batch": batch,
            "gflop_per_ecg": {name: runs[name][1] / batch / 1e9 for name in steps},
            "gflop_per_s": gflops,
            "ecg_per_s": ecg_per_s,
            "ratios": ratios,
            "share_of_operators": shares,
            "rounds_flop_per_s": said,
        }
        common.write_json(out, result)


def flops_per_second(run: Callable[[], object], count: int) -> float:
    """Run once and return the rate."""
    return count / common.seconds(run)


if __name__ == "__main__":
    typer.run(main)
