"""From a teacher's run to a student's: the recipe, the teacher's words, the training.

The student is an ordinary run. Its recipe names the teacher (with the SHA-256 of its weights and what it was trained
on), its data.json tells the same in the attribution, and so does the model card of a bundle made from it. It has the
teacher's deployable heads: classes, hemodynamics, RHCnet's four. A teacher without one, such as published weights,
gives its embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ecgedge.errors import RecipeError, UsageError
from ecgedge.schema import to_plain
from ecgedge_export.prune import PRUNED_FOLDER, prune_run
from ecgedge_train.checkpoint import MODEL_FILE
from ecgedge_train.dataset import EcgDataset, UnionDataset, open_dataset
from ecgedge_train.dataset.index import file_sha256
from ecgedge_train.distributed import barrier, open_world
from ecgedge_train.heads import RHCNET_TARGETS
from ecgedge_train.loop import TrainingResult, train
from ecgedge_train.losses.hemodynamics import THRESHOLDS_MMHG, logit_name
from ecgedge_train.recipe import (
    ClassesObjective,
    DistillObjective,
    EdgeNetRecipe,
    EncoderRecipe,
    HemodynamicsObjective,
    ImportedObjective,
    MaskingRecipe,
    Recipe,
    ResNet18Recipe,
    RhcNetObjective,
    distillation_of,
    override_key,
    parts_of,
    recipe_from_plain,
)
from ecgedge_train.run import Run, load_run
from ecgedge_train.session import choose_device, refuse_existing_run
from ecgedge_train.teacher import TeacherData, ask_teacher

TEACHER_FOLDER: Final = "teacher"
STUDENTS: Final[Mapping[str, EncoderRecipe]] = {
    "edgenet-s": EdgeNetRecipe(),
    "edgenet-m": EdgeNetRecipe(size="m"),
    "resnet18": ResNet18Recipe("resnet18"),
}
DEFAULT_STUDENT: Final = "edgenet-s"
_OPTIMIZER: Final = {"lr": 3e-3, "weight_decay": 0.05}
_SCHEDULE: Final = {"steps": 3000, "warmup_steps": 100}
_LABEL_WEIGHT: Final = 0.5
_UNKNOWN_DATA: Final = "data unknown here (imported weights), in which the patients of the test split may be"

Head = ClassesObjective | HemodynamicsObjective | RhcNetObjective
Data = EcgDataset | UnionDataset


@dataclass(frozen=True)
class Student:
    """What is to be made of a teacher.

    Attributes
    ----------
    start
        One of `STUDENTS`, or a finished run: its encoder and heads start the student. None is `DEFAULT_STUDENT`, or the
        teacher's own network where it is to be pruned.
    lead_sets
        As "12", "I,II": the student is shown these only, equally often. None draws random ones too.
    macs
        Prune whole channels of the start until the 12-lead network takes at most so many.
    overrides
        key=value on the recipe; "distill.KEY" on its section of distillation, where "distill.label_weight" is that of
        people's labels beside the teacher's word.
    """

    start: str | Path | None = None
    lead_sets: tuple[str, ...] = ()
    macs: float | None = None
    overrides: tuple[str, ...] = ()


def compress_run(
    run: Path,
    *,
    data: Path,
    out: Path,
    also: Sequence[Path] = (),
    student: Student = Student(),
    max_steps: int | None = None,
    resume: bool = False,
) -> TrainingResult:
    """Distil a run into a smaller one, and leave it in `out`.

    Parameters
    ----------
    run
        The teacher: any finished run, exportable or not.
    data, also
        As in training; labels are used where there are any.
    out
        Run directory; what the teacher said is kept in OUT/teacher, a pruned start in OUT/pruned.
    student, max_steps, resume
        What is to be made; as in training.

    Raises
    ------
    EcgedgeError
        As `load_run`, `require_unseen`, `ask_teacher`, `prune_run` and `train` do.
    """
    if not resume:
        refuse_existing_run(out)
    primary = open_dataset(data)
    source = UnionDataset(primary, [open_dataset(path) for path in also]) if also else primary
    return distil(
        load_run(run),
        source,
        out,
        student=student,
        words=out / TEACHER_FOLDER,
        max_steps=max_steps,
        resume=resume,
    )


def distil(
    teacher: Run,
    data: Data,
    out: Path,
    *,
    student: Student,
    words: Path,
    max_steps: int | None = None,
    resume: bool = False,
) -> TrainingResult:
    """Train a student on an open dataset; `words` is the folder of what the teacher says of it, made as need be.

    Raises
    ------
    EcgedgeError
        As `compress_run`.
    """
    require_unseen(teacher, data)
    start, encoder = start_of(teacher, student)
    if start is not None:
        require_unseen(start, data)
    recipe = student_recipe(teacher, student, encoder)
    part = distill_part(recipe)
    device = choose_device(recipe.devices.device)
    with open_world(device.type) as world:
        if world.first:
            ask_teacher(teacher.model, part, data, words, device=device)
        barrier()
        # Opened by every process, from files that are there.
        said = ask_teacher(teacher.model, part, data, words)
        taught = TeacherData(
            data,
            said,
            part,
            taught_by=_taught_by(part, teacher, start),
            simulated=teacher.data.simulated,
            unlabelled=_unlabelled(recipe, data),
        )
        if student.macs is not None and start is not None:
            if world.first:
                prune_run(start, recipe, taught, out / PRUNED_FOLDER, macs=student.macs)
            barrier()
            start = load_run(out / PRUNED_FOLDER)
            recipe = start.recipe
        return train(
            recipe,
            taught,
            out,
            resume=resume,
            max_steps=max_steps,
            encoder_from=None if start is None else start.path,
            heads_too=start is not None,
        )


def require_unseen(run: Run, data: Data) -> None:
    """Refuse a teacher, or a start, that may have learnt from the patients who judge the student.

    Imported weights pass: what they were trained on is unknown, which the student's data.json and card say.

    Raises
    ------
    UsageError
        If the run was trained on another dataset than the one that gives tune and test.
    """
    told = data.info.for_run()
    judge = told.get("primary_sha256") or told["sha256"]
    if _is_imported(run) or run.data.holds(judge):
        return
    raise UsageError(
        f"{run.path} was trained on {run.data.name} ({run.data.sha256[:12]}), but the student would be judged on the "
        f"test patients of {told['name']} ({judge[:12]}), whom that run may have seen; give the dataset of its "
        "training as --data, and this one, if at all, as --also"
    )


def _is_imported(run: Run) -> bool:
    return isinstance(run.recipe.objective, ImportedObjective)


def start_of(teacher: Run, student: Student) -> tuple[Run | None, EncoderRecipe]:
    """Return the run that a student starts from, if there is one, and its encoder.

    Raises
    ------
    UsageError
        If the name is neither a student's nor a run's, or a network without weights is to be pruned.
    """
    name = student.start
    if name is None and student.macs is not None:
        return teacher, teacher.recipe.encoder
    if name is None or str(name) in STUDENTS:
        if student.macs is not None:
            raise UsageError(
                f"--macs prunes a trained network, and {name} has no weights yet; distil it first, then give that run "
                "as --student"
            )
        return None, STUDENTS[str(name or DEFAULT_STUDENT)]
    if not Path(name).is_dir():
        raise UsageError(f"--student is {name}; expected {', '.join(STUDENTS)}, or the directory of a run")
    run = load_run(name)
    return run, run.recipe.encoder


def student_recipe(teacher: Run, student: Student, encoder: EncoderRecipe) -> Recipe:
    """Return the recipe of a student; whatever is not said is the teacher's.

    Raises
    ------
    RecipeError
        If an override cannot be.
    """
    base = teacher.recipe
    tables: dict[str, Any] = to_plain(base)
    tables |= {
        "name": _name(teacher, student),
        "encoder": to_plain(encoder),
        "optimizer": dict(_OPTIMIZER),
        "schedule": dict(_SCHEDULE),
        "distill": _distill_table(teacher),
    }
    tables["data"] |= {"accumulate": 1, "train_labels": 0}
    if student.lead_sets:
        tables["masking"] = to_plain(masking_of(student.lead_sets))
        tables["evaluate"]["lead_sets"] = student.lead_sets
    for override in student.overrides:
        override_key(tables, override)
    del tables["pretrain"]
    distill = tables.pop("distill")
    weight = distill.pop("label_weight")
    heads = [to_plain(replace(head, weight=weight)) for head in _heads(base)]
    tables["objective"] = {"name": "combined", "parts": [distill, *heads]} if heads else distill
    return recipe_from_plain(tables, source="the student's recipe")


def _name(teacher: Run, student: Student) -> str:
    """Return what the student's run is called: after its teacher, and what it starts from."""
    if student.macs is None:
        return f"{teacher.path.resolve().name}_{Path(student.start or DEFAULT_STUDENT).name}"
    return f"{Path(student.start or teacher.path).resolve().name}_pruned"


def masking_of(lead_sets: Sequence[str]) -> MaskingRecipe:
    """Return lead masks that show each of these sets equally often, and no other."""
    some = tuple(name for name in lead_sets if name != "12")
    full = 1.0 - len(some) / len(lead_sets)
    return MaskingRecipe(full, 1.0 - full, lead_sets=some)


def distill_part(recipe: Recipe) -> DistillObjective:
    """Return what a student's recipe says of its teacher.

    Raises
    ------
    RecipeError
        If it says nothing.
    """
    part = distillation_of(recipe.objective)
    if part is None:
        raise RecipeError(f"the recipe {recipe.name} is not a student's: nobody teaches it")
    return part


def _heads(recipe: Recipe) -> list[Head]:
    """Return the tasks of a run whose heads a student inherits."""
    kinds = (ClassesObjective, HemodynamicsObjective, RhcNetObjective)
    return [part for part in parts_of(recipe.objective) if isinstance(part, kinds)]


def _distill_table(teacher: Run) -> dict[str, Any]:
    """Return the section of distillation as plain tables, with `label_weight` beside its own keys."""
    data = teacher.data
    table: dict[str, Any] = {
        "name": "distill",
        "teacher": teacher.path.resolve().name,
        "teacher_sha256": file_sha256(teacher.path / MODEL_FILE),
        "teacher_encoder": teacher.recipe.encoder.name,
        "teacher_trained_on": _UNKNOWN_DATA
        if _is_imported(teacher)
        else f"{data.name}: {data.records} records of {data.patients} patients, SHA-256 {data.sha256}"
        f"{', SIMULATED' if data.simulated else ''}",
        "teacher_embedding_size": teacher.model.encoder.embedding_size,
        "label_weight": _LABEL_WEIGHT,
    }
    logits: list[str] = []
    values: dict[str, float] = {}
    for head in _heads(teacher.recipe):
        if isinstance(head, ClassesObjective):
            table["class_logits"] = head.labels
        elif isinstance(head, RhcNetObjective):
            logits += [logit_name(*target) for target in RHCNET_TARGETS]
        else:
            logits += [f"logit_gt_{cut:.0f}" for cut in THRESHOLDS_MMHG]
            values["mpcwp_mmhg"] = head.sd_mmhg
            for extra in head.extras:
                logits += [logit_name(extra.label, cut) for cut in extra.cuts]
                values[extra.label] = extra.sd
    # RHCnet's and an extra target may be one and the same output.
    table["logits"] = tuple(dict.fromkeys(logits))
    return {**table, "values": tuple(values), "value_sds": tuple(values.values())}


def _taught_by(part: DistillObjective, teacher: Run, start: Run | None) -> str:
    said = [
        f"Distilled from the run {part.teacher} ({part.teacher_encoder}, weights SHA-256 {part.teacher_sha256}), "
        f"which was trained on {part.teacher_trained_on}.",
        teacher.data.attribution,
    ]
    if start is not None and start.path != teacher.path and _is_imported(start):
        said += [
            f"It started from the run {start.path.name}, which was trained on {_UNKNOWN_DATA}.",
            start.data.attribution,
        ]
    return " ".join(text for text in said if text)


def _unlabelled(recipe: Recipe, data: Data) -> tuple[str, ...]:
    """Return the labels of the student's heads that the dataset has not.

    Raises
    ------
    RecipeError
        If it lacks the pressure: without it no probability of a student's could be calibrated.
    """
    lacking: list[str] = []
    for head in _heads(recipe):
        if isinstance(head, ClassesObjective):
            wanted = head.labels
        elif isinstance(head, RhcNetObjective):
            wanted = ("mpap_mmhg", "mpcwp_mmhg", "co_l_min")
        else:
            wanted = (head.label, *(extra.label for extra in head.extras))
            if data.info.labels.get(head.label) != "float":
                raise RecipeError(
                    f"the dataset has no {head.label}, and without it the student cannot be calibrated; give one that "
                    "has it as --data, and this one as --also"
                )
        lacking += [name for name in wanted if data.info.labels.get(name) != "float"]
    return tuple(dict.fromkeys(lacking))
