"""The simulated population: recordings, labels, and that they say that they are simulated."""

from dataclasses import replace

import numpy as np
import pytest

from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import ideal_observer, simulate_patient_recordings
from ecgedge.sim.simulator import HeartSource


@pytest.fixture(scope="module")
def patients():
    return [simulate_patient_recordings(seed, recordings=3, rate_hz=250.0) for seed in range(150)]


def test_recordings_are_marked_as_simulated(patients):
    for made in patients:
        for recording, label in made:
            assert recording.mode == "demo"
            assert recording.metadata["simulated"] == "true"
            assert "simulated" in recording.source
            assert recording.patient_id == label.patient_id == label.traits.patient_id


def test_recordings_have_the_asked_shape():
    made = simulate_patient_recordings(3, rate_hz=360.0, recordings=2, duration_s=12.5)
    assert len(made) == 2
    for recording, _ in made:
        assert recording.samples_mv.shape == (12, 4500)
        assert recording.leads == STANDARD_LEADS
        assert recording.rate_hz == 360.0


def test_a_patient_follows_from_its_seed():
    first, again = (simulate_patient_recordings(11, recordings=2) for _ in range(2))
    for (a, label_a), (b, label_b) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.samples_mv, b.samples_mv)
        assert label_a == label_b
    other = simulate_patient_recordings(12, recordings=1)[0][0]
    assert not np.array_equal(first[0][0].samples_mv, other.samples_mv)


def test_more_recordings_begin_with_the_fewer():
    short, long = (simulate_patient_recordings(8, recordings=n) for n in (1, 3))
    np.testing.assert_array_equal(short[0][0].samples_mv, long[0][0].samples_mv)


def test_pressures_differ_little_within_a_patient_and_much_between(patients):
    mmhg = np.array([[label.mpcwp_mmhg for _, label in made] for made in patients])
    within = np.sqrt(np.mean(mmhg.var(axis=1, ddof=1)))
    assert within == pytest.approx(2.0, abs=0.35)
    assert mmhg.mean(axis=1).std() > 3 * within
    assert mmhg.min() >= 3.0
    assert mmhg.max() <= 45.0


def test_recordings_of_a_patient_are_at_different_times(patients):
    for made in patients[:20]:
        times = [label.recorded_at_s for _, label in made]
        assert np.all(np.diff(times) > 0.0)
        assert not np.array_equal(made[0][0].samples_mv, made[1][0].samples_mv)


def test_labels_carry_the_patient(patients):
    for made in patients:
        label = made[0][1]
        assert label.age == label.traits.age_years
        assert 18 <= label.age <= 100
        assert label.sex in ("female", "male")
        assert label.rhythm in ("sinus", "af")


def test_labels_know_the_ideal_observer(patients):
    label = patients[0][0][1]
    posterior = ideal_observer(label.traits, label.correlates)
    assert (label.ideal_p_gt_15, label.ideal_p_gt_18) == (posterior.p_gt_15, posterior.p_gt_18)


def test_recordings_begin_anywhere_in_the_cycle():
    firsts = []
    for seed in range(60):
        recording, label = simulate_patient_recordings(seed, recordings=1)[0]
        if label.traits.conduction != "normal":
            continue
        strength = np.linalg.norm(np.diff(recording.samples_mv[6:, :1000], axis=1), axis=0)
        firsts.append(np.argmax(strength > 0.5 * strength.max()) / 500.0)
    # Were they aligned, the first QRS would come at the same time; unaligned it comes within one RR.
    assert np.std(firsts) > 0.15
    assert min(firsts) < 0.15


def test_whole_mix_is_there():
    labels = [simulate_patient_recordings(seed, recordings=1, duration_s=1.0)[0][1] for seed in range(300)]
    assert {label.rhythm for label in labels} == {"sinus", "af"}
    assert {label.traits.conduction for label in labels} == {"normal", "lbbb", "rbbb", "av1"}
    assert any(label.traits.pvc_rate > 0.0 for label in labels)


def test_fibrillating_patients_have_f_waves():
    labels = (simulate_patient_recordings(seed, recordings=1, duration_s=1.0)[0][1] for seed in range(200))
    label = next(label for label in labels if label.rhythm == "af")

    def v1(traits):
        heart = HeartSource(traits, lambda _: label.correlates, rate_hz=500.0, rng=np.random.default_rng(0))
        return heart.block(start_s=0.0, n=30_000)[2]

    # The same beats with and without: the difference is the atria alone.
    atria = v1(label.traits) - v1(replace(label.traits, f_wave_mv=0.0))
    peak_hz = np.argmax(np.abs(np.fft.rfft(atria * np.hanning(atria.size)))) / 60.0
    assert peak_hz == pytest.approx(label.traits.f_wave_hz, abs=0.6)
    assert 0.03 < np.abs(atria).max() < 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 1, "recordings": 0},
        {"seed": 1, "duration_s": 0.0},
        {"seed": 1, "duration_s": -2.0},
    ],
)
def test_wrong_arguments_are_refused(wrong):
    seed = wrong.pop("seed")
    with pytest.raises(UsageError, match="cannot simulate"):
        simulate_patient_recordings(seed, **wrong)


def test_wrong_rate_is_refused():
    with pytest.raises(RecordError, match="sampling rate"):
        simulate_patient_recordings(1, rate_hz=20.0)
