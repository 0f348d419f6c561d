"""Lost electrodes: the leads they cost, the gaps they leave, the offsets with which they return."""

import numpy as np

from ecgedge.electrodes import leads_lost
from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim.electrodes import Contacts
from ecgedge.sim.noise import ELECTRODES, MAX_OFFSET_MV, leads_from_electrodes
from ecgedge.sim.scenario import OffInterval

V3_OFF = (OffInterval("V3", 10.0, 20.0),)


def contacts(off=V3_OFF, *, seed=1):
    return Contacts(off, period_s=60.0, seed=seed)


def test_leads_lost_follow_from_how_leads_are_made():
    weights = leads_from_electrodes(np.eye(9, dtype=np.float32))
    for column, electrode in enumerate(ELECTRODES):
        independent = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
        used = {lead for lead, w in zip(independent, weights[:, column], strict=True) if w}
        assert used == set(leads_lost({electrode})) & set(independent)


def test_nothing_off_loses_nothing():
    assert contacts(()).missing(np.arange(0.0, 60.0, 0.1)) is None


def test_missing_is_exact_at_both_edges_and_repeats():
    t_s = np.array([9.999, 10.0, 19.999, 20.0, 69.999, 70.0, 79.999, 80.0])
    missing = contacts().missing(t_s)
    np.testing.assert_array_equal(missing[STANDARD_LEADS.index("V3")], [0, 1, 1, 0, 0, 1, 1, 0])
    assert missing.any(axis=1).sum() == 1


def test_two_intervals_of_one_electrode_add_up():
    twice = contacts((OffInterval("V1", 1.0, 2.0), OffInterval("V1", 3.0, 4.0)))
    missing = twice.missing(np.array([0.5, 1.5, 2.5, 3.5]))
    np.testing.assert_array_equal(missing[STANDARD_LEADS.index("V1")], [0, 1, 0, 1])


def test_offsets_are_bounded_and_constant_without_a_programme():
    offsets = np.stack([contacts((), seed=seed).offsets_mv(np.zeros(3)) for seed in range(200)])
    assert offsets.shape == (200, 9, 1)
    assert np.abs(offsets).max() <= MAX_OFFSET_MV
    assert np.abs(offsets).max() > 0.9 * MAX_OFFSET_MV


def test_a_fresh_contact_has_another_offset_and_settles():
    t_s = np.arange(0.0, 75.0, 0.01)
    offsets = contacts().offsets_mv(t_s)
    v3 = offsets[ELECTRODES.index("V3")]
    first, second, third = (
        v3[t_s < 20.0],
        v3[(t_s >= 20.0) & (t_s < 80.0)],
        contacts().offsets_mv(t_s + 60.0)[5],
    )
    assert np.ptp(first) == 0.0
    assert abs(second[-1] - first[0]) > 0.1
    assert abs(second[500] - second[-1]) < 0.2 * abs(second[0] - second[-1]) + 1e-3
    assert third[t_s >= 20.0][-1] != second[-1]
    others = np.delete(offsets, ELECTRODES.index("V3"), axis=0)
    assert np.ptp(others, axis=1).max() == 0.0


def test_offsets_do_not_depend_on_how_time_is_cut():
    t_s = np.arange(0.0, 150.0, 0.1)
    whole = contacts().offsets_mv(t_s)
    parts = np.concatenate([contacts().offsets_mv(part) for part in np.array_split(t_s, 7)], axis=1)
    np.testing.assert_array_equal(whole, parts)
