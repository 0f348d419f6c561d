"""Electrodes and leads: which leads an electrode takes along when it comes off, and which electrode that tells of.

In amplifiers with a Wilson terminal and a right-leg drive:

==========  =====================================================================================
off         leads lost
==========  =====================================================================================
V1..V6      that lead only
RA          I, II and what follows from them (III, aVR, aVL, aVF), V1..V6 (their terminal)
LA          I, III, aVR, aVL, aVF, V1..V6; II (LL - RA) stays
LL          II, III, aVR, aVL, aVF, V1..V6; I (LA - RA) stays
RL          all (the reference floats)
==========  =====================================================================================

III is LL - LA, but such amplifiers make it of I and II: without RA it is lost as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final

from ecgedge.leads import STANDARD_LEADS

CHEST_ELECTRODES: Final = ("V1", "V2", "V3", "V4", "V5", "V6")
_LIMB_ELECTRODES: Final = ("RA", "LA", "LL", "RL")
_LIMBS: Final = frozenset({"RA", "LA", "LL"})
_NEEDS: Final[dict[str, frozenset[str]]] = {
    "I": frozenset({"RA", "LA"}),
    "II": frozenset({"RA", "LL"}),
    **dict.fromkeys(("III", "aVR", "aVL", "aVF"), _LIMBS),
    **{lead: _LIMBS | {lead} for lead in CHEST_ELECTRODES},
}


def leads_lost(off: Iterable[str]) -> tuple[str, ...]:
    """Return the standard leads that cannot be measured while the electrodes `off` are off."""
    off = frozenset(off)
    return tuple(lead for lead in STANDARD_LEADS if "RL" in off or _NEEDS[lead] & off)


def blame(off_leads: Iterable[str], leads: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return what may be off, where of the measured `leads` exactly `off_leads` are.

    Parameters
    ----------
    off_leads
        Leads that are off (or flat, or at a rail); standard names, all of them in `leads`.
    leads
        What is measured.

    Returns
    -------
    tuple
        Every set of electrodes that takes exactly these leads along and is as small as any: one where the
        leads tell, several where they leave it open (all twelve: RA, or RL), none where no electrode explains it
        (aVF alone, with I and II there) or no lead is off.

    Raises
    ------
    ValueError
        If a lead that is off is not measured.
    """
    off, measured = frozenset(off_leads), frozenset(leads)
    if not off <= measured:
        raise ValueError(f"{', '.join(sorted(off - measured))} cannot be off: measured are {','.join(leads)}")
    if not off:
        return ()
    found = [
        electrodes
        for limbs in _subsets(_LIMB_ELECTRODES)
        if (electrodes := _with_chest(limbs, off)) and measured.intersection(leads_lost(electrodes)) == off
    ]
    least = min(map(len, found), default=0)
    return tuple(electrodes for electrodes in found if len(electrodes) == least)


def describe_blame(off_leads: Iterable[str], leads: Sequence[str]) -> str | None:
    """Say "electrode LA", "electrode RA or RL", "electrodes V1 and V2"; None where no electrode explains it."""
    found = blame(off_leads, leads)
    if not found:
        return None
    one = all(len(electrodes) == 1 for electrodes in found)
    return f"electrode{'' if one else 's'} " + " or ".join(" and ".join(each) for each in found)


def _subsets(of: Sequence[str]) -> list[tuple[str, ...]]:
    return [chosen for size in range(len(of) + 1) for chosen in combinations(of, size)]


def _with_chest(limbs: tuple[str, ...], off: frozenset[str]) -> tuple[str, ...]:
    """Add the chest electrodes of the leads that `limbs` leave unexplained."""
    lost = leads_lost(limbs)
    return (*limbs, *(lead for lead in CHEST_ELECTRODES if lead in off and lead not in lost))
