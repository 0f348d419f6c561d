"""What several tests of the export share: limits, a calibration, and one small network as a float file."""

import json
import os
from pathlib import Path

import onnx

from ecgedge.target import Gates
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx
from ecgedge_train.calibrate import LeadSetCalibration, write_calibration
from ecgedge_train.checkpoint import save_tensors
from ecgedge_train.recipe import load_recipe, to_toml
from ecgedge_train.run import load_run

LENIENT = Gates(
    max_abs=2.0, min_median_cosine=0.5, min_cosine=-1.0, max_auroc_loss=0.5, min_alarm_agreement=0.0
)
"""Random weights, and those of 60 steps, quantize badly; where these stand the line is tested, not the network."""
CALIBRATION = LeadSetCalibration((1.7, -0.3), (0.6, 0.9), 6.5, 0.9, 20)
TWO_LEADS = ("I", "II")


def float_file(run_dir, leads=TWO_LEADS) -> onnx.ModelProto:
    """The fp32 file of a run for some leads, with the metadata that a variant has."""
    network = fold_lead_set(load_run(run_dir).model, leads, None)
    return export_onnx(
        network,
        n_leads=len(leads),
        window_samples=2500,
        output_names=network.output_names,
        metadata={"leads": ",".join(leads), "precision": "fp32"},
    )


def write_run(folder, model, dataset, *, causal):
    """A run directory of this network, as training leaves it."""
    folder.mkdir()
    recipe = load_recipe("sim_mpcwp", ["encoder.embedding_size=32", f"encoder.causal={causal}".lower()])
    (folder / "recipe.toml").write_text(to_toml(recipe))
    (folder / "data.json").write_text(json.dumps(dataset.info.for_run()))
    save_tensors(folder / "model.safetensors", model.state_dict())
    write_calibration(folder, {"I,II": CALIBRATION})
    return folder


def bytes_are_multiplied_exactly():
    """Whether oneDNN, in OpenVINO, has instructions that add products of bytes in 32 bits.

    Without them it adds two in 16 bits, which saturate: oneDNN's developer guide, "Nuances of int8 computations".
    """
    info = Path("/proc/cpuinfo")
    return "ONEDNN_MAX_CPU_ISA" not in os.environ and info.is_file() and "vnni" in info.read_text()
