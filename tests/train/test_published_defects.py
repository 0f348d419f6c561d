"""Defects of the published code, and the test that shows that ours has not got them.

Codes as in the review of the four papers' repositories: D metric learning (Jeong et al.), P PCLR (Diamant et al.),
F W2V+CMSC+RLM (Oh et al.), N seen in other toolkits.

| defect | tested in |
| --- | --- |
| D1 F1 F2 F12 does not import, reads arguments at import | here::test_every_module_imports_... |
| D2 D21 P5 files or functions named that do not exist | test_recipe.py::test_shipped_recipe_loads_... |
| D3 outputs and labels of different shapes broadcast | test_rmse.py::test_refuses_broadcasting_..., test_losses.py |
| D4 D5 modules built in `forward`, dropout on in evaluation | here::test_two_looks_in_evaluation_see_the_same |
| D6 schedule never stepped | test_loop.py::test_learning_rate_follows_warm_up_and_cosine_and_reaches_the_optimizer |
| D7 positive is a far one | miners/test_distance.py::test_positive_is_the_nearest_and_never_a_far_one |
| D8 "Euclidean" is a mean difference | test_oracle_leftovers.py::test_euclidean_... |
| D9 leads warped instead of time | distances/test_dtw.py::test_time_is_warped_and_leads_are_not |
| D10 beats not aligned before a distance | distances/test_median_beat.py |
| D11 endless search for a negative, loops over pairs | miners/test_distance.py::test_all_candidates_... |
| D12 beta never learned; nu; pressure labels | here::test_the_boundary_of_..., test_margin.py |
| D13 integer and bool labels crash | miners/test_labels.py::test_every_dtype_gives_the_same_rows |
| D14 an option that reaches nothing | here::test_every_number_of_a_recipe_reaches_the_training |
| D15 baselines in other units, on fewer ECGs, or never loaded | here::TestFairComparison |
| D16 F11 names that numpy has removed | here::test_no_name_that_numpy_has_removed |
| D17 last epoch for best, test set for choosing | test_loop.py::test_kept_model_..., here::test_training_never_... |
| D18 AUROC of thresholded scores; >= beside > | evaluate/test_evaluations.py, test_losses.py::test_bce_is_... |
| D19 0.5 applied to logits, confusion matrix transposed | evaluate/test_operating.py::test_alert_figures_... |
| D20 bootstrap of ECGs, tests on replicates | evaluate/test_bootstrap.py::test_copies_..., test_compare.py |
| D22 weights saved under a wrong name, or not at all | test_loop.py::test_killed_and_resumed_... |
| D23 the network runs twice a batch | here::test_the_network_runs_once_a_batch |
| D24 no shuffling | test_objectives.py::test_batch_is_a_function_of_the_step |
| D25 P6 a text file an ECG, JSON by hand | cannot apply: int16 shards, one schema for all JSON |
| P1 N a patient's second pair is a negative | test_losses.py::test_a_second_pair_of_the_same_patient_is_no_negative |
| P2 P3 rate hidden by resampling, wrong length | dataset/test_quick_counts.py, test_pclr_encoder.py::test_c3po_... |
| P4 pinned to dead versions | cannot apply: CI runs the supported ones |
| P7 time structure lost in the autoencoder | cannot apply: there is none |
| P8 rate 0.1 with Adam | cannot apply: recipes are tuned |
| P9 loss is the sum of two means | test_losses.py::test_equals_the_formula_in_loops |
| F3 hidden share falls with the batch | test_token_masking.py::test_share_does_not_depend_on_the_batch_size |
| F4 pooling divides by non-zero entries | test_w2v_encoder.py::test_pooling_..., here::test_a_silent_record_... |
| F5 N lead masking that raises or hides everything | test_masking.py::test_ours_never_masks_everything |
| F6 sign added for multiplied in an augmentation | test_objectives.py::TestAugmentation |
| F7 augmentation after lead selection | here::test_noise_never_reaches_a_lead_that_is_absent |
| F8 pseudo patients, leaking splits | dataset/test_build.py::test_a_patient_in_two_..., dataset/test_union.py |
| F9 crops of other types than the collator wants | test_objectives.py::TestViews |
| F10 old weight names do not load | importers/test_fairseq_import.py |
| F13 dependent leads zeroed while derivable | test_masking.py::test_limb_leads_are_never_zero_while_derivable |
| F14 F15 norm and convolution that look ahead | test_edgenet.py::test_causal_features_never_look_ahead |
| N detached norm in CMSC | test_cmsc.py::test_gradient_is_that_of_the_cosine |
| N weights other than 1 break a sum of losses | test_objectives.py::test_a_combination_is_... |
| N no gather over processes, or a detached one | test_distributed.py::test_gradients_equal_those_of_one_process |
| N resume not implemented | test_loop.py::test_killed_and_resumed_equals_uninterrupted_bit_by_bit |
"""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ecgedge_train
from ecgedge_train.batches import BatchSource, make_views, step_generator
from ecgedge_train.inference import predict_rows
from ecgedge_train.loop import train
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.objectives import build_objective

SOURCES = sorted(Path(ecgedge_train.__file__).parent.rglob("*.py"))

ALONE = {
    "pclr": {"name": "pclr"},
    "simclr": {"name": "simclr"},
    "cmsc": {"name": "cmsc"},
    "tfc": {"name": "tfc"},
    "w2v": {"name": "w2v", "codes": 8, "negatives": 5},
    "distance": {"name": "distance", "distance": "l2", "loss": "margin"},
    "metric": {"name": "metric"},
    "identity": {"name": "identity"},
}
"""Objectives that pretrain, or could."""


def encoder_for(name):
    return {"name": "w2v"} if name == "w2v" else {"name": "edgenet"}


def batch_of(data, recipe):
    task = build_objective(recipe.objective)
    s = BatchSource(data, "train", task, recipe.data, seed=recipe.seed)
    return task, s, s.load(0)[0]


def test_every_module_imports_without_arguments_and_without_a_trace(tmp_path):
    """D1, F1, F2: `import` reads no argument, writes no file, and works on this Python."""
    package = Path(ecgedge_train.__file__).parent
    names = [
        ".".join(("ecgedge_train", *path.relative_to(package).with_suffix("").parts)) for path in SOURCES
    ]
    names = [name.removesuffix(".__init__") for name in names]
    script = "import sys, importlib\nfor name in sys.argv[2].split(): importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, "--no-such-option", " ".join(names)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_no_name_that_numpy_has_removed():
    """D16, F11: np.object, np.int and the like."""
    used = {
        (path.name, node.attr)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
    }
    assert len(used) > 100
    assert not [(file, name) for file, name in used if not hasattr(np, name)]


@pytest.mark.parametrize("name", [*ALONE, "hemodynamics", "classes"])
def test_two_looks_in_evaluation_see_the_same(name, data, recipe_factory):
    """D4, D5: nothing is built or drawn in `forward`, in the training heads neither."""
    recipe = recipe_factory(objective=ALONE.get(name, name), encoder=encoder_for(name))
    task, s, batch = batch_of(data, recipe)
    model = build_model(recipe, train_patients=s.n_patients).eval()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    x, presence = make_views(batch, recipe, generator=step_generator(5, 0, 0), device=torch.device("cpu"))
    mask = None
    if name == "w2v":
        mask = task.token_mask(len(x), model.encoder.n_tokens(x.shape[-1]), step_generator(5, 0, 1))
    looks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.inference_mode():
            features = model(x, presence, token_mask=mask, for_loss=True)
        looks.append({"embedding": features.embedding, **features.outputs})
    assert looks[0].keys() == looks[1].keys()
    assert all(torch.equal(looks[0][key], looks[1][key]) for key in looks[0])
    after = model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[key], after[key]) for key in weights)


def test_the_boundary_of_the_margin_loss_is_learned_in_a_run(data, recipe_factory, tmp_path):
    """D12: beta is among what the optimiser of a run moves."""
    train(recipe_factory(objective=ALONE["distance"]), data, tmp_path / "run", max_steps=3)
    last = load_file(tmp_path / "run" / "checkpoints" / "last" / "model.safetensors")
    assert last["heads.margin.beta"] != 1.2


CHANGES = {
    "seed": 6,
    "data.batch_size": 12,
    "data.accumulate": 2,
    "data.train_labels": 30,
    "input.shift_s": 0.3,
    "input.noise_mv": 0.1,
    "encoder.dropout": 0.5,
    "encoder.embedding_size": 64,
    "encoder.size": "m",
    "encoder.causal": True,
    "masking.full_probability": 0.0,
    "masking.device_probability": 0.1,
    "masking.bernoulli_keep": 0.9,
    "masking.lead_sets": ["V1"],
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.5,
    "optimizer.beta1": 0.5,
    "optimizer.beta2": 0.5,
    "optimizer.clip_norm": 0.01,
    "optimizer.encoder_lr_factor": 0.5,
    "schedule.steps": 5,
    "schedule.warmup_steps": 1,
    "schedule.final_lr_fraction": 0.9,
    "objective.bce_weight": 2.0,
    "objective.regression_weight": 2.0,
    "objective.huber_delta": 0.1,
    "objective.regression": "gaussian",
    "objective.mean_mmhg": 12.0,
    "objective.sd_mmhg": 4.0,
    "objective.label": "NARROW",
    "devices.precision": "bf16",
}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Return what a changed recipe trains to in three steps; each change is trained once."""

    def run(make, changes):
        plain = {"encoder": {"name": "edgenet"}, "schedule": {"steps": 4, "warmup_steps": 2}}
        objective = {"name": "hemodynamics"}
        for path, value in changes.items():
            section, _, key = path.rpartition(".")
            if section == "objective":
                objective[key] = value
            elif section:
                plain[section] = {**plain.get(section, {}), key: value}
            else:
                plain[key] = value
        out = tmp_path_factory.mktemp("trained") / "run"
        train(make(objective=objective, **plain, evaluate={"keep": "last"}), data, out, max_steps=4)
        return load_file(out / "model.safetensors")

    return run


@pytest.fixture(scope="module")
def unchanged():
    return {}


@pytest.mark.parametrize("path", CHANGES)
def test_every_number_of_a_recipe_reaches_the_training(path, trained, unchanged, recipe_factory):
    """D14: an option that is read and then passed to nothing (there a class-balanced sampler)."""
    if not unchanged:
        unchanged.update(trained(recipe_factory, {}))
    changed = trained(recipe_factory, {path: CHANGES[path]})
    same = changed.keys() == unchanged.keys() and all(
        changed[k].shape == unchanged[k].shape and torch.equal(changed[k], unchanged[k]) for k in changed
    )
    assert not same


class TestFairComparison:
    @pytest.mark.parametrize("name", ALONE)
    def test_every_objective_sees_all_training_ecgs_in_millivolts(self, name, data, recipe_factory):
        """D15: baselines scaled to [0, 1] in pretraining, on 1,000 ECGs."""
        recipe = recipe_factory(objective=ALONE[name])
        task, s, _ = batch_of(data, recipe)
        train_rows = data.select(split="train")
        assert sorted(s.rows) == sorted(train_rows)
        windows = {data.windows[row].tobytes() for row in train_rows}
        steps = [s.load(i)[0] for i in range(s.per_epoch)]
        seen = torch.cat([b.windows(torch.device("cpu"))[: 2 * b.n_items] for b in steps])
        if task.views == "halves":
            whole = {w[:, :250].tobytes() for w in data.windows[train_rows]}
            whole |= {w[:, 250:].tobytes() for w in data.windows[train_rows]}
            windows = whole
        assert all(np.ascontiguousarray(w.numpy()).tobytes() in windows for w in seen)

    @pytest.mark.parametrize("name", ALONE)
    def test_fine_tuning_starts_from_the_encoder_of_every_objective(
        self, name, data, recipe_factory, tmp_path
    ):
        """D15: the TFC checkpoint was never loaded."""
        encoder = encoder_for(name)
        train(recipe_factory(objective=ALONE[name], encoder=encoder), data, tmp_path / "first", max_steps=1)
        tuned = recipe_factory("classes", encoder=encoder, optimizer={"encoder_lr_factor": 0.0})
        train(tuned, data, tmp_path / "second", max_steps=1, encoder_from=tmp_path / "first")
        first, second = (load_file(tmp_path / d / "model.safetensors") for d in ("first", "second"))
        names = [key for key in second if key.startswith("encoder.")]
        assert len(names) > 10
        assert all(torch.equal(first[key], second[key]) for key in names)


@pytest.mark.parametrize("name", ["pclr", "tfc", "distance", "hemodynamics", "classes"])
def test_training_never_reads_the_test_split(name, data, recipe_factory, tmp_path):
    """D17, D18: steps and thresholds were chosen on the test set."""
    read = set()

    class Watched:
        info, index = data.info, data.index

        def select(self, *, split=None):
            return data.select(split=split)

        def gather(self, rows, dtype=np.float32):
            read.update(np.asarray(rows).tolist())
            return data.gather(rows, dtype)

        def presence(self, rows):
            return data.presence(rows)

        def labels(self, names, rows):
            read.update(np.asarray(rows).tolist())
            return data.labels(names, rows)

    train(recipe_factory(objective=ALONE.get(name, name)), Watched(), tmp_path / "run", max_steps=6)
    assert len(read & set(data.select(split="tune").tolist())) > 0
    assert not read & set(data.select(split="test").tolist())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in lines} == {"train", "tune"}


def test_the_network_runs_once_a_batch(data, recipe_factory, tmp_path, monkeypatch):
    """D23: both networks were called twice for each test batch."""
    calls, forward = [], EcgModel.forward
    monkeypatch.setattr(EcgModel, "forward", lambda *a, **k: (calls.append(1), forward(*a, **k))[1])
    recipe = recipe_factory()
    predict_rows(build_model(recipe), data, data.select(split="test"), batch_size=10)
    assert len(calls) == 3  # 24 records
    calls.clear()
    train(replace(recipe, evaluate=replace(recipe.evaluate, lead_sets=("12",))), data, tmp_path, max_steps=4)
    assert len(calls) == 4 + 1  # steps, and one batch of 24 tune records to calibrate


def test_a_silent_record_has_a_finite_embedding_and_gradient(recipe_factory):
    """F4: a channel of zeros gave NaN, and the record was dropped without a word."""
    for encoder in ({"name": "edgenet"}, {"name": "resnet18"}, {"name": "w2v"}):
        model = build_model(recipe_factory(encoder=encoder)).eval()
        x = torch.zeros(2, 12, 500)
        x[1] = torch.sin(torch.arange(500.0) / 9)
        presence = torch.ones(2, 12)
        presence[0] = 0
        features = model(x, presence)
        features.outputs["mpcwp_mmhg"].sum().backward()
        assert torch.isfinite(features.embedding).all()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_noise_never_reaches_a_lead_that_is_absent(data, recipe_factory):
    """F7: augmentation ran behind the lead selection, on 12 leads by position."""
    recipe = recipe_factory(
        "classes",
        input={"noise_mv": 0.5, "shift_s": 0.2},
        masking={"full_probability": 0.0, "device_probability": 1.0, "lead_sets": ["II", "V2"]},
    )
    _, _, batch = batch_of(data, recipe)
    x, presence = make_views(batch, recipe, generator=step_generator(5, 0, 0), device=torch.device("cpu"))
    assert presence.sum(1).tolist() == [1.0] * 16
    assert (x[presence == 0] == 0).all()
    assert (x[presence == 1].std(dim=1) > 0.3).all()
