"""What the numbers are made of; how large they are is the machine's business."""

import os
from dataclasses import replace

import numpy as np
import pytest
from hand_made import make_stream_bundle

from ecgedge.bench.children import Children
from ecgedge.bench.measure import Plan, run_bench
from ecgedge.bench.peak import measure_peak
from ecgedge.errors import BundleError, EngineError, UsageError

PLAN = Plan(runtimes=("ort",), batches=(1, 3), seconds=0.02, rounds=1)


@pytest.fixture(scope="module")
def report(small):
    return run_bench([small, small], PLAN)


def test_rows(report, small):
    (benched, again) = report.bundles
    assert (benched.source, benched.id, benched.simulated) == (small.source, small.id, True)
    assert (
        benched.rows[0].file_bytes
        == again.rows[0].file_bytes
        == len(small.contents[small.manifest.variants[0].file])
    )
    (row,) = benched.rows
    assert (row.variant, row.runtime) == ("I,II/fp32", "ort")
    assert [s.batch for s in row.speeds] == [1, 3]
    for speed in row.speeds:
        assert 0 < speed.p50_ms <= speed.p99_ms <= speed.max_ms
        assert speed.windows_per_s == pytest.approx(speed.batch * 1e3 / speed.p50_ms)
        assert speed.beds_per_core == pytest.approx(speed.windows_per_s * small.manifest.hop_s)
        assert speed.runs >= 1
        assert len(speed.p50_ms_by_round) == 1
        assert speed.gflops == 0.0  # the manifest of this formula counts no MACs
        assert speed.share_of_peak == 0.0
    assert row.cold_start_s > 0.05  # no Python with numpy starts faster
    assert row.whole_beds_per_core > 1
    assert row.rss_mb is None or 20 < row.rss_mb <= row.peak_rss_mb


def test_pairs(report):
    assert [(p.variant, p.runtime, p.batch) for p in report.pairs] == [
        ("I,II/fp32", "ort", b) for b in (1, 3)
    ]
    for k, pair in enumerate(report.pairs):
        first, second = (benched.rows[0] for benched in report.bundles)
        assert pair.p50 == pytest.approx(second.speeds[k].p50_ms / first.speeds[k].p50_ms)
        assert pair.cold_start == pytest.approx(second.cold_start_s / first.cold_start_s)
        assert pair.file_bytes == 1.0


def test_what_goes_with_the_numbers(report):
    assert "Research use only" in report.use
    assert report.machine.versions["onnxruntime"]
    assert report.machine.processor
    assert report.peak.fp32_gflops > 0.1
    assert report.peak.int8_gops > 0.1
    assert report.peak.int8_by.startswith("onnxruntime ")
    measured = report.bundles[0].rows[0].speeds[0].energy_mj_per_window
    assert (measured is None) == report.energy.startswith("not measured here")


def test_a_bundle_without_a_variant_that_passes_its_self_test_is_not_measured(small, wrong):
    with pytest.raises(
        BundleError, match="nothing in it can be measured: self-test of I,II/fp32: p_gt_18 differs"
    ):
        run_bench([small, wrong], PLAN)


def test_what_cannot_be_measured_is_said_and_the_rest_is_measured(tmp_path):
    """A streaming form, and a second lead set whose file computes something else."""
    bundle = make_stream_bundle(tmp_path / "s.ecgb", wrong=("II/fp32",))
    (benched,) = run_bench([bundle], replace(PLAN, batches=(1,))).bundles
    assert [row.variant for row in benched.rows] == ["I,II/fp32"]
    assert benched.refused[0] == "I,II/fp32/stream is a streaming form"
    assert "self-test of II/fp32" in benched.refused[1]
    assert len(benched.refused) == 2


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(runtimes=("tflite",)), "'tflite' is not known; choose one of auto, tensorrt, ort"),
        (Plan(batches=()), "at least 1"),
        (Plan(batches=(4, 0)), "at least 1"),
        (Plan(seconds=0.0), "give more than 0"),
        (Plan(seconds=float("nan")), "give more than 0"),
        (Plan(rounds=0), "give more than 0"),
    ],
)
def test_plans_that_cannot_be(small, plan, message):
    with pytest.raises(UsageError, match=message):
        run_bench([small], plan)


def test_the_peak_counts_operations():
    """Of the same machine a small product cannot take more than a few times its large one's peak."""
    peak = measure_peak(256)
    assert 0 < peak.fp32_gflops < 1e5
    assert peak.fp32_by.split()[0] in {"numpy", "onnxruntime"}


CHILD = """
import json, os, sys
print(json.dumps([os.environ.get("PYTHONDONTWRITEBYTECODE"), sys.pycache_prefix, os.environ["OMP_NUM_THREADS"]]))
"""


def test_children_share_one_cache_that_goes_away(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    with Children() as children:
        said = children.first_line(["-c", CHILD]).said
        assert said[0] is None
        assert os.path.isdir(said[1])
        assert said[2] == "1"
    assert not os.path.exists(said[1])


def test_a_child_that_fails_says_why():
    with Children() as children, pytest.raises(EngineError, match="ended with code 1: ValueError: no luck"):
        children.first_line(["-c", "raise ValueError('no luck')"])


def test_memory_is_the_childs_own():
    """A parent that has held a lot must not show in the child's peak (it does in getrusage)."""
    held = np.ones(60_000_000, np.float32)
    del held
    child = "import json; from ecgedge.bench.first_answer import memory_mb; print(json.dumps(memory_mb()))"
    with Children() as children:
        said = children.first_line(["-c", child]).said
    if said["peak_rss_mb"] is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert 10 < said["rss_mb"] <= said["peak_rss_mb"] < 200
