"""A ward: each bed says what it says alone, whoever is beside it and however samples came."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import EngineError, UsageError
from ecgedge.events import Estimate, FeedEvent
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Ward
from ecgedge.stream.inbox import INBOX_S

LEAD_SETS = (STANDARD_LEADS, ("I", "II"), ("II",), ("I", "II", "V3"))


@pytest.fixture(scope="module")
def ecg():
    """Half a minute at each rate, of a patient whose lead V3 falls off."""

    def cut(rate_hz):
        whole = Simulator("lead-off", seed=3, rate_hz=rate_hz).read(round(80 * rate_hz))
        return whole[:, round(48 * rate_hz) :]

    return {rate_hz: cut(rate_hz) for rate_hz in (250.0, 360.0, 500.0)}


def of_leads(samples_mv, leads):
    return np.ascontiguousarray(samples_mv[[STANDARD_LEADS.index(lead) for lead in leads]])


def chunks_of_a_bed(samples_mv, rate_hz, rng):
    """Cuts, missing samples, holes in time, samples from the past; clocks that tremble, begin late or are set back."""
    samples_mv = samples_mv.copy()
    n = samples_mv.shape[1]
    for _ in range(rng.integers(4)):
        start, length = rng.integers(n), rng.integers(1, 700)
        samples_mv[rng.integers(len(samples_mv)), start : start + length] = np.nan
    cuts = sorted({0, n, *rng.integers(1, n, rng.integers(40)).tolist()})
    shift_s = rng.choice([0.0, 1000.3])
    chunks = []
    for start, stop in itertools.pairwise(cuts):
        shift_s += rng.choice([0.0] * 8 + [0.004, 1.0, 61.0, -0.5, -20.0, -86_400.0])
        tremble_s = rng.choice([0.0, 0.0, 0.3 / rate_hz, -0.3 / rate_hz, 0.6 / rate_hz])
        chunks.append((samples_mv[:, start:stop], float(start / rate_hz + shift_s + tremble_s)))
    return chunks


def collect(ward, said):
    while events := ward.step():
        for name, of_bed in events.items():
            said[name] += of_bed


def said_in_a_ward(beds, chunks, rng):
    """Bring all chunks in any order of the beds, and step now and then."""
    ward, said = Ward(), {name: [] for name in beds}
    for name, bed in beds.items():
        ward.add(name, bed)
    order = [name for name, of_bed in chunks.items() for _ in of_bed]
    left = {name: list(of_bed) for name, of_bed in chunks.items()}
    for name in rng.permutation(order).tolist():
        chunk, t_s = left[name].pop(0)
        if ward.waiting(name) + chunk.shape[1] > INBOX_S * ward[name].rate_hz:
            said[name] += ward.settle(name)
        ward.push(name, chunk, t_s=t_s)
        if rng.random() < 0.3:
            collect(ward, said)
    collect(ward, said)
    for name in beds:
        said[name] += ward.settle(name)
    return said


@settings(max_examples=40)
@given(n_beds=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_each_bed_says_what_it_says_alone(formula_bundle, variants, ecg, n_beds, seed):
    rng = np.random.default_rng(seed)
    kinds = [(LEAD_SETS[rng.integers(4)], rng.choice([250.0, 360.0, 500.0])) for _ in range(n_beds)]
    chunks = {
        str(k): chunks_of_a_bed(of_leads(ecg[rate_hz], leads), rate_hz, rng)
        for k, (leads, rate_hz) in enumerate(kinds)
    }

    def beds():
        return {
            str(k): Bed(formula_bundle, leads=leads, rate_hz=float(rate_hz), variants=variants)
            for k, (leads, rate_hz) in enumerate(kinds)
        }

    expected = {
        name: [event for chunk, t_s in chunks[name] for event in bed.push(chunk, t_s=t_s)]
        for name, bed in beds().items()
    }
    assert said_in_a_ward(beds(), chunks, rng) == expected


def test_a_bed_among_a_thousand_says_what_it_says_alone(formula_bundle, variants, ecg):
    samples_mv = ecg[250.0][:, : 20 * 250]
    alone = Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants)
    expected = alone.push(samples_mv, t_s=0.0)
    assert sum(isinstance(event, Estimate) for event in expected) == 3
    ward = Ward()
    for k in range(1000):
        leads = STANDARD_LEADS if k % 3 else ("I", "II")
        ward.add(str(k), Bed(formula_bundle, leads=leads, rate_hz=250.0, variants=variants))
    said = {name: [] for name in ward}
    for second in range(20):
        chunk = samples_mv[:, second * 250 : second * 250 + 250]
        for name in ward:
            own = chunk if name == "500" else np.roll(chunk, int(name) % 50, axis=1)
            ward.push(name, of_leads(own, ward[name].leads), t_s=float(second))
        collect(ward, said)
    assert said["500"] == expected


def test_a_second_is_taken_when_it_is_whole(formula_bundle, variants, ecg):
    ward = Ward()
    ward.add("a", Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants))
    ward.push("a", ecg[250.0][:, :249], t_s=0.0)
    assert ward.step() == {}
    assert ward.waiting("a") == 249
    ward.push("a", ecg[250.0][:, 249:250], t_s=249 / 250)
    assert ward.step()["a"][0] == FeedEvent(t_s=0.0, state="connected")
    assert ward.waiting("a") == 0


def test_time_passes_after_what_waits(formula_bundle, variants, ecg):
    def bed():
        return Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants)

    alone, ward = bed(), Ward()
    ward.add("a", bed())
    expected = alone.push(ecg[250.0][:, :3000], t_s=0.0) + alone.advance(20.0)
    ward.push("a", ecg[250.0][:, :3000], t_s=0.0)
    assert ward.advance("a", 20.0) == expected
    assert any(event == FeedEvent(t_s=14.0, state="lost", age_s=2.0) for event in expected)


def test_beds_come_and_go_and_the_others_do_not_notice(formula_bundle, variants, ecg):
    samples_mv = ecg[250.0]

    def bed():
        return Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants)

    expected = bed().push(samples_mv, t_s=0.0)
    ward, said = Ward(), []
    ward.add("stays", bed())
    for k in range(samples_mv.shape[1] // 1250):
        guest = f"guest {k}"
        ward.add(guest, bed())
        ward.push(guest, samples_mv[:, :200], t_s=0.0)
        ward.push("stays", samples_mv[:, k * 1250 : k * 1250 + 1250], t_s=k * 5.0)
        while events := ward.step():
            said += events.get("stays", [])
        assert ward.remove(guest)[0] == FeedEvent(t_s=0.0, state="connected")
        assert list(ward) == ["stays"]
    assert said == expected


def test_names_that_are_taken_or_unknown_are_refused(formula_bundle, variants):
    def bed():
        return Bed(formula_bundle, leads=("II",), rate_hz=250.0, variants=variants)

    ward = Ward()
    ward.add("a", bed())
    with pytest.raises(UsageError, match="there is a bed a already"):
        ward.add("a", bed())
    with pytest.raises(UsageError, match="no bed b; there are a"):
        ward.push("b", np.zeros((1, 5), np.float32), t_s=0.0)
    with pytest.raises(UsageError, match="expected \\(1, n\\)"):
        ward.push("a", np.zeros((2, 5), np.float32), t_s=0.0)


def test_where_too_much_waits_the_oldest_goes_and_the_gap_is_told(formula_bundle, variants, ecg):
    ward, samples_mv = Ward(), ecg[250.0]
    ward.add("a", Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants))
    ward.push("a", samples_mv[:, :1250], t_s=0.0)
    assert ward.step()
    for second in range(5, 29):  # nobody steps: the ward is too slow
        ward.push("a", samples_mv[:, second * 250 : second * 250 + 250], t_s=float(second))
    said = {"a": []}
    collect(ward, said)
    (gap,) = [e for e in said["a"] if isinstance(e, FeedEvent) and e.state == "gap"]
    summary = ward["a"].summary(latency_ms={}, journal=None)
    assert summary.dropped_samples == round(gap.age_s * 250) >= 10 * 250
    assert all(
        e.validity == "invalid" for e in said["a"] if isinstance(e, Estimate) and 10.0 < e.t_s < gap.t_s
    )


class _Failing:
    """The formula's runner, which fails for a window that leaves +-4 mV."""

    def __init__(self, runner):
        self.runner = runner
        self.leads, self.window_samples = runner.leads, runner.window_samples

    def run(self, ecg_mv):
        if np.abs(ecg_mv).max() > 4.0:
            raise EngineError("an output is not finite")
        return self.runner.run(ecg_mv)


class _FailingChoice:
    """The formula's variants, failing; each runner once, so that beds meet."""

    stream = None

    def __init__(self, variants):
        self.variants, self.known = variants, {}

    def choose(self, usable):
        spec, runner = self.variants.choose(usable)
        return spec, self.known.setdefault(spec.name, _Failing(runner))


def test_samples_that_go_before_a_bed_has_begun_are_counted(formula_bundle, variants, ecg):
    ward = Ward()
    ward.add("a", Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=variants))
    for second in range(11):
        ward.push("a", ecg[250.0][:, second * 250 : second * 250 + 250], t_s=float(second))
    assert ward.waiting("a") == 250
    assert ward.settle("a")[0] == FeedEvent(t_s=10.0, state="connected")
    assert ward["a"].summary(latency_ms={}, journal=None).dropped_samples == 2500


def test_a_model_that_fails_for_one_bed_answers_the_others(formula_bundle, variants, ecg):
    choice, ward = _FailingChoice(variants), Ward()
    samples_mv = ecg[250.0][:, :2500]
    ill = samples_mv.copy()
    ill[:, 1200:1220] += 4.5
    for name in "abc":
        ward.add(name, Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=choice))
        ward.push(name, ill if name == "b" else samples_mv, t_s=0.0)
    said = {name: [] for name in ward}
    collect(ward, said)
    estimates = {name: [e for e in events if isinstance(e, Estimate)] for name, events in said.items()}
    assert [e.validity for e in estimates["a"]] == ["questionable"]
    assert estimates["a"] == estimates["c"]
    (failed,) = estimates["b"]
    assert (failed.validity, failed.mpcwp_mmhg) == ("invalid", None)
    assert failed.reason == "model failed: an output is not finite"
