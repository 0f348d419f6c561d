"""Objectives x lead sets x {linear probe, fine-tuning} on real ECG, five seeds; against training from scratch.

Pretraining sees the training folds of PTB-XL and every further dataset given, without labels; the tune fold chooses
the probe's strength and the step of a fine-tuning run; the test fold is looked at once, by `--table`.

    ecgedge data build ptbxl --from ... --out out/ptbxl          (and ludb, code15, cinc2021, brugada)
    python benchmarks/ptbxl_table.py --data out/ptbxl --also out/ludb --work out/table --seeds 0 1 2 3 4
    python benchmarks/ptbxl_table.py --data out/ptbxl --work out/table --table benchmarks/results/ptbxl_table.json

Two processes with different seeds share the work; what is done is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
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

CASES: Final[dict[str, dict[str, Any]]] = {
    "pclr": {"objective": PCLR},
    "pclr, no lead masking": {"objective": PCLR, "masking": NO_RLM},
    "simclr": {"objective": {"name": "simclr"}, "input": {"noise_mv": 0.1}},
    "cmsc": {"objective": {"name": "cmsc"}},
    "tfc": {"objective": {"name": "tfc"}},
    "distance (dtw)": {"objective": DTW},
    "pclr + distance (dtw)": {"objective": {"name": "combined", "parts": [PCLR, {**DTW, "weight": 0.5}]}},
    "pclr, long": {"objective": PCLR, "schedule": {"steps": 4 * STEPS}},
    "w2v": {
        "objective": {"name": "w2v", "codes": 64, "negatives": 50},
        "encoder": {"name": "w2v", "size": "tiny"},
        "optimizer": {"lr": 5e-4},
        "schedule": {"steps": STEPS // 3},
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
        "devices": {"threads": 1},
        "evaluate": {"every_steps": 10_000, "checkpoint_every_steps": 10_000, "keep": "last"},
    }


def pretraining(case: str, seed: int) -> Recipe:
    """Return the recipe of a case."""
    plain = base(f"table_{case}", seed)
    for section, table in CASES[case].items():
        replaces = section in ("objective", "encoder")
        plain[section] = table if replaces else {**plain[section], **table}
    return recipe_from_plain(plain)


def supervised(seed: int, encoder: dict[str, Any], classes: tuple[str, ...], *, tuned: bool) -> Recipe:
    """Return fine-tuning of a pretrained encoder, or training from scratch with a higher rate and more steps."""
    plain = base("table_fine_tuning" if tuned else "table_scratch", seed)
    encoder = {**encoder, "dropout": 0.2}
    if encoder["name"] == "w2v":
        encoder |= {"dropout": 0.1, "feature_gradient": 1.0}
    steps = 300 if tuned else 2 * STEPS
    plain |= {
        "encoder": encoder,
        "objective": {"name": "classes", "labels": list(classes)},
        "masking": {"full_probability": 0.4, "device_probability": 0.4},
        "optimizer": {
            "lr": 1e-3 if tuned else 3e-3,
            "weight_decay": 0.05,
            "encoder_lr_factor": 0.3 if tuned else 1.0,
        },
        "schedule": {"steps": steps, "warmup_steps": 30},
        "evaluate": {"every_steps": steps // 12, "checkpoint_every_steps": 10_000, "keep": "best"},
    }
    return recipe_from_plain(plain)


# --- one case, one seed ------------------------------------------------------------------------------------


def run_case(case: str, seed: int, data: EcgDataset, pool: UnionDataset | EcgDataset, work: Path) -> None:
    """Pretrain, probe, fine-tune; leave predictions of the tune and test rows in one .npz."""
    done = work / f"{file_stem(case)}-{seed}.npz"
    if done.is_file():
        return
    torch.set_num_threads(1)
    run = done.with_suffix("")
    found: dict[str, NDArray[Any]] = {}
    if case != "scratch":
        if not (run / "pretrain" / "model.safetensors").is_file():
            train(pretraining(case, seed), pool, run / "pretrain", resume=(run / "pretrain").exists())
        found |= probes(load_run(run / "pretrain").model, data)
    encoder = CASES.get(case, {}).get("encoder", EDGENET)
    recipe = supervised(seed, encoder, data.info.classes, tuned=case != "scratch")
    start = None if case == "scratch" else run / "pretrain"
    train(recipe, data, run / "tuned", resume=(run / "tuned").exists(), encoder_from=start)
    tuned = load_run(run / "tuned").model
    for lead_set in LEAD_SETS:
        logits = predict_rows(tuned, data, data.select(split="test"), lead_set=lead_set)["class_logits"]
        found[f"fine-tuning|{lead_set}"] = logits
    np.savez_compressed(done, **found)
    typer.echo(f"done: {done.name}")


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
    for case in ("scratch", "untrained", *CASES):
        seeds = [np.load(file) for file in sorted(work.glob(f"{file_stem(case)}-[0-9].npz"))]
        if seeds:
            yield {"case": case, "seeds": len(seeds), **scores(seeds, data), **other_figures(seeds)}


def scores(seeds: list[Any], data: EcgDataset) -> dict[str, Any]:
    """Return macro AUROC by way and lead set."""
    rows = data.select(split="test")
    truth, patients = data.labels(data.info.classes, rows), data.index["patient_id"][rows]
    known = ~np.isnan(truth).any(axis=1)
    one = np.ones((1, int(known.sum())))
    found = {}
    for name in (f"{way}|{lead_set}" for way in ("probe", "fine-tuning") for lead_set in LEAD_SETS):
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
    out: Annotated[Path | None, typer.Option("--table", help="Score what is done and write it.")] = None,
) -> None:
    """Run cases, or make the table of what has been run."""
    primary = open_dataset(data)
    if out is not None:
        found = {
            "what": "macro AUROC over 5 superclasses of PTB-XL, fold 9; mean over seeds, 95 % interval over patients",
            "dataset_sha256": primary.info.sha256,
            "steps": STEPS,
            "pretrained_on": json.loads(next(work.glob("pclr-*/pretrain/data.json")).read_text("utf-8")),
            "rows": list(table(primary, work)),
        }
        out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        return
    pool = UnionDataset(primary, [open_dataset(path) for path in also]) if also else primary
    work.mkdir(parents=True, exist_ok=True)
    for seed in seeds or range(5):
        for case in cases or ("scratch", "untrained", *CASES):
            if case == "untrained":
                _untrained(seed, primary, work)
            else:
                run_case(case, seed, primary, pool, work)


def _untrained(seed: int, data: EcgDataset, work: Path) -> None:
    done = work / f"untrained-{seed}.npz"
    if not done.is_file():
        np.savez_compressed(done, **probes(build_model(pretraining("pclr", seed)).eval(), data))


if __name__ == "__main__":
    typer.run(main)
