"""What several tests of the export share: limits, a calibration, and one small network as a float file."""

import onnx

from ecgedge.target import Gates
from ecgedge_export.fold import fold_lead_set
from ecgedge_export.onnx_file import export_onnx
from ecgedge_train.calibrate import LeadSetCalibration
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
