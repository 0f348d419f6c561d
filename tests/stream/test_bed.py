"""The bed: exact windows, leads that fall off, alarms, and events that no chunking changes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.ecg import Recording
from ecgedge.embedding import EmbeddingEnvelope
from ecgedge.errors import RecordError, UsageError
from ecgedge.events import Alarm, FeedEvent
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import condition, counts_to_mv
from ecgedge.stream import Bed, Variants

from .helpers import RATE_HZ, ecg, estimates_of, of


def test_estimates_are_the_model_over_the_datasets_windows(formula_bundle, formula, new_bed):
    samples_mv = ecg(25.0, rate_hz=500.0)
    estimates = estimates_of(new_bed(rate_hz=500.0).push(samples_mv, t_s=100.0))
    assert [e.t_s for e in estimates] == [110.0, 115.0, 120.0, 125.0]
    spec = formula_bundle.manifest.front_end
    whole_mv = counts_to_mv(
        condition(Recording(samples_mv, 500.0, STANDARD_LEADS, mode="demo"), spec).counts, spec
    )
    for k, estimate in enumerate(estimates):
        window_mv = whole_mv[:, k * 1250 : k * 1250 + 2500]
        expected = formula(window_mv[np.newaxis])
        assert estimate.mpcwp_mmhg == pytest.approx(float(expected["mpcwp_mmhg"][0]), rel=1e-5)
        low, high = estimate.interval_mmhg
        assert high - estimate.mpcwp_mmhg == pytest.approx(8.0)
        assert low == max(0.0, estimate.mpcwp_mmhg - 8.0)
    assert [e.validity for e in estimates] == ["questionable", "valid", "valid", "valid"]
    assert estimates[0].reason == "signal settling"
    assert estimates[1].variant == "12/fp32"


def _events(bed, samples_mv, cuts, *, t0_s=0.0):
    events = []
    for start, stop in zip([0, *cuts], [*cuts, samples_mv.shape[1]], strict=True):
        events += bed.push(samples_mv[:, start:stop], t_s=t0_s + start / bed.rate_hz)
    return events


@pytest.mark.parametrize(
    ("scenario", "chunk"),
    [("lead-off", 1), ("lead-off", 5), ("lead-off", 2500), ("noisy", 5), ("noisy", 2500)],
)
def test_chunks_of_any_length_give_identical_events(new_bed, scenario, chunk):
    # V3 falls off in the middle; 1 sample, 20 ms and 10 s. The cut falls on the very sample of the change.
    samples_mv = ecg(85.0, scenario=scenario)[:, 50 * 250 :]
    whole = new_bed().push(samples_mv, t_s=0.0)
    cut = _events(new_bed(), samples_mv, range(chunk, samples_mv.shape[1], chunk))
    assert cut == whole
    assert estimates_of(whole)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_cut_with_gaps_and_missing_samples_gives_identical_events(formula_bundle, data):
    samples_mv = ecg(40.0).copy()
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, 9000))
        length = data.draw(st.integers(1, 900))
        lead = data.draw(st.integers(0, 12))
        samples_mv[slice(None) if lead == 12 else lead, start : start + length] = np.nan
    hole = data.draw(st.integers(1, 9998))
    hole_s = data.draw(st.sampled_from([0.004, 1.0, 5.0, 61.0]))
    cuts = sorted({hole, *data.draw(st.lists(st.integers(1, 9999), max_size=12))})

    def play(cuts):
        with Variants(formula_bundle) as variants:
            bed = Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants)
            events = []
            for start, stop in zip([0, *cuts], [*cuts, 10_000], strict=True):
                shift_s = hole_s if start >= hole else 0.0
                events += bed.push(samples_mv[:, start:stop], t_s=start / RATE_HZ + shift_s)
            return events

    assert play(cuts) == play([hole])


def test_a_lead_that_falls_off_changes_the_variant_and_its_return_changes_it_back(new_bed):
    samples_mv = ecg(120.0).copy()
    samples_mv[8, 30 * 250 : 50 * 250] = np.nan  # V3
    events = new_bed().push(samples_mv, t_s=0.0)
    assert of(events, FeedEvent, state="lead_off")[0] == FeedEvent(t_s=30.0, state="lead_off", lead="V3")
    assert of(events, FeedEvent, state="lead_on")[0].t_s == 50.0
    by_time = {e.t_s: e for e in estimates_of(events)}
    assert by_time[30.0].variant == "12/fp32"
    assert by_time[35.0].variant == "I,II/fp32"
    assert by_time[55.0].variant == "I,II/fp32"  # its window still holds missing samples
    assert by_time[60.0].variant == "12/fp32"
    (onset,) = of(events, Alarm, condition="LEAD_OFF", presence="on")
    assert (onset.t_s, onset.priority, onset.kind) == (31.0, "low", "technical")
    assert "V3" in onset.text


def test_no_lead_left_is_invalid_and_says_why(new_bed):
    samples_mv = ecg(60.0)[:2].copy()
    samples_mv[:, 20 * 250 :] = np.nan
    events = new_bed(("I", "II")).push(samples_mv, t_s=0.0)
    last = estimates_of(events)[-1]
    assert (last.validity, last.mpcwp_mmhg, last.variant) == ("invalid", None, None)
    assert "off: I,II" in last.reason
    assert of(events, Alarm, condition="NO_VARIANT", presence="on")


def test_flat_leads_are_poor_signal_not_missing_leads(new_bed):
    samples_mv = np.zeros((2, 120 * 250), np.float32)
    events = new_bed(("I", "II")).push(samples_mv, t_s=0.0)
    last = estimates_of(events)[-1]
    assert (last.validity, last.variant) == ("invalid", "I,II/fp32")
    assert last.reason == "flat: I,II"
    (onset,) = of(events, Alarm, condition="POOR_SIGNAL", presence="on")
    assert onset.t_s == 60.0
    assert not of(events, Alarm, condition="NO_VARIANT")


def test_outside_the_envelope_is_questionable(formula_bundle, variants):
    narrow = dataclasses.replace(formula_bundle.manifest.envelope, sd_high_mv=(2.0,) * 6 + (0.01,) * 6)
    manifest = dataclasses.replace(formula_bundle.manifest, envelope=narrow)
    bundle = dataclasses.replace(formula_bundle, manifest=manifest)
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants)
    last = estimates_of(bed.push(ecg(30.0), t_s=0.0))[-1]
    assert (last.validity, last.reason) == ("questionable", "lead V1 outside the training envelope")
    assert last.mpcwp_mmhg is not None


def _with_embedding_bound(bundle, bound):
    """The embedded bundle as if its 12-lead variant had been exported with an embedding's envelope."""
    envelope = EmbeddingEnvelope((0.0,) * 128, ((1.0,) + (0.0,) * 127,), (1.0,), 1.0, bound, 1000)
    changed = [
        dataclasses.replace(v, embedding=envelope) if len(v.leads) == 12 else v
        for v in bundle.manifest.variants
    ]
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, variants=tuple(changed)))


@pytest.mark.parametrize("bound", [1e-3, 1e6])
def test_a_strange_embedding_is_questionable(bundle, bound):
    """The distance stands beside the outputs, and what the bundle of before said stays."""
    changed = _with_embedding_bound(bundle, bound)
    ecg_mv = ecg(30.0)
    with Variants(bundle) as before, Variants(changed) as now:
        plain, said = (
            estimates_of(Bed(b, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=v).push(ecg_mv, t_s=0.0))
            for b, v in ((bundle, before), (changed, now))
        )
    for old, new in zip(plain[1:], said[1:], strict=True):
        strange = old.reason is None and new.outputs["embedding_distance"] > bound
        reason = "embedding outside the training envelope" if strange else old.reason
        assert new == dataclasses.replace(
            old, reason=reason, validity="valid" if reason is None else "questionable", outputs=new.outputs
        )
        assert set(new.outputs) == {*old.outputs, "embedding_distance"}
    assert (said[-1].reason == "embedding outside the training envelope") == (bound < 1.0)


def test_a_bundle_of_before_says_nothing_of_embeddings(bundle):
    assert all(variant.embedding is None for variant in bundle.manifest.variants)


def test_damaged_numbers_never_reach_an_estimate(new_bed):
    samples_mv = ecg(40.0).copy()
    samples_mv[0, 4000:4100] = np.inf
    samples_mv[1, 5000] = 1e6
    samples_mv[2, 6000] = -np.inf
    for event in estimates_of(new_bed().push(samples_mv, t_s=0.0)):
        if event.mpcwp_mmhg is not None:
            assert 0.0 < event.mpcwp_mmhg < 100.0


def test_elevated_estimates_raise_the_alarm_and_acknowledging_needs_a_user(new_bed):
    bed = new_bed()
    loud = np.ascontiguousarray(ecg(120.0) * 2.0, np.float32)
    quiet = np.ascontiguousarray(ecg(240.0, seed=2) * 0.3, np.float32)
    events = bed.push(loud, t_s=0.0)
    (onset,) = of(events, Alarm, condition="MPCWP_ELEVATED", presence="on", signal="on")[:1]
    assert 60.0 <= onset.t_s <= 80.0
    events = bed.push(quiet, t_s=120.0)
    (gone,) = of(events, Alarm, condition="MPCWP_ELEVATED", presence="off")
    assert gone.signal == "latched"
    with pytest.raises(ValueError, match="user"):
        bed.acknowledge(360.0, condition="MPCWP_ELEVATED", user="")
    (seen,) = bed.acknowledge(360.0, condition="MPCWP_ELEVATED", user="nurse 7")
    assert seen.signal == "off"
    assert bed.summary(latency_ms={}, journal=None).alarms["MPCWP_ELEVATED"] == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"leads": ("II", "I"), "rate_hz": 250.0}, UsageError),
        ({"leads": ("I",), "rate_hz": -1.0}, RecordError),
        ({"leads": ("I", "V9"), "rate_hz": 250.0}, ValueError),
    ],
)
def test_a_bed_that_cannot_be_served_is_refused(formula_bundle, variants, arguments, error):
    with pytest.raises(error):
        Bed(formula_bundle, variants=variants, **arguments)


def test_a_trend_of_a_pressure_that_the_bundle_does_not_estimate_is_refused(formula_bundle, variants):
    policy = dataclasses.replace(formula_bundle.manifest.alarm_policy, rising=True)
    leads = {"leads": STANDARD_LEADS, "rate_hz": RATE_HZ, "variants": variants, "policy": policy}
    assert Bed(formula_bundle, **leads).policy.rising
    outputs = tuple(o for o in formula_bundle.manifest.outputs if o.name != "mpcwp_mmhg")
    manifest = dataclasses.replace(formula_bundle.manifest, outputs=outputs)
    with pytest.raises(UsageError, match="no output mpcwp_mmhg: it can never fire"):
        Bed(dataclasses.replace(formula_bundle, manifest=manifest), **leads)


def test_wrong_chunks_are_refused(new_bed):
    bed = new_bed()
    with pytest.raises(UsageError, match=r"expected \(12, n"):
        bed.push(np.zeros((3, 10), np.float32), t_s=0.0)
    with pytest.raises(UsageError, match="t_s is nan"):
        bed.push(np.zeros((12, 10), np.float32), t_s=float("nan"))


def test_estimates_of_simulated_training_are_demo(formula_bundle, new_bed):
    provenance = dataclasses.replace(formula_bundle.manifest.provenance, simulated=True)
    manifest = dataclasses.replace(formula_bundle.manifest, provenance=provenance)
    bundle = dataclasses.replace(formula_bundle, manifest=manifest)
    assert new_bed().mode == "real"
    assert Bed(bundle, leads=("I", "II"), rate_hz=250.0, mode="real").mode == "demo"
