"""The alarm policy: what is refused, and how a policy file is read."""

import math
import re
from dataclasses import fields, replace

import pytest

from ecgedge.alarms import load_policy
from ecgedge.errors import RecipeError
from ecgedge.policy import AlarmPolicy
from ecgedge.schema import from_plain, to_plain

DEFAULT = AlarmPolicy()
NUMBERS = [f.name for f in fields(AlarmPolicy) if f.name != "latching"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_no_number_may_be_nan_infinite_or_negative(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(DEFAULT, **{name: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"threshold_mmhg": 4.9}, "threshold_mmhg"),
        ({"threshold_mmhg": 40.1}, "threshold_mmhg"),
        ({"onset_probability": 1.0}, "onset_probability"),
        ({"onset_probability": 0.0}, "onset_probability"),
        ({"recovery_probability": 1.0}, "recovery_probability"),
        ({"recovery_probability": 0.81}, "would chatter"),
        ({"onset_fraction": 1.01}, "onset_fraction"),
        ({"onset_fraction": 0.0}, "onset_fraction"),
        ({"min_valid_fraction": 0.0}, "min_valid_fraction"),
        ({"min_valid_fraction": 1.1}, "min_valid_fraction"),
        ({"recovery_margin_mmhg": 18.0}, "never clear"),
        ({"medium_lower_bound_mmhg": 17.9}, "medium_lower_bound_mmhg"),
        ({"medium_lower_bound_mmhg": 60.1}, "never comes"),
        ({"persistence_s": 0.0}, "persistence_s"),
        ({"persistence_s": 86_401.0}, "persistence_s"),
        ({"recovery_window_s": 86_401.0}, "recovery_window_s"),
        ({"medium_after_s": 86_401.0}, "medium_after_s"),
        ({"feed_lost_s": 60.1}, "feed_lost_s"),
        ({"lead_off_s": 60.1}, "lead_off_s"),
        ({"poor_signal_s": 600.1}, "poor_signal_s"),
        ({"acknowledge_timeout_low_s": 86_401.0}, "acknowledge_timeout_low_s"),
        ({"acknowledge_timeout_low_s": 0.0}, "acknowledge_timeout_low_s"),
        ({"acknowledge_timeout_medium_s": 86_401.0}, "acknowledge_timeout_medium_s"),
        ({"acknowledge_timeout_medium_s": 0.0}, "acknowledge_timeout_medium_s"),
        ({"audio_pause_max_s": 120.1}, "audio_pause_max_s"),
        ({"audio_pause_max_s": 0.0}, "audio_pause_max_s"),
        ({"latching": 1}, "latching is 1; it must be true or false"),
        ({"rising": 1.0}, "rising is 1.0; it must be true or false"),
        ({"rising_mmhg": 0.0}, "rising_mmhg"),
        ({"rising_mmhg": 40.1}, "rising_mmhg"),
        ({"rising_span_s": 86_401.0}, "rising_span_s"),
        ({"rising_baseline_s": 604_801.0}, "rising_baseline_s"),
        ({"rising_min_windows": 0}, "rising_min_windows"),
        ({"rising_min_windows": 30.0}, "rising_min_windows is 30; it must be a whole number"),
        ({"rising": True, "rising_mmhg": 3.0}, "turn into a fall to clear"),
        (
            {"rising": True, "rising_baseline_s": 599.0},
            "rising_baseline_s 599 is shorter than rising_span_s 600",
        ),
        ({"self_check_s": 0.0}, "self_check_s"),
        ({"self_check_s": 60.1}, "self_check_s"),
        ({"chatter_onsets": 0}, "chatter_onsets"),
        ({"chatter_onsets": 101}, "chatter_onsets"),
        ({"chatter_onsets": 3.0}, "chatter_onsets is 3; it must be a whole number"),
        ({"chatter_window_s": 604_801.0}, "chatter_window_s"),
    ],
)
def test_a_limit_that_cannot_work_is_refused(changes: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(DEFAULT, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"onset_fraction": 1.0},
        {"min_valid_fraction": 1.0},
        {"recovery_probability": 0.8},
        {"recovery_margin_mmhg": 0.0},
        {"threshold_mmhg": 5.0, "recovery_margin_mmhg": 4.9},
        {"threshold_mmhg": 40.0, "medium_lower_bound_mmhg": 40.0},
        {"persistence_s": 86_400.0},
        {"latching": False},
        {"rising_mmhg": 3.0},
        {"rising": True, "rising_mmhg": 3.1, "rising_baseline_s": 600.0},
    ],
)
def test_the_edge_of_what_works_is_taken(changes: dict[str, float]) -> None:
    assert to_plain(replace(DEFAULT, **changes)) == to_plain(DEFAULT) | changes


def test_a_policy_survives_a_manifest() -> None:
    policy = AlarmPolicy(threshold_mmhg=15.0, latching=False)
    assert from_plain(AlarmPolicy, to_plain(policy)) == policy


# --- files ---


def write(folder, text: str):
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names(tmp_path) -> None:
    path = write(tmp_path, "threshold_mmhg = 15\nlatching = false\n")
    assert load_policy(path) == AlarmPolicy(threshold_mmhg=15.0, latching=False)
    assert load_policy(str(write(tmp_path, ""))) == DEFAULT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threshold_mmHg = 15", "unknown key 'threshold_mmHg'; did you mean 'threshold_mmhg'?"),
        ("persistance_s = 15", "did you mean 'persistence_s'?"),
        ("[alarm]\nlatching = true", "unknown key 'alarm'"),
        ("latching = 1", "latching: expected bool, found 1"),
        ("threshold_mmhg = '15'", "threshold_mmhg: expected float, found '15'"),
        ("threshold_mmhg = 400", "can never, or always, fire"),
        ("medium_lower_bound_mmhg = 90", "never comes"),
        ("poor_signal_s = nan", "poor_signal_s is nan"),
        ("chatter_onsets = 3.5", "chatter_onsets: expected int, found 3.5"),
        ("threshold_mmhg = ", "policy.toml is no valid TOML: "),
        ("latching = true\nlatching = true", "policy.toml is no valid TOML: "),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        load_policy(write(tmp_path, text))
    assert "policy.toml" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        load_policy(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="Is a directory"):
        load_policy(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="decode"):
        load_policy(tmp_path / "binary.toml")


def test_a_span_shorter_than_a_hop_is_refused_where_the_hop_is_known(tmp_path) -> None:
    path = write(tmp_path, "persistence_s = 4")
    assert load_policy(path).persistence_s == 4.0
    assert load_policy(path, hop_s=4.0).persistence_s == 4.0
    with pytest.raises(RecipeError, match=r"persistence_s 4 is shorter than the 5 s .* raise it to 5"):
        load_policy(path, hop_s=5.0)
    with pytest.raises(RecipeError, match="recovery_window_s 3 is shorter"):
        load_policy(write(tmp_path, "recovery_window_s = 3"), hop_s=5.0)


def test_a_trend_whose_span_holds_too_few_windows_is_refused_where_the_hop_is_known(tmp_path) -> None:
    assert load_policy(write(tmp_path, "rising = true"), hop_s=20.0).rising
    with pytest.raises(RecipeError, match=r"holds 28 windows at 21 s .* asks for 30.* raise the span to 630"):
        load_policy(write(tmp_path, "rising = true"), hop_s=21.0)
    assert not load_policy(write(tmp_path, "rising_span_s = 5"), hop_s=5.0).rising, "off: it does not matter"
