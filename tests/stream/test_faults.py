"""Each fault of signal, model or feed gives its named alarm, goes with it, and crashes nothing."""

import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import EngineError
from ecgedge.events import Alarm, Estimate, Expired
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.signal import condition, counts_to_mv
from ecgedge.sim import Simulator
from ecgedge.stream import Bed

RATE_HZ, SPEC = 250.0, FrontEndSpec()
POLICY = AlarmPolicy(envelope_s=20.0, estimate_lifetime_s=40.0, model_ok_s=10.0)


@pytest.fixture(scope="module")
def ecg():
    return Simulator("stable", seed=1, rate_hz=RATE_HZ).read(120 * 250)


def told(events, condition):
    """(t_s, presence) of every event of a condition."""
    return [(e.t_s, e.presence) for e in events if isinstance(e, Alarm) and e.condition == condition]


def new_bed(bundle, variants):
    return Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, policy=POLICY)


def flat(samples_mv):
    samples_mv[5] = 0.25


def saturated(samples_mv):
    samples_mv[5] = 300.0 * np.sin(2 * np.pi * 2.0 * np.arange(samples_mv.shape[1]) / RATE_HZ)


@pytest.mark.parametrize(
    ("damage", "condition", "says"), [(flat, "FLAT", "flat: aVF"), (saturated, "SATURATED", "clipped: aVF")]
)
def test_a_lead_that_is_flat_or_clipped_is_told_of_in_time(
    formula_bundle, variants, ecg, damage, condition, says
):
    samples_mv = ecg.copy()
    damage(samples_mv[:, 30 * 250 : 70 * 250])
    events = new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0)
    (come_s, on), (gone_s, off) = told(events, condition)
    assert (on, off) == ("on", "off")
    assert 50.0 < come_s <= 60.0  # a window of 10 s, each 5 s, and 20 seconds of it
    assert 70.0 < gone_s <= 85.0
    assert says in [e.text for e in events if isinstance(e, Alarm)]


def test_windows_with_gaps_are_told_of_in_time(formula_bundle, variants, ecg):
    samples_mv = ecg.copy()
    for second in range(30, 70):
        samples_mv[3, second * 250 : second * 250 + 20] = np.nan  # 8 % of each second
    events = new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0)
    assert told(events, "GAP") == [(55.0, "on"), (80.0, "off")]
    samples_mv[3, 30 * 250 : 70 * 250] = ecg[3, 30 * 250 : 70 * 250]
    samples_mv[3, 40 * 250 : 40 * 250 + 20] = np.nan
    assert told(new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0), "GAP") == []


def test_a_link_that_loses_most_is_told_of_in_time(formula_bundle, variants, ecg):
    """Leads lack most of each window, so they count as off there, and none is off for long enough to be told as off."""
    samples_mv, whole = ecg.copy(), ecg[:, 30 * 250 : 70 * 250].copy()
    torn = samples_mv[:, 30 * 250 : 70 * 250]
    torn[:] = np.nan
    torn.reshape(len(torn), -1, 100)[:, :, :20] = whole.reshape(len(torn), -1, 100)[:, :, :20]  # 80 of 400 ms
    events = new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0)
    (come_s, on), (gone_s, off) = told(events, "GAP")
    assert (on, off) == ("on", "off")
    assert 50.0 < come_s <= 60.0
    assert 70.0 < gone_s <= 85.0
    assert not told(events, "LEAD_OFF")


def test_a_lead_that_is_off_is_no_gap(formula_bundle, variants, ecg):
    samples_mv = ecg.copy()
    samples_mv[3, 30 * 250 : 90 * 250] = np.nan
    events = new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0)
    assert [presence for _, presence in told(events, "LEAD_OFF")] == ["on", "off"]
    assert told(events, "GAP") == []


@pytest.mark.parametrize("start_s", [41.0, 42.0, 43.5])
@pytest.mark.parametrize("n", [30, 50, 250])
def test_one_hole_is_no_lasting_gap(formula_bundle, variants, ecg, start_s, n):
    samples_mv, first = ecg.copy(), round(start_s * 250)
    samples_mv[3, first : first + n] = np.nan
    assert told(new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0), "GAP") == []


def test_windows_unlike_the_training_data_are_told_of(formula_bundle, variants, ecg):
    """One lead, made so quiet that it is under the envelope and still no flat line."""
    whole_mv = counts_to_mv(condition(Recording(ecg, RATE_HZ, STANDARD_LEADS), SPEC).counts, SPEC)
    samples_mv = ecg.copy()
    middle = samples_mv[5, 30 * 250 : 70 * 250]
    middle[:] = middle.mean() + (middle - middle.mean()) * 0.0055 / whole_mv[5, 2500:].std()
    events = new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0)
    assert [presence for _, presence in told(events, "OUT_OF_ENVELOPE")] == ["on", "off"]
    doubtful = [e.reason for e in events if isinstance(e, Estimate) and e.validity == "questionable"]
    assert any("outside the training envelope" in reason for reason in doubtful)


class Broken:
    """A bundle's variants that fail between two times of the test's choosing."""

    stream = None

    def __init__(self, variants):
        self.variants, self.fails, self.runner = variants, False, None

    def choose(self, usable):
        found = self.variants.choose(usable)
        if found is None:
            return None
        spec, self.runner = found
        self.leads, self.window_samples = self.runner.leads, self.runner.window_samples
        return spec, self

    def run(self, ecg_mv):
        if self.fails:
            raise EngineError("an output is not finite")
        return self.runner.run(ecg_mv)


def test_a_model_that_fails_is_told_of_at_once_and_its_numbers_expire(formula_bundle, variants, ecg):
    broken = Broken(variants)
    bed = new_bed(formula_bundle, broken)
    events = bed.push(ecg[:, : 30 * 250], t_s=0.0)
    broken.fails = True
    events += bed.push(ecg[:, 30 * 250 : 90 * 250], t_s=30.0)
    broken.fails = False
    events += bed.push(ecg[:, 90 * 250 :], t_s=90.0)
    assert told(events, "MODEL_FAILED") == [(35.0, "on"), (105.0, "off")]
    assert [e for e in events if isinstance(e, Expired)] == [Expired(70.0, 30.0, "no estimate for 40 s")]
    failed = [e for e in events if isinstance(e, Estimate) and e.validity == "invalid"]
    assert {e.reason for e in failed} == {"model failed: an output is not finite"}
    assert len(failed) == 12


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6, -3e38])
def test_damaged_numbers_are_leads_that_are_off(formula_bundle, variants, ecg, value):
    samples_mv = ecg.copy()
    samples_mv[:, 30 * 250 : 70 * 250] = value
    events = new_bed(formula_bundle, variants).push(samples_mv, t_s=0.0)
    off = told(events, "LEAD_OFF")  # at 70 s, an event for each lead that returns
    assert (off[0], off[-1]) == ((31.0, "on"), (70.0, "off"))
    numbers = [e.mpcwp_mmhg for e in events if isinstance(e, Estimate) and e.mpcwp_mmhg is not None]
    assert np.isfinite(numbers).all()
    assert [e for e in events if isinstance(e, Estimate)][-1].validity == "valid"


def test_a_feed_that_stays_behind_is_stale(formula_bundle, variants, ecg):
    bed = new_bed(formula_bundle, variants)
    events = bed.push(ecg[:, : 30 * 250], t_s=0.0)
    for second in range(
        8
    ):  # the same two seconds again and again, too few and too recent for a clock set back
        events += bed.push(ecg[:, 28 * 250 : 29 * 250], t_s=28.0)
        events += bed.advance(30.0 + second)
    assert told(events, "FEED_STALE") == [(35.0, "on")]
    assert told(events, "FEED_LOST") == [(32.0, "on")]
    events = bed.push(ecg[:, 38 * 250 : 39 * 250], t_s=38.0)
    assert told(events, "FEED_STALE") == [(37.0, "off")]  # the latest time that it had heard of
