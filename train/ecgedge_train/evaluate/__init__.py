"""Evaluation on patients never seen: metrics, patient bootstrap, linear probe, report."""

from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.calibrators import fit_isotonic, fit_temperature
from ecgedge_train.evaluate.cinc import cinc2021_score
from ecgedge_train.evaluate.classes import ClassTask, evaluate_classes
from ecgedge_train.evaluate.compare import delong, paired_bootstrap
from ecgedge_train.evaluate.lowlabel import low_label_curve
from ecgedge_train.evaluate.pressure import evaluate_pressure
from ecgedge_train.evaluate.probe import LinearProbe, fit_linear_probe
from ecgedge_train.evaluate.report import Report, headline_rows, read_dataset_sha256, read_rows, write_report
from ecgedge_train.evaluate.run import PROBE_FOLDER, evaluate_run, load_probes

__all__ = [
    "PROBE_FOLDER",
    "ClassTask",
    "Estimate",
    "LinearProbe",
    "Report",
    "cinc2021_score",
    "delong",
    "evaluate_classes",
    "evaluate_pressure",
    "evaluate_run",
    "fit_isotonic",
    "fit_linear_probe",
    "fit_temperature",
    "headline_rows",
    "load_probes",
    "low_label_curve",
    "paired_bootstrap",
    "patient_bootstrap",
    "read_dataset_sha256",
    "read_rows",
    "write_report",
]
