"""A recording in words and figures, for `ecgedge records show`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecgedge.ecg import Recording
from ecgedge.leads import derivable_leads

# Free-text comments are left out on purpose: they may name the patient.
_SHOWN_METADATA = ("format", "age", "sex", "dropped_channels", "derived_leads", "checksum")


def describe(recording: Recording) -> str:
    """Return plain text: source, rate, duration, leads, gaps, and per-lead range and SD in millivolts.

    The patient id and free-text comments are not shown.
    """
    return "\n".join([*_facts(recording), "", *_lead_table(recording)])


def _facts(recording: Recording) -> Iterator[str]:
    n_samples = recording.samples_mv.shape[1]
    derived = [lead for lead in derivable_leads(recording.leads) if lead not in recording.leads]
    facts = {
        "source": recording.source,
        "mode": f"{recording.mode}{' (simulated)' if recording.mode == 'demo' else ''}",
        "rate": f"{recording.rate_hz:g} Hz",
        "duration": f"{recording.duration_s:.3f} s ({n_samples} samples)",
        "leads": f"{', '.join(recording.leads)} ({len(recording.leads)})",
        "derived leads": f"{', '.join(derived)} (follow from I and II)" if derived else "none",
        "gaps": _gaps(recording),
    }
    shown = {
        key.replace("_", " "): recording.metadata[key] for key in _SHOWN_METADATA if key in recording.metadata
    }
    for name, value in (facts | shown).items():
        yield f"{name + ':':<18}{value}"


def _gaps(recording: Recording) -> str:
    missing = np.isnan(recording.samples_mv)
    if not missing.any():
        return "none"
    leads = [lead for lead, row in zip(recording.leads, missing, strict=True) if row.any()]
    first_s = int(np.argmax(missing.any(axis=0))) / recording.rate_hz
    return f"{int(missing.sum())} samples missing in {', '.join(leads)}; the first at {first_s:.3f} s"


def _lead_table(recording: Recording) -> Iterator[str]:
    yield f"{'lead':<6}{'min mV':>10}{'max mV':>10}{'SD mV':>10}"
    for lead, row in zip(recording.leads, recording.samples_mv, strict=True):
        # float64: a float32 mean over half an hour of samples loses the digits that are printed
        measured = row[~np.isnan(row)].astype(np.float64)
        if measured.size == 0:
            yield f"{lead:<6}{'not measured':>30}"
        else:
            yield f"{lead:<6}{measured.min():>10.3f}{measured.max():>10.3f}{measured.std():>10.3f}"
