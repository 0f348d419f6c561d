"""What the documentation of training promises: every key with its default, recipes that load, links that resolve."""

import json
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from ecgedge.schema import to_plain
from ecgedge_train.cohorts import COHORTS
from ecgedge_train.recipe import (
    DataRecipe,
    DevicesRecipe,
    EvaluateRecipe,
    ExtraTarget,
    InputRecipe,
    MaskingRecipe,
    OptimizerRecipe,
    PretrainRecipe,
    Recipe,
    ScheduleRecipe,
    recipe_from_plain,
    shipped_recipes,
)
from ecgedge_train.recipe.encoders import ENCODERS
from ecgedge_train.recipe.objectives import OBJECTIVES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPO = Path(__file__).parents[2]
TRAINING = (REPO / "docs" / "training.md").read_text("utf-8")
PAGES = [*sorted((REPO / "docs").glob("*.md")), REPO / "README.md", REPO / "train" / "README.md"]
SECTIONS = {
    "`[data]`": DataRecipe,
    "`[input]`": InputRecipe,
    "`[masking]`": MaskingRecipe,
    "`[optimizer]`": OptimizerRecipe,
    "`[schedule]`": ScheduleRecipe,
    "`[devices]`": DevicesRecipe,
    "`[evaluate]`": EvaluateRecipe,
    "`[pretrain]`": PretrainRecipe,
    **{f"encoder `{name}`": section for name, section in ENCODERS.items()},
    **{f"objective `{name}`": section for name, section in OBJECTIVES.items()},
}


def below(heading):
    """Return the text between a heading and the next one."""
    (text,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", TRAINING, re.MULTILINE | re.DOTALL)
    return text


def rows(text):
    """Return {key: default} of the tables `| key | default | meaning |`."""
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", text, re.MULTILINE))


def expected(section, *, left_out=()):
    """Return {field: default} as plain values; MISSING where one must be given."""
    found = {}
    for f in fields(section):
        if f.name not in left_out:
            found[f.name] = f.default if f.default_factory is MISSING else f.default_factory()
    return found


def assert_says(told, section, **options):
    wanted = expected(section, **options)
    assert set(told) == set(wanted)
    for key, default in wanted.items():
        if default is MISSING:
            assert told[key] == "required", key
        elif default is None:
            assert told[key] == "as the main stage", key
        else:
            value = tomllib.loads(f"v = {told[key].strip('`')}")["v"]
            assert value == to_plain(default), key
            assert isinstance(value, type(to_plain(default))), key


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_stands_in_its_table_with_its_default(heading):
    told = below(heading)
    if heading == "objective `hemodynamics`":
        told, extra = told.split("An extra target:")
        assert_says(rows(extra), ExtraTarget)
    assert_says(rows(told), SECTIONS[heading])


def test_the_top_level_and_its_sections():
    sections = {f.name for f in fields(Recipe)} - {"name", "seed"}
    text = below("Top level")
    assert_says(rows(text), Recipe, left_out=sections)
    assert all(f"`{name}`" in text for name in sections)


def test_every_name_is_told():
    shipped = re.findall(r"^\| `(\w+)` \| .+ \| [CG]PU \|$", TRAINING, re.MULTILINE)
    assert sorted(shipped) == sorted(shipped_recipes())
    for name in (*ENCODERS, *OBJECTIVES):
        assert re.search(rf"^\| `{name}`", TRAINING, re.MULTILINE) or name == "imported", name
    data = (REPO / "docs" / "data.md").read_text("utf-8")
    for name in COHORTS:
        assert re.search(rf"^\| `{name}` \|", data, re.MULTILINE), name


def test_recipes_on_the_page_load():
    first = (REPO / "docs" / "train-on-my-data.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", first + TRAINING, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        recipe_from_plain(tomllib.loads(block))


def test_the_job_script_parses():
    (script,) = re.findall(r"```bash\n(.*?)```", TRAINING, re.DOTALL)
    assert script.startswith("#!/bin/bash\n#SBATCH")
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_distance_table_is_the_measured_one():
    measured = json.loads((REPO / "benchmarks" / "results" / "dtw.json").read_text())
    for name, found in measured["neighbours_of_full_dtw"].items():
        (line,) = re.findall(rf"^\| `{name}` \| .*%.*$", below("Distance mining"), re.MULTILINE)
        assert [cell.strip() for cell in line.strip("|").split("|")][2:] == [
            f"{measured['times_dtaidistance'][name]:.0f}",
            f"{found['nearest']:.0%}".replace("%", " %"),
            f"{found['top_5']:.0%}".replace("%", " %"),
        ]


def test_tests_that_are_named_exist():
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", TRAINING)
    assert len(named) >= 4
    for file, name in named:
        assert f"def {name}(" in (REPO / file).read_text("utf-8"), name


def anchors(page):
    """Return the anchors of a page's headings, made as the usual renderers make them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(REPO).as_posix())
def test_links_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target
