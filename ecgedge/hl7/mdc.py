"""The codes of ISO/IEEE 11073-10101 in fields of HL7, which say CODE^NAME^MDC."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ecgedge.hl7.message import Segment
from ecgedge.leads import canonical_lead
from ecgedge.mdc import LEAD_CODES, LEADS

SAMPLING_RATE: Final = "MDC_ATTR_SAMP_RATE"
SAMPLING_PERIOD: Final = "MDC_ATTR_SAMP_PERIOD"
RESOLUTION: Final = "MDC_ATTR_NU_MSMT_RES"
NOT_MEASURED: Final = "MDC_EVT_INOP"
_ATTRIBUTES: Final = {
    SAMPLING_RATE: SAMPLING_RATE,
    "67981": SAMPLING_RATE,
    SAMPLING_PERIOD: SAMPLING_PERIOD,
    "MDC_ATTR_TIME_PD_SAMP": SAMPLING_PERIOD,
    RESOLUTION: RESOLUTION,
    "2327": RESOLUTION,
    NOT_MEASURED: NOT_MEASURED,
}

HERTZ: Final = dict.fromkeys(("264608", "MDC_DIM_PER_SEC", "/s", "264640", "MDC_DIM_HZ", "Hz"), 1.0)
SECONDS: Final = {
    **dict.fromkeys(("264320", "MDC_DIM_SEC", "s"), 1.0),
    **dict.fromkeys(("264338", "MDC_DIM_MILLI_SEC", "ms"), 1e-3),
    **dict.fromkeys(("264339", "MDC_DIM_MICRO_SEC", "us"), 1e-6),
}
_NO_UNIT: Final = frozenset({"", "262656", "MDC_DIM_DIMLESS", "1"})
_LEAD_PREFIXES: Final = ("MDC_ECG_ELEC_POTL_", "MDC_ECG_LEAD_")


def lead_code(lead: str) -> str:
    """Return a lead's code as a field holds it."""
    return f"{LEAD_CODES[lead]}^MDC_ECG_ELEC_POTL_{lead.upper()}^MDC"


def attribute(segment: Segment) -> str | None:
    """Return the name of the attribute that an OBX segment holds, by name or else by code; None if it is another."""
    code, name, *_ = (*segment.components(3), "")
    return _ATTRIBUTES.get(name) or _ATTRIBUTES.get(code)


def lead(segment: Segment) -> str | None:
    """Return the lead that an OBX segment's identifier names; None if it is no ECG lead.

    Raises
    ------
    Hl7Error
        If its code is one lead's and its name another's.
    """
    code, name, *_ = (*segment.components(3), "")
    named = _named(name or code)
    coded = LEADS.get(code)
    if named and coded and named != coded:
        raise segment.error(3, f"the code {code} is lead {coded}, the name {name!r} lead {named}")
    # A name of the nomenclature that is no lead is believed, whatever the code: devices get numbers wrong.
    return named or (None if name.startswith("MDC_") else coded)


def scale(segment: Segment, number: int, units: dict[str, float]) -> float | None:
    """Return what one unit of a field is in the unit of the table; None if the field names no unit.

    Raises
    ------
    Hl7Error
        If it names a unit that is not in the table.
    """
    texts = segment.components(number)
    for text in texts:
        if text in units:
            return units[text]
    if texts[0] in _NO_UNIT:
        return None
    raise segment.error(number, f"the unit {texts[0]!r}; expected one of {', '.join(units)}")


@lru_cache(maxsize=256)
def _named(name: str) -> str | None:
    """Read a name of the nomenclature, or as Vital Recorder writes them: Monitor/ECG_II@100."""
    for prefix in _LEAD_PREFIXES:
        name = name.removeprefix(prefix)
    try:
        return canonical_lead(name.partition("@")[0].rpartition("/")[2])
    except ValueError:
        return None
