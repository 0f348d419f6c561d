"""Lead names, the standard order, lead sets, and the limb leads that follow from I and II.

Einthoven: III = II - I; Goldberger: aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

STANDARD_LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The order of every 12-lead array in ecgedge."""

LIMB_LEADS: Final = STANDARD_LEADS[:6]

_FROM_I_AND_II: Final = {
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}
_CANONICAL: Final = {name.upper(): name for name in STANDARD_LEADS}
_PREFIXES: Final = ("LEAD", "ECG", "MDC_ECG_LEAD_", "EKG")
_SYNONYMS: Final = {"ML1": "I", "MLI": "I", "ML2": "II", "MLII": "II", "ML3": "III", "MLIII": "III"}


def canonical_lead(name: str) -> str:
    """Return the standard spelling of a lead name.

    Case and the usual decorations are forgiven ("Lead II", "avr", "ECG V1"), and MIT-BIH's modified limb
    leads are taken as the limb leads that they approximate ("MLII" is II).

    Raises
    ------
    ValueError
        If the name is no standard lead.
    """
    text = name.strip().upper().replace("-", " ")
    text = text.split("(")[0].strip()
    for prefix in _PREFIXES:
        if text.startswith(prefix) and text != prefix:
            text = text[len(prefix) :].strip(" _:")
            break
    text = _SYNONYMS.get(text, text)
    if text not in _CANONICAL:
        raise ValueError(f"unknown lead {name!r}; known leads: {', '.join(STANDARD_LEADS)}")
    return _CANONICAL[text]


def standard_rows(leads: Sequence[str]) -> list[int]:
    """Return the rows of a 12-lead array that hold `leads`, in their order; ValueError on another lead."""
    return [STANDARD_LEADS.index(canonical_lead(lead)) for lead in leads]


def parse_lead_set(text: str) -> tuple[str, ...]:
    """Read a lead set such as "I,II,V2", "12" or "limb" into standard order.

    Raises
    ------
    ValueError
        On an unknown or repeated lead, or an empty set.
    """
    if text.strip() == "12":
        return STANDARD_LEADS
    if text.strip().lower() == "limb":
        return LIMB_LEADS
    return order_leads([part for part in text.split(",") if part.strip()])


def order_leads(names: Sequence[str]) -> tuple[str, ...]:
    """Bring lead names to their standard spelling and order.

    Raises
    ------
    ValueError
        On an unknown or repeated lead, or an empty sequence.
    """
    leads = [canonical_lead(name) for name in names]
    if not leads:
        raise ValueError("a lead set needs at least one lead, for example I,II")
    if len(set(leads)) != len(leads):
        raise ValueError(f"a lead stands twice in {','.join(leads)}")
    return tuple(sorted(leads, key=STANDARD_LEADS.index))


def format_lead_set(leads: Sequence[str]) -> str:
    """Write a lead set as "12" or "I,II,V2"."""
    return "12" if tuple(leads) == STANDARD_LEADS else ",".join(leads)


def derivable_leads(leads: Sequence[str]) -> tuple[str, ...]:
    """Return all leads known once `leads` are measured: the set itself plus the derived limb leads."""
    known = set(leads)
    if {"I", "II"} <= known:
        known |= set(_FROM_I_AND_II)
    return tuple(lead for lead in STANDARD_LEADS if lead in known)


def derivation_matrix(leads: Sequence[str]) -> NDArray[np.float32]:
    """Return the (12, len(leads)) matrix that fills a 12-lead array from measured `leads`.

    A measured lead is copied, a limb lead that follows from I and II is derived, any other lead is a row
    of zeros. `matrix @ samples_mv` is the 12-lead model input.
    """
    matrix = np.zeros((len(STANDARD_LEADS), len(leads)), np.float32)
    columns = {lead: i for i, lead in enumerate(leads)}
    for row, lead in enumerate(STANDARD_LEADS):
        if lead in columns:
            matrix[row, columns[lead]] = 1.0
        elif lead in _FROM_I_AND_II and {"I", "II"} <= columns.keys():
            matrix[row, columns["I"]], matrix[row, columns["II"]] = _FROM_I_AND_II[lead]
    return matrix


def presence_vector(leads: Sequence[str]) -> NDArray[np.float32]:
    """Return the 12-element vector that is 1 where a lead is measured or derivable from `leads`."""
    known = derivable_leads(leads)
    return np.array([lead in known for lead in STANDARD_LEADS], np.float32)
