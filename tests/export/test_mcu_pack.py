"""A run becomes a bundle with C: built, right on an emulated Cortex-M4, told of on the card."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from needs import program

from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner
from ecgedge_export.compare import QuantizationError
from ecgedge_export.int8 import Int8Options
from ecgedge_export.pack import export_run
from ecgedge_export.targets import load_target

from .helpers import LENIENT
from .mcu_graphs import STRICT


def test_a_bundle_with_c(run_dir, ptbxl, tmp_path):
    for name in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        program(name)
    out = tmp_path / "b.ecgb"
    export_run(
        run_dir, data=ptbxl, target="mcu", out=out, lead_sets=("II",), calibration_samples=32, gate_samples=8,
        evidence_records=0, gates=LENIENT, int8_options=Int8Options(fine_tuning=None),
    )  # fmt: skip
    bundle = load_bundle(out)
    folder = "variants/II/int8/c/"
    names = {name.removeprefix(folder) for name in bundle.manifest.files if name.startswith(folder)}
    assert names == {
        "ecg_ii.c", "ecg_ii.h", "ecg_ii_vectors.h", "selftest.c", "bridge_example.c", "CMakeLists.txt",
    }  # fmt: skip
    build = ["gcc", *STRICT, "-O2", "ecg_ii.c", "selftest.c", "-o", str(tmp_path / "selftest")]
    subprocess.run(build, cwd=out / folder, check=True)
    subprocess.run([tmp_path / "selftest"], check=True)
    card = bundle.read_bytes("card.md").decode()
    assert "## In C" in card
    assert "every integer was the reference's" in card
    header = bundle.read_bytes(f"{folder}ecg_ii.h").decode()
    assert "Research use only" in header
    assert "Computed from that, not measured" in header
    [variant] = bundle.manifest.variants
    with open_runner(bundle, variant) as runner:
        assert np.isfinite(runner.run(np.zeros((1, 1, 2500), np.float32))["embedding"]).all()


def test_c_that_turns_a_window_is_refused(run_dir, ptbxl, tmp_path):
    """By the target's own limit on the tune split, here a little higher: even 16 bits miss it."""
    limits = load_target("mcu").gates
    assert limits.min_cosine == limits.min_median_cosine == 0.995
    out = tmp_path / "b.ecgb"
    with pytest.raises(
        QuantizationError, match=r"II/int8: .*smallest centred cosine is 0\.99\d+, the least is 0\.9999"
    ):
        export_run(
            run_dir, data=ptbxl, target="mcu", out=out, lead_sets=("II",), calibration_samples=32, gate_samples=8,
            evidence_records=0, gates=replace(limits, min_cosine=0.9999),
            int8_options=Int8Options(fine_tuning=None),
        )  # fmt: skip
    assert not out.exists()
