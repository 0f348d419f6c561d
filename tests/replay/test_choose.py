"""The grid, the policy for a budget, and who is held out."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.alarms import load_policy
from ecgedge.errors import UsageError
from ecgedge.policy import AlarmPolicy
from ecgedge.replay import GridAxes, Measured, PolicyScore, make_grid
from ecgedge.replay.choose import Budget, choose, hold_out, policy_toml, why_none
from ecgedge.replay.intervals import draw_weights
from ecgedge.replay.score import chance_of, score, tally

NONE = Measured(None, None, None)


def scored(sensitivity, false, delay=5.0, *, high=None, persistence_s=300.0):
    empty = score(
        [tally([], (), duration_s=100.0, early_s=0.0)],
        draw_weights(1, resamples=100, seed=0),
        chance_of([], early_s=0.0),
    )
    figures = replace(
        empty,
        detected=round(100 * (sensitivity or 0)),
        sensitivity=NONE if sensitivity is None else Measured(sensitivity, None, None),
        false_alarms_per_patient_day=Measured(false, None if high is None else 0.0, high),
        delay_median_min=Measured(delay, None, None) if sensitivity else NONE,
    )
    return PolicyScore(AlarmPolicy(persistence_s=persistence_s), figures)


# --- the grid ---------------------------------------------------------------------------------------


def test_every_combination_once_with_the_other_keys_of_the_reference():
    reference = AlarmPolicy(recovery_window_s=120.0, onset_probability=0.9)
    grid = make_grid(GridAxes((0.6, 0.6, 0.7), (60.0,), (1.0, 3.0)), reference, hop_s=5.0)
    swept = [(p.onset_probability, p.persistence_s, p.recovery_margin_mmhg) for p in grid.policies]
    assert swept == [(0.6, 60.0, 1.0), (0.6, 60.0, 3.0), (0.7, 60.0, 1.0), (0.7, 60.0, 3.0)]
    assert {p.recovery_window_s for p in grid.policies} == {120.0}
    assert grid.replayed == (*grid.policies, reference)
    assert grid.left_out == ()


def test_a_reference_on_the_grid_is_replayed_once():
    reference = AlarmPolicy()
    grid = make_grid(GridAxes((0.8,), (300.0,), (3.0, 1.0)), reference, hop_s=5.0)
    assert grid.replayed == grid.policies


def test_what_cannot_work_is_named_and_left_out():
    grid = make_grid(GridAxes((0.4, 0.7, 1.5), (2.0, 300.0), (3.0, 18.0)), AlarmPolicy(), hop_s=5.0)
    assert [p.onset_probability for p in grid.policies] == [0.7]
    reasons = {
        (o.onset_probability, o.persistence_s, o.recovery_margin_mmhg): o.reason for o in grid.left_out
    }
    assert len(reasons) == 11
    assert "would chatter" in reasons[0.4, 300.0, 3.0]
    assert "between 0 and 1" in reasons[1.5, 300.0, 3.0]
    assert "can never fire" in reasons[0.7, 2.0, 3.0]
    assert "could never clear" in reasons[0.7, 300.0, 18.0]


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(UsageError, match="no policy of the grid can work: onset_probability is 2"):
        make_grid(GridAxes((2.0,)), AlarmPolicy(), hop_s=5.0)


# --- the choice -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([(0.5, 0.1), (0.7, 0.9), (0.9, 1.1)], 1),  # the most sensitive within
        ([(0.7, 1.0), (0.7, 1.0001)], 0),  # exactly the budget is within
        ([(0.7, 0.1, 9.0), (0.7, 0.9, 8.0)], 1),  # ties: the shorter delay
        ([(0.7, 0.9, 8.0), (0.7, 0.1, 8.0)], 1),  # then fewer false alarms
        ([(0.7, 0.1, 8.0), (0.7, 0.1, 8.0)], 0),  # then the earlier
        ([(0.7, 0.1, -8.0), (0.7, 0.1, 2.0)], 0),  # lead time is a short delay
        ([(0.0, 0.0), (0.7, 2.0)], None),  # what detects nothing is no choice
        ([(None, None), (0.7, 2.0)], None),
    ],
)
def test_the_most_sensitive_within_the_budget(scores, chosen):
    given_scores = [scored(*s, persistence_s=100.0 + n) for n, s in enumerate(scores)]
    found = choose(given_scores, Budget(1.0))
    assert found is (None if chosen is None else given_scores[chosen])


def test_the_upper_end_may_have_to_keep_the_budget():
    surer, better = scored(0.5, 0.2, high=0.9), scored(0.7, 0.3, high=1.2)
    unknown = scored(0.9, 0.0, high=None)
    assert choose([surer, better], Budget(1.0)) is better
    assert choose([surer, better, unknown], Budget(1.0, "upper")) is surer


@pytest.mark.parametrize(
    ("scores", "by", "words"),
    [
        ([(0.7, 2.0), (0.5, 1.5), (0.0, 0.1)], "estimate", "the best has 1.5"),
        ([(0.0, 0.0)], "estimate", "detects any episode"),
        ([(0.7, 0.0)], "upper", "more patients"),
    ],
)
def test_that_none_fits_is_said_with_the_reason(scores, by, words):
    given_scores = [scored(*s) for s in scores]
    assert choose(given_scores, Budget(1.0, by)) is None
    assert words in why_none(given_scores, Budget(1.0, by))


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_no_budget(value):
    with pytest.raises(UsageError, match="--budget"):
        Budget(value)


# --- who is held out --------------------------------------------------------------------------------


@given(st.permutations([f"p{n}" for n in range(20)]), st.floats(0.05, 0.95))
def test_a_share_of_each_group_whatever_the_order(patients, share):
    groups = {p: "with" if int(p[1:]) % 4 == 0 else "without" for p in patients}
    held = hold_out(groups, share)
    assert held == hold_out(dict(sorted(groups.items())), share)
    for group, size in (("with", 5), ("without", 15)):
        n = sum(groups[p] == group for p in held)
        assert 1 <= n < size
        assert abs(n - share * size) <= 1.0


def test_the_only_one_of_a_group_chooses():
    assert hold_out({"a": "x", "b": "y"}, 0.9) == frozenset()


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_no_share(share):
    with pytest.raises(UsageError, match="--holdout-share"):
        hold_out({"a": "x"}, share)


# --- the file ---------------------------------------------------------------------------------------


@given(st.floats(0.51, 0.99), st.floats(10.0, 80_000.0), st.booleans())
def test_a_policy_file_reads_back_as_the_policy(tmp_path_factory, p, persistence_s, latching):
    policy = AlarmPolicy(onset_probability=p, persistence_s=persistence_s, latching=latching)
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(policy_toml(policy, ["one remark", "two\nlines = 1"]))
    assert load_policy(path, hop_s=5.0) == policy
    assert path.read_text().startswith("# one remark\n# two\n# lines = 1\n")
    assert all(f.name in path.read_text() for f in fields(AlarmPolicy))
