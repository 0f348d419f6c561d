"""Codes of ISO/IEEE 11073-10101 that several transports share: ECG leads, and units of voltage.

A code is its partition times 65536 plus its number there.
"""

from __future__ import annotations

from typing import Final

LEAD_CODES: Final = {
    "I": 131329,
    "II": 131330,
    "III": 131389,
    "aVR": 131390,
    "aVL": 131391,
    "aVF": 131392,
    "V1": 131331,
    "V2": 131332,
    "V3": 131333,
    "V4": 131334,
    "V5": 131335,
    "V6": 131336,
}
LEADS: Final = {str(code): lead for lead, code in LEAD_CODES.items()}

MILLIVOLT: Final = "266418"
MILLIVOLTS: Final = {
    **dict.fromkeys(("266400", "MDC_DIM_VOLT", "V"), 1e3),
    **dict.fromkeys((MILLIVOLT, "MDC_DIM_MILLI_VOLT", "mV"), 1.0),
    **dict.fromkeys(("266419", "MDC_DIM_MICRO_VOLT", "uV", "µV", "μV"), 1e-3),
    **dict.fromkeys(("266420", "MDC_DIM_NANO_VOLT", "nV"), 1e-6),
}
"""What one of a unit is in millivolts, by its code, its name and its symbol."""

MMHG: Final = "266016"
NO_UNIT: Final = "262656"
WEDGE_PRESSURE: Final = "150052"
"""MDC_PRESS_BLD_ART_PULM_WEDGE."""
