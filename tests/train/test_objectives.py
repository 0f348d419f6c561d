"""Objectives, batches and augmentation: what a step sees."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecgedge.errors import RecipeError
from ecgedge_train.augment import add_noise, shift_windows
from ecgedge_train.batches import BatchSource, make_views, prefetched, step_generator
from ecgedge_train.model import build_model
from ecgedge_train.objectives import auroc, build_objective


def source(data, recipe, split="train", batch_size=16):
    return BatchSource(
        data, split, build_objective(recipe.objective), batch_size=batch_size, seed=recipe.seed
    )


class TestAugmentation:
    def test_shift_moves_and_fills_with_zero(self):
        x = 1 + torch.arange(40.0).repeat(6, 12, 1)
        y = shift_windows(x, max_samples=5, generator=torch.Generator().manual_seed(1))
        shifts = []
        for row in y:
            assert (row == row[0]).all()  # all leads together
            shift = next(s for s in range(-5, 6) if row[0, 20] == 21 - s)
            expected = [i + 1 - shift if 0 <= i - shift < 40 else 0 for i in range(40)]
            assert row[0].tolist() == expected
            shifts.append(shift)
        assert len(set(shifts)) > 2

    def test_noise_has_the_asked_sd_and_zero_does_nothing(self):
        x = torch.zeros(4, 12, 500)
        g = torch.Generator().manual_seed(2)
        assert add_noise(x, sd_mv=0.02, generator=g).std().item() == pytest.approx(0.02, rel=0.03)
        assert add_noise(x, sd_mv=0.0, generator=g) is x
        assert shift_windows(x, max_samples=0, generator=g) is x


class TestBatches:
    def test_pairs_are_two_ecgs_of_one_patient_first_halves_before_second(self, data, recipe_factory):
        recipe = recipe_factory("pclr")
        batch = source(data, recipe).load(0)
        assert batch.ecg_mv.shape == (32, 12, 500)
        rows = [int(np.flatnonzero((data.windows == w.numpy()).all(axis=(1, 2)))[0]) for w in batch.ecg_mv]
        patients = data.index["patient_id"]
        for a, b in zip(rows[:16], rows[16:], strict=True):
            assert a != b
            assert patients[a] == patients[b]
        assert len(set(batch.targets.patients.tolist())) == 16

    def test_a_single_record_gives_two_different_views(self, data_factory, recipe_factory):
        data = data_factory(patients=20, records_per_patient=1)
        recipe = recipe_factory("pclr")
        batch = source(data, recipe, batch_size=8).load(0)
        assert torch.equal(batch.ecg_mv[:8], batch.ecg_mv[8:])
        x, presence = make_views(batch, recipe, generator=step_generator(1, 0, 0), device=torch.device("cpu"))
        assert all(not torch.equal(a, b) for a, b in zip(x[:8], x[8:], strict=True))
        assert not torch.equal(presence[:8], presence[8:])

    def test_an_epoch_shows_each_train_record_once_and_no_other(self, data, recipe_factory):
        recipe = recipe_factory()
        s = source(data, recipe, batch_size=12)
        seen = np.concatenate([s.load(i).targets.labels[:, 0].numpy() for i in range(s.per_epoch)])
        train = data.labels(("mpcwp_mmhg",), data.select(split="train"))[:, 0]
        assert sorted(seen) == sorted(train)

    def test_batch_is_a_function_of_the_step(self, data, recipe_factory):
        recipe = recipe_factory()
        a, b = source(data, recipe), source(data, recipe)
        straight = [batch.ecg_mv for _, batch in prefetched(a, 0, 9)]
        resumed = [batch.ecg_mv for _, batch in prefetched(b, 5, 9)]
        assert all(torch.equal(x, y) for x, y in zip(straight[5:], resumed, strict=True))
        assert not torch.equal(straight[0], straight[a.per_epoch])  # another epoch, another order

    def test_views_depend_on_step_only_and_leads_on_the_row(self, data, recipe_factory):
        recipe = recipe_factory()
        batch = source(data, recipe).load(0)
        cpu = torch.device("cpu")
        one, two, other = (
            make_views(batch, recipe, generator=step_generator(5, 0, s), device=cpu) for s in (3, 3, 4)
        )
        assert torch.equal(one[0], two[0])
        assert not torch.equal(one[0], other[0])
        assert len({tuple(p) for p in one[1].tolist()}) > 2

    def test_leads_that_were_not_recorded_are_never_present(self, data_factory, recipe_factory):
        data = data_factory(patients=20)
        data.measured[:, 2:] = False
        data.windows[:, 2:] = 0
        recipe = recipe_factory(masking={"full_probability": 0.5, "device_probability": 0.0})
        batch = source(data, recipe).load(0)
        _, presence = make_views(batch, recipe, generator=step_generator(5, 0, 0), device=torch.device("cpu"))
        assert (presence[:, 6:] == 0).all()
        assert (presence.sum(1) >= 1).all()

    @pytest.mark.parametrize("objective", ["hemodynamics", "classes"])
    def test_a_split_without_labels_is_refused_early(self, data_factory, recipe_factory, objective):
        data = data_factory(patients=20, unlabelled=("tune",))
        recipe = recipe_factory(objective)
        with pytest.raises(RecipeError, match=r"split 'tune' holds no record with a label (mpcwp_mmhg|WIDE)"):
            source(data, recipe, split="tune")

    def test_one_patient_is_too_few_for_a_contrast(self, data_factory, recipe_factory):
        data = data_factory(patients=5)
        with pytest.raises(RecipeError, match="1 patients, too few"):
            source(data, recipe_factory("pclr"), split="tune")


class TestScores:
    @pytest.mark.parametrize("decimals", [0, 1, 6])
    def test_auroc_equals_sklearn_with_ties(self, decimals):
        rng = np.random.default_rng(decimals)
        y = rng.random(200) < 0.3
        scores = np.round(rng.normal(size=200) + y, decimals).astype(np.float32)
        assert auroc(scores, y) == pytest.approx(roc_auc_score(y, scores))

    def test_auroc_of_one_outcome_is_nan(self):
        assert np.isnan(auroc(np.ones(3, np.float32), np.ones(3, bool)))

    def test_hemodynamic_scores_stand_beside_the_mean_predictor(self, recipe_factory):
        y = np.array([[10.0], [14.0], [17.0], [25.0], [np.nan]], np.float32)
        outputs = {
            "logit_gt_15": np.array([-1, 1, 2, 3, 9], np.float32),
            "logit_gt_18": np.array([-1, 3, 2, 1, 9], np.float32),
            "mpcwp_mmhg": np.array([11.0, 13.0, 18.0, 24.0, 99.0], np.float32),
        }
        scores = build_objective(recipe_factory().objective).scores(outputs, y)
        assert scores["auroc_gt_15"] == 1.0
        assert scores["auroc_gt_18"] == pytest.approx(1 / 3)
        assert scores["rmse_mmhg"] == pytest.approx(1.0)
        assert scores["rmse_of_mean_mmhg"] == pytest.approx(np.std([10, 14, 17, 25]))

    def test_macro_auroc_leaves_out_classes_with_one_outcome(self, recipe_factory):
        task = build_objective(recipe_factory("classes").objective)
        labels = np.array([[0, 1], [1, 1], [1, 1]], np.float32)
        scores = task.scores({"class_logits": np.array([[0, 0], [1, 1], [2, 2]], np.float32)}, labels)
        assert scores["auroc_WIDE"] == 1.0
        assert np.isnan(scores["auroc_NARROW"])
        assert scores["macro_auroc"] == 1.0


@pytest.mark.parametrize("objective", ["pclr", "hemodynamics", "classes"])
def test_loss_of_every_objective_reaches_the_stem(objective, data, recipe_factory):
    recipe = recipe_factory(objective)
    task, model = build_objective(recipe.objective), build_model(recipe)
    batch = source(data, recipe).load(0)
    x, presence = make_views(batch, recipe, generator=step_generator(5, 0, 0), device=torch.device("cpu"))
    task.loss(model(x, presence).outputs, batch.targets).backward()
    assert model.encoder.stem.weight.grad.abs().sum() > 0
    assert model.encoder.presence.weight.grad.abs().sum() > 0


def test_build_model_follows_the_seed_and_leaves_torch_alone(recipe_factory):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    one, two = (build_model(recipe_factory(seed=5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.encoder.stem.weight, two.encoder.stem.weight)
    assert not torch.equal(one.encoder.stem.weight, build_model(recipe_factory(seed=6)).encoder.stem.weight)


def test_pressure_head_speaks_mmhg(recipe_factory):
    model = build_model(recipe_factory()).eval()
    with torch.inference_mode():
        head = model.heads["hemodynamics"]
        head.fc.weight.zero_()
        head.fc.bias.copy_(torch.tensor([0.3, -0.2, 2.0]))
        features = model(torch.zeros(2, 12, 500), torch.ones(2, 12))
    assert features.embedding.shape == (2, 128)
    assert features.outputs["mpcwp_mmhg"].tolist() == pytest.approx([15.678 + 2 * 8.145] * 2, rel=1e-6)
    assert features.outputs["logit_gt_15"].tolist() == pytest.approx([0.3] * 2)
