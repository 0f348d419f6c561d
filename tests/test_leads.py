"""Lead names, sets and the limb leads that follow from I and II."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.leads import (
    STANDARD_LEADS,
    canonical_lead,
    derivable_leads,
    derivation_matrix,
    format_lead_set,
    order_leads,
    parse_lead_set,
    presence_vector,
    standard_rows,
)


@pytest.mark.parametrize(
    ("written", "lead"),
    [
        ("II", "II"),
        ("avr", "aVR"),
        ("AVF", "aVF"),
        ("v5", "V5"),
        ("Lead I", "I"),
        ("Lead aVL (Einthoven)", "aVL"),
        ("ECG V1", "V1"),
        ("ECG_II", "II"),
        ("MDC_ECG_LEAD_V6", "V6"),
        ("MLII", "II"),
        (" III ", "III"),
    ],
)
def test_decorated_names_are_understood(written, lead):
    assert canonical_lead(written) == lead


@pytest.mark.parametrize("written", ["", "V7", "RESP", "vx", "PLETH", "IV", "ECG", "lead"])
def test_other_names_are_refused(written):
    with pytest.raises(ValueError, match="unknown lead"):
        canonical_lead(written)


def test_rows_are_in_the_order_asked_for():
    assert standard_rows(("V1", "I", "aVF")) == [6, 0, 5]
    with pytest.raises(ValueError, match="X1"):
        standard_rows(("X1",))


def test_lead_sets_are_put_in_standard_order():
    assert parse_lead_set("V2,II,I") == ("I", "II", "V2")
    assert parse_lead_set("12") == STANDARD_LEADS
    assert parse_lead_set("limb") == STANDARD_LEADS[:6]
    assert format_lead_set(STANDARD_LEADS) == "12"
    assert format_lead_set(("I", "II")) == "I,II"


@pytest.mark.parametrize(("text", "why"), [("I,I", "twice"), ("", "at least one"), ("I,Q", "unknown lead")])
def test_wrong_lead_sets_are_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse_lead_set(text)


def test_derived_leads_obey_einthoven_and_goldberger():
    # Potentials at the electrodes, and the leads by their definitions (Einthoven 1913, Goldberger 1942).
    ra, la, ll = 0.3, -0.2, 0.9
    by_definition = {
        "I": la - ra,
        "II": ll - ra,
        "III": ll - la,
        "aVR": ra - (la + ll) / 2,
        "aVL": la - (ra + ll) / 2,
        "aVF": ll - (ra + la) / 2,
    }
    measured = np.array([[by_definition["I"]], [by_definition["II"]]], np.float32)
    twelve = derivation_matrix(("I", "II")) @ measured
    for lead, value in by_definition.items():
        assert twelve[STANDARD_LEADS.index(lead), 0] == pytest.approx(value, abs=1e-6)
    assert not twelve[6:].any()


def test_presence_counts_derivable_leads():
    assert presence_vector(("I", "II")).tolist() == [1.0] * 6 + [0.0] * 6
    assert presence_vector(("I", "V1")).tolist() == [1.0] + [0.0] * 5 + [1.0] + [0.0] * 5
    assert derivable_leads(("II", "V6")) == ("II", "V6")


@given(st.sets(st.sampled_from(STANDARD_LEADS), min_size=1))
def test_matrix_fills_exactly_the_present_leads(names):
    leads = order_leads(sorted(names))
    filled = derivation_matrix(leads).any(axis=1)
    assert filled.tolist() == presence_vector(leads).astype(bool).tolist()
