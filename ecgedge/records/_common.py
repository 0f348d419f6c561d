"""What every reader needs: which channels are leads, which unit means how many millivolts, and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ecgedge.ecg import check_rate
from ecgedge.errors import RecordError
from ecgedge.leads import STANDARD_LEADS, canonical_lead

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Both code points that look like a micro sign occur in files: U+00B5 and U+03BC.
_MV_PER_UNIT: Final = {"mv": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3, "nv": 1e-6, "v": 1e3}
_STANDARD_SPELLINGS: Final = frozenset(lead.upper() for lead in STANDARD_LEADS)


@dataclass(frozen=True)
class LeadSelection:
    """Which channels of a file are ECG leads.

    `channels[i]` is the file's channel that holds `leads[i]`; leads stand in standard order. `dropped` are
    the names of the channels that are no lead, or a synonym ("MLII") beside the lead itself ("II").
    """

    leads: tuple[str, ...]
    channels: tuple[int, ...]
    dropped: tuple[str, ...]


def select_leads(names: Sequence[str], *, source: str) -> LeadSelection:
    """Find the ECG leads among channel names.

    Raises
    ------
    RecordError
        If no channel is a known lead, or if two channels claim the same lead.
    """
    chosen: dict[str, int] = {}
    for channel, name in enumerate(names):
        lead = _lead_or_none(name)
        if lead is None:
            continue
        rival = chosen.get(lead)
        if rival is None or _beats(name, names[rival]):
            chosen[lead] = channel
        elif not _beats(names[rival], name):
            raise RecordError(
                f"{source}: the channels {names[rival]!r} and {name!r} both mean lead {lead}; "
                "remove or rename one of them"
            )
    if not chosen:
        seen = ", ".join(repr(name) for name in names) or "none"
        raise RecordError(
            f"{source}: unknown lead: no channel is a standard ECG lead; names seen: {seen}; "
            f"known leads: {', '.join(STANDARD_LEADS)}. Rename the channels if you know which leads they are"
        )
    leads = tuple(lead for lead in STANDARD_LEADS if lead in chosen)
    channels = tuple(chosen[lead] for lead in leads)
    dropped = tuple(name for channel, name in enumerate(names) if channel not in channels)
    return LeadSelection(leads, channels, dropped)


def _lead_or_none(name: str) -> str | None:
    try:
        return canonical_lead(name)
    except ValueError:
        return None


def _beats(name: str, rival: str) -> bool:
    """Whether `name` is the lead's standard name and `rival` only a synonym of it."""
    return name.strip().upper() in _STANDARD_SPELLINGS and rival.strip().upper() not in _STANDARD_SPELLINGS


def mv_per_unit(unit: str, *, lead: str, source: str) -> float:
    """Return how many millivolts one `unit` is.

    Raises
    ------
    RecordError
        If the unit is not a voltage that is known here.
    """
    factor = _MV_PER_UNIT.get(unit.strip().lower())
    if factor is None:
        raise RecordError(
            f"{source}: lead {lead} is in {unit!r}; expected mV, uV, nV or V. "
            "Correct the unit in the file if it is wrong, or convert the samples to mV"
        )
    return factor


def dropped_metadata(dropped: Sequence[str]) -> dict[str, str]:
    """Return the metadata entry that lists dropped channels, empty if there are none."""
    return {"dropped_channels": ", ".join(dropped)} if dropped else {}


def stack_rows(
    rows: Sequence[NDArray[np.float64]], leads: Sequence[str], *, source: str
) -> NDArray[np.float32]:
    """Return (n_leads, n_samples) float32 millivolts of one row a lead.

    Raises
    ------
    RecordError
        If the leads are not all of one length, or a sample is beyond float32.
    """
    if len({len(row) for row in rows}) > 1:
        seen = ", ".join(f"{lead} {len(row)}" for lead, row in zip(leads, rows, strict=True))
        raise RecordError(f"{source}: the leads differ in their number of samples ({seen}); export it again")
    with np.errstate(over="ignore"):
        samples_mv = np.stack(rows).astype(np.float32)
    if np.isinf(samples_mv).any():
        raise RecordError(
            f"{source}: infinite samples; the scale of a lead cannot be right: export the file again"
        )
    return samples_mv


def common_rate_hz(leads: Sequence[str], rates_hz: Sequence[float], *, source: str) -> float:
    """Return the sampling rate that all leads share.

    Raises
    ------
    RecordError
        If they differ, or the front end cannot take it.
    """
    if len(set(rates_hz)) != 1:
        seen = ", ".join(f"{lead} {rate:g} Hz" for lead, rate in zip(leads, rates_hz, strict=True))
        raise RecordError(
            f"{source}: the leads have different sampling rates ({seen}); resample them to one rate"
        )
    check_rate(rates_hz[0], source=source)
    return rates_hz[0]
