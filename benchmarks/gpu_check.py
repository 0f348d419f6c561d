"""What a GPU does with this toolkit: training steps, DTW, loading, mining, an epoch. For `make gpu-check`.

Run: python benchmarks/gpu_check.py [--compile] [--out FILE]       on a machine with a CUDA card
     TRITON_INTERPRET=1 python benchmarks/gpu_check.py --device cpu --tiny --out FILE
                                                                   a rehearsal: the same code, meaningless numbers

Without a card nothing is measured and nothing is written. With one, the result goes to
benchmarks/results/gpu_check_<card>_<date>.json. A part that fails leaves its error there, the others go on, and the
exit code is 1. Times are medians of rounds of several steps, with a synchronisation at both ends of a round.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import common
import numpy as np
import torch
import typer
from gpu_feed import device_views, feed
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ecgedge.bundle import load_bundle
from ecgedge.errors import EcgedgeError
from ecgedge.runtime import OrtRunner
from ecgedge.runtime.building import Maker, make_engine
from ecgedge.runtime.engines import open_tested
from ecgedge.target import BatchProfile
from ecgedge_export.targets import load_target
from ecgedge_train.encoders import EdgeNet, PclrResNet, ResNet18, RhcNet, W2vEncoder
from ecgedge_train.encoders.channels_last import to_channels_last

SAMPLES = 2500
EPOCH_ECGS = 5_400_000
LSB_MV = 2.0**-12


@dataclass(frozen=True)
class Sizes:
    """How much is measured: on a card, or in the rehearsal."""

    gemm: int
    batches: Mapping[str, int]
    w2v: Literal["base", "tiny"]
    calls: int
    rounds: int
    dtw_ecgs: tuple[int, ...]
    dtw_cpu_ecgs: int
    dtw_samples: int
    mining_ecgs: tuple[int, ...]
    records: int
    loader_batch: int


FULL = Sizes(
    gemm=8192,
    batches={"edgenet_s": 1024, "resnet18": 512, "pclr": 256, "rhcnet": 128, "w2v": 128},
    w2v="base", calls=10, rounds=5, dtw_ecgs=(64, 256, 1024), dtw_cpu_ecgs=64, dtw_samples=SAMPLES,
    mining_ecgs=(64, 256), records=20_000, loader_batch=512,
)  # fmt: skip
TINY = Sizes(
    gemm=64,
    batches={"edgenet_s": 2, "resnet18": 2, "pclr": 2, "rhcnet": 2, "w2v": 2},
    w2v="tiny", calls=1, rounds=1, dtw_ecgs=(2,), dtw_cpu_ecgs=3, dtw_samples=32,
    mining_ecgs=(4,), records=24, loader_batch=4,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Where and how much."""

    device: torch.device
    sizes: Sizes

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the median seconds of a call, after a round of warming up."""
        return self.in_turns({"": run})[""]

    def in_turns(self, runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Return the median seconds of a call of each, taking turns."""

        def one_round(run: Callable[[], object]) -> float:
            self.wait()
            began = time.perf_counter()
            for _ in range(self.sizes.calls):
                run()
            self.wait()
            return (time.perf_counter() - began) / self.sizes.calls

        cases = {name: partial(one_round, run) for name, run in runs.items()}
        return common.medians(common.take_turns(cases, rounds=self.sizes.rounds))


def encoders(sizes: Sizes) -> dict[str, Callable[[], nn.Module]]:
    """Return every encoder's maker."""
    return {
        "edgenet_s": EdgeNet,
        "resnet18": ResNet18,
        "pclr": PclrResNet,
        "rhcnet": RhcNet,
        "w2v": partial(W2vEncoder, size=sizes.w2v),
    }


def training_step(
    encoder: nn.Module, device: torch.device, *, compiled: bool = False
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a step: forward in bf16, loss in fp32, backward, fused AdamW; the loss stays on the device."""
    encoder.to(device)
    to_channels_last(encoder)
    encoder.train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)
    # A rehearsal traces; generating code for a CPU would take minutes.
    backend = "inductor" if device.type == "cuda" else "eager"
    model = torch.compile(encoder, backend=backend) if compiled else encoder

    def step(ecg_mv: Tensor, presence: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            embedding = model(ecg_mv, presence)
        loss = embedding.float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        detached: Tensor = loss.detach()
        return detached

    return step


def random_batch(bench: Bench, n: int, *, samples: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """Return n windows (n, 12, samples) in mV and their presence."""
    g = torch.Generator().manual_seed(0)
    ecg_mv = torch.randn(n, 12, samples, generator=g).cumsum(-1) / 50
    return ecg_mv.to(bench.device), torch.ones(n, 12, device=bench.device)


def measure_peak(bench: Bench) -> dict[str, Any]:
    """Time the bf16 matrix product."""
    n = bench.sizes.gemm
    a, b = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    return {"size": n, "bf16_tflop_per_s": 2 * n**3 / bench.seconds(lambda: a @ b) / 1e12}


def measure_encoder(bench: Bench, name: str, *, compiled: bool) -> dict[str, Any]:
    """Time the training step of an encoder, beside the matrix product."""
    n = bench.sizes.batches[name]
    encoder = encoders(bench.sizes)[name]()
    ecg_mv, presence = random_batch(bench, n)
    few = min(n, 4)
    with FlopCounterMode(display=False) as counter:
        training_step(encoder, bench.device)(ecg_mv[:few], presence[:few])
    flop = counter.get_total_flops() / few
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = training_step(encoder, bench.device, compiled=compiled)
    size = bench.sizes.gemm
    a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    took = bench.in_turns({"step": lambda: step(ecg_mv, presence), "gemm": lambda: a @ b})
    rate, peak = n / took["step"], 2 * size**3 / took["gemm"]
    return {
        "batch": n,
        "compiled": compiled,
        "ecg_per_s": rate,
        "gflop_per_ecg": flop / 1e9,
        "model_tflop_per_s": flop * rate / 1e12,
        "of_bf16_peak": flop * rate / peak,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if bench.device.type == "cuda" else None,
        "seconds_an_epoch_of_5.4M_extrapolated": EPOCH_ECGS / rate,
    }


def measure_determinism(bench: Bench) -> dict[str, Any]:
    """Time ResNet18's step with deterministic algorithms against free choice: what bit-equal resuming costs."""
    ecg_mv, presence = random_batch(bench, bench.sizes.batches["resnet18"])
    step = training_step(ResNet18(), bench.device)

    def run(*, strict: bool) -> None:
        torch.use_deterministic_algorithms(strict, warn_only=True)
        torch.backends.cudnn.benchmark = not strict
        step(ecg_mv, presence)

    try:
        took = bench.in_turns({"free": lambda: run(strict=False), "strict": lambda: run(strict=True)})
    finally:
        torch.use_deterministic_algorithms(mode=False)
        torch.backends.cudnn.benchmark = True
    return {
        "ecg_per_s": {k: len(ecg_mv) / v for k, v in took.items()},
        "slower_by": took["strict"] / took["free"],
    }


def measure_dtw(bench: Bench) -> dict[str, Any]:
    """Cell updates a second of the Triton kernel, default and exact, and how far its distances are from the CPU's."""
    from ecgedge_train.distances.dtw_triton import dtw_matrix_cuda

    found: dict[str, Any] = {}
    for kind, band, paa in (("default", 0.05, 4), ("exact", 0.1, 1)):
        for n in bench.sizes.dtw_ecgs[: 2 if kind == "exact" else None]:
            windows, _ = random_batch(bench, n, samples=bench.sizes.dtw_samples)
            run = partial(dtw_matrix_cuda, windows, band_fraction=band, paa=paa)
            took = bench.seconds(run)
            updates = cells(bench.sizes.dtw_samples, band, paa) * n * (n - 1) // 2
            found[f"{kind}, {n} ECGs"] = {"ms": took * 1e3, "giga_cells_per_s": updates / took / 1e9}
    return found


def measure_dtw_cpu(bench: Bench) -> dict[str, Any]:
    """Measure the same for the numba lanes on one core, and the largest relative difference between the two."""
    from ecgedge_train.distances.dtw import dtw_matrix
    from ecgedge_train.distances.dtw_triton import dtw_matrix_cuda

    n, samples = bench.sizes.dtw_cpu_ecgs, bench.sizes.dtw_samples
    windows, _ = random_batch(bench, n, samples=samples)
    on_cpu = windows.cpu().numpy()
    expected = torch.from_numpy(dtw_matrix(on_cpu))  # the first call compiles
    took = statistics.median(common.seconds(lambda: dtw_matrix(on_cpu)) for _ in range(bench.sizes.rounds))
    got = dtw_matrix_cuda(windows).cpu()
    off = ((got - expected).abs().max() / expected.max()).item()
    if not off < 1e-4:
        raise ArithmeticError(f"GPU and CPU distances differ by {off:.1e} of the largest")
    updates = cells(samples, 0.05, 4) * n * (n - 1) // 2
    return {"ms": took * 1e3, "giga_cells_per_s": updates / took / 1e9, "largest_difference": off}


def cells(samples: int, band_fraction: float, paa: int) -> int:
    """Count the cells of a banded path matrix."""
    from ecgedge_train.distances.dtw import band_radius

    n = -(-samples // paa)
    radius = band_radius(n, band_fraction)
    return n * (2 * radius + 1) - radius * (radius + 1)


def measure_mining(bench: Bench) -> dict[str, Any]:
    """Share of ResNet18's step that DTW, mining and triplets take; the bare step has triplets drawn beforehand."""
    from ecgedge_train.distances.dtw_triton import dtw_matrix_cuda
    from ecgedge_train.losses.triplet import triplet_loss
    from ecgedge_train.miners.distance import distance_triplets

    encoder = ResNet18().to(bench.device).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)

    def step(ecg_mv: Tensor, presence: Tensor, triplets: Tensor | None) -> None:
        if triplets is None:
            distances = dtw_matrix_cuda(ecg_mv)
            triplets = distance_triplets(distances, generator=generator).to(bench.device)
        with torch.autocast(bench.device.type, torch.bfloat16):
            embedding = encoder(ecg_mv, presence)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(triplet_loss(embedding.float(), triplets))
        optimizer.step()

    found = {}
    samples = SAMPLES if bench.sizes is FULL else 32
    for n in bench.sizes.mining_ecgs:
        ecg_mv, presence = random_batch(bench, n, samples=samples)
        ready = distance_triplets(dtw_matrix_cuda(ecg_mv), generator=generator).to(bench.device)
        took = bench.in_turns(
            {
                "bare": partial(step, ecg_mv, presence, ready),
                "mined": partial(step, ecg_mv, presence, None),
            }
        )
        found[f"batch {n}"] = {
            **{f"{name}_ms": value * 1e3 for name, value in took.items()},
            "share_of_the_step": 1 - took["bare"] / took["mined"],
        }
    return found


def measure_loading(bench: Bench) -> dict[str, Any]:
    """GB/s from shards (page cache) to the device, and ECG/s of ResNet18 trained from them, views included."""
    sizes, row_gb = bench.sizes, 12 * SAMPLES * 2 / 1e9
    with tempfile.TemporaryDirectory() as folder:
        data = common.synthetic_dataset(Path(folder), sizes.records)
        from ecgedge_train.dataset import batches

        order = batches(sizes.records, sizes.loader_batch, seed=0, epoch=0, drop_last=True)
        n = len(order) * sizes.loader_batch
        pinned = torch.empty(sizes.loader_batch, 12, SAMPLES, dtype=torch.int16)
        pinned = pinned.pin_memory() if bench.device.type == "cuda" else pinned
        copy_s = bench.seconds(lambda: pinned.to(bench.device, non_blocking=True))
        fed = {}
        for threads in (1, 2, 4, 8):
            fed[threads] = _timed(bench, partial(_drain, bench, data, order, threads))
        best = min(fed, key=lambda k: fed[k])
        train_s = _timed(bench, partial(_train_epoch, bench, data, order, best))
    return {
        "batch": sizes.loader_batch,
        "pinned_copy_gb_per_s": sizes.loader_batch * row_gb / copy_s,
        "shards_to_device_gb_per_s": {str(k): n * row_gb / v for k, v in fed.items()},
        "of_pinned_copy": (n / fed[best]) / (sizes.loader_batch / copy_s),
        "resnet18_ecg_per_s_views_included": n / train_s,
        "seconds_an_epoch_of_5.4M_extrapolated": EPOCH_ECGS * train_s / n,
    }


def _drain(bench: Bench, data: Any, order: list[Any], threads: int) -> None:
    for _ in feed(data, order, bench.device, threads=threads):
        pass


def _train_epoch(bench: Bench, data: Any, order: list[Any], threads: int) -> None:
    step = training_step(ResNet18(), bench.device)
    generator = torch.Generator(bench.device)
    for i, counts in enumerate(feed(data, order, bench.device, threads=threads)):
        step(*device_views(counts, lsb_mv=LSB_MV, generator=generator.manual_seed(i)))


def _timed(bench: Bench, run: Callable[[], object]) -> float:
    """Return the seconds of the second of two runs."""
    run()
    bench.wait()
    began = time.perf_counter()
    run()
    bench.wait()
    return time.perf_counter() - began


def measure_views(bench: Bench) -> dict[str, Any]:
    """Time what happens to a batch on the device before the encoder: scaling, shift, noise, lead mask."""
    n = bench.sizes.batches["resnet18"]
    counts = torch.randint(-4000, 4000, (n, 12, SAMPLES), dtype=torch.int16, device=bench.device)
    generator = torch.Generator(bench.device).manual_seed(0)
    took = bench.seconds(lambda: device_views(counts, lsb_mv=LSB_MV, generator=generator))
    return {"batch": n, "ms": took * 1e3, "ecg_per_s": n / took}


def measure_engines(bench: Bench) -> dict[str, Any] | str:
    """Build the demonstration's two-lead variant for this GPU, self-test it, and time it against one CPU core."""
    bundle = load_bundle("embedded")
    variant = next(v for v in bundle.manifest.variants if v.leads == ("I", "II"))
    try:
        maker = Maker.on_this_gpu(load_target("rtx"))
        data = bundle.read_bytes(variant.file)
        packed = make_engine(data, onnx_file=variant.file, maker=maker, batch=BatchProfile())
        engine = open_tested(bundle, variant, packed.engine, packed.record.batch, maker.tensorrt)
    except EcgedgeError as error:
        return f"not measured: {error}"
    found: dict[str, Any] = {"runtime": f"{packed.record.runtime} {packed.record.runtime_version}"}
    with engine, OrtRunner.from_variant(bundle, variant) as core:
        for batch in packed.record.batch:
            windows = np.zeros((batch, 2, SAMPLES), np.float32)
            took = bench.in_turns(
                {"engine": partial(engine.run, windows), "core": partial(core.run, windows)}
            )
            times = took["core"] / took["engine"]
            found[f"batch {batch}"] = {"ms": took["engine"] * 1e3, "times one core": times}
    return found


def guarded(parts: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], list[str]]:
    """Run every part; return what each found, or its error, and the names of those that failed."""
    found, failed = {}, []
    for name, part in parts.items():
        began = time.perf_counter()
        try:
            found[name] = part()
        except Exception as error:  # noqa: BLE001 - whatever breaks, the other parts are worth having
            found[name] = {"error": f"{type(error).__name__}: {error}"}
            failed.append(name)
        print(f"{name}: {found[name]}  ({time.perf_counter() - began:.1f} s)", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return found, failed


def parts_of(bench: Bench, *, compiled: bool) -> dict[str, Callable[[], Any]]:
    """Return all parts by name, the cheap and telling ones first."""
    names = list(encoders(bench.sizes))
    return {
        "peak": partial(measure_peak, bench),
        **{f"encoder {name}": partial(measure_encoder, bench, name, compiled=False) for name in names},
        "views": partial(measure_views, bench),
        "determinism": partial(measure_determinism, bench),
        "dtw": partial(measure_dtw, bench),
        "dtw cpu": partial(measure_dtw_cpu, bench),
        "mining": partial(measure_mining, bench),
        "loading": partial(measure_loading, bench),
        "engines": partial(measure_engines, bench),
        # Last: compiling takes minutes.
        **{
            f"encoder {name}, compiled": partial(measure_encoder, bench, name, compiled=True)
            for name in ("resnet18", "edgenet_s")
            if compiled
        },
    }


def card(device: torch.device) -> dict[str, Any]:
    """Return the facts of the card."""
    if device.type != "cuda":
        return {"name": "cpu dry run"}
    properties = torch.cuda.get_device_properties(device)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.split()[
            0
        ]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        driver = f"unknown ({error})"
    return {
        "name": properties.name,
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch leaves it untyped
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 2**30,
    }


def main(
    device: str = "cuda",
    *,
    tiny: Annotated[bool, typer.Option("--tiny", help="Rehearse with tiny sizes.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Measure torch.compile too (minutes).")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Measure everything that runs, print it, and write it."""
    if device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic matrix products ask for
    torch.backends.cudnn.benchmark = True
    bench = Bench(torch.device(device), TINY if tiny else FULL)
    facts = {**common.machine("torch", "numpy"), "card": card(bench.device), "tiny": tiny}
    found, failed = guarded(parts_of(bench, compiled=compiled))
    if out is None and device == "cuda":
        label = "".join(c if c.isalnum() else "_" for c in facts["card"]["name"]).strip("_").lower()
        out = Path(__file__).parent / "results" / f"gpu_check_{label}_{facts['date'][:10]}.json"
    if out is not None:
        common.write_json(out, {**facts, "failed": failed, **found})
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
