"""The teacher's words: computed once, whole after a kill, refused for another teacher; students resume exactly."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ecgedge.errors import EcgedgeError, RecipeError, UsageError
from ecgedge_train.inference import predict_rows
from ecgedge_train.loop import train
from ecgedge_train.model import build_model
from ecgedge_train.objectives import build_objective
from ecgedge_train.objectives.base import Targets
from ecgedge_train.recipe import load_recipe
from ecgedge_train.run import load_run, train_run
from ecgedge_train.teacher import TeacherData, ask_teacher

HERE = Path(__file__).parent
CLASSES = ("WIDE", "NARROW")

CHILD = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("memory_data", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import ecgedge_train.teacher as teacher
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe
from ecgedge_train.inference import predict_rows
def slow(*a, **k):
    said = predict_rows(*a, **k)
    print("asked", flush=True)
    sys.stdin.readline()
    return said
teacher.predict_rows = slow
model = build_model(load_recipe(sys.argv[2])).eval()
part = load_recipe(sys.argv[3]).objective.parts[0]
teacher.ask_teacher(model, part, module.make_data(), Path(sys.argv[4]), shard_rows=32)
"""


@pytest.fixture
def teacher_recipe(recipe_factory):
    return recipe_factory("classes", encoder={"name": "edgenet", "embedding_size": 24, "dropout": 0.0})


@pytest.fixture
def teacher(teacher_recipe):
    return build_model(teacher_recipe).eval()


def distill(**keys):
    return {
        "name": "distill",
        "teacher": "big",
        "teacher_sha256": "a" * 64,
        "teacher_encoder": "edgenet",
        "teacher_trained_on": "memory",
        "teacher_embedding_size": 24,
        "class_logits": list(CLASSES),
        **keys,
    }


@pytest.fixture
def student_recipe(recipe_factory):
    def make(size=16, weight=0.0, **keys):
        head = {"name": "classes", "labels": list(CLASSES), "weight": weight}
        return recipe_factory(
            {"name": "combined", "parts": [distill(**keys), head]},
            encoder={"name": "edgenet", "embedding_size": size, "dropout": 0.1},
        )

    return make


def part_of(recipe):
    return recipe.objective.parts[0]


def taught(teacher, recipe, data, folder, **keys):
    said = ask_teacher(teacher, part_of(recipe), data, folder, shard_rows=32)
    return TeacherData(data, said, part_of(recipe), taught_by="Distilled from big.", **keys)


def test_columns_are_what_the_teacher_says_with_all_leads(teacher, student_recipe, data, tmp_path):
    recipe = student_recipe()
    said = ask_teacher(teacher, part_of(recipe), data, tmp_path, shard_rows=32)
    rows = np.concatenate([data.select(split="tune"), data.select(split="train")])[::-3]
    expected = predict_rows(teacher, data, rows, lead_set="12")
    table = said.gather(rows)
    np.testing.assert_allclose(table[:, :24], expected["embedding"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table[:, 24:], expected["class_logits"], rtol=1e-4, atol=1e-5)


def test_the_embedding_is_centred_and_scaled_by_one_number(teacher, student_recipe, data, tmp_path):
    recipe = student_recipe()
    with_words = taught(teacher, recipe, data, tmp_path)
    rows = data.select(split="train")
    z = with_words.labels(part_of(recipe).columns[:24], rows).astype(np.float64)
    raw = predict_rows(teacher, data, rows)["embedding"].astype(np.float64)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-5)
    assert z.var(axis=0).mean() == pytest.approx(1.0, rel=1e-4)
    distances = [np.linalg.norm(x[:1] - x[1:9], axis=1) for x in (z, raw)]
    np.testing.assert_allclose(distances[0] / distances[1], distances[0][0] / distances[1][0], rtol=1e-3)


def test_labels_of_people_come_beside_and_absent_ones_are_unknown(teacher, student_recipe, data, tmp_path):
    recipe = student_recipe()
    with_words = taught(teacher, recipe, data, tmp_path, unlabelled=("NARROW",))
    rows = data.select(split="tune")
    table = with_words.labels(("NARROW", "teacher_class_WIDE", "WIDE"), rows)
    assert np.isnan(table[:, 0]).all()
    np.testing.assert_array_equal(table[:, 2], data.labels(("WIDE",), rows)[:, 0])
    expected = predict_rows(teacher, data, rows)["class_logits"][:, 0]
    np.testing.assert_allclose(table[:, 1], expected, rtol=1e-4, atol=1e-5)


def test_the_test_split_is_not_asked_about(teacher, student_recipe, data, tmp_path):
    said = ask_teacher(teacher, part_of(student_recipe()), data, tmp_path, shard_rows=32)
    assert not set(said.rows) & set(data.select(split="test"))
    with pytest.raises(ValueError, match="training and tune only"):
        said.gather(data.select(split="test")[:2])


def test_killed_midway_it_goes_on_with_the_next_file(teacher_recipe, teacher, student_recipe, data, tmp_path):
    recipe, folder = student_recipe(), tmp_path / "words"
    from ecgedge_train.recipe import to_toml

    (tmp_path / "teacher.toml").write_text(to_toml(teacher_recipe))
    (tmp_path / "student.toml").write_text(to_toml(recipe))
    arguments = [
        str(HERE / "memory_data.py"),
        *(str(tmp_path / f"{n}.toml") for n in ("teacher", "student")),
        str(folder),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        # Two files written, the third one in the making.
        for _ in range(2):
            assert process.stdout.readline() == "asked\n"
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGKILL)
    kept = sorted(f.name for f in folder.glob("*.npy"))
    assert kept == ["rows-00000.npy", "rows-00001.npy"]
    (folder / "rows-00002.npy.tmp").write_bytes(b"torn")
    before = {name: (folder / name).stat().st_mtime_ns for name in kept}
    said = ask_teacher(teacher, part_of(recipe), data, folder, shard_rows=32)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == before
    whole = ask_teacher(teacher, part_of(recipe), data, tmp_path / "anew", shard_rows=32)
    np.testing.assert_array_equal(said.gather(said.rows), whole.gather(said.rows))


@pytest.mark.parametrize("what", ["teacher", "dataset", "outputs"])
def test_words_of_another_are_refused(what, teacher, student_recipe, data, data_factory, tmp_path):
    part = part_of(student_recipe())
    ask_teacher(teacher, part, data, tmp_path)
    if what == "teacher":
        part = replace(part, teacher_sha256="b" * 64)
    elif what == "outputs":
        part = replace(part, class_logits=("WIDE",))
    other = data_factory(seed=4) if what == "dataset" else data
    with pytest.raises(
        UsageError, match="another teacher" if what == "teacher" else "another dataset or form"
    ):
        ask_teacher(teacher, part, other, tmp_path)


def test_a_cut_file_is_refused(teacher, student_recipe, data, tmp_path):
    part = part_of(student_recipe())
    ask_teacher(teacher, part, data, tmp_path, shard_rows=32)
    file = tmp_path / "rows-00001.npy"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(EcgedgeError, match=r"rows-00001\.npy cannot be read"):
        ask_teacher(teacher, part, data, tmp_path, shard_rows=32)


def test_a_teacher_that_says_no_number_is_refused(teacher, student_recipe, data, tmp_path):
    with torch.no_grad():
        teacher.encoder.fc.bias[0] = float("inf")
    with pytest.raises(EcgedgeError, match="numbers that are not finite"):
        ask_teacher(teacher, part_of(student_recipe()), data, tmp_path)
    assert not list(tmp_path.glob("*.npy"))


def test_loss_is_the_weighted_sum_of_its_parts(student_recipe):
    recipe = student_recipe(embedding_weight=2.0, relation_weight=3.0, output_weight=0.5, weight=0.0)
    objective = build_objective(part_of(recipe))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(8, 16, generator=generator)
    outputs = {
        "embedding": z,
        "mapped_embedding": torch.randn(8, 24, generator=generator),
        "class_logits": torch.randn(8, 2, generator=generator),
    }
    targets = Targets(torch.randn(8, 26, generator=generator), torch.arange(8))
    parts = objective.batch_scores(outputs, targets)
    expected = 2 * parts["distill_embedding"] + 3 * parts["distill_relation"] + 0.5 * parts["distill_outputs"]
    assert float(objective.loss(outputs, targets, generator)) == pytest.approx(expected, rel=1e-5)
    without = build_objective(replace(part_of(recipe), relation_weight=0.0, output_weight=0.0))
    assert set(without.batch_scores(outputs, targets)) == {"distill_embedding"}


def test_outputs_are_compared_column_by_column(student_recipe):
    """T^2 KL of two logits, two labels and an output, and Huber of a value in units of 8, from the formulas."""
    part = replace(
        part_of(student_recipe(embedding_weight=0.0, relation_weight=0.0, teacher_embedding_size=1)),
        logits=("logit_gt_15",),
        values=("mpcwp_mmhg", "co_l_min"),
        value_sds=(8.0, 2.0),
        temperature=3.0,
    )
    assert part.columns == (
        "teacher_embedding_0",
        "teacher_class_WIDE",
        "teacher_class_NARROW",
        "teacher_logit_gt_15",
        "teacher_mpcwp_mmhg",
        "teacher_co_l_min",
    )
    outputs = {
        "embedding": torch.zeros(1, 16),
        "class_logits": torch.tensor([[0.5, -1.0]]),
        "logit_gt_15": torch.tensor([2.0]),
        "mpcwp_mmhg": torch.tensor([20.0]),
        "co_l_min": torch.tensor([4.0]),
    }
    said = torch.tensor([[9.0, 1.5, -2.0, 0.3, 16.0, 7.0]])

    def divergence(student, teacher):
        p, q = (1 / (1 + math.exp(-x / 3.0)) for x in (teacher, student))
        return 9.0 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))

    # 4 mmHg of 8 is within the square of Huber's loss, 3 l/min of 2 is not.
    expected = sum(divergence(s, t) for s, t in ((0.5, 1.5), (-1.0, -2.0), (2.0, 0.3))) / 3
    expected += (0.5 * 0.5**2 + (1.5 - 0.5)) / 2
    found = build_objective(part).loss(outputs, Targets(said, torch.arange(1)), torch.Generator())
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_map_that_no_loss_reads_is_not_built(student_recipe):
    """Several processes would wait for its gradient."""
    for weight in (0.0, 1.0):
        model = build_model(student_recipe(embedding_weight=weight), train_patients=4)
        assert ("distill" in model.heads) == (weight > 0)


def test_what_teaches_nothing_is_refused(student_recipe):
    """A teacher without outputs cannot teach them."""
    alone = {"embedding_weight": 0.0, "relation_weight": 0.0}
    student_recipe(**alone)
    with pytest.raises(RecipeError, match="output_weight alone teaches nothing"):
        student_recipe(**alone, class_logits=[])


def test_a_student_learns_what_its_teacher_says(recipe_factory, student_recipe, data, tmp_path):
    """Without any label: its loss against the teacher falls, and it tells wide from narrow."""
    big = recipe_factory("classes", schedule={"steps": 60}, encoder={"name": "edgenet", "embedding_size": 24})
    train(big, data, tmp_path / "big")
    teacher = load_run(tmp_path / "big").model
    recipe = replace(student_recipe(), schedule=replace(student_recipe().schedule, steps=80))
    recipe = replace(recipe, evaluate=replace(recipe.evaluate, every_steps=40))
    with_words = taught(teacher, recipe, data, tmp_path / "words", unlabelled=CLASSES)
    train(recipe, with_words, tmp_path / "small")
    student = load_run(tmp_path / "small").model
    assert "distill" not in student.heads
    rows = data.select(split="test")
    said = [predict_rows(m, data, rows, lead_set="I,II")["class_logits"][:, 0] for m in (teacher, student)]
    assert np.corrcoef(said)[0, 1] > 0.8


def test_resumed_on_a_cpu_it_has_the_same_bits(teacher, student_recipe, data, tmp_path):
    recipe = student_recipe(weight=0.3)
    train(recipe, taught(teacher, recipe, data, tmp_path / "words"), tmp_path / "whole")
    for stop in (5, None):
        words = taught(teacher, recipe, data, tmp_path / "words")
        train(recipe, words, tmp_path / "cut", resume=stop is None, max_steps=stop)
    files = [
        "model.safetensors",
        "checkpoints/last/model.safetensors",
        "checkpoints/last/optimizer.safetensors",
    ]
    for file in files:
        one, two = load_file(tmp_path / "whole" / file), load_file(tmp_path / "cut" / file)
        assert one.keys() == two.keys()
        for name in one:
            assert torch.equal(one[name], two[name]), name


def test_a_students_recipe_is_not_trained_without_its_teacher(student_recipe, tmp_path):
    from ecgedge_train.recipe import to_toml

    (tmp_path / "r.toml").write_text(to_toml(student_recipe()))
    assert load_recipe(tmp_path / "r.toml") == student_recipe()
    with pytest.raises(UsageError, match="student of big; train it with `ecgedge compress TEACHER`"):
        train_run(tmp_path / "r.toml", data=tmp_path, out=tmp_path / "out")


def test_heads_start_from_a_run(recipe_factory, data, tmp_path):
    recipe = recipe_factory("classes")
    train(recipe, data, tmp_path / "first")
    still = replace(
        recipe,
        optimizer=replace(recipe.optimizer, lr=1e-12),
        schedule=replace(recipe.schedule, steps=1, warmup_steps=0),
    )
    for heads_too in (False, True):
        out = tmp_path / f"second-{heads_too}"
        train(still, data, out, encoder_from=tmp_path / "first", heads_too=heads_too)
        one, two = (load_run(run).model.heads["classes"].fc.weight for run in (tmp_path / "first", out))
        assert torch.allclose(one, two, atol=1e-6) is heads_too


def test_heads_of_other_labels_do_not_start(recipe_factory, data, tmp_path):
    """The same weights with the labels in another order would answer the wrong question."""
    train(recipe_factory("classes", schedule={"steps": 1, "warmup_steps": 0}), data, tmp_path / "first")
    other = recipe_factory({"name": "classes", "labels": ["NARROW", "WIDE"]})
    with pytest.raises(EcgedgeError, match="its head 'classes' is not the one of this recipe"):
        train(other, data, tmp_path / "second", encoder_from=tmp_path / "first", heads_too=True)
    assert not (tmp_path / "second").exists()


def test_a_hemodynamic_student_is_calibrated(recipe_factory, data, tmp_path):
    teacher = build_model(
        recipe_factory("hemodynamics", encoder={"name": "edgenet", "embedding_size": 24})
    ).eval()
    part = distill(
        class_logits=[], logits=["logit_gt_15", "logit_gt_18"], values=["mpcwp_mmhg"], value_sds=[8.0]
    )
    recipe = recipe_factory(
        {"name": "combined", "parts": [part, {"name": "hemodynamics", "weight": 0.5}]},
        encoder={"name": "edgenet", "embedding_size": 24},
        schedule={"steps": 3},
        evaluate={"lead_sets": ["I", "II"]},
    )
    with_words = taught(teacher, recipe, data, tmp_path / "words")
    rows = data.select(split="tune")
    said = with_words.labels(("teacher_mpcwp_mmhg",), rows)[:, 0]
    np.testing.assert_allclose(said, predict_rows(teacher, data, rows)["mpcwp_mmhg"], rtol=1e-4)
    train(recipe, with_words, tmp_path / "small")
    run = load_run(tmp_path / "small")
    assert set(run.calibration) == {"I", "II"}
    assert "Distilled from big." in run.data.attribution


def test_an_encoder_that_cannot_be_exported_can_teach(recipe_factory, student_recipe, data, tmp_path):
    w2v = {"name": "w2v", "size": "tiny"}
    teacher = build_model(recipe_factory("classes", encoder=w2v)).eval()
    recipe = student_recipe(teacher_embedding_size=teacher.encoder.embedding_size, teacher_encoder="w2v")
    recipe = replace(recipe, schedule=replace(recipe.schedule, steps=3))
    train(recipe, taught(teacher, recipe, data, tmp_path / "words"), tmp_path / "small")
    assert load_run(tmp_path / "small").model.encoder.embedding_size == 16
