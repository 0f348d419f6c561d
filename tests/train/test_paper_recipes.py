"""The papers' recipes, end to end on a few simulated patients: both stages, resumed between them, evaluated."""

import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from ecgedge.errors import RecipeError, RecordError
from ecgedge_train.batches import BatchSource, draw_measured, step_generator
from ecgedge_train.dataset import build_dataset, open_dataset
from ecgedge_train.evaluate import evaluate_run, heads
from ecgedge_train.evaluate.report import read_rows
from ecgedge_train.heads import RHCNET_TARGETS, RhcNetHead
from ecgedge_train.inference import predict_rows
from ecgedge_train.objectives import Targets, build_objective
from ecgedge_train.optimizer import lr_at
from ecgedge_train.recipe import RhcNetObjective, load_recipe, recipe_from_plain, shipped_recipes
from ecgedge_train.run import load_run, train_run

PAPERS = ("diamant2021", "ecgedge", "jeong2023", "oh2022", "rhcnet")
SMALL = (
    "data.batch_size=6",
    "schedule.steps=3",
    "schedule.warmup_steps=0",
    "devices.device=cpu",
    "devices.threads=1",
    "evaluate.every_steps=2",
    "evaluate.checkpoint_every_steps=2",
    "evaluate.max_records=12",
    'evaluate.lead_sets=["12"]',
)
SMALL_PRETRAINING = ("pretrain.schedule.steps=2", "pretrain.schedule.warmup_steps=0")
SMALLER = {
    "diamant2021": ("encoder.resample_samples=0",),
    "oh2022": ("encoder.size=tiny", "pretrain.objective.codes=8", "pretrain.objective.negatives=5"),
}
two_stages = pytest.mark.parametrize(
    "trained", [name for name in PAPERS if name != "rhcnet"], indirect=True, scope="module"
)
NAMES = [f"logit_{label}_gt_{cut:g}" for label, cut in RHCNET_TARGETS]


def small(name):
    pretrains = load_recipe(name).pretrain is not None
    return (*SMALL, *(SMALL_PRETRAINING if pretrains else ()), *SMALLER.get(name, ()))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("sim") / "data"
    options = {"patients": "40", "recordings": "2", "rate_hz": "250", "haemodynamics": "1", "jobs": "1"}
    build_dataset("sim", out=out, options=options)
    return out


@pytest.fixture(scope="module", params=PAPERS)
def trained(request, cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    train_run(request.param, data=cohort, out=out, overrides=small(request.param))
    return request.param, out


def encoder_of(run):
    return load_run(run).model.encoder.state_dict()


class TestWholeRuns:
    def test_both_stages_are_left_and_the_first_starts_the_second(self, trained):
        name, out = trained
        first = load_recipe(name).pretrain
        assert (out / "model.safetensors").is_file()
        assert (out / "pretrain" / "model.safetensors").is_file() == (first is not None)
        started_from = json.loads((out / "environment.json").read_text())["encoder_from"]
        assert started_from == (None if first is None else "pretrain")
        losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert np.isfinite(losses).all()

    @two_stages
    def test_only_the_linear_probe_of_pclr_leaves_the_encoder_as_pretraining_left_it(self, trained):
        name, out = trained
        before, after = encoder_of(out / "pretrain"), encoder_of(out)
        same = [torch.equal(before[key], after[key]) for key in before]
        assert all(same) == (name == "diamant2021")

    @two_stages
    def test_a_run_that_stopped_between_the_stages_ends_with_the_same_bits(self, trained, cohort, tmp_path):
        name, out = trained
        again = tmp_path / "run"
        shutil.copytree(out / "pretrain", again / "pretrain")
        train_run(name, data=cohort, out=again, overrides=small(name), resume=True)
        for file in ("model.safetensors", "pretrain/model.safetensors", "pretrain/metrics.jsonl"):
            assert (again / file).read_bytes() == (out / file).read_bytes()

    def test_the_evaluation_sets_it_beside_the_ideal_observer_and_the_mean(self, trained, cohort, tmp_path):
        name, out = trained
        text = evaluate_run(out, data=cohort, out=tmp_path, resamples=10, low_labels=False)
        assert "SIMULATED" in text
        rows = {row.metric: row for row in read_rows(tmp_path)}
        data = open_dataset(cohort)
        test = data.select(split="test")
        y, ideal = data.labels(("mpcwp_mmhg", "ideal_p_gt_18"), test).T
        assert rows["ideal_auroc_gt_18"].value == pytest.approx(roc_auc_score(y > 18, ideal))
        train = data.labels(("mpcwp_mmhg",), data.select(split="train"))
        assert rows["rmse_mmhg"].baseline == pytest.approx(
            np.sqrt(np.mean((y - train.mean()) ** 2)), rel=1e-5
        )
        four = {f"auroc_{label}_gt_{cut:g}" for label, cut in RHCNET_TARGETS}
        assert (four <= rows.keys()) == (name == "rhcnet")
        wanted = {heads.MPAP_LOGIT, heads.MPCWP_LOGIT, heads.PVR_LOGIT}  # of the unreliability
        outputs = predict_rows(load_run(out).model, data, test[:2])
        assert (wanted <= outputs.keys()) == (name == "rhcnet")


class TestWhatIsPublished:
    def test_all_of_them_ship(self):
        assert set(PAPERS) <= set(shipped_recipes())

    @pytest.mark.parametrize(("name", "lr"), [("jeong2023", 1e-4), ("oh2022", 5e-5)])
    def test_the_rate_of_both_stages_is_constant_but_for_a_warm_up(self, name, lr):
        for stage in load_recipe(name).stages():
            schedule = stage.schedule
            steps = (schedule.warmup_steps, schedule.steps // 2, schedule.steps - 1)
            assert [lr_at(stage.optimizer.lr, schedule, step) for step in steps] == pytest.approx([lr] * 3)

    def test_lead_masking_is_that_of_oh_in_pretraining_and_of_nobody_else(self, cohort):
        # 0.5 a lead, 6 of 12 on average; RLM is off in fine-tuning.
        data, kept = open_dataset(cohort), {}
        for name in ("jeong2023", "diamant2021", "oh2022"):
            for stage in load_recipe(name, ["data.batch_size=24"]).stages():
                source = BatchSource(data, "train", build_objective(stage.objective), stage.data, seed=1)
                drawn = [
                    draw_measured(source.load(step)[0], stage.masking, step_generator(1, 0, step))
                    for step in range(40)
                ]
                kept[stage.name] = torch.cat(drawn).float().sum(dim=1).mean().item()
        assert kept.pop("oh2022_pretrain") == pytest.approx(6.0, abs=0.15)
        assert set(kept.values()) == {12.0}

    def test_mined_distance_is_dtw_with_the_published_margin_and_two_farthest(self):
        first, _ = load_recipe("jeong2023").stages()
        o = first.objective
        assert (o.distance, o.loss, o.margin, o.n_farthest, o.unit_norm) == ("dtw", "triplet", 0.2, 2, False)


class TestRhcNet:
    def outputs(self, n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.randn(n, generator=generator, requires_grad=True) for name in NAMES}

    def test_loss_is_the_mean_over_targets_of_the_cross_entropy_over_known_rows(self):
        nan = float("nan")
        # mPAP, mPCWP, CO; the resistances are 2, 4, 5, unknown, unknown.
        labels = torch.tensor(
            [[20.0, 12.0, 4.0], [36.0, 16.0, 5.0], [30.0, 15.0, 3.0], [nan, 25.0, 4.5], [21.0, nan, nan]]
        )
        above = {
            "logit_mpap_mmhg_gt_20": ([0, 1, 2, 4], [0, 1, 1, 1]),
            "logit_mpcwp_mmhg_gt_15": ([0, 1, 2, 3], [0, 1, 0, 1]),
            "logit_pvr_wu_gt_3": ([0, 1, 2], [0, 1, 1]),
            "logit_co_l_min_gt_4": ([0, 1, 2, 3], [0, 1, 0, 1]),
        }
        outputs = self.outputs(5)
        expected = np.mean(
            [
                log_loss(truth, torch.sigmoid(outputs[name].detach())[rows].double().numpy(), labels=[0, 1])
                for name, (rows, truth) in above.items()
            ]
        )
        task = build_objective(RhcNetObjective(name="rhcnet"))
        loss = task.loss(outputs, Targets(labels, torch.arange(5)), torch.Generator())
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        scores = task.scores({name: v.detach().numpy() for name, v in outputs.items()}, labels.numpy())
        for name, (rows, truth) in above.items():
            area = roc_auc_score(truth, outputs[name].detach().numpy()[rows])
            assert scores[name.replace("logit", "auroc")] == pytest.approx(area)

    def test_a_target_without_labels_is_left_out_and_none_at_all_costs_nothing(self):
        task = build_objective(RhcNetObjective(name="rhcnet"))
        labels = torch.full((4, 3), float("nan"))
        outputs = self.outputs(4)
        loss = task.loss(outputs, Targets(labels, torch.arange(4)), torch.Generator())
        loss.backward()
        assert loss.item() == 0.0
        assert all(v.grad is not None and not v.grad.any() for v in outputs.values())
        labels[:, 1] = 20.0
        outputs = self.outputs(4)
        task.loss(outputs, Targets(labels, torch.arange(4)), torch.Generator()).backward()
        touched = [name for name, v in outputs.items() if v.grad is not None and v.grad.any()]
        assert touched == ["logit_mpcwp_mmhg_gt_15"]

    def test_head_says_the_published_outputs_in_the_published_order(self):
        head = RhcNetHead(416, dropout=0.5).eval()
        x = torch.randn(3, 416, generator=torch.Generator().manual_seed(1))
        found = head(x)
        assert list(found) == NAMES
        for name, published in zip(NAMES, head.published(x).values(), strict=True):
            assert torch.equal(found[name], published)
        # 416-64-48-24-4 with biases: 3,042,660 parameters of the whole network less 3,011,576 of the encoder.
        assert sum(p.numel() for p in head.parameters()) == 3_042_660 - 3_011_576

    def test_a_cohort_without_the_labels_says_which_it_misses(self, tmp_path):
        options = {"patients": "10", "recordings": "1", "rate_hz": "250", "jobs": "1"}
        build_dataset("sim", out=tmp_path / "data", options=options)
        with pytest.raises(RecordError, match="no label 'mpap_mmhg' to learn"):
            train_run("rhcnet", data=tmp_path / "data", out=tmp_path / "run", overrides=small("rhcnet"))

    def test_a_dropout_of_everything_is_refused(self):
        plain = {"name": "x", "data": {"source": "sim"}, "schedule": {"steps": 1}}
        with pytest.raises(RecipeError, match="dropout 1 is not from 0"):
            recipe_from_plain({**plain, "objective": {"name": "rhcnet", "dropout": 1.0}})
