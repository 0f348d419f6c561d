"""A bed and doubts about its signal: the estimate is questionable, says why, and where that lasts there is an alarm."""

import numpy as np
import pytest

from ecgedge.events import Alarm, Estimate
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.sim import Simulator
from ecgedge.stream import Bed

RATE_HZ = 500.0
POLICY = AlarmPolicy(doubt_s=20.0, lead_fault_s=20.0)


@pytest.fixture(scope="module")
def ecg():
    return Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(120 * RATE_HZ))


def hum(samples_mv, leads=slice(None)):
    t_s = np.arange(samples_mv.shape[1]) / RATE_HZ
    samples_mv[leads] += (3.0 * np.sin(2 * np.pi * 50.0 * t_s)).astype(np.float32)


def muscle(samples_mv, leads=slice(None)):
    noise = np.random.default_rng(0).normal(0.0, 0.15, samples_mv.shape)
    fast = noise - np.roll(noise, 1, axis=1)  # most of it above 100 Hz, which the filters take away
    samples_mv[leads] += fast[leads].astype(np.float32)


def baseline(samples_mv, leads=slice(None)):
    t_s = np.arange(samples_mv.shape[1]) / RATE_HZ
    samples_mv[leads] += (4.0 * np.sin(2 * np.pi * 0.3 * t_s)).astype(np.float32)


def burst(samples_mv, leads=slice(None)):
    t_s = np.arange(samples_mv.shape[1]) / RATE_HZ
    for start_s in range(0, 60, 10):
        here = (t_s >= start_s + 5.0) & (t_s < start_s + 7.0)
        samples_mv[leads, here] += (0.6 * np.sin(2 * np.pi * 30.0 * t_s[here])).astype(np.float32)


def played(bundle, variants, ecg, spoil, *, leads=STANDARD_LEADS, chunk_s=1.0):
    """Half a minute as it is, a minute spoilt, half a minute as it is."""
    samples = ecg[[STANDARD_LEADS.index(lead) for lead in leads]].copy()
    spoil(samples[:, round(30 * RATE_HZ) : round(90 * RATE_HZ)])
    bed = Bed(bundle, leads=leads, rate_hz=RATE_HZ, variants=variants, policy=POLICY)
    step = round(chunk_s * RATE_HZ)
    return [
        event
        for k in range(0, samples.shape[1], step)
        for event in bed.push(samples[:, k : k + step], t_s=k / RATE_HZ)
    ]


def alarms(events, condition):
    return [(a.t_s, a.presence) for a in events if isinstance(a, Alarm) and a.condition == condition]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda x: hum(x, [0]), "mains: I"),
        (lambda x: muscle(x, [1, 7]), "muscle: II,V2"),
        (lambda x: baseline(x, [6]), "baseline: V1"),
        (lambda x: burst(x, [6]), "burst: V1"),
    ],
)
def test_a_doubt_makes_the_estimate_questionable_and_lasting_an_alarm(
    formula_bundle, variants, ecg, spoil, word
):
    events = played(formula_bundle, variants, ecg, spoil)
    spoilt = [e for e in events if isinstance(e, Estimate) and 45.0 <= e.t_s <= 90.0]
    assert [e.validity for e in spoilt] == ["questionable"] * 10
    assert all(word in e.reason for e in spoilt)
    assert all(e.mpcwp_mmhg is not None for e in spoilt)
    (on_s, presence), (off_s, gone) = alarms(events, "SIGNAL_DOUBTFUL")
    assert (presence, gone) == ("on", "off")
    assert 50.0 <= on_s <= 65.0
    assert 95.0 <= off_s <= 105.0
    clean = [e for e in events if isinstance(e, Estimate) and (15.0 <= e.t_s <= 30.0 or e.t_s >= 110.0)]
    assert {e.validity for e in clean} == {"valid"}


def test_a_lead_that_the_model_does_not_use_may_be_doubtful(formula_bundle, variants, ecg):
    """The formula's bundle has variants of I,II and of II: V3 is measured, and nobody asks it."""
    events = played(formula_bundle, variants, ecg, lambda x: hum(x, [2]), leads=("I", "II", "V3"))
    late = [e for e in events if isinstance(e, Estimate) and e.t_s >= 15.0]
    assert {(e.validity, e.variant) for e in late} == {("valid", "I,II/fp32")}
    assert alarms(events, "SIGNAL_DOUBTFUL") == []


def test_limb_leads_that_contradict_each_other(formula_bundle, variants, ecg):
    def mix_up(samples):
        samples[[0, 1]] = samples[[1, 0]]

    events = played(formula_bundle, variants, ecg, mix_up)
    spoilt = [e for e in events if isinstance(e, Estimate) and 45.0 <= e.t_s <= 90.0]
    assert {e.reason for e in spoilt} == {"limb leads contradict each other"}
    assert [presence for _, presence in alarms(events, "SIGNAL_DOUBTFUL")] == ["on", "off"]


def test_a_lead_at_the_rails_of_its_source_is_clipped(formula_bundle, variants, ecg):
    def clip(samples):
        middle, high = np.median(samples[10]), samples[10].max()
        np.clip(samples[10], None, middle + 0.4 * (high - middle), out=samples[10])  # far within our own 5 mV

    events = played(formula_bundle, variants, ecg, clip)
    spoilt = [e for e in events if isinstance(e, Estimate) and 45.0 <= e.t_s <= 90.0]
    assert {e.variant for e in spoilt} == {"I,II/fp32"}  # all twelve cannot be used any more
    assert [presence for _, presence in alarms(events, "SATURATED")] == ["on", "off"]


@pytest.mark.parametrize("chunk_s", [0.02, 0.7, 40.0])
def test_doubts_do_not_depend_on_chunks(formula_bundle, variants, ecg, chunk_s):
    def spoil(samples):
        hum(samples[:, :10_000], [3])
        muscle(samples[:, 10_000:20_000], [4])
        samples[5, 20_000:21_000] = np.nan
        samples[6, 22_000] = np.inf

    def all_of(chunk_s):
        return played(formula_bundle, variants, ecg, spoil, chunk_s=chunk_s)

    assert all_of(chunk_s) == all_of(1.0)
