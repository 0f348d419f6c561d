"""Objectives x lead sets x {linear probe, fine-tuning} on real ECG, five seeds; against training from scratch.

Pretraining sees the training folds of PTB-XL and every further dataset given, without labels; the tune fold chooses
the settings of fine-tuning (`--tune`, once, on PCLR and CMSC), the probe's strength and the step of a fine-tuning run;
the test fold is looked at once, by `--table`. Encoders train under bfloat16 autocast, with losses in float32.

    ecgedge data build ptbxl --from ... --out out/ptbxl          (and ludb, code15, cinc2021, brugada)
    python benchmarks/ptbxl_table.py --data out/ptbxl --also out/ludb --work out/table --tune
    python benchmarks/ptbxl_table.py --data out/ptbxl --also out/ludb --work out/table --seed 0 --seed 1 --seed 2
    python benchmarks/ptbxl_table.py --data out/ptbxl --also out/ludb --work out/table --table result.json

Two processes with different seeds share the work; what is done is not done again.

Few labels: whole networks trained on 100, 300 and 1,000 labelled ECGs, from scratch and from PCLR. They keep their last
step, since a fold that chose a better one would be labels too. (The probes' curve pays for its choices itself.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from common import machine, write_json
from numpy.typing import NDArray

from ecgedge_train.dataset import EcgDataset, UnionDataset, open_dataset
from ecgedge_train.evaluate.bootstrap import patient_bootstrap
from ecgedge_train.evaluate.lowlabel import Labelled, low_label_curve
from ecgedge_train.evaluate.metrics import Floats, macro_auroc
from ecgedge_train.evaluate.probe import fit_linear_probe
from ecgedge_train.evaluate.retrieval import same_patient_top1
from ecgedge_train.inference import predict_rows
from ecgedge_train.loop import train
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.recipe import Recipe, recipe_from_plain
from ecgedge_train.run import load_run

LEAD_SETS: Final = ("12", "I,II,V1,V5", "I,II", "I", "II")
SIZES: Final = (100, 300, 1000)
STEPS: Final = 600
EDGENET: Final = {"name": "edgenet", "dropout": 0.0, "embedding_size": 224}
PCLR: Final = {"name": "pclr", "temperature": 0.2}
DTW: Final = {"name": "distance", "distance": "dtw"}
NO_RLM: Final = {"full_probability": 1.0, "device_probability": 0.0}
RLM: Final = {"full_probability": 0.2, "device_probability": 0.4}

W2V_SHORTER: Final = 3
"""A transformer's step costs several of a convolution's: W2V has a third of the steps, in both stages."""
FEW: Final = "few labels"
FEW_STEPS: Final = 300
TUNING: Final = "fine_tuning.json"


@dataclass(frozen=True)
class Tuning:
    """How a pretrained encoder is fine-tuned."""

    steps: int
    lr: float
    encoder_lr_factor: float


SETTINGS: Final = (
    Tuning(300, 1e-3, 0.3),
    Tuning(600, 1e-3, 0.3),
    Tuning(600, 3e-3, 0.3),
    Tuning(600, 3e-3, 1.0),
    Tuning(2 * STEPS, 3e-3, 1.0),
)
"""The first is what was used before any was compared; the last is that of training from scratch."""
SCRATCH: Final = SETTINGS[-1]

CASES: Final[dict[str, dict[str, Any]]] = {
    "pclr": {"objective": PCLR},
    "pclr, no lead masking": {"objective": PCLR, "masking": NO_RLM},
    "simclr": {"objective": {"name": "simclr"}, "input": {"noise_mv": 0.1}},
    "cmsc": {"objective": {"name": "cmsc"}},
    "tfc": {"objective": {"name": "tfc"}},
    "distance (dtw)": {"objective": DTW},
    "pclr + distance (dtw)": {"objective": {"name": "combined", "parts": [PCLR, {**DTW, "weight": 0.5}]}},
    "w2v": {
        "objective": {"name": "w2v", "codes": 64, "negatives": 50},
        "encoder": {"name": "w2v", "size": "tiny"},
        "optimizer": {"lr": 5e-4},
        "schedule": {"steps": STEPS // W2V_SHORTER},
    },
}
"""What each case has beside `base`: lead masking everywhere but where its absence is the case."""


def base(name: str, seed: int) -> dict[str, Any]:
    """Return what all pretraining runs share."""
    return {
        "name": name,
        "seed": 926 + seed,
        "data": {"source": "ptbxl", "batch_size": 64},
        "input": {"shift_s": 0.4, "noise_mv": 0.01},
        "encoder": EDGENET,
        "masking": RLM,
        "optimizer": {"lr": 2e-3},
        "schedule": {"steps": STEPS, "warmup_steps": 50},
        "devices": {"threads": 1, "precision": "bf16"},
        "evaluate": {"every_steps": 10_000, "checkpoint_every_steps": 10_000, "keep": "last"},
    }


def pretraining(case: str, seed: int) -> Recipe:
    """Return the recipe of a case."""
    plain = base(f"table_{case}", seed)
    for section, table in CASES[case].items():
        replaces = section in ("objective", "encoder")
        plain[section] = table if replaces else {**plain[section], **table}
    return recipe_from_plain(plain)


def supervised(
    seed: int, encoder: dict[str, Any], classes: tuple[str, ...], tuning: Tuning, *, labels: int = 0
) -> Recipe:
    """Return training on labels: all of them and the best step on tune, or `labels` of them and the last step."""
    plain = base("table_supervised", seed)
    encoder = {**encoder, "dropout": 0.2}
    if encoder["name"] == "w2v":
        encoder |= {"dropout": 0.1, "feature_gradient": 1.0}
    plain["data"] |= {"train_labels": labels}
    plain |= {
        "encoder": encoder,
        "objective": {"name": "classes", "labels": list(classes)},
        "masking": {"full_probability": 0.4, "device_probability": 0.4},
        "optimizer": {
            "lr": tuning.lr,
            "weight_decay": 0.05,
            "encoder_lr_factor": tuning.encoder_lr_factor,
        },
        "schedule": {"steps": tuning.steps, "warmup_steps": 30},
        "evaluate": {
            "every_steps": tuning.steps // 12,
            "checkpoint_every_steps": 10_000,
            "keep": "last" if labels else "best",
        },
    }
    return recipe_from_plain(plain)


# --- one case, one seed ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What every case works on: PTB-XL, what pretraining sees, and where the runs go."""

    data: EcgDataset
    pool: UnionDataset | EcgDataset
    work: Path

    def pretrained(self, case: str, seed: int) -> Path:
        """Return the run of a case's pretraining, done here if it is not yet."""
        run = self.work / f"{file_stem(case)}-{seed}" / "pretrain"
        if not (run / "model.safetensors").is_file():
            train(pretraining(case, seed), self.pool, run, resume=run.exists())
        return run

    def supervised(
        self, run: Path, case: str, seed: int, tuning: Tuning, *, labels: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Train on labels, from a case's encoder or from scratch, and return tune and test logits by lead set."""
        encoder = CASES.get(case, {}).get("encoder", EDGENET)
        recipe = supervised(seed, encoder, self.data.info.classes, tuning, labels=labels)
        start = None if case == "scratch" else self.pretrained(case, seed)
        train(recipe, self.data, run, resume=run.exists(), encoder_from=start)
        model = load_run(run).model
        return {
            f"{split}|{lead_set}": predict_rows(
                model, self.data, self.data.select(split=split), lead_set=lead_set
            )["class_logits"]
            for split in ("tune", "test")
            for lead_set in LEAD_SETS
        }

    def chosen(self) -> Tuning:
        """Return the settings of fine-tuning that the tune fold chose."""
        return Tuning(**json.loads((self.work / TUNING).read_text("utf-8"))["chosen"])


def tune(line: Line, cases: tuple[str, ...] = ("pclr", "cmsc")) -> None:
    """Choose the settings of fine-tuning on the tune fold: macro AUROC, mean over lead sets, cases and seed 0."""
    rows = line.data.select(split="tune")
    truth = line.data.labels(line.data.info.classes, rows)
    known = ~np.isnan(truth).any(axis=1)
    one = np.ones((1, int(known.sum())))
    said = []
    for k, tuning in enumerate(SETTINGS):
        each = [
            float(macro_auroc(truth[known], logits[known], one)[0])
            for case in cases
            for name, logits in line.supervised(
                line.work / "tuning" / f"{file_stem(case)}-{k}", case, 0, tuning
            ).items()
            if name.startswith("tune|")
        ]
        said.append({**asdict(tuning), "macro_auroc_tune": float(np.mean(each))})
        typer.echo(said[-1])
    best = int(np.argmax([found["macro_auroc_tune"] for found in said]))
    text = json.dumps({"cases": cases, "settings": said, "chosen": asdict(SETTINGS[best])}, indent=1)
    (line.work / TUNING).write_text(text + "\n", "utf-8")


def run_case(case: str, seed: int, line: Line) -> None:
    """Pretrain, probe, fine-tune; leave predictions of the test rows in one .npz."""
    done = line.work / f"{file_stem(case)}-{seed}.npz"
    if done.is_file():
        return
    torch.set_num_threads(1)
    if case == "untrained":
        found = probes(build_model(pretraining("pclr", seed)).eval(), line.data)
    elif case == FEW:
        found = few_labels(seed, line)
    else:
        found = {}
        if case != "scratch":
            found |= probes(load_run(line.pretrained(case, seed)).model, line.data)
        tuning = SCRATCH if case == "scratch" else line.chosen()
        if case == "w2v":
            tuning = replace(tuning, steps=tuning.steps // W2V_SHORTER)
        logits = line.supervised(done.with_suffix("") / "tuned", case, seed, tuning)
        found |= {name.replace("test|", "fine-tuning|"): x for name, x in logits.items() if "test|" in name}
    np.savez_compressed(done, **found)
    typer.echo(f"done: {done.name}")


def few_labels(seed: int, line: Line) -> dict[str, NDArray[Any]]:
    """Return test logits of whole networks trained on few labels, from scratch and from PCLR, as far as they learn."""
    found = {}
    for case, tuning in (("scratch", SCRATCH), ("pclr", line.chosen())):
        for labels in SIZES:
            run = line.work / f"{file_stem(FEW)}-{seed}" / f"{case}-{labels}"
            short = Tuning(FEW_STEPS, tuning.lr, tuning.encoder_lr_factor)
            for name, logits in line.supervised(run, case, seed, short, labels=labels).items():
                split, _, lead_set = name.partition("|")
                if split == "test":
                    found[f"{case}|{labels}|{lead_set}"] = logits
    return found


def probes(model: EcgModel, data: EcgDataset) -> dict[str, NDArray[Any]]:
    """Return probe predictions by lead set, retrieval hits, and the low-label curve of all leads and lead I."""
    found: dict[str, NDArray[Any]] = {}
    rows = {split: data.select(split=split) for split in ("train", "tune", "test")}
    labels = data.info.classes
    y = {split: data.labels(labels, r) for split, r in rows.items()}
    patients = {split: data.index["patient_id"][r] for split, r in rows.items()}
    for lead_set in LEAD_SETS:
        x = {s: predict_rows(model, data, r, lead_set=lead_set)["embedding"] for s, r in rows.items()}
        probe = fit_linear_probe(
            x["train"], y["train"], tune_embeddings=x["tune"], tune_truth=y["tune"], labels=labels
        )
        found[f"probe|{lead_set}"] = probe.predict(x["test"])
        if lead_set == "12":
            hits, chance = same_patient_top1(
                np.concatenate(list(x.values())), np.concatenate(list(patients.values()))
            )
            start = len(rows["train"])
            found |= {
                "retrieval": hits,
                "retrieval_held_out": hits[start:],
                "retrieval_chance": np.array(chance),
            }
        if lead_set in ("12", "I"):
            curve = low_label_curve(
                Labelled(
                    np.concatenate([x["train"], x["tune"]]),
                    np.concatenate([y["train"], y["tune"]]),
                    np.concatenate([patients["train"], patients["tune"]]),
                ),
                Labelled(x["test"], y["test"], patients["test"]),
                labels=labels,
                sizes=SIZES,
                draws=3,
                resamples=20,
            )
            found[f"low_labels|{lead_set}"] = np.array([[p.records, p.estimate.value] for p in curve])
    return found


# --- the table ---------------------------------------------------------------------------------------------


def mean_over_seeds(truth: NDArray[Any], prediction: NDArray[Any], weights: Floats) -> Floats:
    """Macro AUROC of each seed's prediction (n, S, C), averaged."""
    each = [macro_auroc(truth, prediction[:, s], weights) for s in range(prediction.shape[1])]
    return np.asarray(np.mean(each, axis=0), np.float64)


def table(data: EcgDataset, work: Path) -> Iterator[dict[str, Any]]:
    """Yield one row a case, with intervals over test patients of the mean over seeds."""
    names = [f"{way}|{lead_set}" for way in ("probe", "fine-tuning") for lead_set in LEAD_SETS]
    for case in ("scratch", "untrained", *CASES):
        if seeds := done_seeds(case, work):
            yield {"case": case, "seeds": len(seeds), **scores(names, seeds, data), **other_figures(seeds)}


def few_label_table(data: EcgDataset, work: Path) -> dict[str, Any]:
    """Return macro AUROC of whole networks by start, number of labels and lead set."""
    seeds = done_seeds(FEW, work)
    return {"seeds": len(seeds), **(scores(sorted(seeds[0].files), seeds, data) if seeds else {})}


NAMES: Final = {"scratch": "none (from scratch)", "untrained": "none (random encoder)"}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield rows for the README: objectives; whole networks on few labels; frozen encoders on few, and retrieval."""
    for row in found["rows"]:
        for way in (w for w in ("probe", "fine-tuning") if f"{w}|12" in row):
            used = "all labels, whole network" if row["case"] == "scratch" else way
            figures = [cell(row[f"{way}|{lead_set}"]) for lead_set in LEAD_SETS]
            yield table_line(name_of(row), used, row["seeds"], *figures)
    few = found["few_labels"]
    for start, lead_set in ((s, k) for s in ("scratch", "pclr") for k in LEAD_SETS if few["seeds"]):
        figures = [cell(few[f"{start}|{n}|{lead_set}"]) for n in SIZES]
        yield table_line(f"{start}, few labels", few["seeds"], lead_set, *figures)
    for row in (r for r in found["rows"] if "retrieval" in r):
        curves = [" / ".join(f"{row[f'low_labels|{k}'][str(n)]:.3f}" for n in SIZES) for k in ("12", "I")]
        same = [f"{row[key]:.3f}" for key in ("retrieval", "retrieval_held_out")]
        yield table_line(f"{name_of(row)}, frozen", row["seeds"], *curves, *same)


def name_of(row: dict[str, Any]) -> str:
    """Return a case as the tables call it."""
    return NAMES.get(row["case"], row["case"])


def table_line(*cells: object) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def cell(figure: dict[str, float]) -> str:
    """Return a figure with its interval."""
    return f"{figure['macro_auroc']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def done_seeds(case: str, work: Path) -> list[Any]:
    """Return the predictions of a case, a file a seed."""
    return [np.load(file) for file in sorted(work.glob(f"{file_stem(case)}-[0-9].npz"))]


def scores(names: list[str], seeds: list[Any], data: EcgDataset) -> dict[str, Any]:
    """Return macro AUROC on test of each named prediction that is there."""
    rows = data.select(split="test")
    truth, patients = data.labels(data.info.classes, rows), data.index["patient_id"][rows]
    known = ~np.isnan(truth).any(axis=1)
    one = np.ones((1, int(known.sum())))
    found = {}
    for name in names:
        if name not in seeds[0]:
            continue
        said = np.stack([seed[name] for seed in seeds], axis=1)[known]
        e = patient_bootstrap(mean_over_seeds, truth[known], said, patients[known])
        each = [float(macro_auroc(truth[known], said[:, s], one)[0]) for s in range(len(seeds))]
        found[name] = {
            "macro_auroc": e.value,
            "low": e.low,
            "high": e.high,
            "sd_of_seeds": float(np.std(each)),
        }
    return found


def other_figures(seeds: list[Any]) -> dict[str, Any]:
    """Return retrieval and the low-label curves, means over seeds."""
    found: dict[str, Any] = {}
    for name in ("retrieval", "retrieval_held_out"):
        if name in seeds[0]:
            found[name] = float(np.mean([np.nanmean(seed[name]) for seed in seeds]))
    for name in ("low_labels|12", "low_labels|I"):
        if name in seeds[0]:
            curves = np.mean([seed[name] for seed in seeds], axis=0)
            found[name] = {str(int(n)): float(v) for n, v in curves}
    return found


def file_stem(case: str) -> str:
    """Return a case's name without what file names should not have."""
    return case.replace(" ", "_").replace(",", "")


def main(
    data: Annotated[Path, typer.Option(help="PTB-XL, built.")],
    work: Annotated[Path, typer.Option(help="Folder of the runs; what is there is not done again.")],
    also: Annotated[list[Path] | None, typer.Option(help="Further datasets for pretraining.")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="Seeds of this process.")] = None,
    cases: Annotated[list[str] | None, typer.Option("--case", help="Cases, by default all.")] = None,
    settings: Annotated[bool, typer.Option("--tune", help="Choose the settings of fine-tuning.")] = False,
    out: Annotated[Path | None, typer.Option("--table", help="Score what is done and write it.")] = None,
) -> None:
    """Choose the settings, run cases, or make the table of what has been run."""
    primary = open_dataset(data)
    pool = UnionDataset(primary, [open_dataset(path) for path in also]) if also else primary
    work.mkdir(parents=True, exist_ok=True)
    line = Line(primary, pool, work)
    if out is not None:
        found = {
            "what": "macro AUROC over 5 superclasses of PTB-XL, fold 9; mean over seeds, 95 % interval over patients",
            **machine("torch", "numpy"),
            "precision": "bf16 autocast in training, float32 in prediction",
            "dataset_sha256": primary.info.sha256,
            "steps": STEPS,
            "fine_tuning": json.loads((work / TUNING).read_text("utf-8")),
            "pretrained_on": pool.info.for_run(),
            "rows": list(table(primary, work)),
            "few_labels": {"steps": FEW_STEPS, **few_label_table(primary, work)},
        }
        write_json(out, found)
        for line_ in lines(found):
            typer.echo(line_)
    elif settings:
        torch.set_num_threads(1)
        tune(line)
    else:
        for seed in seeds or range(5):
            for case in cases or ("scratch", "untrained", *CASES, FEW):
                run_case(case, seed, line)


if __name__ == "__main__":
    typer.run(main)
