"""The GPU check rehearsed on the CPU: a script that only runs on rare machines must not rot between them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("gpu_check")
    for name in ("gpu_check", "gpu_feed", "common"):
        sys.modules.pop(name, None)


@pytest.fixture
def without_cuda():
    """An environment in which torch sees no card, on a machine that has one too."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "gpu_check.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_every_part_runs_in_the_rehearsal_and_is_marked_as_one(without_cuda, tmp_path):
    pytest.importorskip("triton", reason="triton has wheels for Linux and Python 3.11 on")
    done = run(without_cuda, "--device", "cpu", "--tiny", "--compile", "--out", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["card"] == {"name": "cpu dry run"}
    assert found["failed"] == []
    for name in ("edgenet_s", "resnet18", "pclr", "rhcnet", "w2v"):
        assert found[f"encoder {name}"]["ecg_per_s"] > 0
    # The published count: 5.91 GFLOP forward and backward for 12 x 2500 (2 a multiply-add).
    assert found["encoder resnet18"]["gflop_per_ecg"] == pytest.approx(5.91, abs=0.01)
    assert found["encoder resnet18, compiled"]["ecg_per_s"] > 0
    assert found["dtw cpu"]["largest_difference"] < 1e-4
    assert found["loading"]["resnet18_ecg_per_s_views_included"] > 0
    assert found["engines"].startswith("not measured: ")


def test_without_a_card_nothing_is_measured_and_nothing_written(without_cuda, tmp_path):
    before = set((FOLDER / "results").iterdir())
    done = run(without_cuda, "--out", str(tmp_path / "out.json"))
    assert (done.returncode, done.stdout) == (0, "no CUDA device: nothing was measured\n")
    assert not list(tmp_path.iterdir())
    assert set((FOLDER / "results").iterdir()) == before


def test_a_part_that_fails_leaves_its_error_and_the_others_go_on(gpu_check):
    def fails():
        raise RuntimeError("no kernel image")

    found, failed = gpu_check.guarded({"a": fails, "b": lambda: {"ms": 3}})
    assert found == {"a": {"error": "RuntimeError: no kernel image"}, "b": {"ms": 3}}
    assert failed == ["a"]


def test_a_failure_is_written_and_gives_exit_code_1(gpu_check, monkeypatch, tmp_path):
    def parts_of(_bench, *, compiled):
        assert not compiled
        return {"bad": lambda: 1 / 0, "good": lambda: 7}

    monkeypatch.setattr(gpu_check, "parts_of", parts_of)
    with pytest.raises(gpu_check.typer.Exit) as exit_:
        gpu_check.main(device="cpu", tiny=True, out=tmp_path / "out.json")
    assert exit_.value.exit_code == 1
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["failed"], written["good"]) == (["bad"], 7)


@pytest.mark.parametrize(("samples", "band", "paa"), [(40, 0.1, 1), (41, 0.3, 4), (30, 1.0, 1), (30, 0.0, 3)])
def test_the_cells_of_a_band_are_counted_one_by_one(gpu_check, samples, band, paa):
    from ecgedge_train.distances.dtw import band_radius

    n = -(-samples // paa)
    radius = band_radius(n, band)
    counted = sum(abs(i - j) <= radius for i in range(n) for j in range(n))
    assert gpu_check.cells(samples, band, paa) == counted


@pytest.mark.parametrize(("threads", "depth"), [(1, 1), (1, 8), (4, 2), (4, 3)])
def test_batches_are_fed_whole_and_in_order_whatever_the_threads(gpu_check, tmp_path, threads, depth):
    import gpu_feed
    import numpy as np
    import torch

    data = gpu_check.common.synthetic_dataset(tmp_path, 40)
    order = [np.random.default_rng(i).integers(0, 40, 4) for i in range(11)]
    fed = list(gpu_feed.feed(data, order, torch.device("cpu"), threads=threads, depth=depth))
    assert len(fed) == len(order)
    for counts, rows in zip(fed, order, strict=True):
        assert np.array_equal(counts.numpy(), data.gather(rows, np.int16))


def test_views_on_a_device_are_shifts_of_the_scaled_counts(gpu_check):
    import gpu_feed
    import torch

    counts = torch.arange(1, 41, dtype=torch.int16).expand(6, 12, 40).contiguous()
    generator = torch.Generator().manual_seed(3)
    views, presence = gpu_feed.device_views(
        counts, lsb_mv=0.5, generator=generator, max_shift=4, noise_mv=0.0
    )
    assert presence.any(dim=1).all()
    assert (views[presence == 0] == 0).all()
    shifts = set()
    for view, present in zip(views, presence, strict=True):
        line = view[present > 0][0].tolist()
        plain = [0.5 * k for k in range(1, 41)]
        candidates = {
            s: [0.0] * s + plain[: 40 - s] if s >= 0 else plain[-s:] + [0.0] * -s for s in range(-4, 5)
        }
        shifts |= {s for s, expected in candidates.items() if line == expected}
        assert any(line == expected for expected in candidates.values())
    assert len(shifts) > 1
