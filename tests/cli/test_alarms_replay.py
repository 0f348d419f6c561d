"""`ecgedge alarms replay` as a user runs it."""

import inspect
import json
import os
import signal

import pytest

from ecgedge.alarms import load_policy
from ecgedge.cli.replaying import alarms_replay
from ecgedge.replay import DEFAULT_EARLY_S, FIRST_SEED, GridAxes
from ecgedge.schema import to_plain

SIM = ("--sim", "stable:2", "--sim", "decompensating:4", "--first-seed", "11")
# Short patients: from 10 to 18 mmHg takes 70 minutes, so what counts as elevated is put at 5.
SHORT = ("--hours", "0.1", "--onset-probability", "0.02,0.1", "--persistence-s", "20,60", "--no-plot")
LOW = "threshold_mmhg = 5.0\nrecovery_margin_mmhg = 1.0\nrecovery_probability = 0.01\nrecovery_window_s = 60.0\n"
EMBEDDED_IS_SIMULATED = "SIMULATED DATA"


@pytest.fixture
def low(cli):
    path = cli.folder / "low.toml"
    path.write_text(LOW)
    return ("--policy", path)


def plain(cli, out="out"):
    return json.loads((cli.folder / out / "replay.json").read_text())


def test_simulated_patients_from_end_to_end(cli, low):
    """The chosen policy is one that `stream` takes, and its alarm is the one that was replayed."""
    done = cli("alarms", "replay", *SIM, *SHORT, *low, "--budget", "1e5", "--jobs", "2", "--out", "out")
    found = plain(cli)
    assert EMBEDDED_IS_SIMULATED in done.stdout
    assert "Research use only" in done.stdout
    assert "Research use only" in done.stderr
    assert "6 of 6: " in done.stderr
    assert [s["name"] for s in found["streams"]] == [
        *(f"decompensating {n}" for n in (13, 14, 15, 16)), "stable 11", "stable 12",
    ]  # fmt: skip
    assert len(found["policies"]) == 9  # 2 x 2 x 2, and the one given
    assert found["chosen"]["detected"] > 0
    chosen = to_plain(load_policy(cli.folder / "out" / "policy.toml", hop_s=5.0))
    assert chosen == found["chosen"]["policy"]
    assert chosen["threshold_mmhg"] == 5.0
    (of_chosen,) = [p for p in found["policies"] if all(p[k] == chosen[k] for k in p.keys() & chosen.keys())]
    for name, seed in (("stable", 11), ("decompensating", 13)):
        events = cli.stream(
            f"sim:{name}?seed={seed}&rate_hz=250", "--duration", "360", "--policy", "out/policy.toml"
        )
        alarms = [e for e in events if e["type"] == "alarm" and e["condition"] == "MPCWP_ELEVATED"]
        onsets = [
            a["t_s"]
            for before, a in zip([None, *alarms], alarms, strict=False)
            if a["presence"] == "on" and (before is None or before["presence"] == "off")
        ]
        assert onsets == of_chosen["onsets_s"].get(f"{name} {seed}", [])


def test_a_killed_run_goes_on_to_the_same_evidence(cli, low):
    longer = (
        "--sim",
        "stable:5",
        "--sim",
        "decompensating:5",
        "--first-seed",
        "11",
        *SHORT,
        *low,
        "--hours",
        "0.2",
    )
    whole = cli("alarms", "replay", *longer, "--out", "whole")
    process = cli.start("alarms", "replay", *longer, "--out", "out")
    with process:
        for line in process.stderr:
            if line.startswith("ecgedge: 1 of 10"):
                os.kill(process.pid, signal.SIGKILL)
                break
    kept = len(list((cli.folder / "out" / "work" / "estimates").glob("*.gz")))
    assert 1 <= kept < 10
    assert not (cli.folder / "out" / "replay.json").exists()
    again = cli("alarms", "replay", *longer, "--out", "out", "--jobs", "2")
    assert again.stdout == whole.stdout
    files = [cli.folder / folder / "replay.json" for folder in ("whole", "out")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_budget_that_none_keeps(cli, low):
    (cli.folder / "out").mkdir()
    (cli.folder / "out" / "policy.toml").write_text("# of an earlier run\n")
    done = cli("alarms", "replay", *SIM, *SHORT, *low, "--budget", "0", "--budget-by", "upper", "--out", "out",
               exits=1)  # fmt: skip
    assert "no policy fits a budget of 0 false alarms per patient-day by the upper end" in done.stderr
    assert plain(cli)["chosen"] is None
    assert not (cli.folder / "out" / "policy.toml").exists()


def test_recordings_with_a_table_of_episodes(cli, recording):
    (cli.folder / "episodes.csv").write_text("record,start_s,end_s\nrecording,12,25\n")
    done = cli("alarms", "replay", recording, "--episodes", "episodes.csv", "--onset-probability", "0.01",
               "--persistence-s", "5,600", "--recovery-margin-mmhg", "1,99", "--early-s", "5", "--out", "out",
               "--policy", _policy(cli), "--no-plot")  # fmt: skip
    found = plain(cli)
    assert "left out: onset_probability 0.01, persistence_s 5, recovery_margin_mmhg 99" in done.stdout
    assert "No stream lasts longer than 30 s: 1 of 2 policies" in done.stdout
    assert [(p["persistence_s"], p["episodes"]) for p in found["policies"]] == [
        (5.0, 1),
        (600.0, 1),
        (300.0, 1),
    ]
    assert found["streams"][0]["episodes"] == [{"start_s": 12.0, "end_s": 25.0}]


def _policy(cli):
    path = cli.folder / "policy.toml"
    path.write_text("onset_probability = 0.01\nrecovery_probability = 0.005\nrecovery_window_s = 10.0\n")
    return path


def test_a_folder_without_truth_counts_alarms_only(cli, recording):
    cli("alarms", "replay", recording.parent, "--out", "out", "--no-plot")
    found = plain(cli)
    assert found["policies"][0]["false_alarms_per_patient_day"]["value"] is None
    assert found["policies"][0]["alarms_per_patient_day"]["value"] == 0.0
    assert found["streams"][0]["episodes"] is None


def test_without_the_extra_the_table_and_json_are_written(cli, recording):
    done = cli.without(["matplotlib", "torch"], "alarms", "replay", recording, "--out", "out", exits=2)
    assert "pip install 'ecgedge[train]'" in done.stderr
    assert "--no-plot" in done.stderr
    assert "1 patients" in done.stdout
    assert plain(cli)["streams"][0]["windows"] == 5


@pytest.mark.parametrize(
    ("options", "exits", "words"),
    [
        ((), 2, "give recordings, or simulated patients"),
        (("x.npz", "--sim", "stable:1"), 2, "and not both"),
        (("nowhere.npz",), 1, "no such file"),
        (("--sim", "stable:1", "--episodes", "e.csv"), 2, "--episodes is for recordings"),
        (("--sim", "stable"), 2, "SCENARIO:PATIENTS"),
        (("--sim", "stable:1", "--onset-probability", "0.6;0.7"), 2, "--onset-probability is '0.6;0.7'"),
        (("--sim", "stable:1", "--onset-probability", "2"), 2, "no policy of the grid can work"),
        (("--sim", "stable:1", "--budget", "-1"), 2, "--budget is -1"),
        (("--sim", "stable:1", "--holdout-share", "0.5"), 2, "give a --budget too"),
        (("--sim", "stable:1", "--policy", "nowhere.toml"), 1, "nowhere.toml"),
        (("--sim", "stable:1", "--bundle", "nowhere.ecgb"), 4, "nowhere.ecgb"),
        (("--sim", "stable:1", "--runtime", "abacus"), 2, "abacus"),
        (("--sim", "stable:1", "--jobs", "0"), 2, "--jobs is 0"),
        (("--sim", "stable:1", "--hours", "0.001"), 1, "shorter than the model's window"),
        (("--sim", "stable:1", "--hours", "0.1", "--budget", "1"), 2, "no patient with an elevated episode"),
    ],
)
def test_what_cannot_be_done_is_said(cli, options, exits, words):
    done = cli("alarms", "replay", *options, "--out", "out", "--no-plot", exits=exits)
    assert words in done.stderr


def test_a_work_folder_of_another_bundle_is_refused(cli):
    few = ("--sim", "stable:1", "--hours", "0.01", "--no-plot", "--out", "out", "--work", "kept")
    cli("alarms", "replay", *few)
    assert plain(cli)["engines"]["12/fp32"]
    file = cli.folder / "kept" / "settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "bundle": "another"}))
    done = cli("alarms", "replay", *few, exits=2)
    assert "kept holds estimates made with bundle 'another'" in done.stderr


def test_real_recordings(cli, ecg_data):
    done = cli("alarms", "replay", ecg_data / "long_2lead" / "mitdb" / "100.hea", "--out", "out", "--no-plot")
    (stream,) = plain(cli)["streams"]
    assert (stream["mode"], stream["windows"]) == ("real", 360)
    assert "truth unknown" in done.stdout


def test_the_defaults_of_the_command_are_the_librarys():
    defaults = {name: p.default for name, p in inspect.signature(alarms_replay).parameters.items()}
    assert defaults["first_seed"] == FIRST_SEED
    assert defaults["early_s"] == DEFAULT_EARLY_S
    for name, values in to_plain(GridAxes()).items():
        assert [float(v) for v in defaults[name].split(",")] == values
