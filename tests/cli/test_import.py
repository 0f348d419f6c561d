"""`ecgedge import`: published weights become a run that every later command takes."""

import importlib.util
import json
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ecgedge.bundle import load_bundle
from ecgedge.cli import main
from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.checkpoint import read_tensors
from ecgedge_train.run import load_run


def _load(name):
    path = Path(__file__).parents[1] / "train" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pclr_files = _load("importers/test_pclr_import")
fairseq_files = _load("importers/test_fairseq_import")
keras_files = pclr_files.keras_files

TINY = {768: 128, 3072: 512, 256: 64, 48: 8}
"""The published widths, and those of the smallest network that a recipe names."""


def _published_tiny(oracles):
    """Random weights under the published names, 4 layers, in the widths of TINY."""
    listed = json.loads((oracles / "fairseq_signals_state_dict.json").read_text())["base_keys"]
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn([TINY.get(n, n) for n in shape], generator=generator) / 8
        for name, shape in listed.items()
        if not name.startswith("encoder.layers.") or int(name.split(".")[2]) < 4
    }


@pytest.fixture(scope="module")
def line(cli_in, tmp_path_factory, keras_files):
    """A PCLR run, a small dataset and a report; `said` holds what each command printed."""
    folder = tmp_path_factory.mktemp("import")
    cli = cli_in(folder)
    shutil.copy(keras_files / "12.h5", folder / "PCLR.h5")
    said = {
        "import": cli("import", "pclr", "PCLR.h5", "--out", "runs/pclr"),
        "data": cli("data", "build", "sim", "--out", "data", "--set", "patients=20", "--set", "recordings=2"),
        "evaluate": cli(
            *("evaluate", "runs/pclr", "--data", "data", "--out", "report"),
            *("--no-low-labels", "--resamples", "20"),
        ),
    }
    return SimpleNamespace(
        cli=cli,
        folder=folder,
        keras=keras_files,
        said={name: done.stdout for name, done in said.items()},
    )


@pytest.fixture(scope="module")
def w2v_weights(line, oracles):
    """What is in the run runs/w2v, by published name."""
    weights = _published_tiny(oracles)
    fairseq_files.save(line.folder / "w2v.pt", weights)
    line.cli("import", "fairseq-signals", "w2v.pt", "--out", "runs/w2v")
    return weights


def test_a_pclr_run_embeds_as_keras_does(line):
    run = load_run(line.folder / "runs" / "pclr")
    assert not run.model.training
    assert pclr_files.error_of(run.model.encoder, np.load(line.keras / "12.npz")) < 1e-5


def test_the_run_says_where_it_is_from_and_claims_no_data(line):
    run = load_run(line.folder / "runs" / "pclr")
    digest = sha256((line.folder / "PCLR.h5").read_bytes()).hexdigest()
    assert f"PCLR.h5 (SHA-256 {digest})" in run.data.attribution
    assert "GPL-3" in run.data.attribution
    assert run.data.attribution in line.said["import"]
    assert (run.data.records, run.data.patients, run.data.envelope.leads) == (0, 0, ())
    assert not run.data.simulated
    assert run.recipe.objective.name == "imported"
    assert not dict(run.model.heads)
    facts = json.loads((run.path / "environment.json").read_text())
    assert facts["imported_from"] == "PCLR.h5"


def test_a_pclr_run_is_evaluated_and_warned_about(line):
    assert "trained on another dataset (published-pclr" in line.said["evaluate"]
    rows = json.loads((line.folder / "report" / "report.json").read_text())["rows"]
    assert "macro_auroc" in {row["metric"] for row in rows}
    assert {(row["lead_set"], row["patients"]) for row in rows} == {("12", 4)}
    # The baseline is the same network with the recipe's own weights. One rank of four patients may agree by chance.
    ranked = [row for row in rows if "auroc" in row["metric"]]
    assert any(row["value"] != row["baseline"] for row in ranked)
    assert (line.folder / "report" / "probe" / "12" / "probe.safetensors").is_file()


def test_a_variant_that_the_file_does_not_tell_is_asked_for(cli, tmp_path):
    tensors = pclr_files.published_names(pclr_files.random_net("C3PO"))
    pclr_files.write_h5(tmp_path / "weights.h5", tensors)
    arguments = ("import", "pclr", "weights.h5", "--out", "run")
    assert "12 and C3PO; say which variant" in cli(*arguments, exits=1).stderr
    assert not (tmp_path / "run").exists()
    assert "PCLR C3PO" in cli(*arguments, "--variant", "C3PO").stdout
    encoder = load_run(tmp_path / "run").recipe.encoder
    assert (encoder.variant, encoder.resample_samples) == ("C3PO", 2500)


def test_a_saved_model_folder(cli, tmp_path):
    net = pclr_files.random_net("II")
    tensors = pclr_files.published_names(net)
    pclr_files.write_saved_model(tmp_path / "PCLR_lead_II", tensors, n_samples=2500, leads=1)
    cli("import", "pclr", "PCLR_lead_II", "--out", "run")
    run = load_run(tmp_path / "run")
    assert pclr_files.same_state(run.model.encoder, net)
    assert run.recipe.evaluate.lead_sets == ("12", "II")
    names = ("saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index")
    listing = "".join(
        f"{sha256((tmp_path / 'PCLR_lead_II' / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    )
    assert sha256(listing.encode()).hexdigest() in run.data.attribution


def test_a_fairseq_run_rebuilds_the_network_with_its_weights(line, w2v_weights):
    run = load_run(line.folder / "runs" / "w2v")
    assert (run.recipe.encoder.name, run.recipe.encoder.size) == ("w2v", "tiny")
    assert run.model.encoder.n_tokens(2500) == 312
    state = run.model.encoder.state_dict()
    for ours, theirs in {
        "stem.weight": "feature_extractor.conv_layers.0.0.weight",
        "convs.2.weight": "feature_extractor.conv_layers.3.0.weight",
        "layers.3.fc1.weight": "encoder.layers.3.fc1.weight",
        "context_norm.bias": "encoder.layer_norm.bias",
        "mask_embedding": "mask_emb",
    }.items():
        assert torch.equal(state[ours], w2v_weights[theirs])
    assert not state["lead_shift.weight"].any()


def test_a_training_starts_from_an_imported_run(line, w2v_weights):
    line.cli(
        *(
            "train",
            "runs/w2v/recipe.toml",
            "--data",
            "data",
            "--out",
            "runs/tuned",
            "--encoder-from",
            "runs/w2v",
        ),
        *("--set", "objective.name=hemodynamics", "--set", "optimizer.encoder_lr_factor=0"),
        *("--set", "schedule.steps=2", "--set", "data.batch_size=4", "--set", "devices.threads=1"),
        *("--set", "evaluate.max_records=8", "--set", 'evaluate.lead_sets=["12"]'),
    )
    tuned, imported = (read_tensors(line.folder / "runs" / n / "model.safetensors") for n in ("tuned", "w2v"))
    frozen = {name for name in tuned if name.startswith("encoder.")}
    assert frozen == set(imported)
    assert all(torch.equal(tuned[name], imported[name]) for name in frozen)
    assert "heads.hemodynamics.fc.weight" in tuned


def test_its_own_recipe_trains_nothing(monkeypatch, capsys, line):
    arguments = ("train", "runs/pclr/recipe.toml", "--data", "data", "--out", "runs/none")
    refused = _run_here(monkeypatch, capsys, line.folder, arguments, 1)
    assert "choose another objective" in refused
    assert "--encoder-from" in refused
    assert not (line.folder / "runs" / "none").exists()


def test_an_encoder_of_the_same_shape_that_reads_otherwise_is_refused(monkeypatch, capsys, line):
    arguments = (
        "train",
        "runs/pclr/recipe.toml",
        "--data",
        "data",
        "--out",
        "runs/none",
        "--encoder-from",
        "runs/pclr",
    )
    other = ("--set", "objective.name=pclr", "--set", "encoder.resample_samples=0")
    refused = _run_here(monkeypatch, capsys, line.folder, (*arguments, *other), 1)
    assert "encoder.resample_samples = 4096 there, 0 here" in refused
    assert not (line.folder / "runs" / "none").exists()


def test_an_imported_run_with_its_probes_is_exported(line):
    line.cli(
        *("export", "runs/pclr", "--target", "cpu", "--data", "data", "--out", "pclr.ecgb"),
        *("--report", "report", "--precision", "fp32", "--evidence-records", "8"),
    )
    bundle = load_bundle(line.folder / "pclr.ecgb")
    assert [output.name for output in bundle.manifest.outputs] == ["p_gt_15", "p_gt_18", "embedding"]
    assert [variant.leads for variant in bundle.manifest.variants] == [STANDARD_LEADS]
    # The probes were fitted on simulated data, whatever the encoder saw; nobody may take the bundle for more.
    assert bundle.simulated
    data = json.loads((line.folder / "data" / "dataset.json").read_text())
    assert bundle.manifest.provenance.dataset_sha256 == data["sha256"]
    trained_on = bundle.manifest.provenance.trained_on
    assert "Only the linear probes" in trained_on
    assert load_run(line.folder / "runs" / "pclr").data.attribution in trained_on
    assert "self-test passed" in line.cli("bundle", "verify", "pclr.ecgb").stdout


def test_probes_of_another_dataset_are_not_exported(line):
    line.cli("data", "build", "sim", "--out", "other", "--set", "patients=20", "--set", "seed=2")
    arguments = ("export", "runs/pclr", "--target", "cpu", "--data", "other", "--out", "no.ecgb")
    done = line.cli(*arguments, "--report", "report", exits=1)
    assert "report was made on another data set than other" in done.stderr


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Wrong files, and a run."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("pointer.h5", "pointer.pt"):
        (folder / name).write_text(pclr_files.LFS_POINTER)
    whole = pclr_files.write_h5(folder / "whole.h5", pclr_files.published_names(pclr_files.random_net("II")))
    (folder / "cut.h5").write_bytes(whole.read_bytes()[:100_000])
    (folder / "run").mkdir()
    (folder / "run" / "recipe.toml").write_text("a run\n")
    return folder


@pytest.fixture(scope="module")
def fairseq_folder(folder, oracles):
    """The same with wrong checkpoints of fairseq-signals."""
    weights = _published_tiny(oracles)
    fairseq_files.save(folder / "whole.pt", weights)
    (folder / "cut.pt").write_bytes((folder / "whole.pt").read_bytes()[:100_000])
    fairseq_files.save(folder / "tuned.pt", weights | {"proj.weight": torch.ones(2)})
    layers = {name: value for name, value in weights.items() if not name.startswith("encoder.layers.3.")}
    fairseq_files.save(folder / "three.pt", layers)
    return folder


TABLE = [
    ("kind", ("keras", "whole.h5"), 2, ["keras", "pclr", "fairseq-signals"]),
    ("unknown-variant", ("pclr", "whole.h5", "--variant", "V2"), 2, ["V2", "C3PO"]),
    (
        "variant-of-fairseq",
        ("fairseq-signals", "whole.pt", "--variant", "I"),
        2,
        ["--variant I", "only pclr"],
    ),
    ("missing", ("pclr", "none.h5"), 1, ["none.h5", "No such file"]),
    ("missing-pt", ("fairseq-signals", "none.pt"), 1, ["none.pt", "No such file"]),
    ("pointer", ("pclr", "pointer.h5"), 1, ["pointer.h5", "git lfs pull"]),
    ("pointer-pt", ("fairseq-signals", "pointer.pt"), 1, ["pointer.pt", "git lfs pull"]),
    ("damaged", ("pclr", "cut.h5"), 1, ["cut.h5", "cannot be read"]),
    ("other-kind", ("fairseq-signals", "whole.h5"), 1, ["whole.h5", "no zip archive"]),
    ("other-variant", ("pclr", "whole.h5", "--variant", "12"), 1, ["variant II, not 12"]),
    ("no-folder", ("pclr", "."), 1, ["variables.index"]),
]

FAIRSEQ_TABLE = [
    ("other-kind", ("pclr", "whole.pt"), 1, ["whole.pt", "Keras"]),
    ("damaged", ("fairseq-signals", "cut.pt"), 1, ["cut.pt", "zip archive"]),
    ("fine-tuned", ("fairseq-signals", "tuned.pt"), 1, ["proj.weight", "not a fine-tuned one"]),
    ("no-name", ("fairseq-signals", "three.pt"), 1, ["another size", "layers=3", "base", "small", "tiny"]),
]


@pytest.mark.parametrize(
    ("arguments", "exits", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_wrong_files_are_refused_with_a_way_on(monkeypatch, capsys, folder, arguments, exits, words):
    said = _run_here(monkeypatch, capsys, folder, ("import", *arguments, "--out", "new"), exits)
    for word in words:
        assert word in said
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "exits", "words"), [row[1:] for row in FAIRSEQ_TABLE], ids=[row[0] for row in FAIRSEQ_TABLE]
)
def test_wrong_checkpoints_are_refused(monkeypatch, capsys, fairseq_folder, arguments, exits, words):
    said = _run_here(monkeypatch, capsys, fairseq_folder, ("import", *arguments, "--out", "new"), exits)
    for word in words:
        assert word in said
    assert not (fairseq_folder / "new").exists()


def test_a_run_that_is_there_is_not_written_over(monkeypatch, capsys, folder):
    arguments = ("import", "pclr", "whole.h5", "--variant", "II", "--out", "run")
    assert "run holds a run; choose another --out" in _run_here(monkeypatch, capsys, folder, arguments, 2)
    assert [file.name for file in (folder / "run").iterdir()] == ["recipe.toml"]


def _run_here(monkeypatch, capsys, folder, arguments, exits):
    """Run in this process; what is no error of ours comes through."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["ecgedge", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err
    assert caught.value.code == exits, said
    return said


def test_a_missing_package_is_named_with_its_extra(cli):
    done = cli.without(["h5py"], "import", "pclr", "PCLR.h5", "--out", "run")
    assert "pip install 'ecgedge[train]'" in done.stderr
