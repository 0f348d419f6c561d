"""Alarms of two beds set against each other: by hand, and through the bed on the embedded bundle."""

from dataclasses import replace

import pytest

from ecgedge.bundle import load_bundle
from ecgedge.events import Alarm
from ecgedge.runtime import OrtRunner
from ecgedge_export.agreement import DURATION_S, compare_alarms, has_alarms, replay

ON = Alarm(1000.0, "MPCWP_ELEVATED", "physiological", "low", "on", "on", "elevated")
OFF = replace(ON, t_s=2000.0, presence="off", signal="latched")
LEAD_OFF = Alarm(500.0, "LEAD_OFF", "technical", "low", "on", "on", "V1 off")


def _later(alarm, seconds):
    return replace(alarm, t_s=alarm.t_s + seconds)


def _compare(ours, theirs):
    return compare_alarms(ours, theirs, duration_s=4000.0, hop_s=10.0)


def test_the_same_alarms_agree():
    found = _compare([ON, OFF], [ON, OFF])
    assert (found.agreement, found.state_agreement, found.transitions, found.differences) == (1.0, 1.0, 2, ())


def test_a_minute_is_close_enough():
    found = _compare([ON, OFF], [_later(ON, 60.0), _later(OFF, -60.0)])
    assert found.agreement == 1.0
    # 1,000 s up to 1,050 s and 1,940 s up to 1,990 s: 12 of the 399 windows at 10, 20, ..., 3,990 s.
    assert found.state_agreement == pytest.approx(1 - 12 / 399)


def test_more_than_a_minute_is_a_difference_of_both():
    found = _compare([ON, OFF], [_later(ON, 61.0), OFF])
    assert found.agreement == 0.5
    assert found.differences == (
        "network only: MPCWP_ELEVATED on, on, low, at 1000 s",
        "variant only: MPCWP_ELEVATED on, on, low, at 1061 s",
    )


def test_lost_extra_and_other_alarms():
    assert _compare([ON, OFF], []).agreement == 0.0
    assert _compare([], [ON]).differences == ("variant only: MPCWP_ELEVATED on, on, low, at 1000 s",)
    medium = replace(ON, priority="medium")
    assert _compare([ON], [medium]).agreement == 0.0
    # Two onsets cannot both have one partner.
    assert _compare([ON, _later(ON, 30.0)], [ON]).agreement == pytest.approx(2 / 3)


def test_what_the_model_does_not_decide_counts_not():
    found = _compare([ON, LEAD_OFF], [ON])
    assert (found.agreement, found.transitions) == (1.0, 1)


def test_nothing_happened():
    found = _compare([], [LEAD_OFF])
    assert (found.agreement, found.state_agreement, found.transitions) == (1.0, 1.0, 0)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [(["p_gt_18"], True), (["mpcwp_mmhg", "embedding"], True), (["p_AF", "embedding"], False)],
)
def test_which_models_raise_alarms(outputs, expected):
    assert has_alarms(outputs) is expected


class Numb(OrtRunner):
    """The real engine, whose probability and pressure come out too low: as a bad INT8 form would."""

    def run(self, ecg_mv):
        outputs = super().run(ecg_mv)
        return {**outputs, "p_gt_18": outputs["p_gt_18"] * 0.1, "mpcwp_mmhg": outputs["mpcwp_mmhg"] - 10}


def test_a_numb_variant_is_found_through_the_bed():
    bundle = load_bundle("embedded")
    spec = next(v for v in bundle.manifest.variants if v.name == "12/fp32")
    with OrtRunner.from_variant(bundle, spec) as good, Numb.from_variant(bundle, spec) as numb:
        alarms = replay(bundle, {"good": (spec, good), "numb": (spec, numb)})
    same, lost = (
        compare_alarms(alarms["good"], alarms[name], duration_s=DURATION_S, hop_s=bundle.manifest.hop_s)
        for name in ("good", "numb")
    )
    assert same.agreement == same.state_agreement == 1.0
    assert same.transitions >= 2  # the alarm comes, and goes again
    assert lost.agreement < 0.5
    assert lost.state_agreement < 0.9
    assert all("network only: MPCWP_ELEVATED" in text for text in lost.differences)
