"""What a teacher says of every ECG of a dataset, computed once, and handed out with the labels.

FOLDER/teacher.json says whose words these are: the teacher's weights, the dataset, the columns. FOLDER/rows-00000.npy
and so on hold them, float32 (rows, columns), in the order of `rows` (all of training and tune; the test split is not
looked at). Each file is written under another name and renamed, so that a killed run leaves whole files and goes on
with the next one; a folder of another teacher or dataset is refused. The teacher sees every lead that was measured.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ecgedge.errors import EcgedgeError, UsageError
from ecgedge_train.checkpoint import write_text
from ecgedge_train.inference import TrainingData, predict_rows
from ecgedge_train.model import EcgModel
from ecgedge_train.recipe import DistillObjective

CACHE_FILE: Final = "teacher.json"
SPLITS: Final = ("train", "tune")
_SHARD_ROWS: Final = 8192
"""Every file stays open, and a system allows a thousand or so."""


@dataclass(frozen=True)
class CacheFacts:
    """Whose words a cache holds, and how they lie (teacher.json)."""

    teacher_sha256: str
    dataset_sha256: str
    lead_set: str
    columns: tuple[str, ...]
    rows: int
    shard_rows: int
    format_version: int = 1


@dataclass(frozen=True)
class TeacherOutputs:
    """An open cache: `rows` are row numbers of the dataset, ascending; `shards` are memory-mapped."""

    rows: NDArray[np.int64]
    shards: tuple[NDArray[np.float32], ...]
    shard_rows: int

    def gather(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return (B, columns) of the dataset's `rows`, in the order asked for."""
        wanted = np.asarray(rows, np.int64)
        place = np.searchsorted(self.rows, wanted)
        if len(wanted) and (place.max() >= len(self.rows) or not np.array_equal(self.rows[place], wanted)):
            raise ValueError("the teacher was asked about training and tune only, not about these rows")
        out = np.empty((len(wanted), self.shards[0].shape[1]), np.float32)
        shard_of, row_of = np.divmod(place, self.shard_rows)
        for number in np.unique(shard_of):
            members = np.flatnonzero(shard_of == number)
            out[members] = self.shards[number][row_of[members]]
        return out


def ask_teacher(
    model: EcgModel,
    recipe: DistillObjective,
    data: TrainingData,
    folder: Path,
    *,
    device: torch.device | None = None,
    batch_size: int = 128,
    shard_rows: int = _SHARD_ROWS,
) -> TeacherOutputs:
    """Run the teacher over training and tune, as far as `folder` does not hold its words yet.

    Parameters
    ----------
    model, recipe
        The teacher, and what of it is learnt.
    data, folder
        Of whose ECGs, and where the words are kept.
    device, batch_size, shard_rows
        How; records of one file, which is also how much a killed run loses at most.

    Raises
    ------
    UsageError
        If the folder holds another teacher's words, or those on another dataset.
    EcgedgeError
        If a file is damaged, or the teacher says something that is no number.
    """
    rows = np.sort(np.concatenate([data.select(split=split) for split in SPLITS]))
    facts = CacheFacts(
        recipe.teacher_sha256, data.info.for_run()["sha256"], "12", recipe.columns, len(rows), shard_rows
    )
    _claim(folder, facts)
    where = device or torch.device("cpu")
    shards = []
    for number, start in enumerate(range(0, len(rows), shard_rows)):
        path, some = folder / f"rows-{number:05d}.npy", rows[start : start + shard_rows]
        if not path.is_file():
            model.to(where)
            said = predict_rows(model, data, some, lead_set="12", batch_size=batch_size, device=where)
            _write(path, _columns_of(said, recipe))
        shards.append(_open(path, (len(some), len(recipe.columns))))
    model.to("cpu")
    return TeacherOutputs(rows, tuple(shards), shard_rows)


def _claim(folder: Path, facts: CacheFacts) -> None:
    """Write teacher.json, or check that the folder's is the same."""
    plain = json.loads(json.dumps(asdict(facts)))
    file = folder / CACHE_FILE
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(plain, indent=1) + "\n")
        return
    try:
        known = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EcgedgeError(f"{file} cannot be read ({error}); remove {folder} and start again") from error
    changed = [key for key in plain if known.get(key) != plain[key]]
    if changed:
        what = "another teacher" if "teacher_sha256" in changed else "another dataset or form"
        raise UsageError(
            f"{folder} holds what {what} said (different: {', '.join(changed)}); remove it, or choose another --out"
        )


def _columns_of(said: Mapping[str, NDArray[np.float32]], recipe: DistillObjective) -> NDArray[np.float32]:
    classes = [said["class_logits"]] if recipe.class_logits else []
    others = [said[name][:, None] for name in (*recipe.logits, *recipe.values)]
    table = np.concatenate([said["embedding"], *classes, *others], axis=1, dtype=np.float32)
    if not np.isfinite(table).all():
        raise EcgedgeError(f"the teacher {recipe.teacher} says numbers that are not finite; train it again")
    return table


def _write(path: Path, table: NDArray[np.float32]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, table)
    temporary.replace(path)


def _open(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    try:
        table: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EcgedgeError(f"{path} cannot be read ({error}); remove it and start again") from error
    if table.shape != shape or table.dtype != np.float32:
        raise EcgedgeError(f"{path} holds {table.dtype} {table.shape}, expected float32 {shape}; remove it")
    return table


@dataclass(frozen=True)
class StudentInfo:
    """What the dataset says of itself, and whose word the student takes for it."""

    of_data: Mapping[str, Any]
    attribution: str
    simulated: bool

    def for_run(self) -> dict[str, Any]:
        """Return data.json: the dataset's own, its attribution telling of the teacher."""
        return {**self.of_data, "attribution": self.attribution, "simulated": self.simulated}


class TeacherData:
    """A dataset whose label columns are joined by a teacher's; a `TrainingData`.

    The teacher's embedding comes centred on the training split and divided by one number, so that its variance is 1 in
    the mean over its numbers: distances and angles about the mean keep their proportions.

    Parameters
    ----------
    data, outputs, recipe
        The dataset, what the teacher said of it, and the columns' names.
    taught_by
        Sentences for the attribution.
    simulated
        Whether the teacher saw simulated ECGs.
    unlabelled
        Label columns that the student's heads know and this dataset lacks: unknown in every record.
    """

    def __init__(
        self,
        data: TrainingData,
        outputs: TeacherOutputs,
        recipe: DistillObjective,
        *,
        taught_by: str,
        simulated: bool = False,
        unlabelled: Collection[str] = (),
    ) -> None:
        self._data, self._outputs = data, outputs
        self._unlabelled = frozenset(unlabelled)
        self._place = {name: i for i, name in enumerate(recipe.columns)}
        size = recipe.teacher_embedding_size
        self._shift = np.zeros(len(self._place), np.float32)
        self._scale = np.ones(len(self._place), np.float32)
        trained = outputs.gather(data.select(split="train"))[:, :size].astype(np.float64)
        self._shift[:size] = trained.mean(axis=0)
        self._scale[:size] = max(float(np.sqrt(trained.var(axis=0).mean())), 1e-12)
        plain = data.info.for_run()
        known = f"{plain.get('attribution', '')} ".lstrip()
        self.info = StudentInfo(plain, f"{known}{taught_by}", bool(plain["simulated"]) or simulated)

    @property
    def lsb_mv(self) -> float:
        """Millivolts of one stored count."""
        return self._data.lsb_mv

    @property
    def index(self) -> Mapping[str, NDArray[Any]]:
        """The dataset's columns."""
        return self._data.index

    def select(self, *, split: str | None = None) -> NDArray[np.int64]:
        """Return the row numbers of a split."""
        return self._data.select(split=split)

    def gather(self, rows: ArrayLike, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the dataset's windows."""
        return self._data.gather(rows, dtype)

    def presence(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return which leads were measured."""
        return self._data.presence(rows)

    def labels(self, names: Sequence[str], rows: ArrayLike) -> NDArray[np.float32]:
        """Return (B, len(names)): the teacher's columns, the dataset's, NaN where it has none of that name."""
        chosen = np.asarray(rows, np.int64)
        out = np.full((len(chosen), len(names)), np.nan, np.float32)
        taught = [i for i, name in enumerate(names) if name in self._place]
        if taught:
            said = (self._outputs.gather(chosen) - self._shift) / self._scale
            out[:, taught] = said[:, [self._place[names[i]] for i in taught]]
        own = [i for i, name in enumerate(names) if name not in self._place and name not in self._unlabelled]
        if own:
            out[:, own] = self._data.labels(tuple(names[i] for i in own), chosen)
        return out
