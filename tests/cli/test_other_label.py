"""A number of one's own, such as ef_percent, from a folder with a table to a report: scored as it is, or refused."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ecgedge.ecg import Recording
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records import write_npz
from ecgedge.sim import Simulator
from ecgedge_train.dataset import open_dataset
from ecgedge_train.evaluate.values import RIDGE_STRENGTHS
from ecgedge_train.inference import predict_rows
from ecgedge_train.run import load_run

COMMON = """
name = "small"
[data]
source = "clinic"
batch_size = 8
[encoder]
name = "edgenet"
embedding_size = 32
dropout = 0.0
[schedule]
steps = 8
warmup_steps = 1
[devices]
device = "cpu"
threads = 1
[evaluate]
every_steps = 4
checkpoint_every_steps = 4
log_every_steps = 4
keep = "last"
lead_sets = ["12", "I,II"]
[objective]
"""
RECIPES = {
    "ef": 'name = "hemodynamics"\nlabel = "ef_percent"\nmean_mmhg = 52.0\nsd_mmhg = 9.0\nbce_weight = 0.0\n',
    "mined": 'name = "metric"\nlabel = "ef_percent"\n',
    "sick": 'name = "classes"\nlabels = ["sick"]\n',
}
SPLITS = ("train", "train", "tune", "test")
PATIENTS = 48
"""12 of tune and test: enough for an interval at 90 % and for a subgroup."""


def _clinic(folder):
    """One recording of each patient, and a table with ef_percent, a class, and a pressure that is something else."""
    folder.mkdir()
    rng, rows = np.random.default_rng(5), []
    for number in range(PATIENTS):
        # Size of the ECG follows EF, so that an embedding knows something of it.
        ef = float(rng.uniform(35, 70))
        samples_mv = Simulator("stable", seed=200 + number, rate_hz=250.0).read(5000)[:, -2600:] * ef / 50
        write_npz(Recording(samples_mv, 250.0, STANDARD_LEADS, mode="demo"), folder / f"{number}.npz")
        row = {
            "file": f"{number}.npz",
            "patient_id": f"p{number}",
            "split": SPLITS[number % 4],
            "sex": "female",
        }
        # One patient of each split has no measured EF.
        known = "" if number < 4 else f"{ef:.1f}"
        rows.append(row | {"ef_percent": known, "sick": int(ef < 50), "mpcwp_mmhg": 8.0 + number % 20})
    _write(folder / "labels.csv", rows)
    _write(folder / "no-ef.csv", rows, dropped=("ef_percent",))
    _write(folder / "nothing.csv", rows, dropped=("ef_percent", "mpcwp_mmhg"))
    # A pressure in mmHg that is not called mpcwp_mmhg.
    _write(folder / "pawp.csv", [row | {"pawp": row["mpcwp_mmhg"]} for row in rows], dropped=("mpcwp_mmhg",))


def _write(path, rows, *, dropped=()):
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [key for key in rows[0] if key not in dropped], extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


@pytest.fixture(scope="module")
def clinic(cli_in, tmp_path_factory):
    """The folder as a dataset, the same without EF, without any label that a report could use, and the runs."""
    folder = tmp_path_factory.mktemp("clinic")
    cli = cli_in(folder)
    _clinic(folder / "files")
    build = ("data", "build", "folder", "--from", "files", "--set", "simulated=yes")
    cli(*build, "--out", "data", "--set", "classes=sick")
    cli(*build, "--out", "no-ef", "--set", "csv=no-ef.csv", "--set", "classes=sick")
    cli(*build, "--out", "nothing", "--set", "csv=nothing.csv")
    cli(*build, "--out", "pawp", "--set", "csv=pawp.csv")
    said = {}
    for name, objective in RECIPES.items():
        (folder / f"{name}.toml").write_text(COMMON + objective)
        said[name] = cli("train", f"{name}.toml", "--data", "data", "--out", name).stderr
    return SimpleNamespace(cli=cli, folder=folder, said=said)


def _evaluate(clinic, run, *options, data="data", out=None, exits=0):
    out = out or f"report-{run}-{data}"
    done = clinic.cli(
        *("evaluate", run, "--data", data, "--out", out, "--resamples", "40", *options), exits=exits
    )
    report = clinic.folder / out / "report.json"
    return done, json.loads(report.read_text()) if exits == 0 else None


def _rows(report, lead_set="12"):
    return {row["metric"]: row for row in report["rows"] if row["lead_set"] == lead_set}


def _truth(clinic, split):
    data = open_dataset(clinic.folder / "data")
    rows = data.select(split=split)
    ef = data.index["ef_percent"][rows].astype(float)
    return data, rows[~np.isnan(ef)], ef[~np.isnan(ef)]


def test_training_calls_it_by_its_name(clinic):
    assert "rmse_ef_percent" in clinic.said["ef"]
    assert "mmhg" not in clinic.said["ef"]


def test_the_number_is_scored_and_no_class(clinic):
    done, report = _evaluate(clinic, "ef")
    data, rows, ef = _truth(clinic, "test")
    mean = _truth(clinic, "train")[2].mean()
    assert len(ef) == 11
    for lead_set in ("12", "I,II"):
        said = predict_rows(load_run(clinic.folder / "ef").model, data, rows, lead_set=lead_set)["mpcwp_mmhg"]
        found = _rows(report, lead_set)
        error = said - ef
        assert found["rmse_ef_percent"]["value"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
        assert found["rmse_ef_percent"]["baseline"] == pytest.approx(
            np.sqrt(np.mean((mean - ef) ** 2)), rel=1e-4
        )
        assert found["mae_ef_percent"]["value"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
        assert found["mae_ef_percent"]["baseline"] == pytest.approx(np.abs(mean - ef).mean(), rel=1e-4)
        assert found["bias_ef_percent"]["value"] == pytest.approx(error.mean(), rel=1e-3)
        assert found["pearson_r_ef_percent"]["value"] == pytest.approx(np.corrcoef(said, ef)[0, 1], rel=1e-3)
        half = load_run(clinic.folder / "ef").calibration[lead_set].interval_halfwidth_mmhg
        assert found["interval_coverage"]["value"] == pytest.approx(np.mean(np.abs(error) <= half))
        assert "rmse_ef_percent | sex=female" in found
        # Nothing of a class, nothing in mmHg: the model's output of that name says EF.
        assert not [name for name in found if "auroc" in name or "mmhg" in name]
    assert not report["probed"]
    assert "rmse_ef_percent" in done.stdout
    assert "training mean" in done.stdout
    (table,) = next(s["tables"] for s in report["sections"] if s["title"] == "Agreement")
    assert table["columns"][:3] == ["Lead set", "Bias", "SD"]
    assert [row[0] for row in table["rows"]] == ["12", "I,II"]
    titles = [chart["title"] for chart in report["charts"]]
    assert "Predicted and measured ef_percent, leads 12" in titles
    assert "Bland-Altman, leads I,II" in titles
    page = (clinic.folder / "report-ef-data" / "report.html").read_text()
    assert "mPCWP" not in page
    assert "mmHg" not in page


def test_cuts_are_scored_where_both_outcomes_are_known(clinic):
    # EF is above both cuts in every record; a pressure under another name is not.
    (clinic.folder / "pawp.toml").write_text(COMMON + 'name = "hemodynamics"\nlabel = "pawp"\n')
    clinic.cli("train", "pawp.toml", "--data", "pawp", "--out", "pawp-run")
    found = _rows(_evaluate(clinic, "pawp-run", data="pawp")[1])
    assert {"auroc_pawp_gt_15", "auroc_pawp_gt_18", "rmse_pawp"} <= found.keys()
    assert "auroc_gt_18" not in found


def _ridge(x, y, alpha):
    """Return slope and offset from the normal equations, the offset without a penalty."""
    centred, middle = x - x.mean(axis=0), y.mean()
    slope = np.linalg.solve(centred.T @ centred + alpha * np.eye(x.shape[1]), centred.T @ (y - middle))
    return slope, middle - x.mean(axis=0) @ slope


def test_an_encoder_mined_by_it_is_read_by_a_ridge_regression(clinic):
    done, report = _evaluate(clinic, "mined")
    model, x, y = load_run(clinic.folder / "mined").model, {}, {}
    for split in ("train", "tune", "test"):
        data, rows, y[split] = _truth(clinic, split)
        x[split] = predict_rows(model, data, rows, lead_set="12")["embedding"].astype(float)
    mean, sd = x["train"].mean(axis=0), x["train"].std(axis=0)
    x = {split: (part - mean) / np.maximum(sd, 1e-6) for split, part in x.items()}

    def error(fit, split):
        return np.sqrt(np.mean((x[split] @ fit[0] + fit[1] - y[split]) ** 2))

    best = min(RIDGE_STRENGTHS, key=lambda alpha: error(_ridge(x["train"], y["train"], alpha), "tune"))
    both = (np.concatenate([part["train"], part["tune"]]) for part in (x, y))
    found = _rows(report)
    assert found["rmse_ef_percent"]["value"] == pytest.approx(error(_ridge(*both, best), "test"), rel=1e-3)
    assert "ridge regression" in done.stdout
    assert not [name for name in found if "auroc" in name or name == "interval_coverage"]


def test_two_runs_are_compared_on_it(clinic):
    _, report = _evaluate(clinic, "ef", "--against", "mined", out="compared")
    (table,) = next(s["tables"] for s in report["sections"] if s["title"] == "Comparison")
    by_lead_set = {row[0]: row for row in table["rows"]}
    assert by_lead_set["12"][1] == "rmse_ef_percent"
    rows = [_rows(_evaluate(clinic, run)[1])["rmse_ef_percent"]["value"] for run in ("ef", "mined")]
    assert by_lead_set["12"][2:4] == pytest.approx(rows)


def test_a_dataset_without_it_is_said_to_lack_it(clinic):
    done, report = _evaluate(clinic, "ef", data="no-ef")
    assert "has no ef_percent" in " ".join(report["notes"])
    assert "has no ef_percent" in done.stdout
    assert "macro_auroc" in _rows(report)


REFUSED = [
    ("nothing-to-score", ("evaluate", "ef", "--data", "nothing", "--out", "r1"), 1,
     ["neither classes", "objective.label", "--set classes="]),
    ("against-classes", ("evaluate", "ef", "--data", "data", "--out", "r2", "--against", "sick"), 1,
     ["no question in common"]),
    ("challenge-score", ("evaluate", "ef", "--data", "data", "--out", "r3", "--cinc-weights", "w.csv"), 1,
     ["was scored on ef_percent"]),
    ("export", ("export", "ef", "--data", "data", "--target", "cpu", "--out", "ef.ecgb"), 1,
     ["say ef_percent", "mpcwp_mmhg", "ecgedge evaluate"]),
    ("sweep", ("compress", "ef", "--data", "data", "--out", "swept", "--sweep"), 2,
     ["says ef_percent", "without --sweep"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "exits", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_cannot_be_is_refused_with_a_way_on(clinic, arguments, exits, words):
    done = clinic.cli(*arguments, exits=exits)
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clinic.folder / "ef.ecgb").exists()
