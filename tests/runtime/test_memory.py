"""Large pages for what a large model leaves in memory, on the system that the tests run on."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

from ecgedge.bench.first_answer import memory_mb
from ecgedge.runtime.memory import large_pages, release_free_memory

MODEL_BYTES = 24 << 20
SMALL_PAGES = MODEL_BYTES // 4096
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def faults_of_a_model(model_bytes: int) -> int:
    """Return the page faults of filling as much memory as a model has, opened as one of `model_bytes`."""
    with large_pages(model_bytes):
        began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        weights = b"w" * MODEL_BYTES
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began
    assert weights.count(b"w") == MODEL_BYTES
    return faults


def faults_of_a_new_process() -> int:
    """Return the same of a process that has opened nothing before, as a device's: of its free blocks it knows none."""
    here = str(Path(__file__).parent)
    said = subprocess.run(
        [sys.executable, "-c", "import test_memory as t; print(t.faults_of_a_model(t.MODEL_BYTES))"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])},
    )
    return int(said.stdout)


def _gives_large_pages() -> bool:
    return _SETTING.exists() and "[never]" not in _SETTING.read_text()


def large_pages_refused() -> int:
    """Return how often the kernel had no large page to give."""
    counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(counters.get("thp_fault_fallback", 0))


def test_a_large_model_costs_a_fraction_of_the_page_faults():
    before = large_pages_refused()
    faults = faults_of_a_new_process()
    # A kernel whose memory is in pieces gives small pages instead, and counts that; one may also give none ever.
    assert faults < SMALL_PAGES / 4 or large_pages_refused() > before or not _gives_large_pages()


def test_a_small_model_is_opened_as_ever():
    assert faults_of_a_model(1 << 20) <= SMALL_PAGES + 64


def test_what_was_set_aside_goes_back_to_the_system():
    release_free_memory()
    before = memory_mb()["rss_mb"]
    for _ in range(3):
        faults_of_a_model(MODEL_BYTES)
    release_free_memory()  # of the weights themselves
    assert memory_mb()["rss_mb"] - before < 8.0


def test_a_model_can_be_opened_in_any_thread():
    sizes: list[int] = []

    def opened():
        with large_pages(MODEL_BYTES):
            sizes.append(len(b"w" * MODEL_BYTES))

    before = memory_mb()["rss_mb"]
    threads = [threading.Thread(target=opened) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [MODEL_BYTES] * 3
    assert memory_mb()["rss_mb"] - before < 8.0
