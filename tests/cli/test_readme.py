"""What the README promises: its block of commands runs as it stands, and its figures are those of the files."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ecgedge.bundle import load_bundle
from ecgedge.sim import correlates_at, draw_traits, ideal_observer

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text("utf-8")
RESULTS = REPO / "benchmarks" / "results"


@pytest.mark.slow
def test_the_block_of_commands_runs_as_it_stands(ecg_data, tmp_path):
    (block,) = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    script = block.replace(". .venv/bin/activate\n", "")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ECGEDGE_DATA": str(ecg_data.resolve()),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    macro = {row["lead_set"]: row["value"] for row in report["rows"] if row["metric"] == "macro_auroc"}
    # Far above chance and above the untrained encoder: whether it also equals the README's table depends on
    # the machine's arithmetic.
    assert set(macro) == {"12", "I,II,V1,V5", "I,II", "I", "II"}
    assert min(macro.values()) > 0.75
    assert macro["12"] > 0.84
    for variant in ("12/fp32", "I/fp32", "p_NORM"):  # INT8 of a lead set that misses its gate is left out
        assert variant in done.stdout
    assert done.stdout.count("Research use only") >= 4


def _cells(first):
    (line,) = re.findall(rf"^\| {re.escape(first)} \|.*$", README, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_alarm_table_is_the_measured_one():
    measured = json.loads((RESULTS / "alarm_seeds.json").read_text())
    manifest = load_bundle("embedded").manifest
    assert measured["model"] == {v.name: manifest.files[v.file] for v in manifest.variants}
    assert measured["default_policy"]["onset_probability"] == manifest.alarm_policy.onset_probability
    for row in measured["grid"]:
        delay = row["delay_min"]
        assert _cells(f"{row['onset_probability']:g}") == [
            f"{row['detected']} of {measured['seeds']}",
            str(row["of_them_before_18_mmhg"]),
            f"{row['missed']} of {measured['seeds']}",
            f"{delay['median']:g} ({delay['p10']:g} to {delay['p90']:g})",
            f"{row['stable_patients_with_false_alarm']} of {measured['seeds']}",
            f"{row['false_alarms_per_patient_day']:g}",
        ]


def test_what_an_ideal_observer_could_reach():
    """The bedside stories are of patients in sinus rhythm."""
    policy = load_bundle("embedded").manifest.alarm_policy
    traits = [replace(draw_traits(seed), rhythm="sinus") for seed in range(400)]
    said = [ideal_observer(t, correlates_at(t, 28.0)).p_gt_18 >= policy.onset_probability for t in traits]
    share = f"{100 * sum(said) / len(said):.0f} % of the patients of seeds 0 to 399"
    assert f"passes {policy.onset_probability:g} in only {share}" in README.replace("\n", " ")


def test_the_ptbxl_table_is_the_measured_one():
    measured = json.loads((RESULTS / "ptbxl_pclr_rlm.json").read_text())
    rows = [row for row in measured["rows"] if row["metric"] == "macro_auroc"]
    assert len(rows) == 5
    for row in rows:
        shown = _cells(row["lead_set"].replace(",", ", "))
        assert shown[0] == f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        assert shown[1] == f"{row['baseline']:.3f}"


def test_the_table_of_objectives_is_the_measured_one():
    measured = json.loads((RESULTS / "ptbxl_table.json").read_text())
    names = {"scratch": "none (from scratch)", "untrained": "none (random encoder)"}
    for row in measured["rows"]:
        for way in ("probe", "fine-tuning"):
            if f"{way}|12" not in row:
                continue
            used = "all labels, whole network" if row["case"] == "scratch" else way
            shown = _cells(f"{names.get(row['case'], row['case'])} | {used}")[1:]
            figures = [row[f"{way}|{leads}"] for leads in ("12", "I,II,V1,V5", "I,II", "I", "II")]
            assert shown == [
                str(row["seeds"]),
                *(f"{f['macro_auroc']:.3f} ({f['low']:.3f} to {f['high']:.3f})" for f in figures),
            ]
