"""A run becomes a bundle with C: built, right on an emulated Cortex-M4, told of on the card."""

import subprocess

import numpy as np
from needs import program

from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner
from ecgedge_export.int8 import Int8Options
from ecgedge_export.pack import export_run

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
