"""`ecgedge train` as a user runs it: several objectives, datasets, stages and processes; then `evaluate --against`."""

import csv
import json
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ecgedge.cli import main
from ecgedge.ecg import Recording
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records import write_npz
from ecgedge.sim import Simulator
from ecgedge_train.checkpoint import read_tensors
from ecgedge_train.run import load_run

COMMON = """
name = "small"
[data]
source = "sim"
batch_size = 8
[input]
shift_s = 0.1
[encoder]
name = "edgenet"
embedding_size = 32
dropout = 0.0
[schedule]
steps = 6
warmup_steps = 1
[devices]
device = "cpu"
threads = 1
[evaluate]
every_steps = 3
checkpoint_every_steps = 2
log_every_steps = 1
keep = "last"
lead_sets = ["12", "I,II"]
[objective]
"""
MIXED = """
name = "combined"
parts = [
    {name = "pclr", projection_size = 16},
    {name = "hemodynamics", weight = 0.5},
    {name = "distance", distance = "l2", weight = 0.1},
]
"""
STAGED = """
name = "hemodynamics"
[pretrain.objective]
name = "pclr"
projection_size = 16
[pretrain.schedule]
steps = 4
[optimizer]
lr = 1e-5
[pretrain.optimizer]
lr = 1e-5
"""
IDENTITY = """
name = "identity"
scale = 16.0
margin = 0.3
"""
RECIPES = {"mixed": MIXED, "staged": STAGED, "identity": IDENTITY, "mpcwp": 'name = "hemodynamics"\n'}
TRAIN_PATIENTS = 18


def _ward(folder):
    """Recordings of 6 patients in files, with a table: somebody's own data."""
    folder.mkdir()
    rows = []
    for number in range(12):
        patient = number // 2
        samples_mv = Simulator("stable", seed=100 + patient, rate_hz=250.0).read(3000 + 2500 * (number % 2))
        write_npz(
            Recording(samples_mv[:, -2600:], 250.0, STANDARD_LEADS, mode="demo"), folder / f"{number}.npz"
        )
        rows.append({"file": f"{number}.npz", "patient_id": f"p{patient}", "mpcwp_mmhg": 10.0 + patient})
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


@pytest.fixture(scope="module")
def line(cli_in, tmp_path_factory):
    """Recipes, two datasets and the runs that the tests look at, each made by its command."""
    folder = tmp_path_factory.mktemp("training")
    cli = cli_in(folder)
    for name, objective in RECIPES.items():
        (folder / f"{name}.toml").write_text(COMMON + objective)
    _ward(folder / "ward")
    cli("data", "build", "sim", "--out", "data", "--set", "patients=30", "--set", "recordings=2")
    cli(
        *("data", "build", "folder", "--from", "ward", "--out", "ward-data"),
        *("--set", "simulated=yes", "--set", "name=ward"),
    )
    cli("train", "mixed.toml", "--data", "data", "--also", "ward-data", "--out", "mixed")
    cli("train", "staged.toml", "--data", "data", "--out", "staged")
    cli("train", "identity.toml", "--data", "data", "--out", "identity")
    return SimpleNamespace(cli=cli, folder=folder)


def _metrics(run, kind="train"):
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def _weights(run):
    return (run / "model.safetensors").read_bytes()


def _json(path):
    return json.loads(path.read_text())


def _splits(data):
    """Split to its patients."""
    index = pq.read_table(data / "index.parquet", columns=["split", "patient_id"]).to_pydict()
    pairs = set(zip(index["split"], index["patient_id"], strict=True))
    return {split: {p for s, p in pairs if s == split} for split, _ in pairs}


# --- several objectives, several datasets ------------------------------------------------------------------


def test_a_combination_trains_on_two_datasets(line):
    run = load_run(line.folder / "mixed")
    assert [part.name for part in run.recipe.objective.parts] == ["pclr", "hemodynamics", "distance"]
    assert [row["step"] for row in _metrics(run.path)] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(row["loss"]) for row in _metrics(run.path))
    assert set(run.calibration) == {"12", "I,II"}
    data, ward = (_json(line.folder / name / "dataset.json") for name in ("data", "ward-data"))
    assert run.data.name == "sim+ward"
    assert run.data.records == data["splits"]["train"]["records"] + 12
    assert run.data.patients == data["splits"]["train"]["patients"] + 6
    assert run.data.holds(data["sha256"])
    assert not run.data.holds(ward["sha256"])
    assert run.data.simulated


def test_it_resumes_to_the_very_same_network(line):
    arguments = ("train", "mixed.toml", "--data", "data", "--also", "ward-data", "--out", "stopped")
    line.cli(*arguments, "--max-steps", "3")
    assert [row["step"] for row in _metrics(line.folder / "stopped")] == [1, 2, 3]
    line.cli(*arguments, "--resume")
    assert _weights(line.folder / "stopped") == _weights(line.folder / "mixed")
    fewer = line.cli(*arguments[:4], "--out", "stopped", "--resume", exits=2)
    assert "was begun on dataset sim+ward" in fewer.stderr


def test_a_run_is_compared_with_another_on_the_same_records(line):
    said = line.cli(
        *("evaluate", "mixed", "--data", "data", "--out", "compared", "--against", "staged"),
        *("--resamples", "20", "--lead-sets", "12;I,II"),
    ).stdout
    assert "SIMULATED" in said
    sections = _json(line.folder / "compared" / "report.json")["sections"]
    (table,) = [t for s in sections for t in s["tables"] if t["title"] == "Against staged"]
    found = {(row[0], row[1]): row for row in table["rows"]}
    assert set(found) >= {(leads, f"auroc_gt_{cut}") for leads in ("12", "I,II") for cut in (15, 18)}
    for row in found.values():
        assert row[4]["value"] == pytest.approx(row[2] - row[3], abs=1e-9)


# --- stages, and an encoder from another run ---------------------------------------------------------------


def test_a_recipe_that_pretrains_leaves_both_stages(line):
    first, second = load_run(line.folder / "staged" / "pretrain"), load_run(line.folder / "staged")
    assert (first.recipe.objective.name, second.recipe.objective.name) == ("pclr", "hemodynamics")
    assert len(_metrics(first.path)) == 4
    assert len(_metrics(second.path)) == 6
    assert _json(second.path / "environment.json")["encoder_from"] == "pretrain"


def test_a_frozen_encoder_stays_that_of_the_run_it_is_from(line):
    line.cli(
        *("train", "mpcwp.toml", "--data", "data", "--out", "probe", "--encoder-from", "identity"),
        *("--set", "optimizer.encoder_lr_factor=0", "--max-steps", "2"),
    )
    probe, identity = (read_tensors(line.folder / n / "model.safetensors") for n in ("probe", "identity"))
    encoder = {name for name in probe if name.startswith("encoder.")}
    assert encoder == {name for name in identity if name.startswith("encoder.")}
    assert all(torch.equal(probe[name], identity[name]) for name in encoder)
    assert _json(line.folder / "probe" / "environment.json")["encoder_from"] == "identity"


# --- who is it ---------------------------------------------------------------------------------------------


def test_patients_are_told_apart_who_were_never_trained_on(line):
    splits = _splits(line.folder / "data")
    assert not splits["train"] & splits["test"]
    assert len(splits["train"]) == TRAIN_PATIENTS
    # ArcFace has a direction for each training patient and for nobody else; it is not kept.
    training = read_tensors(line.folder / "identity" / "checkpoints" / "last" / "model.safetensors")
    assert training["heads.identity.weight"].shape == (TRAIN_PATIENTS, 32)
    assert not any(
        name.startswith("heads.") for name in read_tensors(line.folder / "identity" / "model.safetensors")
    )
    line.cli("evaluate", "identity", "--data", "data", "--out", "who", "--no-low-labels", "--resamples", "20")
    sections = _json(line.folder / "who" / "report.json")["sections"]
    (table,) = [t for s in sections for t in s["tables"] if t["title"] == "Retrieval"]
    figures = {row[0]: row for row in table["rows"]}
    _, trained, _, chance = figures["identification, top 1"]
    assert 0.0 <= trained["value"] <= 1.0
    assert trained["patients"] == len(splits["test"])
    assert chance == pytest.approx(1 / len(splits["test"]))


# --- several processes -------------------------------------------------------------------------------------


def _two_processes(line, *arguments, exits=0):
    """Start `ecgedge` twice, as docs/training.md says."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = line.cli._open([*launcher, "-m", "ecgedge", *map(str, arguments)])
    return line.cli.finish(process, exits=exits)


def test_two_processes_train_as_one_does_in_both_stages(line):
    _two_processes(line, "train", "staged.toml", "--data", "data", "--out", "twice")
    _same_losses(line.folder / "twice" / "pretrain", line.folder / "staged" / "pretrain")
    _same_losses(line.folder / "twice", line.folder / "staged")


def _same_losses(two, one):
    assert _json(two / "environment.json")["processes"] == 2
    (losses, norms), (expected, of_one) = (
        ([row[key] for row in _metrics(run) if key in row] for key in ("loss", "grad_norm"))
        for run in (two, one)
    )
    # The order of additions differs, and AdamW, which divides by the gradient's size, makes of a rounding in a gradient
    # near zero a whole step: hence the small steps of this recipe.
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert losses[0] == pytest.approx(expected[0], rel=1e-5)
    # With steps this small a gradient that was not averaged over the processes would hardly show in the losses.
    np.testing.assert_allclose(norms, of_one, rtol=1e-3)
    assert load_run(two).recipe == load_run(one).recipe


# --- what is refused ---------------------------------------------------------------------------------------


TABLE = [
    ("also-nowhere", ("mixed.toml", "--also", "nowhere"), 1, ["nowhere", "data build"]),
    ("also-itself", ("mixed.toml", "--also", "data"), 1, ["sim, sim", "two datasets have one name"]),
    ("also-no-label", ("mpcwp.toml", "--set", "objective.label=mpap_mmhg"), 1, ["mpap_mmhg", "mpcwp_mmhg"]),
    ("from-nowhere", ("mpcwp.toml", "--encoder-from", "nowhere"), 1, ["nowhere", "cannot be read"]),
    ("from-other", ("mpcwp.toml", "--encoder-from", "mixed", "--set", "encoder.embedding_size=16"), 1,
     ["mixed", "not the one of this recipe"]),
    ("from-causal", ("mpcwp.toml", "--encoder-from", "mixed", "--set", "encoder.causal=true"), 1,
     ["encoder.causal = False there, True here"]),
    ("from-and-pretrain", ("staged.toml", "--encoder-from", "mixed"), 2, ["pretrains", "--encoder-from"]),
    ("one-part", ("mixed.toml", "--set", 'objective.parts=[{name="pclr"}]'), 1, ["at least two"]),
    ("two-views", ("mixed.toml", "--set", 'objective.parts=[{name="pclr"}, {name="cmsc"}]'), 1,
     ["pclr and cmsc", "different views"]),
    ("unknown-part", ("mixed.toml", "--set", 'objective.parts=[{name="pclr"}, {name="clip"}]'), 1,
     ["parts[1].name", "clip"]),
    ("part-key", ("mixed.toml", "--set", 'objective.parts=[{name="pclr", temprature=1}, {name="tfc"}]'), 1,
     ["temprature", "temperature"]),
    ("imported-part", ("mixed.toml", "--set", 'objective.parts=[{name="pclr"}, {name="imported"}]'), 1, ["parts"]),
    ("imported", ("mpcwp.toml", "--set", 'objective={name="imported"}'), 1, ["imported", "--encoder-from"]),
    ("tokens", ("mpcwp.toml", "--set", 'objective={name="w2v"}'), 1, ["tokens", 'encoder.name = "w2v"']),
    ("batch", ("mpcwp.toml", "--set", "data.accumulate=3"), 1, ["batch_size 8", "3 equal pieces"]),
    ("no-steps", ("mpcwp.toml", "--max-steps", "0"), 2, ["max_steps 0"]),
    ("there", ("mpcwp.toml", "--out", "identity"), 2, ["identity holds a run", "--resume"]),
    ("other-recipe", ("mpcwp.toml", "--out", "identity", "--resume"), 2, ["another recipe", "objective"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "exits", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_wrong_input_is_refused_with_a_way_on(monkeypatch, capsys, line, arguments, exits, words):
    # In this process: what is no error of ours comes through.
    out = () if "--out" in arguments else ("--out", "new")
    monkeypatch.chdir(line.folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["ecgedge", "train", *arguments, "--data", "data", *out])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err
    assert caught.value.code == exits, said
    for word in words:
        assert word in said
    assert not (line.folder / "new").exists()
