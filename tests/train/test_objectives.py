"""Objectives, batches and augmentation: what a step sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecgedge.errors import RecipeError
from ecgedge_train.augment import add_noise, draw_shifts, shift_windows
from ecgedge_train.batches import BatchSource, make_views, prefetched, step_generator
from ecgedge_train.distributed import World
from ecgedge_train.model import build_model
from ecgedge_train.objectives import auroc, build_objective


def source(data, recipe, split="train", batch_size=16):
    plan = replace(recipe.data, batch_size=batch_size)
    return BatchSource(data, split, build_objective(recipe.objective), plan, seed=recipe.seed)


def load(source, step):
    (batch,) = source.load(step)
    return batch


class TestAugmentation:
    def test_shift_moves_and_fills_with_zero(self):
        x = 1 + torch.arange(40.0).repeat(6, 12, 1)
        y = shift_windows(x, draw_shifts(6, max_samples=5, generator=torch.Generator().manual_seed(1)))
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


class TestBatches:
    def test_pairs_are_two_ecgs_of_one_patient_first_halves_before_second(self, data, recipe_factory):
        recipe = recipe_factory("pclr")
        batch = load(source(data, recipe), 0)
        assert batch.ecg.shape == (32, 12, 500)
        rows = [int(np.flatnonzero((data.windows == w.numpy()).all(axis=(1, 2)))[0]) for w in batch.ecg]
        patients = data.index["patient_id"]
        for a, b in zip(rows[:16], rows[16:], strict=True):
            assert a != b
            assert patients[a] == patients[b]
        assert len(set(batch.targets.patients.tolist())) == 16

    def test_a_single_record_gives_two_different_views(self, data_factory, recipe_factory):
        data = data_factory(patients=20, records_per_patient=1)
        recipe = recipe_factory("pclr")
        batch = load(source(data, recipe, batch_size=8), 0)
        assert torch.equal(batch.ecg[:8], batch.ecg[8:])
        x, presence = make_views(batch, recipe, generator=step_generator(1, 0, 0), device=torch.device("cpu"))
        assert all(not torch.equal(a, b) for a, b in zip(x[:8], x[8:], strict=True))
        assert not torch.equal(presence[:8], presence[8:])

    def test_an_epoch_shows_each_train_record_once_and_no_other(self, data, recipe_factory):
        recipe = recipe_factory()
        s = source(data, recipe, batch_size=12)
        seen = np.concatenate([load(s, i).targets.labels[:, 0].numpy() for i in range(s.per_epoch)])
        train = data.labels(("mpcwp_mmhg",), data.select(split="train"))[:, 0]
        assert sorted(seen) == sorted(train)

    def test_batch_is_a_function_of_the_step(self, data, recipe_factory):
        recipe = recipe_factory()
        a, b = source(data, recipe), source(data, recipe)
        straight = [batch.ecg for _, (batch,) in prefetched(a, 0, 9)]
        resumed = [batch.ecg for _, (batch,) in prefetched(b, 5, 9)]
        assert all(torch.equal(x, y) for x, y in zip(straight[5:], resumed, strict=True))
        assert not torch.equal(straight[0], straight[a.per_epoch])  # another epoch, another order

    def test_views_depend_on_step_only_and_leads_on_the_row(self, data, recipe_factory):
        recipe = recipe_factory()
        batch = load(source(data, recipe), 0)
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
        batch = load(source(data, recipe), 0)
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


EVERY_OBJECTIVE = {
    "pclr": {"name": "pclr"},
    "simclr": {"name": "simclr"},
    "cmsc": {"name": "cmsc"},
    "clocs": {"name": "cmsc", "form": "clocs"},
    "tfc": {"name": "tfc"},
    "w2v": {"name": "w2v", "codes": 8, "negatives": 5},
    "distance": {"name": "distance", "distance": "l2"},
    "distance_margin": {"name": "distance", "distance": "median_beat", "loss": "margin"},
    "distance_angular": {"name": "distance", "distance": "l2", "loss": "angular"},
    "metric": {"name": "metric"},
    "metric_npair": {"name": "metric", "miner": "npair", "cut": 15.0},
    "metric_semihard": {"name": "metric", "miner": "semihard", "cut": 15.0, "loss": "margin"},
    "metric_softhard": {"name": "metric", "miner": "softhard", "label": "WIDE", "cut": 0.5},
    "hemodynamics": {"name": "hemodynamics"},
    "classes": {"name": "classes", "labels": ["WIDE", "NARROW"]},
    "identity": {"name": "identity"},
    "pclr_distance": {
        "name": "combined",
        "parts": [{"name": "pclr"}, {"name": "distance", "distance": "l2", "weight": 0.5}],
    },
    "metric_task": {
        "name": "combined",
        "parts": [{"name": "metric", "weight": 3.0}, {"name": "hemodynamics"}],
    },
}


@pytest.mark.parametrize("name", EVERY_OBJECTIVE)
def test_loss_of_every_objective_reaches_stem_and_presence(name, data, recipe_factory):
    encoder = {"name": "w2v", "size": "tiny"} if name == "w2v" else {"name": "edgenet"}
    recipe = recipe_factory(objective=EVERY_OBJECTIVE[name], encoder=encoder)
    task, s = build_objective(recipe.objective), source(data, recipe)
    model = build_model(recipe, train_patients=s.n_patients)
    batch, g = load(s, 0), step_generator(5, 0, 0)
    x, presence = make_views(batch, recipe, generator=g, device=torch.device("cpu"))
    mask = None
    if name == "w2v":
        mask = task.token_mask(batch.n_views, model.encoder.n_tokens(x.shape[-1]), g)
    features = model(x, presence, token_mask=mask, for_loss=True)
    outputs = {"embedding": features.embedding, **features.outputs}
    loss = task.loss(outputs, batch.targets, g)
    assert loss.item() > 0
    loss.backward()
    assert model.encoder.stem.weight.grad.abs().sum() > 0
    presence_layer = model.encoder.lead_shift if name == "w2v" else model.encoder.presence
    assert presence_layer.weight.grad.abs().sum() > 0
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    assert not unused  # processes that average gradients wait for every parameter
    assert np.isfinite(task.tune_loss(outputs, batch.targets, g).item())


def test_a_combination_is_the_weighted_sum_of_its_parts(data, recipe_factory):
    recipe = recipe_factory(objective=EVERY_OBJECTIVE["metric_task"])
    batch = load(source(data, recipe), 0)
    model = build_model(recipe, train_patients=2)
    x, presence = make_views(batch, recipe, generator=step_generator(5, 0, 0), device=torch.device("cpu"))
    features = model(x, presence, for_loss=True)
    outputs = {"embedding": features.embedding, **features.outputs}
    assert batch.targets.labels.shape == (16, 2)  # the same label, once a part

    def loss(objective):
        task = build_objective(recipe_factory(objective=objective).objective)
        targets = batch.targets if objective["name"] == "combined" else batch.targets.columns(slice(0, 1))
        return task.loss(outputs, targets, torch.Generator()).item()

    parts = [loss(EVERY_OBJECTIVE[name]) for name in ("metric", "hemodynamics")]
    assert loss(EVERY_OBJECTIVE["metric_task"]) == pytest.approx(3 * parts[0] + parts[1], rel=1e-6)


def test_records_without_labels_stay_for_the_parts_that_want_none(data_factory, recipe_factory):
    data = data_factory(patients=20, unlabelled=("train",))
    both = {"name": "combined", "parts": [{"name": "pclr"}, {"name": "classes", "labels": ["WIDE"]}]}
    recipe = recipe_factory(objective=both)
    s = source(data, recipe, batch_size=8)
    assert len(s.rows) == 24
    batch = load(s, 0)
    assert torch.isnan(batch.targets.labels).all()
    model = build_model(recipe, train_patients=2)
    x, presence = make_views(batch, recipe, generator=step_generator(5, 0, 0), device=torch.device("cpu"))
    features = model(x, presence, for_loss=True)
    outputs = {"embedding": features.embedding, **features.outputs}
    loss = build_objective(recipe.objective).loss(outputs, batch.targets, torch.Generator())
    alone = build_objective(recipe_factory("pclr").objective).loss(outputs, batch.targets, torch.Generator())
    assert loss.item() == pytest.approx(alone.item())


class TestViews:
    def test_twice_is_the_same_ecg_and_halves_are_its_two_halves(self, data, recipe_factory):
        whole = load(source(data, recipe_factory(objective={"name": "simclr"})), 0)
        assert torch.equal(whole.ecg[:16], whole.ecg[16:])
        cut = load(source(data, recipe_factory(objective={"name": "cmsc"})), 0)
        assert cut.ecg.shape == (32, 12, 250)
        assert torch.equal(torch.cat([cut.ecg[:16], cut.ecg[16:]], dim=2), whole.ecg[:16])
        assert torch.equal(cut.targets.patients[:16], cut.targets.patients[16:])

    def test_processes_share_a_batch_and_see_the_same_views(self, data, recipe_factory):
        recipe = recipe_factory("pclr", input={"noise_mv": 0.0})
        one = load(source(data, recipe), 3)
        cpu, plan = torch.device("cpu"), replace(recipe.data, batch_size=16)
        x, presence = make_views(one, recipe, generator=step_generator(5, 0, 3), device=cpu)
        for rank in range(4):
            world = World(rank, 4)
            s = BatchSource(data, "train", build_objective(recipe.objective), plan, seed=5, world=world)
            part = load(s, 3)
            y, p = make_views(part, recipe, generator=step_generator(5, 0, 3), device=cpu)
            assert torch.equal(part.ecg, one.ecg[part.rows])
            assert torch.equal(y, x[part.rows])
            assert torch.equal(p, presence[part.rows])
            assert torch.equal(part.targets.patients[:4], part.targets.patients[4:])  # pairs are whole

    def test_counts_for_a_gpu_give_the_same_windows(self, data, recipe_factory):
        recipe = recipe_factory({"name": "distance", "distance": "l2"})
        task = build_objective(recipe.objective)
        cpu = torch.device("cpu")
        counted = BatchSource(data, "train", task, recipe.data, seed=5, counts=True, distances=())
        batch, same = load(counted, 0), load(BatchSource(data, "train", task, recipe.data, seed=5), 0)
        assert batch.ecg.dtype == torch.int16
        assert torch.allclose(batch.windows(cpu), same.windows(cpu), atol=data.lsb_mv / 2 + 1e-6)
        assert batch.targets.distance is None  # left to the GPU
        assert same.targets.distance.shape == (16, 16)

    def test_several_reading_threads_keep_the_order(self, data, recipe_factory):
        s = source(data, recipe_factory("pclr"))
        one, four = ([b.ecg for _, (b,) in prefetched(s, 1, 8, threads=n)] for n in (1, 4))
        assert len(four) == 7
        assert all(torch.equal(x, y) for x, y in zip(one, four, strict=True))

    def test_pieces_of_a_batch_are_the_batch(self, data, recipe_factory):
        recipe = recipe_factory("classes")
        task = build_objective(recipe.objective)
        plan = replace(recipe.data, batch_size=16, accumulate=4)
        pieces = BatchSource(data, "train", task, plan, seed=5).load(1)
        whole = load(BatchSource(data, "train", task, replace(plan, accumulate=1), seed=5), 1)
        assert torch.equal(torch.cat([p.ecg for p in pieces]), whole.ecg)

    def test_a_batch_that_cannot_be_shared_is_refused(self, data, recipe_factory):
        task, plan = build_objective(recipe_factory("pclr").objective), recipe_factory("pclr").data
        with pytest.raises(RecipeError, match="cannot be cut into 3 equal shares"):
            BatchSource(data, "train", task, plan, seed=5, world=World(0, 3))

    def test_fewer_labels_are_among_the_more(self, data, recipe_factory):
        recipe = recipe_factory()
        rows = [
            set(
                BatchSource(
                    data,
                    "train",
                    build_objective(recipe.objective),
                    replace(recipe.data, train_labels=n),
                    seed=5,
                ).rows.tolist()
            )
            for n in (10, 20, 40)
        ]
        assert [len(r) for r in rows] == [10, 20, 40]
        assert rows[0] < rows[1] < rows[2]
        patients = data.index["patient_id"]
        assert len({patients[r] for r in rows[0]}) == 5  # whole patients, two records each


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
