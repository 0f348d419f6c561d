"""Beds that the streaming form serves: they agree with the window form, and with themselves wherever they stand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import load_bundle
from ecgedge.errors import EngineError, UsageError
from ecgedge.events import Estimate
from ecgedge.records import read
from ecgedge.runtime import StepAsk, StepPool, StepRunner, open_step_runner
from ecgedge.signal import counts_to_mv
from ecgedge.stream import Bed, BedSnapshot, Variants, Ward
from ecgedge_export.streams import full_window_outputs
from ecgedge_export.variants import Source

from .helpers import CALIBRATION
from .helpers import TWO_LEADS as LEADS

CHUNK, N, RATE_HZ = 256, 38_400, 1000.0


@pytest.fixture(scope="module")
def bundle(exported):
    whole = load_bundle(exported)
    return replace(whole, manifest=replace(whole.manifest, hop_s=1.024))


@pytest.fixture(scope="module")
def streams(bundle):
    with Variants(bundle, precision="fp32", form="stream") as variants:
        yield variants


@pytest.fixture(scope="module")
def ecg(ecg_data):
    """The two leads of which `long_ecg` is conditioned."""
    recording = read(ecg_data / "ptbdb_15lead" / "s0010_re.hea")
    rows = [recording.leads.index(lead) for lead in LEADS]
    assert (recording.rate_hz, recording.samples_mv.shape[1]) == (RATE_HZ, N)
    return recording.samples_mv[rows]


def new_bed(bundle, variants):
    return Bed(bundle, leads=LEADS, rate_hz=RATE_HZ, variants=variants)


def estimates(events):
    return [event for event in events if isinstance(event, Estimate)]


def ask(seat, counts, end):
    return StepAsk(seat, lambda n: counts[:, max(0, end - n) : end], None, end)


def test_a_streaming_bed_says_what_the_trained_network_says(bundle, streams, ecg, long_ecg, causal_model):
    spec, _ = streams.choose(LEADS)
    said = estimates(new_bed(bundle, streams).push(ecg, t_s=0.0))
    assert [round(e.t_s / 1.024, 6) for e in said] == list(range(10, 38))
    assert {e.variant for e in said} == {"I,II/fp32/stream"}
    source = Source(causal_model, CALIBRATION, None, 250.0)
    whole_mv = counts_to_mv(long_ecg[:, : 37 * CHUNK], bundle.manifest.front_end)
    expected = full_window_outputs(source, LEADS, whole_mv, spec.stream)
    for name in ("mpcwp_mmhg", "p_gt_15", "p_gt_18"):
        ours = np.array([getattr(e, name) for e in said])[-len(expected[name]) :]
        np.testing.assert_allclose(ours, expected[name], atol=1e-5 * max(1.0, np.abs(ours).max()))


@settings(max_examples=12)
@given(cuts=st.lists(st.integers(1, N - 1), max_size=30))
def test_any_cut_gives_identical_events(bundle, streams, ecg, cuts):
    whole = new_bed(bundle, streams).push(ecg, t_s=0.0)
    bed, said = new_bed(bundle, streams), []
    for start, stop in pairwise([0, *sorted(cuts), N]):
        said += bed.push(ecg[:, start:stop], t_s=start / RATE_HZ)
    assert said == whole


def patients_of(ecg, n):
    """One ECG at other moments; in some, lead I falls off and returns."""
    patients = [np.roll(ecg, 137 * k, axis=1) for k in range(n)]
    for k in range(0, n, 3):
        patients[k][0, 12_000 : 12_800 + 20 * k] = np.nan
    return patients


@pytest.mark.parametrize("n_beds", [2, 5, 70])
def test_a_bed_among_others_says_what_it_says_alone(bundle, streams, ecg, n_beds):
    """Where a lead falls off, a bed leaves its seat, takes one again, and builds its state anew."""
    patients = patients_of(ecg, n_beds)
    expected = [new_bed(bundle, streams).push(patient, t_s=0.0) for patient in patients]
    ward, said = Ward(), [[] for _ in patients]
    for start in range(0, N + 4000, 1000):
        for k, patient in enumerate(patients):
            begun = start - 1000 * (k % 4)  # some come later
            if begun == 0:
                ward.add(str(k), new_bed(bundle, streams))
            if 0 <= begun < N:
                ward.push(str(k), patient[:, begun : begun + 1000], t_s=begun / RATE_HZ)
        while events := ward.step():
            for name, of_bed in events.items():
                said[int(name)] += of_bed
    for k in range(n_beds):
        said[k] += ward.remove(str(k))
    assert said == expected
    validities = [e.validity for e in estimates(said[0])]
    assert "invalid" in validities
    assert validities[-1] == "valid"


def test_a_streaming_bed_that_is_restored_goes_on_with_the_same_bits(bundle, streams, ecg):
    expected = new_bed(bundle, streams).push(ecg, t_s=0.0)
    bed, said = new_bed(bundle, streams), []
    for start in range(0, N, 2300):
        said += bed.push(ecg[:, start : start + 2300], t_s=start / RATE_HZ)
        data = bed.snapshot().to_bytes()
        bed = Bed.restore(bundle, BedSnapshot.from_bytes(data, source="a"), variants=streams)
    assert said == expected


def test_building_a_state_anew_changes_no_bit(bundle, streams, long_ecg):
    variant, _ = streams.choose(LEADS)
    counts = long_ecg[:2]
    often = replace(variant, stream=replace(variant.stream, reprime_s=3 * 1.024))
    with StepPool(bundle, often) as anew, StepPool(bundle, variant) as carried:
        seats = anew.take(), carried.take()
        for end in range(10 * CHUNK, counts.shape[1], CHUNK):
            assert anew.answer([ask(seats[0], counts, end)]) == carried.answer([ask(seats[1], counts, end)])


def test_a_damaged_state_is_gone_when_its_turn_has_come(bundle, streams, long_ecg):
    """A wrong bit in a state that never leaves by itself."""
    variant, _ = streams.choose(LEADS)
    often = replace(variant, stream=replace(variant.stream, reprime_s=5 * 1.024))
    counts, differ = long_ecg[:2], []
    with StepPool(bundle, often) as hit, StepPool(bundle, variant) as whole:
        seats = hit.take(), whole.take()
        for end in range(10 * CHUNK, 30 * CHUNK, CHUNK):
            if end == 17 * CHUNK:
                for state in hit.states:
                    state += 0.5
            pair = hit.answer([ask(seats[0], counts, end)]), whole.answer([ask(seats[1], counts, end)])
            differ.append((end // CHUNK, pair[0] != pair[1]))
    assert [k for k, wrong in differ if wrong] == [17, 18, 19]  # number 0 has its turn at multiples of 5


def test_a_stream_that_cannot_be_answered_disturbs_no_other(bundle, streams, long_ecg):
    variant, _ = streams.choose(LEADS)
    counts, end = long_ecg[:2], 15 * CHUNK
    with StepPool(bundle, variant) as pool, StepPool(bundle, variant) as alone:
        (expected,) = alone.answer([ask(alone.take(), counts, end)])
        seats = [pool.take() for _ in range(3)]
        pool.answer([ask(seat, counts, end - CHUNK) for seat in seats])
        pool.states[0][:, seats[1].number] = np.nan
        said = pool.answer([ask(seat, counts, end) for seat in seats])
        assert said[0] == said[2] == expected
        assert said[1] == expected  # its state was built anew: the second try of each alone begins with that
        pool.states[0][:] = np.nan
        again = pool.answer([ask(seat, counts, end + CHUNK) for seat in seats])
        assert not any(isinstance(one, EngineError) for one in again)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bed_in_any_place_of_any_batch_has_the_same_bits(bundle, precision):
    (variant,) = [v for v in bundle.manifest.variants if v.name == f"I,II/{precision}/stream"]
    with open_step_runner(bundle, variant, beds=64) as runner:
        assert set(runner.batch_sizes) == {1, 4, 16, 64}
        assert runner.sizes_agree()


def test_a_pool_grows_and_seats_are_used_again(bundle, streams):
    variant, _ = streams.choose(LEADS)
    with StepPool(bundle, variant) as pool:
        seats = [pool.take() for _ in range(65)]
        assert pool.seats == 128
        assert len({seat.number for seat in seats}) == 65
        seats[3].leave()
        assert pool.take().number == 3


def test_batches_that_do_not_agree_are_refused(bundle, streams, monkeypatch):
    monkeypatch.setattr(StepRunner, "sizes_agree", lambda _: False)
    with pytest.raises(EngineError, match="would depend on the beds beside it"):
        StepPool(bundle, streams.choose(LEADS)[0])


def test_what_streaming_forms_cannot_run_on_is_refused(bundle):
    with pytest.raises(UsageError, match="streaming forms run on ort"):
        Variants(bundle, form="stream", runtime="openvino")
