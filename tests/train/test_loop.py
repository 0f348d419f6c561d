"""The loop: it learns, it resumes to the same bits after a kill, and it says early what is wrong."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks
from safetensors.torch import load_file

from ecgedge.errors import EcgedgeError, RecipeError, UsageError
from ecgedge_train.checkpoint import find_checkpoint, read_tensors
from ecgedge_train.inference import predict_rows
from ecgedge_train.loop import train
from ecgedge_train.model import build_model
from ecgedge_train.optimizer import build_optimizer, lr_at, set_lr
from ecgedge_train.recipe import OptimizerRecipe, ScheduleRecipe, load_recipe, to_toml
from ecgedge_train.run import load_run, train_run

HERE = Path(__file__).parent


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def untimed(lines):
    return [{k: v for k, v in line.items() if k != "ecg_per_s"} for line in lines]


def tensors_of(run_dir):
    files = sorted(run_dir.rglob("*.safetensors"))
    return {f"{f.relative_to(run_dir)}/{k}": v for f in files for k, v in load_file(f).items()}


def assert_same_tensors(a, b):
    one, two = tensors_of(a), tensors_of(b)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


COMBINED = {
    "name": "combined",
    "parts": [
        {"name": "pclr"},
        {"name": "distance", "distance": "median_beat", "loss": "margin", "weight": 0.5},
    ],
}
TOKENS = {"name": "w2v", "codes": 8, "negatives": 5}


@pytest.mark.parametrize("objective", ["hemodynamics", "pclr", COMBINED, TOKENS], ids=str)
def test_killed_and_resumed_equals_uninterrupted_bit_by_bit(objective, data, recipe_factory, tmp_path):
    # 36 patients (72 records) in batches of 16: steps 4, 8 and 12 are within epochs.
    encoder = {"name": "w2v"} if objective is TOKENS else {"name": "edgenet"}
    recipe = recipe_factory(objective, encoder=encoder)
    train(recipe, data, tmp_path / "whole")
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe))
    child, killed = HERE / "distributed_child.py", tmp_path / "killed"
    ((said, code),) = run_ranks(child, 1, "train", killed, file, folder=tmp_path, KILL_AFTER="7")
    assert code == -signal.SIGKILL, said
    state = json.loads((tmp_path / "killed" / "checkpoints" / "last" / "state.json").read_text())
    assert state["step"] == 4  # steps 5 to 7 were lost with the process
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    result = train(recipe, data, tmp_path / "killed", resume=True)
    assert result.steps == 12
    assert_same_tensors(tmp_path / "whole", tmp_path / "killed")
    lines = [untimed(metrics(tmp_path / d)) for d in ("whole", "killed")]
    assert lines[0] == lines[1]
    if objective == "hemodynamics":
        calibrations = [(tmp_path / d / "calibration.json").read_text() for d in ("whole", "killed")]
        assert calibrations[0] == calibrations[1]


def test_it_learns_the_pressure_and_every_lead_set(data_factory, recipe_factory, tmp_path):
    data = data_factory(patients=120)
    recipe = recipe_factory(
        schedule={"steps": 90, "warmup_steps": 10},
        data={"batch_size": 32},
        evaluate={"every_steps": 30, "checkpoint_every_steps": 90},
    )
    result = train(recipe, data, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert result.best_loss < 0.8 * metrics(tmp_path / "run")[0]["loss"]
    rows = data.select(split="test")
    y = data.labels(("mpcwp_mmhg",), rows)[:, 0]
    for lead_set in ("12", "I,II", "I"):
        said = predict_rows(run.model, data, rows, lead_set=lead_set)["mpcwp_mmhg"]
        assert np.sqrt(np.mean((said - y) ** 2)) < 0.6 * np.std(y), lead_set
    half_width = run.calibration["12"].interval_halfwidth_mmhg
    said = predict_rows(run.model, data, rows)["mpcwp_mmhg"]
    assert 0.7 < np.mean(np.abs(said - y) <= half_width) <= 1.0


def test_run_directory_is_complete_and_loads(data, recipe_factory, tmp_path):
    recipe = recipe_factory("classes")
    result = train(recipe, data, tmp_path / "run")
    names = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    last = {f"checkpoints/last/{n}" for n in ("model.safetensors", "optimizer.safetensors", "state.json")}
    assert names == last | {
        "checkpoints/best/model.safetensors",
        "model.safetensors",
        "recipe.toml",
        "metrics.jsonl",
        "environment.json",
        "data.json",
    }
    run = load_run(tmp_path / "run")
    assert run.recipe == recipe
    assert run.calibration is None
    assert run.data.simulated
    assert run.data.envelope.leads == ("I", "II")
    assert not run.model.training
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["threads"] == 1
    assert environment["packages"]["torch"] == torch.__version__
    kinds = [(m["kind"], m["step"]) for m in metrics(tmp_path / "run")]
    assert kinds == [
        ("train", 3), ("tune", 5), ("train", 6), ("train", 9), ("tune", 10), ("train", 12), ("tune", 12),
    ]  # fmt: skip
    assert "macro_auroc" in metrics(tmp_path / "run")[1]
    assert result.ecg_per_s > 0


def test_pclr_tells_how_many_ecgs_find_their_pair(data, recipe_factory, tmp_path):
    # By chance 1 of 23: 12 tune patients make one batch of 24 ECGs. Each patient has gains of their own.
    full = {"full_probability": 1.0, "device_probability": 0.0}
    train(recipe_factory("pclr", schedule={"steps": 30}, masking=full), data, tmp_path / "run")
    tune = [m for m in metrics(tmp_path / "run") if m["kind"] == "tune"]
    assert tune[-1]["pair_accuracy"] > 0.5
    assert tune[-1]["loss"] < tune[0]["loss"]


def test_kept_model_is_the_best_of_the_tune_evaluations(data, recipe_factory, tmp_path):
    train(recipe_factory(), data, tmp_path / "best")
    tune = {m["step"]: m["loss"] for m in metrics(tmp_path / "best") if m["kind"] == "tune"}
    state = json.loads((tmp_path / "best" / "checkpoints" / "last" / "state.json").read_text())
    assert state["best_step"] == min(tune, key=tune.get)
    assert state["best_loss"] == min(tune.values())
    train(recipe_factory(evaluate={"keep": "last"}), data, tmp_path / "last")
    kept = read_tensors(tmp_path / "last" / "model.safetensors")
    last = read_tensors(tmp_path / "last" / "checkpoints" / "last" / "model.safetensors")
    assert all(torch.equal(kept[k], last[k]) for k in kept)


def test_max_steps_stops_early_and_resume_goes_on(data, recipe_factory, tmp_path):
    recipe = recipe_factory(evaluate={"keep": "last"})
    assert train(recipe, data, tmp_path / "run", max_steps=5).steps == 5
    assert load_run(tmp_path / "run").recipe.schedule.steps == 12
    assert train(recipe, data, tmp_path / "run", resume=True).steps == 12
    train(recipe, data, tmp_path / "whole")
    a, b = (read_tensors(tmp_path / d / "model.safetensors") for d in ("run", "whole"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    # Nothing left to do: the same run again.
    assert train(recipe, data, tmp_path / "run", resume=True).steps == 12


def test_what_a_log_file_shows(data, recipe_factory, tmp_path, capsys):
    recipe = recipe_factory("pclr")
    train(recipe, data, tmp_path / "run", max_steps=5)
    look, end = capsys.readouterr().err.splitlines()
    (tune,) = (m for m in metrics(tmp_path / "run") if m["kind"] == "tune")
    assert look.startswith(f"test: step 5 of 12: tune loss {tune['loss']:.4g}, pair_accuracy ")
    assert re.fullmatch(
        rf"test: stopped at step 5 of 12, [\d.]+ ECG/s; step 5 is kept, its tune loss {tune['loss']:.4g} is the lowest"
        rf"; {re.escape(str(tmp_path / 'run'))}; --resume goes on",
        end,
    )
    train(recipe, data, tmp_path / "run", resume=True, report=lambda *_: None)
    assert capsys.readouterr().err == ""  # who asks to be told hears the rest from nobody
    train(recipe, data, tmp_path / "run", resume=True)
    (end,) = capsys.readouterr().err.splitlines()
    assert end.startswith("test: finished after 12 steps; step ")
    assert end.endswith(str(tmp_path / "run"))


def test_fine_tuning_starts_from_another_runs_encoder(data, recipe_factory, tmp_path):
    train(recipe_factory("pclr"), data, tmp_path / "pretrained", max_steps=3)
    recipe = recipe_factory("hemodynamics", optimizer={"lr": 1e-12}, evaluate={"keep": "last"})
    train(recipe, data, tmp_path / "tuned", max_steps=1, encoder_from=tmp_path / "pretrained")
    a, b = (read_tensors(tmp_path / d / "model.safetensors") for d in ("pretrained", "tuned"))
    torch.testing.assert_close(a["encoder.stem.weight"], b["encoder.stem.weight"], rtol=0, atol=1e-9)
    assert json.loads((tmp_path / "tuned" / "environment.json").read_text())["encoder_from"] == "pretrained"
    other = recipe_factory(encoder={"name": "resnet18"})
    with pytest.raises(EcgedgeError, match="its encoder is not the one of this recipe"):
        train(other, data, tmp_path / "other", encoder_from=tmp_path / "pretrained")


class TestRefusals:
    def test_a_run_directory_is_never_overwritten(self, data, recipe_factory, tmp_path):
        train(recipe_factory(), data, tmp_path / "run", max_steps=1)
        with pytest.raises(UsageError, match="holds a run; continue it with --resume"):
            train(recipe_factory(), data, tmp_path / "run")

    def test_resuming_with_another_recipe_or_dataset(self, data, data_factory, recipe_factory, tmp_path):
        train(recipe_factory(), data, tmp_path / "run", max_steps=1)
        with pytest.raises(UsageError, match=r"another recipe \(different: seed, optimizer\)"):
            train(recipe_factory(seed=6, optimizer={"lr": 1e-3}), data, tmp_path / "run", resume=True)
        with pytest.raises(UsageError, match="begun on dataset memory"):
            train(recipe_factory(), data_factory(seed=9), tmp_path / "run", resume=True)

    def test_an_empty_split_is_refused_before_anything_is_written(
        self, data_factory, recipe_factory, tmp_path
    ):
        data = data_factory(patients=20, unlabelled=("tune",))
        with pytest.raises(RecipeError, match="split 'tune' holds no record with a label"):
            train(recipe_factory(), data, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_loss_that_is_not_finite_stops_the_run(self, data_factory, recipe_factory, tmp_path):
        data = data_factory(patients=20)
        data.windows[data.select(split="train")] = np.inf
        with pytest.raises(EcgedgeError, match=r"the loss is nan at step 0; lower optimizer\.lr"):
            train(recipe_factory(), data, tmp_path / "run")

    def test_max_steps_below_one_and_a_gpu_that_is_not_there(self, data, recipe_factory, tmp_path):
        with pytest.raises(UsageError, match="max_steps 0 is below 1"):
            train(recipe_factory(), data, tmp_path / "run", max_steps=0)
        if not torch.cuda.is_available():
            with pytest.raises(UsageError, match="torch sees no GPU"):
                train(recipe_factory(devices={"device": "cuda"}), data, tmp_path / "run")

    def test_loading_what_is_no_finished_run(self, data, recipe_factory, tmp_path):
        with pytest.raises(EcgedgeError, match="is no run directory"):
            load_run(tmp_path)
        train(recipe_factory(), data, tmp_path / "run", max_steps=1)
        weights = tmp_path / "run" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(EcgedgeError, match="cannot be read"):
            load_run(tmp_path / "run")
        weights.unlink()
        with pytest.raises(EcgedgeError, match="has not finished"):
            load_run(tmp_path / "run")


def test_checkpoint_survives_a_death_between_the_two_renames(data, recipe_factory, tmp_path):
    run = tmp_path / "run"
    train(recipe_factory(evaluate={"keep": "last"}), data, run, max_steps=4)
    folder = run / "checkpoints"
    (folder / "last").rename(folder / "previous")
    assert find_checkpoint(run) == folder / "previous"
    result = train(recipe_factory(evaluate={"keep": "last"}), data, run, resume=True)
    assert result.steps == 12
    assert not (folder / "previous").exists()
    assert find_checkpoint(run) == folder / "last"


def test_metrics_with_a_torn_last_line_are_continued(data, recipe_factory, tmp_path):
    run = tmp_path / "run"
    train(recipe_factory(), data, run, max_steps=4)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    train(recipe_factory(), data, run, resume=True)
    assert [m["step"] for m in metrics(run) if m["kind"] == "train"] == [3, 4, 6, 9, 12]


def test_learning_rate_follows_warm_up_and_cosine_and_reaches_the_optimizer(data, recipe_factory, tmp_path):
    schedule = ScheduleRecipe(steps=101, warmup_steps=10, final_lr_fraction=0.1)
    rates = [lr_at(1.0, schedule, step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert (np.diff(rates[10:]) <= 0).all()
    train(recipe_factory(evaluate={"log_every_steps": 1}), data, tmp_path / "run")
    logged = [m["lr"] for m in metrics(tmp_path / "run") if m["kind"] == "train"]
    assert logged == pytest.approx([lr_at(3e-3, ScheduleRecipe(12, 2), k) for k in range(12)])


def test_weight_decay_falls_on_kernels_only(recipe_factory):
    model = build_model(recipe_factory())
    groups = build_optimizer(model, OptimizerRecipe(weight_decay=0.3)).param_groups
    for group in groups:
        kernels = group["weight_decay"] == 0.3
        assert all((p.dim() >= 2) == kernels for p in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


class TestFineTuning:
    def test_encoder_rate_is_a_fraction_of_the_heads(self, recipe_factory):
        model = build_model(recipe_factory())
        optimizer = build_optimizer(model, OptimizerRecipe(encoder_lr_factor=0.1))
        set_lr(optimizer, 0.5)
        heads = {id(p) for p in model.heads.parameters()}
        for group in optimizer.param_groups:
            expected = 0.5 if id(group["params"][0]) in heads else 0.05
            assert group["lr"] == pytest.approx(expected)

    def test_a_frozen_encoder_keeps_every_bit(self, data, recipe_factory, tmp_path):
        train(recipe_factory("pclr"), data, tmp_path / "first", max_steps=3)
        recipe = recipe_factory("classes", optimizer={"encoder_lr_factor": 0.0})
        train(recipe, data, tmp_path / "second", encoder_from=tmp_path / "first")
        before, after = (load_file(tmp_path / d / "model.safetensors") for d in ("first", "second"))
        encoder = [name for name in before if name.startswith("encoder.")]
        assert any("running_mean" in name for name in encoder)
        assert all(torch.equal(before[name], after[name]) for name in encoder)
        untrained = build_model(recipe).state_dict()["heads.classes.fc.weight"]
        assert not torch.equal(after["heads.classes.fc.weight"], untrained)

    def test_pieces_add_up_to_the_batch(self, data, recipe_factory, tmp_path):
        # Without batch norm statistics (frozen encoder) the pieces of a batch are the batch.
        for pieces in (1, 4):
            recipe = recipe_factory(
                "classes",
                data={"accumulate": pieces},
                optimizer={"encoder_lr_factor": 0.0},
                input={"shift_s": 0.0, "noise_mv": 0.0},
                masking={"full_probability": 1.0, "device_probability": 0.0},
                encoder={"name": "edgenet", "dropout": 0.0},
            )
            train(recipe, data, tmp_path / str(pieces), max_steps=6)
        one, four = (load_file(tmp_path / str(n) / "model.safetensors") for n in (1, 4))
        for name in one:
            assert torch.allclose(one[name], four[name], atol=1e-5), name


def test_bfloat16_trains_too(data, recipe_factory, tmp_path):
    recipe = recipe_factory(devices={"precision": "bf16"}, schedule={"steps": 3, "warmup_steps": 1})
    result = train(recipe, data, tmp_path / "run")
    assert np.isfinite(result.best_loss)


def test_training_leaves_torch_as_it_was(data, recipe_factory, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(recipe_factory(), data, tmp_path / "run", max_steps=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert load_recipe(tmp_path / "run" / "recipe.toml") == recipe_factory()


def test_train_run_takes_a_recipe_and_a_dataset_directory(data, recipe_factory, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("ecgedge_train.run.open_dataset", lambda path: opened.append(path) or data)
    file = tmp_path / "mine.toml"
    file.write_text(to_toml(recipe_factory()))
    result = train_run(file, data=tmp_path / "d", out=tmp_path / "run", overrides=["seed=8"], max_steps=2)
    assert opened == [tmp_path / "d"]
    assert result.steps == 2
    assert load_run(tmp_path / "run").recipe.seed == 8
    train_run(file, data=tmp_path / "d", out=tmp_path / "run", overrides=["seed=8"], max_steps=3, resume=True)
    with pytest.raises(UsageError, match="different: seed"):
        train_run(file, data=tmp_path / "d", out=tmp_path / "run", resume=True)
