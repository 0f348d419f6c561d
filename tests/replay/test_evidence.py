"""From courses to the evidence: whose stream it is, who chooses, what is said, and what is written."""

import json

import pytest
from courses import HOP_S, SMALL, course, replayed, stretches

from ecgedge.bundle import RESEARCH_USE_ONLY, load_bundle
from ecgedge.errors import UsageError
from ecgedge.replay import (
    Budget,
    Episode,
    GridAxes,
    Question,
    episodes_of,
    judge,
    make_grid,
    render_text,
    to_json,
    write_json,
    write_policy,
)

GRID = make_grid(GridAxes((0.6, 0.8), (20.0,), (1.0, 3.0)), SMALL, hop_s=HOP_S)
QUIET = course(stretches((60, 0.1)))
# Elevated from 110 s (window 21 on): an onset by p 0.9 at 125 s, by p 0.7 the same where 0.6 counts.
RISING = course(stretches((20, 0.1), (40, 0.9)))
FAINT = course(stretches((20, 0.1), (40, 0.7)))
ALARMING = course(stretches((20, 0.1), (10, 0.7), (30, 0.1)))
RISE = (Episode(110.0, 305.0),)


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("embedded")


def cohort(*patients):
    """(name, course, episodes) of each."""
    made = [replayed(name, played, GRID.replayed) for name, played, _ in patients]
    return made, [episodes for _, _, episodes in patients]


def judged(bundle, patients, **question):
    asked = Question(30.0, resamples=100, **question)
    made, known = cohort(*patients)
    return judge(made, known, GRID, asked, bundle=bundle, engines=(), source="a test")


PATIENTS = (
    ("a", RISING, RISE),
    ("b", FAINT, RISE),
    ("c", QUIET, ()),
    ("d", ALARMING, ()),
    ("e", RISING, RISE),
    ("f", FAINT, RISE),
    ("g", QUIET, ()),
    ("h", ALARMING, ()),
)


def by_probability(evidence):
    return {s.policy.onset_probability: s.score for s in evidence.compared.scores}


def test_figures_reckoned_by_hand(bundle):
    found = by_probability(judged(bundle, PATIENTS))
    low, high = found[0.6], found[0.8]
    assert (low.detected, low.episodes, low.onsets, low.false_alarms) == (4, 4, 6, 2)
    assert (high.detected, high.episodes, high.onsets, high.false_alarms) == (2, 4, 2, 0)
    assert low.ppv.value == pytest.approx(4 / 6)
    # Each stream lasts 305 s.
    assert low.false_alarms_per_patient_day.value == pytest.approx(2 / (8 * 305 / 86_400))
    assert low.delay_median_min.value == high.delay_median_min.value == pytest.approx(15 / 60)
    assert high.elevated_time_in_alarm.value == pytest.approx(2 * 180 / (4 * 195))
    assert high.other_time_in_alarm.value == 0.0


def test_baselines_need_no_ecg_and_have_no_interval(bundle):
    part = judged(bundle, PATIENTS).compared
    assert (part.never.detected, part.never.onsets, part.never.time_in_alarm.value) == (0, 0, 0.0)
    assert (part.always.detected, part.always.onsets, part.always.false_alarms) == (0, 8, 8)
    assert part.always.time_in_alarm.value == part.always.elevated_time_in_alarm.value == 1.0
    assert part.never.sensitivity.high is part.always.false_alarms_per_patient_day.high is None


def test_streams_of_one_patient_count_as_one(bundle):
    made = [replayed(n, RISING, GRID.replayed, patient="anna") for n in ("x", "y")]
    found = judge(made, [RISE, ()], GRID, Question(30.0, resamples=100), bundle=bundle, engines=(), source="")
    assert (found.compared.never.patients, found.compared.never.episodes) == (1, 1)
    assert {(s.patient, s.group) for s in found.streams} == {("anna", "with episodes")}
    assert by_probability(found)[0.8].sensitivity.low is not None  # exact: 1 of 1 patient


def test_the_budget_chooses_and_the_others_judge(bundle):
    found = judged(bundle, PATIENTS, budget=Budget(0.0), holdout_share=0.5)
    held = {s.patient for s in found.streams if s.held_out}
    assert len(held) == 4
    assert len(held & {"a", "b", "e", "f"}) == len(held & {"c", "d", "g", "h"}) == 2
    assert found.chosen is not None
    assert found.held_out.scores[0].policy == found.chosen.policy
    assert found.held_out.never.patients == found.compared.never.patients == 4
    text = render_text(found)
    assert "on 4 patients that took no part in the choice:" in text
    assert not any("looks better" in note for note in found.notes)


def test_a_choice_on_all_patients_says_so(bundle):
    found = judged(bundle, PATIENTS, budget=Budget(0.0))
    assert found.chosen.policy.onset_probability == 0.8
    assert found.held_out is None
    assert any("looks better on the patients that chose it" in note for note in found.notes)
    assert judged(bundle, PATIENTS, budget=Budget(1000.0)).chosen.policy.onset_probability == 0.6


@pytest.mark.parametrize(
    ("patients", "question", "words"),
    [
        ((("a", RISING, None),), {"budget": Budget(1.0)}, "--episodes"),
        ((("a", RISING, ()),), {"budget": Budget(1.0)}, "no patient with an elevated episode to choose on"),
        (
            (("a", RISING, RISE), ("b", QUIET, ()), ("c", QUIET, ())),
            {"budget": Budget(1.0), "holdout_share": 0.5},
            "no patient with an elevated episode to judge on",
        ),
    ],
)
def test_a_choice_that_means_nothing_is_refused(bundle, patients, question, words):
    with pytest.raises(UsageError, match=words):
        judged(bundle, patients, **question)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"early_s": -1.0}, "--early-s"),
        ({"early_s": float("nan")}, "--early-s"),
        ({"early_s": 1.0, "resamples": 99}, "--resamples"),
        ({"early_s": 1.0, "holdout_share": 0.5}, "give a --budget too"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(question, words):
    with pytest.raises(UsageError, match=words):
        Question(**question)


def test_everything_says_simulated_and_research_only(bundle, tmp_path):
    found = judged(bundle, PATIENTS, budget=Budget(0.0))
    write_json(found, tmp_path)
    plain = json.loads((tmp_path / "replay.json").read_text())
    assert plain["simulated"] is plain["bundle"]["simulated"] is True
    assert plain["research_use_only"] == RESEARCH_USE_ONLY
    text = render_text(found)
    assert "SIMULATED DATA" in text.splitlines()[0]
    assert RESEARCH_USE_ONLY in text
    assert "not ours" in text
    policy = write_policy(found, tmp_path).read_text()
    assert "SIMULATED DATA" in policy
    assert RESEARCH_USE_ONLY in policy
    assert "judged on other patients" in policy


def test_json_holds_all_policies_with_their_onsets(bundle):
    plain = to_json(judged(bundle, PATIENTS, budget=Budget(0.0), holdout_share=0.5))
    assert len(plain["policies"]) == 4
    onsets = {p["onset_probability"]: p["onsets_s"] for p in plain["policies"]}
    assert onsets[0.8] == {"a": [125.0], "e": [125.0]}
    assert onsets[0.6] == {name: [125.0] for name in "abdefh"}
    assert set(plain["policies"][0]["sensitivity"]) == {"value", "low", "high"}
    assert plain["chosen"]["policy"]["persistence_s"] == 20.0
    assert plain["holdout"]["policies"][0]["patients"] == 4
    assert [s["name"] for s in plain["streams"]] == list("abcdefgh")
    json.dumps(plain, allow_nan=False)


def test_an_older_choice_does_not_outlive_a_run_that_chooses_nothing(bundle, tmp_path):
    (tmp_path / "policy.toml").write_text("onset_probability = 0.9\n")
    assert write_policy(judged(bundle, PATIENTS), tmp_path) is None
    assert not (tmp_path / "policy.toml").exists()


def test_streams_too_short_for_a_persistence_are_told(bundle):
    grid = make_grid(GridAxes((0.8,), (20.0, 900.0), (1.0,)), SMALL, hop_s=HOP_S)
    made = [replayed("a", RISING, grid.replayed)]
    found = judge(made, [RISE], grid, Question(30.0, resamples=100), bundle=bundle, engines=(), source="")
    assert any("No stream lasts longer than 305 s: 1 of 2 policies" in note for note in found.notes)


def test_combinations_that_were_left_out_are_named(bundle):
    grid = make_grid(GridAxes((0.8, 2.0), (20.0,), (1.0,)), SMALL, hop_s=HOP_S)
    made = [replayed("a", RISING, grid.replayed)]
    found = judge(made, [RISE], grid, Question(30.0, resamples=100), bundle=bundle, engines=(), source="")
    assert "left out: onset_probability 2, persistence_s 20" in render_text(found)
    assert to_json(found)["left_out"][0]["reason"].startswith("onset_probability is 2")


def test_the_truth_of_a_stream():
    latent = [10.0, 20.0, 20.0, 10.0, 10.0]
    simulated = replayed("s", course([0.1] * 60, latent=latent))
    recorded = replayed("r", course([0.1] * 60))
    known = episodes_of([simulated, recorded], {"r": (Episode(1.0, 2.0),)}, above_mmhg=18.0)
    assert known == [(Episode(120.0, 240.0),), (Episode(1.0, 2.0),)]
    assert episodes_of([recorded], None, above_mmhg=18.0) == [None]
    with pytest.raises(UsageError, match="r ends at 305 s"):
        episodes_of([recorded], {"r": (Episode(1.0, 999.0),)}, above_mmhg=18.0)


def test_recordings_of_simulated_patients_are_marked_whatever_the_model(bundle):
    class Real:
        id, manifest, simulated = bundle.id, bundle.manifest, False

    made = {
        mode: [replayed("a", course(stretches((60, 0.1)), mode=mode), GRID.replayed)]
        for mode in ("demo", "real")
    }
    asked = Question(30.0, resamples=100)
    marked = {m: judge(r, [()], GRID, asked, bundle=Real(), engines=(), source="") for m, r in made.items()}
    assert marked["demo"].simulated
    assert not marked["real"].simulated
    assert "SIMULATED" not in render_text(marked["real"])
