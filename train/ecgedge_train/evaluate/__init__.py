"""Evaluation on patients never seen: metrics, patient bootstrap, linear probe, report."""

from ecgedge_train.evaluate.bootstrap import Estimate, patient_bootstrap
from ecgedge_train.evaluate.classes import ClassTask, evaluate_classes
from ecgedge_train.evaluate.pressure import evaluate_pressure
from ecgedge_train.evaluate.probe import LinearProbe, fit_linear_probe
from ecgedge_train.evaluate.report import Report, write_report
from ecgedge_train.evaluate.run import evaluate_run, load_probes

__all__ = [
    "ClassTask",
    "Estimate",
    "LinearProbe",
    "Report",
    "evaluate_classes",
    "evaluate_pressure",
    "evaluate_run",
    "fit_linear_probe",
    "load_probes",
    "patient_bootstrap",
    "write_report",
]
