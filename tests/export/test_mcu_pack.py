"""A run whose C turns a window is refused. That it becomes a bundle with C otherwise: tests/cli/test_line.py."""

from dataclasses import replace

import pytest

from ecgedge_export.compare import QuantizationError
from ecgedge_export.int8 import Int8Options
from ecgedge_export.pack import export_run
from ecgedge_export.targets import load_target


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
