"""The whole line, small but real: each command takes what the one before it left."""

import csv
import json
import re
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from needs import program

QUICK = (
    *("--set", "schedule.steps=12", "--set", "schedule.warmup_steps=2", "--set", "data.batch_size=16"),
    *("--set", "evaluate.checkpoint_every_steps=4", "--set", "evaluate.every_steps=4"),
    *("--set", "evaluate.log_every_steps=1", "--set", 'evaluate.lead_sets=["12", "I,II"]'),
    *("--set", 'devices.device="cpu"', "--set", "devices.threads=1", "--set", "evaluate.keep=last"),
)


@pytest.fixture(scope="module")
def line(cli_in, tmp_path_factory):
    """Data, run, report and bundle, each made by its command; `said` holds what each printed."""
    cli = cli_in(tmp_path_factory.mktemp("line"))
    said = {
        "build": cli(
            "data", "build", "sim", "--out", "data", "--set", "patients=60", "--set", "recordings=2"
        ),
        "train": cli("train", "sim_mpcwp", "--data", "data", "--out", "run", *QUICK),
        "evaluate": cli("evaluate", "run", "--data", "data", "--out", "report", "--lead-sets", "12;I,II"),
        # Twelve steps train nothing that INT8 could keep: its gate is tested with a trained network.
        "export": cli(
            *("export", "run", "--target", "cpu", "--precision", "fp32", "--data", "data"),
            *("--out", "m.ecgb", "--lead-sets", "12;I,II", "--report", "report", "--name", "tiny"),
        ),
    }
    return SimpleNamespace(cli=cli, folder=cli.folder, said={k: v.stdout for k, v in said.items()})


def _json(path):
    return json.loads(path.read_text())


def test_the_dataset_is_split_by_patient_and_called_simulated(line):
    assert "SIMULATED" in line.said["build"]
    assert "120 records of 60 patients" in line.said["build"]
    for split, patients in (("train", 36), ("tune", 12), ("test", 12)):
        assert any(
            split in row and f"of {patients} patients" in row for row in line.said["build"].splitlines()
        )
    assert line.cli("data", "info", "data").stdout == line.said["build"]


def test_a_dataset_that_is_there_is_not_built_anew(line):
    before = {path: path.stat().st_mtime_ns for path in (line.folder / "data").iterdir()}
    again = ("data", "build", "sim", "--out", "data", "--set", "patients=60", "--set", "recordings=2")
    assert line.cli(*again).stdout == line.said["build"]
    assert {path: path.stat().st_mtime_ns for path in (line.folder / "data").iterdir()} == before
    other = line.cli("data", "build", "sim", "--out", "data", "--set", "patients=61", exits=1)
    assert "data" in other.stderr


def test_the_run_says_what_it_is(line):
    run = line.folder / "run"
    assert _json(run / "data.json")["simulated"] is True
    assert set(_json(run / "calibration.json")) == {"12", "I,II"}
    steps = [json.loads(row).get("step") for row in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 12
    assert "steps = 12" in (run / "recipe.toml").read_text()


def test_the_report_has_intervals_and_a_baseline_and_says_simulated(line):
    assert "SIMULATED" in line.said["evaluate"]
    assert "esearch use only" in line.said["evaluate"]
    page = (line.folder / "report" / "report.html").read_text()
    assert "SIMULATED" in page
    rows = _json(line.folder / "report" / "report.json")["rows"]
    auroc = [row for row in rows if row["metric"] == "auroc_gt_18"]
    assert {row["lead_set"] for row in auroc} == {"12", "I,II"}
    for row in auroc:
        assert row["low"] <= row["value"] <= row["high"]
        assert row["baseline"] == 0.5
        assert row["patients"] == 12


def test_the_bundle_shows_where_it_comes_from(line):
    shown = line.cli("bundle", "show", "m.ecgb").stdout
    bundle_id = line.said["export"].split()[-1]
    for words in ("tiny", bundle_id, "SIMULATED DATA", "Research use only", "12/fp32", "I,II/fp32"):
        assert words in shown
    assert "auroc_gt_18" in shown


def test_the_c_for_a_microcontroller_compiles_and_passes_its_self_test(line, tmp_path):
    """Beside an INT8 file that serves; where the emulator is, each integer was right on a Cortex-M4."""
    for name in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        program(name)
    made = line.cli(
        *("export", "run", "--target", "mcu", "--data", "data", "--out", "mcu.ecgb", "--lead-sets", "I,II"),
        *("--fine-tuning-steps", "0", "--evidence-records", "8"),
    )
    assert re.search(r"mcu\.ecgb: id [0-9a-f]+", made.stdout)
    bundle = line.folder / "mcu.ecgb"
    folder = bundle / "variants" / "I_II" / "int8" / "c"
    assert {path.name for path in folder.iterdir()} == {
        "ecg_i_ii.c", "ecg_i_ii.h", "ecg_i_ii_vectors.h", "selftest.c", "bridge_example.c", "CMakeLists.txt",
    }  # fmt: skip
    build = ["gcc", "-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"]
    files = ["ecg_i_ii.c", "selftest.c", "-o", str(tmp_path / "selftest")]
    subprocess.run([*build, *files], cwd=folder, check=True)
    subprocess.run([tmp_path / "selftest"], check=True)
    header, card = (folder / "ecg_i_ii.h").read_text(), (bundle / "card.md").read_text()
    assert "Research use only" in header
    assert "Computed from that, not measured" in header
    assert "## In C" in card
    assert "every integer was the reference's" in card
    assert not any(found["failed"] for found in _json(bundle / "evidence.json")["variants"])
    assert "self-test passed" in line.cli("bundle", "verify", "mcu.ecgb").stdout


def test_the_bundle_carries_its_evidence(line):
    evidence = _json(line.folder / "m.ecgb" / "evidence.json")
    assert evidence["simulated"]
    assert evidence["patients"] == 12
    assert {found["variant"] for found in evidence["variants"]} == {"12/fp32", "I,II/fp32"}
    for found in evidence["variants"]:
        tasks = {task["metric"]: task for task in found["tasks"]}
        assert set(tasks) == {"auroc_gt_18", "rmse_mmhg"}
        assert tasks["rmse_mmhg"]["baseline"] > 0.0
        for task in tasks.values():
            assert abs(task["variant"] - task["network"]) < 1e-3
        assert found["alarms"]["agreement"] == 1.0
        assert found["failed"] == []
    card = (line.folder / "m.ecgb" / "card.md").read_text()
    assert "SIMULATED records of 12 patients" in card
    assert "the mean alone" in card


def test_the_bundle_verifies_and_a_copy_as_well(line):
    assert "self-test passed" in line.cli("bundle", "verify", "m.ecgb").stdout
    shutil.copytree(line.folder / "m.ecgb", line.folder / "copy.ecgb")
    bundle_id = line.said["export"].split()[-1]
    assert bundle_id in line.cli("bundle", "verify", "copy.ecgb").stdout


def test_the_bundle_serves_a_bed_and_predicts_a_file(line, recording):
    events = line.cli.stream(f"file:{recording}", "--bundle", "m.ecgb")
    streamed = [e["mpcwp_mmhg"] for e in events if e["type"] == "estimate"]
    said = line.cli("predict", "m.ecgb", recording, recording, "--out", "x.csv")
    assert "10 windows of 2 recordings" in said.stdout
    with (line.folder / "x.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["mpcwp_mmhg"]) for row in rows] == streamed * 2
    assert {(row["mode"], row["use"]) for row in rows} == {("demo", "research use only")}
    assert {row["source"] for row in rows} == {str(recording)}


def test_a_bundle_that_is_there_is_not_written_over(line):
    again = ("export", "run", "--target", "cpu", "--data", "data", "--out", "m.ecgb")
    assert "exists already" in line.cli(*again, exits=4).stderr


def test_a_run_that_is_there_is_not_written_over(line):
    done = line.cli("train", "sim_mpcwp", "--data", "data", "--out", "run", *QUICK, exits=2)
    assert "--resume" in done.stderr


def test_another_dataset_is_refused(line):
    line.cli("data", "build", "sim", "--out", "other", "--set", "patients=10", "--set", "seed=2")
    done = line.cli("export", "run", "--target", "cpu", "--data", "other", "--out", "t.ecgb", exits=1)
    assert "data set of the training" in done.stderr


def test_a_run_that_was_stopped_resumes_to_the_very_same_network(line):
    stopped = ("train", "sim_mpcwp", "--data", "data", "--out", "stopped", *QUICK)
    line.cli(*stopped, "--max-steps", "5")
    assert _weights(line, "stopped") != _weights(line, "run")
    line.cli(*stopped, "--resume")
    assert _weights(line, "stopped") == _weights(line, "run")


def test_a_run_that_was_killed_resumes_to_the_very_same_network(line):
    command = ("train", "sim_mpcwp", "--data", "data", "--out", "killed", *QUICK)
    process = line.cli.start(*command)
    until = time.monotonic() + 60.0
    while not (line.folder / "killed" / "checkpoints" / "last" / "state.json").exists():
        assert time.monotonic() < until, "no checkpoint came"
        time.sleep(0.005)
    process.kill()
    line.cli.finish(process, exits=-signal.SIGKILL)
    unfinished = line.cli("evaluate", "killed", "--data", "data", "--out", "none", exits=1)
    assert "--resume" in unfinished.stderr
    line.cli(*command, "--resume")
    assert _weights(line, "killed") == _weights(line, "run")


def _weights(line, run):
    return (line.folder / run / "model.safetensors").read_bytes()


# --- real recordings -----------------------------------------------------------------------------------


def test_pretraining_on_real_ptbxl_is_probed_against_the_untrained_encoder(cli, ecg_data, tmp_path):
    source = ecg_data / "ptbxl"
    said = cli("data", "build", "ptbxl", "--from", source, "--out", "data", "--set", "limit=60").stdout
    assert "ptbxl: 60 records of 52 patients" in said
    assert "CC BY 4.0" in said
    assert "SIMULATED" not in said
    settings = (*QUICK, "--set", "schedule.steps=4", "--set", "schedule.warmup_steps=1")
    cli("train", "ptbxl_pclr_rlm", "--data", "data", "--out", "run", *settings)
    text = cli("evaluate", "run", "--data", "data", "--out", "report", "--lead-sets", "12;I,II").stdout
    assert "SIMULATED" not in text
    assert "untrained" in text
    rows = [r for r in _json(tmp_path / "report" / "report.json")["rows"] if r["metric"] == "macro_auroc"]
    assert {row["lead_set"] for row in rows} == {"12", "I,II"}
    for row in rows:
        assert 0.0 <= row["value"] <= 1.0
        assert 0.0 <= row["baseline"] <= 1.0
    assert _json(tmp_path / "run" / "data.json")["simulated"] is False
