"""The recipe: shipped files load, round trip through TOML, and every mistake is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.errors import RecipeError
from ecgedge_train.model import build_model
from ecgedge_train.recipe import (
    ClassesObjective,
    EdgeNetRecipe,
    PclrObjective,
    ResNet18Recipe,
    load_recipe,
    recipe_from_plain,
    shipped_recipes,
    to_toml,
)
from ecgedge_train.recipe.files import tomllib

MINIMAL = {
    "name": "x",
    "data": {"source": "sim"},
    "objective": {"name": "pclr"},
    "schedule": {"steps": 3},
}


def test_shipped_recipes_are_these():
    papers = {"jeong2023", "diamant2021", "oh2022", "rhcnet"}
    assert set(shipped_recipes()) == papers | {"ecgedge", "ptbxl_pclr_rlm", "ptbxl_supervised", "sim_mpcwp"}


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipe_loads_builds_and_round_trips(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    build_model(recipe)
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe))
    assert load_recipe(file) == recipe


@pytest.mark.parametrize("name", ["ptbxl_pclr_rlm", "ptbxl_supervised", "sim_mpcwp"])
def test_shipped_edge_models_stay_below_100_k_parameters(name):
    model = build_model(load_recipe(name))
    deployed = [p for n, p in model.named_parameters() if "projection" not in n]
    assert sum(p.numel() for p in deployed) <= 100_000


@given(st.text(max_size=30))
def test_any_text_survives_toml(text):
    recipe = recipe_from_plain({**MINIMAL, "name": text})
    assert tomllib.loads(to_toml(recipe))["name"] == text


def test_overrides_of_every_kind():
    recipe = load_recipe(
        "sim_mpcwp",
        [
            "optimizer.lr=3e-4",
            "seed=7",
            "encoder.name=resnet18",
            'encoder.init="published"',
            'evaluate.lead_sets=["12","I"]',
            "masking.full_probability=0",
        ],
    )
    assert recipe.optimizer.lr == 3e-4
    assert recipe.seed == 7
    assert recipe.encoder == ResNet18Recipe(name="resnet18", init="published")
    assert recipe.evaluate.lead_sets == ("12", "I")
    assert recipe.masking.full_probability == 0.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1e-3", r"unknown key 'optimizer\.lrr'; did you mean 'lr'"),
        ("encoder.dropuot=0.1", r"unknown key 'encoder\.dropuot'; did you mean 'dropout'"),
        ("objective.huber=1", r"unknown key 'objective\.huber'; did you mean 'huber_delta'"),
        ("sede=3", r"unknown key 'sede'; did you mean 'seed'"),
        ("encoder.name=resnet50", r"encoder\.name: 'resnet50' is not one of edgenet, resnet18"),
        ("objective.name=simclear", r"objective\.name: 'simclear' is not one of pclr"),
        ("optimizer.lr=fast", r"optimizer\.lr: expected float, found 'fast'"),
        ("optimizer.lr=-1", r"optimizer: lr -1 is not between"),
        ("data.batch_size=1", r"data: batch_size 1 is below 2"),
        ("schedule.warmup_steps=99999", r"schedule: warmup_steps must be smaller"),
        ("masking.full_probability=0.9", r"masking: full_probability \+ device_probability is above 1"),
        ('masking.lead_sets=["I,X9"]', r"masking: unknown lead 'X9'"),
        ("evaluate.lead_sets=[]", "must name at least one lead set"),
        ("evaluate.every_steps=0", r"every_steps must be at least 1"),
        ("input.shift_s=-1.0", r"must not be negative"),
        ("devices.device=tpu", r"devices\.device: 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        ("optimizer.lr", r"expected key=value"),
        ("name.x=1", r"'name' is a value, not a section"),
        ("encoder=3", r"encoder: expected a table"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("sim_mpcwp", [override])


def test_missing_files_and_damaged_toml(tmp_path):
    with pytest.raises(RecipeError, match=r"no shipped recipe of that name; shipped: diamant2021"):
        load_recipe("nothing")
    damaged = tmp_path / "a.toml"
    damaged.write_text("name = [")
    with pytest.raises(RecipeError, match=r"a\.toml is no valid TOML"):
        load_recipe(damaged)
    damaged.write_text('name = "x"\n[data]\nsource = "sim"\n')
    with pytest.raises(RecipeError, match=r"a\.toml: missing key 'objective'"):
        load_recipe(damaged)


def test_sections_take_the_class_of_their_name():
    recipe = recipe_from_plain(MINIMAL)
    assert isinstance(recipe.objective, PclrObjective)
    assert recipe.encoder == EdgeNetRecipe()
    with pytest.raises(RecipeError, match="without doubles"):
        recipe_from_plain({**MINIMAL, "objective": {"name": "classes", "labels": ["A", "A"]}})
    assert ClassesObjective(name="classes", labels=("A",)).labels == ("A",)


PRETRAINING = {
    **MINIMAL,
    "objective": {"name": "hemodynamics"},
    "pretrain": {"objective": {"name": "pclr"}, "schedule": {"steps": 7}, "optimizer": {"lr": 0.01}},
}


class TestPretraining:
    def test_the_first_stage_takes_its_own_sections_and_the_rest_of_the_main_one(self):
        first, main = recipe_from_plain({**PRETRAINING, "seed": 4}).stages()
        assert (first.objective.name, first.schedule.steps, first.optimizer.lr) == ("pclr", 7, 0.01)
        assert (first.seed, first.encoder, first.data) == (4, main.encoder, main.data)
        assert (main.objective.name, main.schedule.steps, main.optimizer.lr) == ("hemodynamics", 3, 1e-3)
        assert first.pretrain is None
        assert main.pretrain is None

    def test_round_trip(self):
        recipe = recipe_from_plain(PRETRAINING)
        assert recipe_from_plain(tomllib.loads(to_toml(recipe))) == recipe

    def test_mistakes_in_the_first_stage_are_named(self):
        wrong = {**PRETRAINING["pretrain"], "objective": {"name": "pclr", "temprature": 1.0}}
        with pytest.raises(RecipeError, match=r"'pretrain.objective.temprature'; did you mean 'temperature'"):
            recipe_from_plain({**PRETRAINING, "pretrain": wrong})

    def test_a_frozen_main_stage_does_not_freeze_the_first(self):
        without = {k: v for k, v in PRETRAINING["pretrain"].items() if k != "optimizer"}
        plain = {**PRETRAINING, "optimizer": {"encoder_lr_factor": 0.0, "lr": 0.02}, "pretrain": without}
        first, main = recipe_from_plain(plain).stages()
        assert (first.optimizer.encoder_lr_factor, main.optimizer.encoder_lr_factor) == (1.0, 0.0)
        assert first.optimizer.lr == 0.02

    def test_a_recipe_without_one_has_none(self):
        first, main = recipe_from_plain(MINIMAL).stages()
        assert first is None
        assert main == recipe_from_plain(MINIMAL)


def test_parts_that_want_different_views_are_refused():
    parts = [{"name": "pclr"}, {"name": "w2v"}]
    with pytest.raises(RecipeError, match=r"need different views of a batch \(halves, pairs\)"):
        recipe_from_plain({**MINIMAL, "objective": {"name": "combined", "parts": parts}})
