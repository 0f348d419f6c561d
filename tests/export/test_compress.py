"""`ecgedge compress` as a user runs it: a student is a run like any other, names its teacher, and a sweep resumes."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from ecgedge.cli import main
from ecgedge.errors import RecipeError, UsageError
from ecgedge_export.distill import (
    Student,
    distill_part,
    masking_of,
    require_unseen,
    start_of,
    student_recipe,
)
from ecgedge_export.pack import export_run
from ecgedge_export.sweep import _is_done, _question
from ecgedge_export.sweep_report import Point, Sweep, draw_sweep, front, render_sweep
from ecgedge_train.checkpoint import save_tensors
from ecgedge_train.dataset.index import file_sha256
from ecgedge_train.evaluate.bootstrap import Estimate
from ecgedge_train.inference import predict_rows
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.recipe import ImportedObjective, ResNet18Recipe, load_recipe, to_toml
from ecgedge_train.run import Run, load_run

QUICK = [
    *("--set", "schedule.steps=2", "--set", "schedule.warmup_steps=0", "--set", "data.batch_size=8"),
    *("--set", "encoder.embedding_size=16"),
]


@pytest.fixture(scope="module")
def ecgedge():
    """Return a function that runs the command line in this process and checks its exit code."""

    def run(*arguments, exits=0):
        before, sys.argv = sys.argv, ["ecgedge", *map(str, arguments)]
        try:
            with pytest.raises(SystemExit) as left:
                main()
        finally:
            sys.argv = before
        assert left.value.code == exits

    return run


@pytest.fixture(scope="module")
def student(ecgedge, run_dir, ptbxl, tmp_path_factory):
    """A student for lead I of the classes run, two steps old."""
    out = tmp_path_factory.mktemp("students") / "small"
    ecgedge("compress", run_dir, "--data", ptbxl, "--out", out, "--lead-sets", "I", *QUICK)
    return out


def test_a_student_is_a_run_and_tells_of_its_teacher(student, run_dir, dataset):
    run, teacher = load_run(student), load_run(run_dir)
    sha256 = file_sha256(run_dir / "model.safetensors")
    part = distill_part(run.recipe)
    assert (part.teacher, part.teacher_sha256, part.teacher_encoder) == (run_dir.name, sha256, "edgenet")
    assert part.teacher_trained_on.startswith(f"ptbxl: {teacher.data.records} records of ")
    assert run.data.sha256 == dataset.info.sha256
    assert (
        f"Distilled from the run {run_dir.name} (edgenet, weights SHA-256 {sha256})" in run.data.attribution
    )
    assert run.recipe.masking == masking_of(("I",))
    assert run.recipe.evaluate.lead_sets == ("I",)
    outputs = predict_rows(run.model, dataset, dataset.select(split="test")[:4], lead_set="I")
    assert outputs["class_logits"].shape == (4, 5)
    assert outputs["embedding"].shape == (4, 16)


def test_the_card_of_its_bundle_tells_it_too(student, run_dir, ptbxl, tmp_path):
    out = tmp_path / "small.ecgb"
    export_run(
        student, data=ptbxl, target="cpu", out=out, lead_sets=["I"], precisions=["fp32"], gate_samples=8
    )
    card = (out / "card.md").read_text("utf-8")
    assert f"Distilled from the run {run_dir.name} (edgenet, weights SHA-256 " in card
    assert "Research use only" in card


def test_a_run_is_gone_on_with_only_if_asked(ecgedge, student, run_dir, ptbxl, capsys):
    arguments = ("compress", run_dir, "--data", ptbxl, "--out", student, "--lead-sets", "I", *QUICK)
    ecgedge(*arguments, exits=2)
    assert "continue it with --resume" in capsys.readouterr().err
    before = file_sha256(student / "model.safetensors")
    ecgedge(*arguments, "--resume")
    assert file_sha256(student / "model.safetensors") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--student", "tiny"],
            "--student is tiny; expected edgenet-s, edgenet-m, resnet18, or the directory",
        ),
        (["--student", "edgenet-m", "--macs", "7M"], "edgenet-m has no weights yet"),
        (["--macs", "many"], "expected a number above 0, such as 7M"),
        (["--macs", "7M;4M"], "several are for --sweep"),
        (["--set", "distill.temprature=1"], "did you mean 'temperature'"),
        (["--lead-sets", "V9"], "V9"),
        (["--sweep", "--student", "tiny"], "a sweep's students are some of edgenet-s"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    ecgedge, run_dir, ptbxl, tmp_path, capsys, options, message
):
    code = 1 if "distill.temprature=1" in options else 2
    ecgedge("compress", run_dir, "--data", ptbxl, "--out", tmp_path / "out", *options, exits=code)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def of_other_data(run, out):
    """A copy of a run that says it was trained on another dataset."""
    shutil.copytree(run, out)
    data = json.loads((out / "data.json").read_text("utf-8"))
    other = {**data, "name": "elsewhere", "sha256": "e" * 64, "primary_sha256": "f" * 64}
    (out / "data.json").write_text(json.dumps(other), "utf-8")
    return out


@pytest.mark.parametrize("options", [[], ["--macs", "7M"], ["--sweep"]])
def test_a_teacher_of_other_data_may_have_seen_the_test_patients(
    ecgedge, run_dir, ptbxl, tmp_path, capsys, options
):
    teacher = of_other_data(run_dir, tmp_path / "teacher")
    ecgedge("compress", teacher, "--data", ptbxl, "--out", tmp_path / "out", *options, exits=2)
    told = capsys.readouterr().err
    assert "was trained on elsewhere (eeeeeeeeeeee), but the student would be judged on" in told
    assert "give the dataset of its training as --data" in told
    assert not (tmp_path / "out").exists()


def test_so_may_a_start_of_other_data(ecgedge, run_dir, ptbxl, tmp_path, capsys):
    start = of_other_data(run_dir, tmp_path / "start")
    arguments = ("compress", run_dir, "--data", ptbxl, "--out", tmp_path / "out", "--student", start)
    ecgedge(*arguments, exits=2)
    assert f"{start.name} was trained on elsewhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_this_dataset_and_others_is_no_stranger(run_dir, dataset):
    teacher = load_run(run_dir)
    union = replace(teacher.data, sha256="e" * 64, primary_sha256=dataset.info.sha256)
    require_unseen(replace(teacher, data=union), dataset)
    also = replace(teacher.data, sha256="e" * 64, primary_sha256="f" * 64)
    with pytest.raises(UsageError, match="whom that run may have seen"):
        require_unseen(replace(teacher, data=also), dataset)


def test_imported_weights_may_teach_and_their_data_are_called_unknown(ecgedge, run_dir, ptbxl, tmp_path):
    """As `ecgedge import` leaves a run: an encoder without heads, and a data.json that names no dataset of ours."""
    teacher = of_other_data(run_dir, tmp_path / "imported_x")
    recipe = replace(load_run(run_dir).recipe, objective=ImportedObjective("imported"))
    (teacher / "recipe.toml").write_text(to_toml(recipe), "utf-8")
    save_tensors(
        teacher / "model.safetensors", EcgModel(load_run(run_dir).model.encoder, {}).deployed_state()
    )
    ecgedge("compress", teacher, "--data", ptbxl, "--out", tmp_path / "out", *QUICK)
    student = load_run(tmp_path / "out")
    unknown = "data unknown here (imported weights), in which the patients of the test split may be"
    assert distill_part(student.recipe).teacher_trained_on == unknown
    assert f"which was trained on {unknown}. " in student.data.attribution
    out = tmp_path / "small.ecgb"
    export_run(
        tmp_path / "out",
        data=ptbxl,
        target="cpu",
        out=out,
        lead_sets=["I"],
        precisions=["fp32"],
        gate_samples=8,
        evidence_records=0,
    )
    assert f"which was trained on {unknown}. " in (out / "card.md").read_text("utf-8")


def teacher_of(run_dir, recipe):
    return Run(run_dir, recipe, build_model(recipe).eval(), None, load_run(run_dir).data)


def test_hemodynamic_heads_are_inherited_with_all_their_outputs(run_dir):
    recipe = load_recipe(
        "sim_mpcwp",
        [
            'objective={name="combined", parts=[{name="pclr"}, {name="rhcnet"}, {name="hemodynamics", sd_mmhg=6.0, '
            'extras=[{label="mpap_mmhg", mean=25.0, sd=9.0, cuts=[20.0]}]}]}'
        ],
    )
    made = student_recipe(
        teacher_of(run_dir, recipe), Student(overrides=("distill.label_weight=0.25",)), recipe.encoder
    )
    distill, *heads = made.objective.parts
    assert [head.name for head in heads] == ["rhcnet", "hemodynamics"]
    assert [head.weight for head in heads] == [0.25, 0.25]
    assert distill.values == ("mpcwp_mmhg", "mpap_mmhg")
    assert distill.value_sds == (6.0, 9.0)
    names = [
        *("logit_mpap_mmhg_gt_20", "logit_mpcwp_mmhg_gt_15", "logit_pvr_wu_gt_3", "logit_co_l_min_gt_4"),
        *("logit_gt_15", "logit_gt_18"),
    ]
    assert list(distill.logits) == names


def test_a_teacher_without_heads_gives_its_embedding(run_dir):
    recipe = load_recipe("ptbxl_pclr_rlm")
    made = student_recipe(teacher_of(run_dir, recipe), Student(), ResNet18Recipe("resnet18"))
    assert made.objective.name == "distill"
    assert made.objective.outputs == ()
    assert made.encoder == ResNet18Recipe("resnet18")
    with pytest.raises(RecipeError, match="nobody teaches it"):
        distill_part(recipe)


def test_lead_sets_of_a_student_are_drawn_equally_often():
    plan = masking_of(("12", "I,II", "I"))
    assert plan.full_probability == pytest.approx(1 / 3)
    assert plan.full_probability + plan.device_probability == 1.0
    assert plan.lead_sets == ("I,II", "I")
    assert masking_of(("12",)).full_probability == 1.0
    assert masking_of(("I",)).device_probability == 1.0


def test_pruning_starts_from_the_teacher_itself_unless_told(run_dir):
    teacher = load_run(run_dir)
    assert start_of(teacher, Student(macs=7e6))[0] is teacher
    start, encoder = start_of(teacher, Student(run_dir))
    assert start is not None
    assert start.path == run_dir
    assert encoder == teacher.recipe.encoder
    with pytest.raises(UsageError, match="no weights yet"):
        start_of(teacher, Student("edgenet-s", macs=7e6))


def points_of(costs, scores):
    return [
        Point(f"n{i}", "12", tune, Estimate(tune, tune - 0.1, tune + 0.1, 9), macs, None, None)
        for i, (macs, tune) in enumerate(zip(costs, scores, strict=True))
    ]


def test_front_by_its_definition():
    rng = np.random.default_rng(3)
    points = points_of(rng.integers(1, 9, 40).tolist(), rng.integers(1, 9, 40).tolist())
    points.append(replace(points[0], macs=None, tune=100.0))

    def beaten(p):
        return any(
            q.macs <= p.macs and q.tune >= p.tune and (q.macs, q.tune) != (p.macs, p.tune)
            for q in points[:-1]
        )

    expected = {(p.macs, p.tune) for p in points[:-1] if not beaten(p)}
    found = front(points, "macs")
    assert {(p.macs, p.tune) for p in found} == expected
    assert [p.macs for p in found] == sorted(p.macs for p in found)


def test_simulated_stands_on_every_surface_of_a_sweep():
    sweep = Sweep("t", "d", "0" * 64, "", True, "auroc_gt_18", tuple(points_of([1, 2], [0.6, 0.7])))
    assert "SIMULATED" in render_sweep(sweep)
    assert "Research use only" in render_sweep(sweep)
    figure = draw_sweep(sweep)
    assert "SIMULATED" in figure.get_suptitle()
    assert "research use only" in figure.get_suptitle()


@pytest.mark.slow
def test_a_sweep_prunes_a_resnet18(ecgedge, run_dir, ptbxl, tmp_path):
    """A narrow one; its stages stay sums of equal widths, and what was pruned is not made again."""
    widths = [16, 12, 12, 16, 12, 12, 24, 16, 16, 32, 24, 24]
    out = tmp_path / "sweep"
    arguments = ("compress", run_dir, "--data", ptbxl, "--out", out, "--sweep", "--lead-sets", "12")
    arguments = (
        *arguments,
        "--student",
        "resnet18",
        "--macs",
        "5M",
        *QUICK,
        "--set",
        f"encoder.widths={widths}",
    )
    ecgedge(*arguments)
    pruned = load_run(out / "resnet18_pruned_5M")
    stays = pruned.recipe.encoder.widths
    assert len(stays) == 12
    assert sum(stays) < sum(widths)
    assert all(n % 4 == 0 for n in stays)
    assert pruned.model.encoder.stages[0][1].conv2.weight.shape[:2] == (stays[0], stays[2])
    found = json.loads((out / "sweep.json").read_text("utf-8"))
    macs = {p["network"]: p["macs"] for p in found["points"]}
    assert macs["resnet18_pruned_5M"] <= 5e6 < macs["resnet18"]
    before = (out / "resnet18_pruned_5M" / "model.safetensors").stat().st_mtime_ns
    ecgedge(*arguments)
    assert (out / "resnet18_pruned_5M" / "model.safetensors").stat().st_mtime_ns == before


def test_sweep_end_to_end(ecgedge, run_dir, ptbxl, tmp_path, capsys):
    out = tmp_path / "sweep"
    arguments = ("compress", run_dir, "--data", ptbxl, "--out", out, "--sweep", "--lead-sets", "I")
    arguments = (*arguments, "--student", "edgenet-s", "--macs", "8M", *QUICK)
    ecgedge(*arguments)
    told = capsys.readouterr().out
    found = json.loads((out / "sweep.json").read_text("utf-8"))
    networks = ["teacher", "edgenet-s", "edgenet-s_pruned_8M", "edgenet-s_only_I"]
    assert [p["network"] for p in found["points"]] == networks
    assert all(name in told for name in networks)
    assert "Research use only" in told
    by_name = {p["network"]: p for p in found["points"]}
    pruned = load_run(out / "edgenet-s_pruned_8M")
    assert sum(pruned.recipe.encoder.widths) < sum(
        build_model(load_recipe("ptbxl_supervised")).encoder.widths
    )
    # Lead I folds eleven of twelve leads away, on top of the pruning to 8 million for 12 leads.
    assert by_name["edgenet-s_pruned_8M"]["macs"] < 8e6 < by_name["edgenet-s"]["macs"]
    assert by_name["edgenet-s"]["macs"] == by_name["edgenet-s_only_I"]["macs"]
    assert all(p["latency_ms"] > 0 for p in found["points"])
    assert all(p["test"]["low"] <= p["test"]["value"] <= p["test"]["high"] for p in found["points"])
    best = min(found["points"], key=lambda p: p["macs"])
    assert "macs" in best["on_front_of"]
    assert (out / "sweep.png").stat().st_size > 10_000
    page = (out / "sweep.html").read_text("utf-8")
    assert "Research use only" in page
    assert "data:image/svg+xml;base64," in page
    done = load_run(out / "edgenet-s")
    assert _is_done(done.path, done.recipe, done.data.sha256, None)
    assert not _is_done(done.path, done.recipe, "0" * 64, None), "it was trained on another dataset"
    # What is done is not done again.
    weights = {name: (out / name / "model.safetensors").stat().st_mtime_ns for name in networks[1:]}
    ecgedge(*arguments)
    again = json.loads((out / "sweep.json").read_text("utf-8"))
    assert {n: (out / n / "model.safetensors").stat().st_mtime_ns for n in weights} == weights
    for one, two in zip(found["points"], again["points"], strict=True):
        assert {k: v for k, v in one.items() if k not in ("latency_ms", "on_front_of")} == {
            k: v for k, v in two.items() if k not in ("latency_ms", "on_front_of")
        }


def test_a_sweep_needs_something_to_score(run_dir):
    teacher = teacher_of(run_dir, load_recipe("ptbxl_pclr_rlm"))
    with pytest.raises(UsageError, match="no head for classes or for the pressure"):
        _question(teacher, None)
