"""The report finds the layer that was made fragile, and the command writes it."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from ecgedge_export.calibration import tensor_ranges
from ecgedge_export.onnx_file import export_onnx
from ecgedge_export.pack import run_sensitivity
from ecgedge_export.sensitivity import measure_sensitivity, sensitivity_table, write_sensitivity


class Fragile(nn.Module):
    """Three convolutions; `middle` has one huge weight in each channel, which leaves the others no steps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 6, (1, 9), stride=(1, 2), padding=(0, 4))
        self.middle = nn.Conv2d(6, 6, (1, 9), stride=(1, 2), padding=(0, 4))
        self.last = nn.Conv2d(6, 6, (1, 5), padding=(0, 2))
        with torch.no_grad():
            # It reads a channel that is always 0: the float network does not see it.
            self.stem.weight[0] = 0.0
            self.stem.bias[0] = 0.0
            self.middle.weight[:, 0, 0, 4] = 60.0

    def forward(self, x):
        return (self.last(self.middle(self.stem(x).relu()).relu()).mean(dim=(2, 3)),)


@pytest.fixture(scope="module")
def report(ecg_mv):
    windows = np.ascontiguousarray(ecg_mv[:, :, :500])
    model = export_onnx(
        Fragile().eval(), n_leads=1, window_samples=500, output_names=["embedding"], metadata={}
    )
    ranges = tensor_ranges(model, windows[:32], leads=("II",))
    return measure_sensitivity(model, ranges, windows[32:], leads=("II",), flavour="rtx")


def test_the_fragile_layer_stands_first(report):
    assert report.layers[0].layer == "middle"
    assert sorted(row.layer for row in report.layers) == ["last", "middle", "stem"]
    worst, others = report.layers[0], report.layers[1:]
    assert all(worst.max_shift["embedding"] > 3 * row.max_shift["embedding"] for row in others)
    assert (report.leads, report.flavour, report.windows) == ("II", "rtx", 32)


def test_table_and_file(report, tmp_path):
    lines = sensitivity_table(report).splitlines()
    assert lines[2].startswith("middle ")
    assert f"{report.layers[0].min_cosine:.5f}" in lines[2]
    write_sensitivity(tmp_path / "s.json", [report])
    [read] = json.loads((tmp_path / "s.json").read_text())
    assert [row["layer"] for row in read["layers"]] == [row.layer for row in report.layers]
    assert read["layers"][0]["max_shift"]["embedding"] == report.layers[0].max_shift["embedding"]


def test_of_a_run(run_dir, ptbxl):
    [report] = run_sensitivity(
        run_dir, data=ptbxl, flavour="mcu", lead_sets=(("II",),), calibration_samples=16, samples=4
    )
    assert len(report.layers) == 15
    assert {row.layer for row in report.layers} >= {"stem", "blocks.3.conv2", "fc"}
    assert all(0.5 < row.min_cosine <= 1.0 for row in report.layers)
