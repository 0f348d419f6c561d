"""The bed: exact windows, gaps, silence, leads that fall off, and events that no chunking changes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.ecg import Recording
from ecgedge.embedding import EmbeddingEnvelope
from ecgedge.errors import RecordError, UsageError
from ecgedge.events import Alarm, AudioEvent, Estimate, FeedEvent, SelfCheck
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import condition, counts_to_mv
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants

RATE_HZ = 250.0


@pytest.fixture
def new_bed(formula_bundle, variants):
    def make(leads=STANDARD_LEADS, rate_hz=RATE_HZ, **changes):
        return Bed(formula_bundle, leads=leads, rate_hz=rate_hz, variants=variants, **changes)

    return make


def _ecg(seconds, *, seed=1, rate_hz=RATE_HZ, scenario="stable"):
    return Simulator(scenario, seed=seed, rate_hz=rate_hz).read(round(seconds * rate_hz))


def _estimates(events):
    return [event for event in events if isinstance(event, Estimate)]


def _of(events, kind, **fields):
    return [e for e in events if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items())]


def test_estimates_are_the_model_over_the_datasets_windows(formula_bundle, formula, new_bed):
    samples_mv = _ecg(25.0, rate_hz=500.0)
    estimates = _estimates(new_bed(rate_hz=500.0).push(samples_mv, t_s=100.0))
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
    samples_mv = _ecg(85.0, scenario=scenario)[:, 50 * 250 :]
    whole = new_bed().push(samples_mv, t_s=0.0)
    cut = _events(new_bed(), samples_mv, range(chunk, samples_mv.shape[1], chunk))
    assert cut == whole
    assert _estimates(whole)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_cut_with_gaps_and_missing_samples_gives_identical_events(formula_bundle, data):
    samples_mv = _ecg(40.0).copy()
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
    samples_mv = _ecg(120.0).copy()
    samples_mv[8, 30 * 250 : 50 * 250] = np.nan  # V3
    events = new_bed().push(samples_mv, t_s=0.0)
    assert _of(events, FeedEvent, state="lead_off")[0] == FeedEvent(t_s=30.0, state="lead_off", lead="V3")
    assert _of(events, FeedEvent, state="lead_on")[0].t_s == 50.0
    by_time = {e.t_s: e for e in _estimates(events)}
    assert by_time[30.0].variant == "12/fp32"
    assert by_time[35.0].variant == "I,II/fp32"
    assert by_time[55.0].variant == "I,II/fp32"  # its window still holds missing samples
    assert by_time[60.0].variant == "12/fp32"
    (onset,) = _of(events, Alarm, condition="LEAD_OFF", presence="on")
    assert (onset.t_s, onset.priority, onset.kind) == (31.0, "low", "technical")
    assert "V3" in onset.text


def test_no_lead_left_is_invalid_and_says_why(new_bed):
    samples_mv = _ecg(60.0)[:2].copy()
    samples_mv[:, 20 * 250 :] = np.nan
    events = new_bed(("I", "II")).push(samples_mv, t_s=0.0)
    last = _estimates(events)[-1]
    assert (last.validity, last.mpcwp_mmhg, last.variant) == ("invalid", None, None)
    assert "off: I,II" in last.reason
    assert _of(events, Alarm, condition="NO_VARIANT", presence="on")


def test_flat_leads_are_poor_signal_not_missing_leads(new_bed):
    samples_mv = np.zeros((2, 120 * 250), np.float32)
    events = new_bed(("I", "II")).push(samples_mv, t_s=0.0)
    last = _estimates(events)[-1]
    assert (last.validity, last.variant) == ("invalid", "I,II/fp32")
    assert last.reason == "flat: I,II"
    (onset,) = _of(events, Alarm, condition="POOR_SIGNAL", presence="on")
    assert onset.t_s == 60.0
    assert not _of(events, Alarm, condition="NO_VARIANT")


def test_outside_the_envelope_is_questionable(formula_bundle, variants):
    narrow = dataclasses.replace(formula_bundle.manifest.envelope, sd_high_mv=(2.0,) * 6 + (0.01,) * 6)
    manifest = dataclasses.replace(formula_bundle.manifest, envelope=narrow)
    bundle = dataclasses.replace(formula_bundle, manifest=manifest)
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants)
    last = _estimates(bed.push(_ecg(30.0), t_s=0.0))[-1]
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
    ecg_mv = _ecg(30.0)
    with Variants(bundle) as before, Variants(changed) as now:
        plain, said = (
            _estimates(Bed(b, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=v).push(ecg_mv, t_s=0.0))
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


def test_a_gap_is_reported_counted_and_never_filled(new_bed):
    samples_mv, bed = _ecg(60.0), new_bed()
    events = bed.push(samples_mv[:, : 30 * 250], t_s=0.0)
    events += bed.push(samples_mv[:, 31 * 250 :], t_s=31.0)
    (gap,) = _of(events, FeedEvent, state="gap")
    assert (gap.t_s, gap.age_s) == (31.0, 1.0)
    by_time = {e.t_s: e for e in _estimates(events)}
    assert by_time[35.0].validity == by_time[40.0].validity == "invalid"
    assert by_time[35.0].reason.startswith("gap: I,II,III")
    assert by_time[45.0].validity != "invalid"
    assert not _of(events, Alarm, condition="FEED_LOST")
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 250


def test_silence_is_lost_at_its_due_time_whether_watched_or_not(new_bed):
    samples_mv = _ecg(40.0)
    unwatched, watched = new_bed(), new_bed()
    first = unwatched.push(samples_mv[:, :5000], t_s=0.0)
    assert watched.push(samples_mv[:, :5000], t_s=0.0) == first
    seen = []
    for t_s in (20.5, 21.0, 22.0, 23.0, 24.0):
        seen += watched.advance(t_s)
    assert [(e.state, e.t_s) for e in seen if isinstance(e, FeedEvent)] == [("lost", 22.0)]
    assert [(a.condition, a.t_s) for a in seen if isinstance(a, Alarm)] == [("FEED_LOST", 22.0)]
    later = unwatched.push(samples_mv[:, 5000:], t_s=25.0)
    assert [e.t_s for e in _of(later, FeedEvent, state="lost")] == [22.0]
    for events in (later, watched.push(samples_mv[:, 5000:], t_s=25.0)):
        assert _of(events, FeedEvent, state="connected")[0].t_s == 25.0
        assert _of(events, Alarm, condition="FEED_LOST", presence="off")[0].t_s == 25.0


def test_silence_longer_than_a_window_is_a_gap_not_missing_leads(new_bed):
    samples_mv, bed = _ecg(60.0), new_bed()
    events = bed.push(samples_mv[:, : 20 * 250], t_s=0.0)
    events += bed.push(samples_mv[:, 40 * 250 :], t_s=40.0)
    by_time = {e.t_s: e for e in _estimates(events)}
    assert by_time[35.0].reason.startswith("gap: I,II,III")
    assert {e.condition for e in events if isinstance(e, Alarm)} == {"FEED_LOST"}


def test_a_feed_that_never_delivers_is_lost(new_bed):
    bed = new_bed()
    waited = [event for t_s in (1.0, 2.5, 9.0) for event in bed.advance(t_s)]
    assert _of(waited, FeedEvent, state="lost")[0].t_s == 2.0
    assert _of(waited, Alarm, condition="FEED_LOST", presence="on")
    samples_mv = _ecg(15.0)
    # The device's own clock begins at 0: nothing of the wait may colour what follows.
    late = bed.push(samples_mv, t_s=0.0)
    assert _of(late, Alarm, condition="FEED_LOST", presence="off")
    straight = new_bed().push(samples_mv, t_s=0.0)
    assert [e for e in late if not isinstance(e, Alarm)] == straight


def test_a_long_hole_starts_the_front_end_afresh(new_bed):
    samples_mv, bed = _ecg(30.0), new_bed()
    bed.push(samples_mv, t_s=0.0)
    events = bed.push(samples_mv, t_s=86_400.0)
    assert _of(events, FeedEvent, state="gap")[0].age_s == 86_370.0
    assert [e.t_s for e in _estimates(events)] == [86_410.0, 86_415.0, 86_420.0, 86_425.0, 86_430.0]
    assert _estimates(events)[0].reason == "signal settling"


def test_samples_from_the_past_are_dropped_and_counted(new_bed):
    samples_mv, bed, straight = _ecg(30.0), new_bed(), new_bed()
    expected = straight.push(samples_mv, t_s=0.0)
    events = bed.push(samples_mv[:, :3000], t_s=0.0)
    events += bed.push(samples_mv[:, 2500:3000], t_s=10.0)
    events += bed.push(samples_mv[:, 2900:], t_s=11.6)
    assert [e for e in events if not (isinstance(e, FeedEvent) and e.state == "stale")] == expected
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 600


def test_damaged_numbers_never_reach_an_estimate(new_bed):
    samples_mv = _ecg(40.0).copy()
    samples_mv[0, 4000:4100] = np.inf
    samples_mv[1, 5000] = 1e6
    samples_mv[2, 6000] = -np.inf
    for event in _estimates(new_bed().push(samples_mv, t_s=0.0)):
        if event.mpcwp_mmhg is not None:
            assert 0.0 < event.mpcwp_mmhg < 100.0


def test_elevated_estimates_raise_the_alarm_and_acknowledging_needs_a_user(new_bed):
    bed = new_bed()
    loud = np.ascontiguousarray(_ecg(120.0) * 2.0, np.float32)
    quiet = np.ascontiguousarray(_ecg(240.0, seed=2) * 0.3, np.float32)
    events = bed.push(loud, t_s=0.0)
    (onset,) = _of(events, Alarm, condition="MPCWP_ELEVATED", presence="on", signal="on")[:1]
    assert 60.0 <= onset.t_s <= 80.0
    events = bed.push(quiet, t_s=120.0)
    (gone,) = _of(events, Alarm, condition="MPCWP_ELEVATED", presence="off")
    assert gone.signal == "latched"
    with pytest.raises(ValueError, match="user"):
        bed.acknowledge(360.0, condition="MPCWP_ELEVATED", user="")
    (seen,) = bed.acknowledge(360.0, condition="MPCWP_ELEVATED", user="nurse 7")
    assert seen.signal == "off"
    assert bed.summary(latency_ms={}, journal=None).alarms["MPCWP_ELEVATED"] == 1


def _checks(events):
    return [(e.t_s, e.count) for e in _of(events, SelfCheck)]


def test_a_bed_says_that_it_is_alive_whatever_the_signal(new_bed):
    """R11: each 5 s of stream time, counted from the first sample, with leads off and in a hole of 12 s as well."""
    samples_mv, bed = _ecg(40.0).copy(), new_bed()
    samples_mv[:, 1000:2000] = np.nan
    events = bed.push(samples_mv[:, :5000], t_s=100.0)
    events += bed.push(samples_mv[:, 8000:], t_s=132.0)
    assert _checks(events) == [(100.0 + 5.0 * n, n) for n in range(1, 9)]


def test_a_self_check_comes_at_its_time_before_the_estimate_of_that_instant(new_bed):
    events = new_bed().push(_ecg(12.0), t_s=0.0)
    assert [e.type for e in events] == ["feed", "self_check", "self_check", "estimate"]


def test_self_checks_do_not_depend_on_who_watches(new_bed):
    """Silent from 20 to 75 s: with a tick each second, at odd times, or none."""
    samples_mv = _ecg(40.0)

    def played(ticks):
        bed = new_bed()
        events = bed.push(samples_mv[:, :5000], t_s=0.0)
        for t_s in ticks:
            events += bed.advance(t_s)
        return events + bed.push(samples_mv[:, 5000:], t_s=75.0)

    expected = [(5.0 * n, n) for n in range(1, 20)]
    for ticks in ([], range(21, 75), [23.7, 52.0], [74.9]):
        assert _checks(played(ticks)) == expected


def test_checks_that_nobody_made_are_left_out_of_a_leap(new_bed):
    samples_mv, bed = _ecg(30.0), new_bed()
    bed.push(samples_mv, t_s=0.0)
    events = bed.push(samples_mv, t_s=86_400.0)
    assert _checks(events) == [(86_400.0 + 5.0 * n, 17_280 + n) for n in range(7)]
    assert _checks(bed.advance(1e9)) == [(1e9, 200_000_000)]


def test_a_pause_is_counted_down(new_bed):
    bed = new_bed()
    bed.push(_ecg(12.0), t_s=0.0)
    bed.pause_audio(12.0, duration_s=15.0, user="a")
    checks = _of([e for t_s in (20.0, 31.0) for e in bed.advance(t_s)], SelfCheck)
    assert [(c.t_s, c.audio_pause_left_s) for c in checks] == [
        (15.0, 12.0),
        (20.0, 7.0),
        (25.0, 2.0),
        (30.0, None),
    ]


def test_a_wait_for_the_first_sample_is_alive_too_and_the_stream_counts_anew(new_bed):
    bed = new_bed()
    assert _checks(bed.advance(11.0)) == [(5.0, 1), (10.0, 2)]
    assert _checks(bed.push(_ecg(7.0), t_s=500.0)) == [(505.0, 1)]


def test_a_user_who_comes_late_leaves_no_check_out(new_bed):
    bed = new_bed()
    bed.push(_ecg(2.0), t_s=0.0)
    assert _checks(bed.acknowledge(12.0, condition="FEED_LOST", user="a")) == [(5.0, 1), (10.0, 2)]


@pytest.mark.parametrize(
    "refused",
    [
        lambda bed: bed.acknowledge(12.0, condition="FEED_LOST", user=""),
        lambda bed: bed.acknowledge(12.0, condition="FEED", user="a"),
        lambda bed: bed.pause_audio(12.0, duration_s=1000.0, user="a"),
        lambda bed: bed.pause_audio(12.0, duration_s=10.0, user=""),
        lambda bed: bed.resume_audio(12.0, user=""),
    ],
)
def test_what_is_refused_takes_no_event_with_it(new_bed, refused):
    bed = new_bed()
    bed.push(_ecg(2.0), t_s=0.0)
    with pytest.raises(ValueError, match=r"who |unknown condition|a pause of"):
        refused(bed)
    assert [e.type for e in bed.advance(12.0)] == ["feed", "alarm", "self_check", "self_check"]


@pytest.mark.parametrize("t_s", [np.nan, np.inf, -np.inf])
def test_time_must_be_finite(new_bed, t_s):
    bed = new_bed()
    bed.push(_ecg(2.0), t_s=0.0)
    for call in (
        lambda: bed.advance(t_s),
        lambda: bed.acknowledge(t_s, condition="FEED_LOST", user="a"),
        lambda: bed.pause_audio(t_s, duration_s=10.0, user="a"),
        lambda: bed.resume_audio(t_s, user="a"),
    ):
        with pytest.raises(UsageError, match="expected seconds of stream time"):
            call()
    assert _checks(bed.advance(6.0)) == [(5.0, 1)]


def test_a_pause_is_the_beds_and_ends_in_stream_time(new_bed):
    bed, samples_mv = new_bed(), _ecg(40.0)
    bed.push(samples_mv[:, :2500], t_s=0.0)
    (paused,) = bed.pause_audio(10.0, duration_s=20.0, user="nurse 7")
    assert (paused.state, paused.ends_s, paused.user) == ("paused", 30.0, "nurse 7")
    (over,) = _of(bed.push(samples_mv[:, 2500:], t_s=10.0), AudioEvent)
    assert (over.state, over.t_s) == ("on", 30.0)
    bed.pause_audio(40.0, duration_s=20.0, user="nurse 7")
    (on,) = bed.resume_audio(41.0, user="nurse 8")
    assert (on.t_s, on.user) == (41.0, "nurse 8")
    with pytest.raises(ValueError, match="at most 120 seconds"):
        bed.pause_audio(42.0, duration_s=121.0, user="nurse 7")
    assert bed.summary(latency_ms={}, journal=None).alarms == {}


def test_a_pause_from_before_the_first_sample_keeps_what_is_left_of_it(new_bed):
    """The wait is told in seconds waited; the device's own clock begins at 5000 s here."""
    bed = new_bed()
    bed.advance(3.0)  # FEED_LOST since 2
    (paused,) = bed.pause_audio(3.5, duration_s=120.0, user="a")
    assert paused.ends_s == 123.5
    bed.advance(23.5)
    events = bed.push(_ecg(110.0), t_s=5000.0)
    assert [(e.t_s, e.state, e.ends_s) for e in _of(events, AudioEvent)] == [
        (5000.0, "paused", 5100.0),
        (5100.0, "on", None),
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_a_pause_that_was_over_before_the_first_sample_does_not_come_back(new_bed, lost):
    bed = new_bed()
    bed.pause_audio(0.25, duration_s=1.0, user="a")
    assert [e.t_s for e in _of(bed.advance(9.0 if lost else 1.5), AudioEvent)] == [1.25]
    assert _of(bed.push(_ecg(2.0), t_s=0.0), AudioEvent) == []


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


def test_a_clock_that_is_set_back_a_day_costs_a_second(new_bed):
    samples_mv = _ecg(60.0)
    bed = new_bed()
    events = bed.push(samples_mv[:, : 30 * 250], t_s=86_400.0)
    events += bed.push(samples_mv[:, 30 * 250 :], t_s=30.0)
    jump, gap = _of(events, FeedEvent, state="clock_jump")[0], _of(events, FeedEvent, state="gap")[0]
    assert jump == FeedEvent(t_s=86_430.0, state="clock_jump", age_s=86_400.0)
    assert gap == FeedEvent(t_s=86_431.0, state="gap", age_s=1.0)
    assert [e.t_s for e in _estimates(events)][-1] == 86_460.0
    assert _estimates(events)[-1].validity == "valid"
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 250
    # Time that passes is still told in the feed's time.
    assert _of(bed.advance(62.5), FeedEvent) == [FeedEvent(t_s=86_462.0, state="lost", age_s=2.0)]


@pytest.mark.parametrize("chunk", [50, 250, 6000])
def test_a_clock_that_begins_anew_after_an_outage_sets_nothing_else_back(new_bed, chunk):
    """A device was off for ten minutes: neither the self-checks nor the alarms wait another ten."""
    samples_mv = _ecg(54.0)
    bed = new_bed()
    events = bed.push(samples_mv[:, : 30 * 250], t_s=0.0) + bed.feed_lost()
    for t_s in range(31, 631):
        events += bed.advance(float(t_s))
    for start in range(0, 24 * 250, chunk):
        events += bed.push(samples_mv[:, 7500 + start : 7500 + start + chunk], t_s=start / 250.0)
    assert _of(events, FeedEvent)[-2:] == [
        FeedEvent(t_s=631.0, state="gap", age_s=601.0),
        FeedEvent(t_s=631.0, state="connected"),
    ]
    assert _of(events, FeedEvent, state="clock_jump")[0].age_s == 630.0
    assert [check.t_s for check in _of(events, SelfCheck)] == [5.0 * k for k in range(1, 131)]
    (on, off) = _of(events, Alarm)
    assert (on.t_s, off.t_s, off.presence) == (30.0, 631.0, "off")
    assert [e.t_s for e in _estimates(events)][-2:] == [646.0, 651.0]
    assert bed.summary(latency_ms={}, journal=None).dropped_samples == 601 * 250


@pytest.mark.parametrize("chunk", [7, 250, 1000])
def test_however_a_stream_is_cut_its_clock_jumps_at_the_same_sample(new_bed, chunk):
    samples_mv = _ecg(45.0)

    def play(chunk):
        bed = new_bed()
        events = bed.push(samples_mv[:, : 30 * 250], t_s=500.0)
        for start in range(30 * 250, 45 * 250, chunk):
            stop = min(start + chunk, 45 * 250)
            events += bed.push(samples_mv[:, start:stop], t_s=start / 250.0)
        return events

    assert play(chunk) == play(3750)


def test_a_few_packets_that_lost_their_way_move_no_clock(new_bed):
    samples_mv = _ecg(30.0)
    bed, expected = new_bed(), new_bed().push(samples_mv, t_s=100.0)
    events = []
    for start in range(0, 30 * 250, 250):
        events += bed.push(samples_mv[:, start : start + 250], t_s=100.0 + start / 250.0)
        if start > 2500:
            events += bed.push(samples_mv[:, :200], t_s=50.0)  # over and over
    assert [e for e in events if not (isinstance(e, FeedEvent) and e.state == "stale")] == expected
