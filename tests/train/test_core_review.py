"""What a hostile reader of the loop, the recipe and the processes asks; each test names what must hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks
from safetensors.torch import load_file
from torch import nn

from ecgedge.errors import EcgedgeError, RecipeError, UsageError
from ecgedge_train import batches, loop
from ecgedge_train.batches import BatchSource
from ecgedge_train.checkpoint import Progress, load_checkpoint, save_checkpoint
from ecgedge_train.distributed import GatheredBatchNorm, World
from ecgedge_train.model import build_model
from ecgedge_train.objectives import build_objective
from ecgedge_train.optimizer import build_optimizer
from ecgedge_train.recipe import to_toml
from ecgedge_train.run import train_run
from ecgedge_train.session import open_session

HERE = Path(__file__).parent
CPU = torch.device("cpu")
CHILD = HERE / "distributed_child.py"


def launch(processes, recipe, out, *, tmp_path, job="train", **environment):
    """Run a training in several processes; return (errors, code) of each."""
    file = tmp_path / "launched.toml"
    file.write_text(to_toml(recipe))
    return run_ranks(CHILD, processes, job, out, file, folder=tmp_path, **environment)


def source(data, recipe, split="train", **plan):
    task = build_objective(recipe.objective)
    return BatchSource(data, split, task, replace(recipe.data, **plan), seed=recipe.seed)


def session_of(recipe, data, run_dir, **options):
    return open_session(
        recipe, data, run_dir, resume=False, encoder_from=None, device=CPU, world=World(), **options
    )


def state(run_dir):
    return json.loads((run_dir / "checkpoints" / "last" / "state.json").read_text())


def weights(run_dir):
    return load_file(run_dir / "model.safetensors")


class TestSeveralProcesses:
    def test_every_piece_of_a_batch_has_noise_of_its_own(self, data, recipe_factory, tmp_path, monkeypatch):
        recipe = recipe_factory("classes", data={"accumulate": 2}, input={"noise_mv": 0.5})
        session = session_of(recipe, data, tmp_path / "run")
        session.world = World(1, 2)
        added, add_noise = [], batches.add_noise

        def listen(x, **how):
            y = add_noise(x, **how)
            added.append(y - x)
            return y

        monkeypatch.setattr(batches, "add_noise", listen)
        loop._train_step(session, 0, session.train.load(0), look=True)
        assert len(added) == 2
        assert not torch.allclose(added[0], added[1], atol=0.1)

    def test_batch_norm_over_processes_takes_bfloat16(self):
        torch.manual_seed(0)
        ours, theirs = GatheredBatchNorm(nn.BatchNorm2d(5)), nn.BatchNorm2d(5)
        x = 3 + torch.randn(8, 5, 1, 500)
        with torch.autocast("cpu", torch.bfloat16):
            y, expected = ours(x.bfloat16()), theirs(x.bfloat16())
        assert y.dtype == expected.dtype
        assert torch.allclose(y.float(), expected.float(), atol=0.04)
        # Statistics in float32: a bfloat16 mean of 3 would be wrong in the third digit.
        assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-4)

    def test_a_run_of_one_process_goes_on_in_two(self, data, recipe_factory, tmp_path):
        recipe = recipe_factory(
            "pclr",
            encoder={"name": "edgenet", "dropout": 0.0},
            input={"noise_mv": 0.0},
            schedule={"steps": 6, "warmup_steps": 1},
            optimizer={"lr": 1e-3},
            evaluate={"keep": "last"},
        )
        loop.train(recipe, data, tmp_path / "one")
        loop.train(recipe, data, tmp_path / "both", max_steps=3)
        ends = launch(2, recipe, tmp_path / "both", tmp_path=tmp_path, RESUME="1")
        assert [code for _, code in ends] == [0, 0], ends
        assert state(tmp_path / "both")["step"] == 6
        one, both = weights(tmp_path / "one"), weights(tmp_path / "both")
        start = build_model(recipe).state_dict()
        moved, apart = (
            sum((a[n] - b[n]).float().square().sum() for n in one).sqrt()
            for a, b in ((one, start), (one, both))
        )
        assert apart < 0.02 * moved

    def test_two_stages_run_in_two_processes(self, recipe_factory, tmp_path):
        recipe = recipe_factory(
            "classes",
            schedule={"steps": 2, "warmup_steps": 0},
            pretrain={"objective": {"name": "pclr"}, "schedule": {"steps": 2}},
        )
        ends = launch(2, recipe, tmp_path / "run", tmp_path=tmp_path, job="stages")
        assert [code for _, code in ends] == [0, 0], ends
        assert (tmp_path / "run" / "model.safetensors").is_file()

    def test_a_refusal_of_the_first_process_ends_all(self, data, recipe_factory, tmp_path):
        recipe = recipe_factory("classes", schedule={"steps": 2, "warmup_steps": 0})
        loop.train(recipe, data, tmp_path / "run")
        ends = launch(2, recipe, tmp_path / "run", tmp_path=tmp_path)
        assert all(code > 0 for _, code in ends)
        assert "holds a run; continue it with --resume" in ends[0][0]

    def test_processes_that_found_different_checkpoints_are_refused(self, data, recipe_factory, tmp_path):
        # As on machines that do not share the run directory.
        recipe = recipe_factory("classes", schedule={"steps": 6, "warmup_steps": 0})
        loop.train(recipe, data, tmp_path / "run0", max_steps=3)
        ends = launch(2, recipe, tmp_path / "runRANK", tmp_path=tmp_path, RESUME="1")
        assert all(code > 0 for _, code in ends)
        assert all("share the run directory" in text for text, _ in ends)

    def test_unknown_labels_weigh_alike_in_one_process_and_in_two(self, recipe_factory, tmp_path):
        """The processes know different numbers of labels, so means of means would be another loss."""
        parts = [{"name": "hemodynamics"}, {"name": "classes", "labels": ["WIDE", "NARROW"]}]
        recipe = recipe_factory(
            objective={"name": "combined", "parts": parts},
            data={"batch_size": 12},
            encoder={"name": "edgenet", "dropout": 0.0},
            input={"noise_mv": 0.0},
            schedule={"steps": 2, "warmup_steps": 0},
            evaluate={"log_every_steps": 1},
        )
        ends = [
            launch(n, recipe, tmp_path / f"run{n}", tmp_path=tmp_path, HIDE="mpcwp_mmhg WIDE", STOP_AT="1")
            for n in (1, 2)
        ]
        assert all(code == 0 for end in ends for _, code in end), ends
        one, two = (
            json.loads((tmp_path / f"run{n}" / "metrics.jsonl").read_text().splitlines()[0]) for n in (1, 2)
        )
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)


class TestUnknownLabels:
    @pytest.fixture
    def rare(self, data_factory):
        """A dataset with the pressure in four records a split, and classes in all."""
        data = data_factory()
        pressure = np.full_like(data.label_columns["mpcwp_mmhg"], np.nan)
        pressure[:4], pressure[72:76] = [10, 20, 14, 17], [9, 25, 12, 19]
        data.label_columns["mpcwp_mmhg"] = pressure
        return data

    def test_a_batch_without_a_pressure_trains_the_other_part(self, rare, recipe_factory, tmp_path):
        parts = [{"name": "hemodynamics"}, {"name": "classes", "labels": ["WIDE", "NARROW"]}]
        recipe = recipe_factory(objective={"name": "combined", "parts": parts}, data={"batch_size": 4})
        result = loop.train(recipe, rare, tmp_path / "run")
        assert result.steps == 12
        assert np.isfinite(result.best_loss)

    def test_a_batch_without_a_class_trains_the_other_part(self, data_factory, recipe_factory, tmp_path):
        data = data_factory()
        data.label_columns["WIDE"] = np.where(np.arange(120) % 20 == 0, data.label_columns["WIDE"], np.nan)
        parts = [{"name": "hemodynamics"}, {"name": "classes", "labels": ["WIDE"]}]
        recipe = recipe_factory(objective={"name": "combined", "parts": parts}, data={"batch_size": 4})
        assert loop.train(recipe, data, tmp_path / "run").steps == 12

    def test_records_with_other_catheter_values_alone_train_too(self, rare, recipe_factory, tmp_path):
        rare.label_columns["co_l_min"] = np.linspace(2, 8, 120, dtype=np.float32)
        extras = [{"label": "co_l_min", "mean": 5.0, "sd": 1.5, "cuts": [4.0]}]
        recipe = recipe_factory(objective={"name": "hemodynamics", "extras": extras}, data={"batch_size": 4})
        assert loop.train(recipe, rare, tmp_path / "run").steps == 12


class TestBatches:
    def test_a_label_limit_is_no_limit_to_what_needs_no_labels(self, data, recipe_factory):
        assert len(source(data, recipe_factory("pclr"), train_labels=8).rows) == 72
        assert len(source(data, recipe_factory("classes"), train_labels=8).rows) == 8

    @pytest.mark.parametrize("name", ["simclr", "cmsc", "tfc"])
    def test_a_contrast_needs_two_patients_in_each_split(self, name, data_factory, recipe_factory):
        data = data_factory(patients=5, records_per_patient=10)
        with pytest.raises(RecipeError, match="split 'tune' has 1 patients, too few"):
            source(data, recipe_factory(objective={"name": name}), split="tune")

    def test_a_batch_of_one_patient_by_chance_is_a_step_of_nothing(self, data_factory, recipe_factory):
        data = data_factory(patients=5, records_per_patient=10)
        recipe = recipe_factory(objective={"name": "cmsc"}, data={"batch_size": 2})
        s = source(data, recipe)
        of_one = next(b for i in range(200) for b in s.load(i) if len(set(b.targets.patients.tolist())) == 1)
        z = torch.randn(4, 8, requires_grad=True)
        loss = s.objective.loss({"projection": z}, of_one.targets, torch.Generator())
        loss.backward()
        assert loss.item() == 0
        assert (z.grad == 0).all()

    def test_windows_of_another_length_than_the_recipe_says_are_refused(self, data, recipe_factory, tmp_path):
        with pytest.raises(RecipeError, match="window_samples = 2500"):
            loop.train(recipe_factory(input={"window_samples": 2500}), data, tmp_path / "run", max_steps=1)

    @pytest.mark.parametrize("other", ["simclr", "cmsc", "tfc"])
    def test_identity_wants_two_ecgs_of_a_patient_whatever_stands_beside_it(self, other, recipe_factory):
        for parts in ([{"name": "identity"}, {"name": other}], [{"name": other}, {"name": "identity"}]):
            with pytest.raises(RecipeError, match="need different views"):
                recipe_factory(objective={"name": "combined", "parts": parts})


class TestOptimizer:
    def test_restored_moments_lie_in_memory_as_the_weights_do(self, recipe_factory, tmp_path):
        """Fused AdamW on a GPU walks weights and moments side by side, and refuses other strides."""
        recipe = recipe_factory(encoder={"name": "resnet18"})
        models = [build_model(recipe).to(memory_format=torch.channels_last) for _ in range(2)]
        first, second = (build_optimizer(model, recipe.optimizer) for model in models)
        for p in models[0].parameters():
            p.grad = torch.ones_like(p)
        first.step()
        save_checkpoint(tmp_path, models[0], first, Progress(1, 0, 1, None, None, ""))
        load_checkpoint(tmp_path / "checkpoints" / "last", models[1], second)
        for name, p in models[1].named_parameters():
            assert second.state[p]["exp_avg"].stride() == p.stride(), name
            assert second.state[p]["exp_avg_sq"].stride() == p.stride(), name

    def test_freezing_all_there_is_to_train_is_refused(self, data, recipe_factory, tmp_path):
        recipe = recipe_factory(objective={"name": "metric"}, optimizer={"encoder_lr_factor": 0.0})
        with pytest.raises(RecipeError, match="encoder_lr_factor"):
            loop.train(recipe, data, tmp_path / "run")

    def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
        self, data, recipe_factory, tmp_path, monkeypatch
    ):
        session = session_of(recipe_factory("classes"), data, tmp_path / "run")
        whole = session.objective.loss

        def loss(outputs, targets, generator):
            # A slope of infinity times zero where the value is 0.
            return whole(outputs, targets, generator) + (0.0 * outputs["embedding"]).sum().sqrt()

        monkeypatch.setattr(session.objective, "loss", loss)
        with pytest.raises(EcgedgeError, match="gradient"):
            loop._train_step(session, 0, session.train.load(0), look=True)
        assert all(torch.isfinite(p).all() for p in session.model.parameters())


class TestTwoStages:
    def file(self, recipe_factory, path, **first):
        stage = {"objective": {"name": "pclr"}, "schedule": {"steps": 6}, **first}
        path.write_text(to_toml(recipe_factory("classes", pretrain=stage)))
        return path

    @pytest.fixture(autouse=True)
    def _dataset(self, data, monkeypatch):
        monkeypatch.setattr("ecgedge_train.run.open_dataset", lambda _: data)

    def test_a_frozen_second_stage_does_not_freeze_the_first(self, recipe_factory):
        first, main = recipe_factory(
            "classes",
            optimizer={"encoder_lr_factor": 0.0, "lr": 2e-3},
            pretrain={"objective": {"name": "pclr"}, "schedule": {"steps": 3}},
        ).stages()
        assert main.optimizer.encoder_lr_factor == 0
        assert first.optimizer.encoder_lr_factor == 1
        assert first.optimizer.lr == 2e-3

    def test_killed_in_either_stage_it_ends_the_same(self, recipe_factory, tmp_path):
        recipe = self.file(recipe_factory, tmp_path / "a.toml")
        train_run(recipe, data=tmp_path, out=tmp_path / "whole")

        class KilledError(Exception):
            pass

        for dies_at in (5, 9, 17):  # of 6 + 12 steps: in the first stage, in the second, near its end
            out, told = tmp_path / str(dies_at), []

            def count(*_, told=told, dies_at=dies_at):
                told.append(1)
                if len(told) == dies_at:
                    raise KilledError

            with pytest.MonkeyPatch.context() as patch:
                step = loop._train_step
                patch.setattr(loop, "_train_step", lambda *a, step=step, **k: (count(), step(*a, **k))[1])
                with pytest.raises(KilledError):
                    train_run(recipe, data=tmp_path, out=out)
            train_run(recipe, data=tmp_path, out=out, resume=True)
            for part in ("pretrain", "."):
                a, b = weights(tmp_path / "whole" / part), weights(out / part)
                assert all(torch.equal(a[n], b[n]) for n in a), (dies_at, part)

    def test_another_first_stage_is_refused_with_and_without_resume(self, recipe_factory, tmp_path):
        train_run(self.file(recipe_factory, tmp_path / "a.toml"), data=tmp_path, out=tmp_path / "run")
        other = self.file(recipe_factory, tmp_path / "b.toml", optimizer={"lr": 1e-4})
        with pytest.raises(UsageError, match="different: optimizer"):
            train_run(other, data=tmp_path, out=tmp_path / "run", resume=True)
        # As after a kill between the two stages: the first one is whole, the second has no folder yet.
        (tmp_path / "half").mkdir()
        (tmp_path / "run" / "pretrain").rename(tmp_path / "half" / "pretrain")
        with pytest.raises(UsageError, match="holds a run"):
            train_run(other, data=tmp_path, out=tmp_path / "half")

    def test_no_first_stage_is_trained_into_the_folder_of_another_run(self, recipe_factory, tmp_path):
        plain = tmp_path / "plain.toml"
        plain.write_text(to_toml(recipe_factory("classes")))
        train_run(plain, data=tmp_path, out=tmp_path / "run", max_steps=1)
        staged = self.file(recipe_factory, tmp_path / "a.toml")
        with pytest.raises(UsageError, match="a run without a first stage"):
            train_run(staged, data=tmp_path, out=tmp_path / "run", resume=True)
        with pytest.raises(UsageError, match="holds a run; continue it with --resume"):
            train_run(staged, data=tmp_path, out=tmp_path / "run")
        assert not (tmp_path / "run" / "pretrain").exists()

    def test_another_second_stage_is_refused_before_the_first_goes_on(self, recipe_factory, tmp_path):
        recipe = self.file(recipe_factory, tmp_path / "a.toml")
        train_run(recipe, data=tmp_path, out=tmp_path / "run", max_steps=2)
        before = (tmp_path / "run" / "pretrain" / "metrics.jsonl").read_text()
        with pytest.raises(UsageError, match="different: schedule"):
            train_run(
                recipe, data=tmp_path, out=tmp_path / "run", resume=True, overrides=["schedule.steps=20"]
            )
        assert (tmp_path / "run" / "pretrain" / "metrics.jsonl").read_text() == before

    def test_a_first_stage_cut_short_is_not_taken_for_a_whole_one(self, recipe_factory, tmp_path):
        recipe = self.file(recipe_factory, tmp_path / "a.toml")
        train_run(recipe, data=tmp_path, out=tmp_path / "run", max_steps=2)
        train_run(recipe, data=tmp_path, out=tmp_path / "run", max_steps=2, resume=True)
        with pytest.raises(UsageError, match="stopped at step 2 of 6"):
            train_run(recipe, data=tmp_path, out=tmp_path / "run", resume=True)


class TestWhereARunStartsFrom:
    @pytest.fixture
    def begun(self, data, recipe_factory, tmp_path):
        """A fine-tuning that died before its first checkpoint."""
        loop.train(recipe_factory("pclr"), data, tmp_path / "first", max_steps=1)
        with pytest.raises(ZeroDivisionError):
            loop.train(
                recipe_factory(),
                data,
                tmp_path / "run",
                encoder_from=tmp_path / "first",
                report=lambda *_: 1 / 0,
            )
        return tmp_path / "run"

    def test_resumed_without_a_checkpoint_it_needs_the_encoder_again(
        self, begun, data, recipe_factory, tmp_path
    ):
        with pytest.raises(UsageError, match="--encoder-from"):
            loop.train(recipe_factory(), data, begun, resume=True)
        loop.train(recipe_factory(), data, begun, resume=True, encoder_from=tmp_path / "first", max_steps=1)

    def test_a_resumed_run_still_says_it(self, begun, data, recipe_factory, tmp_path):
        loop.train(recipe_factory(), data, begun, resume=True, encoder_from=tmp_path / "first", max_steps=4)
        loop.train(recipe_factory(), data, begun, resume=True, max_steps=5)
        assert json.loads((begun / "environment.json").read_text())["encoder_from"] == "first"
