"""Limb leads of one heart agree to rounding; scaled, swapped, late or foreign ones do not, and are named."""

from itertools import pairwise

import needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.leads import LIMB_LEADS, STANDARD_LEADS, derivation_matrix
from ecgedge.records import read
from ecgedge.signal import FrontEnd
from ecgedge.signal.limb import CONTRADICTION, contradiction, limb_products, limb_rows, odd_leads

SPEC = FrontEndSpec()
N = 2500


def limbs(seed=0, *, n=N, scale=900.0):
    """Six leads made of two, in whole counts."""
    rng = np.random.default_rng(seed)
    free = np.cumsum(rng.normal(0.0, 1.0, (2, n)), axis=1)
    free *= scale / free.std()
    return np.rint(derivation_matrix(("I", "II"))[:6] @ free).astype(np.int16)


def share(counts, leads=LIMB_LEADS):
    return float(contradiction(limb_products(counts), leads, n_samples=counts.shape[-1]))


def test_rounding_is_no_contradiction():
    assert share(limbs()) == 0.0
    assert share(limbs(scale=3.0)) == 0.0
    assert share(np.zeros((6, N), np.int16)) == 0.0


def changed(lead, change):
    counts = limbs()
    counts[lead] = change(counts)
    return counts


@pytest.mark.parametrize(
    ("counts", "odd"),
    [
        (changed(0, lambda c: np.rint(1.5 * c[0])), ("I",)),
        (changed(1, lambda c: -c[1]), ("II",)),
        (changed(2, lambda c: c[2] + np.random.default_rng(1).normal(0, 800, N)), ("III",)),
        (changed(5, lambda c: np.roll(c[5], 20) + 400 * np.sin(np.arange(N) / 9)), ("aVF",)),
        (limbs()[[1, 0, 2, 3, 4, 5]], LIMB_LEADS),  # two of them are wrong: nobody can say which
    ],
)
def test_what_contradicts_is_named(counts, odd):
    assert share(counts) > CONTRADICTION
    assert odd_leads(limb_products(counts), LIMB_LEADS, n_samples=N) == odd


def test_the_number_is_the_residual_of_the_best_fit():
    """Least squares of six leads by I and II of a heart, done sample by sample, every fifth one."""
    counts = changed(0, lambda c: np.rint(1.4 * c[0]))
    some = counts[:, ::5].astype(float)
    made_of = derivation_matrix(("I", "II"))[:6].astype(float)
    best, *_ = np.linalg.lstsq(made_of, some, rcond=None)
    expected = np.linalg.norm(some - made_of @ best) / np.linalg.norm(some)
    assert share(counts) == pytest.approx(expected)


@pytest.mark.parametrize(
    "leads", [("I", "II", "III"), ("I", "III", "aVF"), ("aVR", "aVL", "aVF"), ("I", "II", "aVL", "aVF")]
)
def test_any_three_of_them_will_do(leads):
    rows = [LIMB_LEADS.index(lead) for lead in leads]
    assert share(limbs()[rows], leads) == 0.0
    wrong = limbs()[rows]
    wrong[0] = wrong[0] // 2
    assert share(wrong, leads) > CONTRADICTION
    found = odd_leads(limb_products(wrong), leads, n_samples=N)
    assert found == (leads if len(leads) == 3 else leads[:1])


@pytest.mark.parametrize(
    ("leads", "rows"),
    [
        (STANDARD_LEADS, [0, 1, 2, 3, 4, 5]),
        (("I", "II", "V1"), []),
        (("II", "III", "V1", "V2"), []),
        (("II", "III", "aVF", "V1"), [0, 1, 2]),
    ],
)
def test_fewer_than_three_cannot_contradict(leads, rows):
    assert limb_rows(leads) == rows


@given(seed=st.integers(0, 2**32 - 1), cuts=st.sets(st.integers(1, 99), max_size=12))
def test_blocks_add_up_exactly(seed, cuts):
    counts = np.random.default_rng(seed).integers(-20480, 20481, (2, 6, 500)).astype(np.int16)
    edges = [0, *(5 * cut for cut in sorted(cuts)), 500]
    total = sum(limb_products(counts[:, :, a:b]) for a, b in pairwise(edges))
    assert (total == limb_products(counts)).all()
    together = contradiction(total, LIMB_LEADS, n_samples=500)
    assert together[1] == contradiction(total[1], LIMB_LEADS, n_samples=500)


def of_records(paths):
    for path in paths:
        recording = read(path)
        rows = [recording.leads.index(lead) for lead in LIMB_LEADS]
        front_end = FrontEnd(SPEC, n_leads=6, rate_hz=recording.rate_hz)
        yield share(front_end.push(np.ascontiguousarray(recording.samples_mv[rows])).counts[:, 500:])


def test_people_s_leads_agree(ecg_data):
    needs.wfdb()
    shares = list(of_records(sorted((ecg_data / "ptbxl" / "records500").glob("*/*.hea"))[::8]))
    assert len(shares) > 40
    assert max(shares) == 0.0


def test_ludb_s_leads_were_scaled_one_by_one(ecg_data):
    """Its headers give each lead a gain of its own, and the leads that come of it are no heart's."""
    needs.wfdb()
    shares = list(of_records(sorted((ecg_data / "ludb" / "data").glob("*.hea"))[::8]))
    assert len(shares) == 20
    assert min(shares) > CONTRADICTION
