"""How evidence is shown without a drawing: a table for the terminal, JSON, and the chosen policy as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from ecgedge import __version__
from ecgedge.bundle import RESEARCH_USE_ONLY
from ecgedge.policy import AlarmPolicy
from ecgedge.replay.choose import policy_toml, why_none
from ecgedge.replay.evidence import Evidence, Part
from ecgedge.replay.grid import SWEPT
from ecgedge.replay.intervals import Measured
from ecgedge.replay.score import PolicyScore, Score
from ecgedge.replay.streams import SimulatedStream, Stream
from ecgedge.replay.truth import MERGE_S
from ecgedge.schema import to_plain

REPLAY_JSON: Final = "replay.json"
POLICY_TOML: Final = "policy.toml"
SIMULATED: Final = "SIMULATED DATA"

LITERATURE: Final = (
    "187 audible alarms a bed and day; 88.8 % of 12,671 annotated arrhythmia alarms false (PLOS One 2014).",
    "10 % of patients cause 57 % of alarms (PMC4891882).",
    "Nurses respond more slowly the more non-actionable alarms there were in the last 120 minutes; 87 to 99 % were "
    "non-actionable (PMC4456276).",
    "A delay of 15 s cut low-SpO2 alarms by 60 %, a limit of 88 instead of 90 % by 63 % (Masimo, BI&T).",
    "AHI-PI, from ECG lead II alone: sensitivity 89.7 %, specificity 78.3 %, PPV 33.7 % (IAP) and 11.7 % (NIBP), "
    "median lead 1.1 h (Fifth Eye; AHI is FDA DEN200022).",
)
"""Numbers that others published, of other devices, patients and definitions: to see the size of things, never ours."""

_TITLES: Final = (
    *("p >=", "for s", "margin", "detected", "sensitivity", "chance", "PPV of onsets", "alarms/day"),
    *("false/patient-day", "delay min (p10 to p90)", "in alarm"),
)
_ROW: Final = "{:>5} {:>6} {:>7} {:>9}  {:<17} {:>6}  {:<17} {:>10}  {:<20} {:<24} {:>8}"


def definitions(evidence: Evidence) -> tuple[str, ...]:
    """Say what the figures mean, in words for every output."""
    early_min = evidence.question.early_s / 60.0
    return (
        *_truth(evidence),
        f"An episode is detected by an onset from {early_min:g} minutes before its start until its end. Any other "
        "onset is a false alarm, earlier ones (too early) included. An alarm that stood already detects nothing.",
        "Delay: from the episode's start to its first onset, of detected episodes; negative is lead time.",
        "Per patient-day: over 24 hours of stream, elevated or not. In alarm: share of all time in which the condition "
        "was present.",
        "Chance: what alarms at random moments would detect with as many false alarms. Always an alarm: one onset, "
        "with the first sample.",
        f"Intervals: 95 %, {evidence.question.resamples} resamples of patients; exact at one end where none or all "
        "were counted; none where there is too little to resample.",
    )


def _truth(evidence: Evidence) -> Iterator[str]:
    if evidence.latent_truth:
        yield (
            "Elevated: the simulated patient's latent mPCWP, looked at each minute, is above "
            f"{evidence.grid.reference.threshold_mmhg:g} mmHg (threshold_mmhg of the policy); stretches less than "
            f"{MERGE_S / 60:g} minutes apart are one episode."
        )
    elif any(s.episodes is not None for s in evidence.streams):
        yield "Elevated: as the table of episodes says; a recording without an episode in it was never elevated."


def describe_streams(streams: Sequence[Stream]) -> str:
    """Say in a line what is replayed."""
    simulated = [s for s in streams if isinstance(s, SimulatedStream)]
    if not simulated:
        patients = len({s.patient for s in streams if not isinstance(s, SimulatedStream)})
        return f"{len(streams)} recordings of {patients} patients"
    parts = []
    for (scenario, hours), members in groupby(simulated, key=lambda s: (s.scenario, s.hours)):
        seeds = [s.seed for s in members]
        parts.append(f"{len(seeds)} {scenario} ({hours:g} h each, seeds {seeds[0]} to {seeds[-1]})")
    return f"SIMULATED patients: {', '.join(parts)}"


def describe_cohort(evidence: Evidence) -> str:
    """Say how much the grid was compared on."""
    one = evidence.compared.never
    known = one.false_alarms_per_patient_day.value is not None
    episodes = f"{one.episodes} episodes" if known else "truth unknown"
    return f"{one.patients} patients, {one.patient_days:.2f} patient-days, {episodes}"


def write_json(evidence: Evidence, out: Path) -> None:
    """Write replay.json: nothing in it depends on the machine's clock, load or number of processes."""
    text = json.dumps(to_json(evidence), indent=1, allow_nan=False) + "\n"
    (out / REPLAY_JSON).write_text(text, "utf-8")


def to_json(evidence: Evidence) -> dict[str, Any]:
    """Return all that was found as plain JSON types."""
    e, question = evidence, evidence.question
    return {
        "research_use_only": RESEARCH_USE_ONLY,
        "simulated": e.simulated,
        "ecgedge": __version__,
        "bundle": {
            "name": e.bundle_name,
            "id": e.bundle_id,
            "trained_on": e.trained_on,
            "simulated": e.simulated_model,
        },
        "engines": dict(e.engines),
        "source": e.source,
        "estimates_sha256": e.estimates_sha256,
        "definitions": list(definitions(e)),
        "notes": list(e.notes),
        "early_s": question.early_s,
        "resamples": question.resamples,
        "seed": question.seed,
        "reference_policy": to_plain(e.grid.reference),
        "left_out": to_plain(e.grid.left_out),
        "policies": [
            {**_scored(s), "on_grid": s.policy in e.grid.policies, "onsets_s": to_plain(onsets)}
            for s, onsets in zip(e.compared.scores, e.onsets_s, strict=True)
        ],
        "baselines": _baselines(e.compared),
        "budget": None if question.budget is None else to_plain(question.budget),
        "chosen": None if e.chosen is None else {**_scored(e.chosen), "policy": to_plain(e.chosen.policy)},
        "holdout_share": question.holdout_share,
        "holdout": None
        if e.held_out is None
        else {"policies": [_scored(s) for s in e.held_out.scores], "baselines": _baselines(e.held_out)},
        "literature": list(LITERATURE),
        "streams": to_plain(e.streams),
    }


def _scored(scored: PolicyScore) -> dict[str, Any]:
    return {**{key: getattr(scored.policy, key) for key in SWEPT}, **to_plain(scored.score)}


def _baselines(part: Part) -> dict[str, Any]:
    return {"never": to_plain(part.never), "always": to_plain(part.always)}


def render_text(evidence: Evidence) -> str:
    """Return the table for a terminal."""
    return "\n".join(_lines(evidence))


def _lines(e: Evidence) -> Iterator[str]:
    yield f"Alarms of {e.bundle_name} replayed over {e.source}{f'   {SIMULATED}' if e.simulated else ''}"
    yield RESEARCH_USE_ONLY
    held = sum(s.held_out for s in e.streams)
    yield f"{describe_cohort(e)}{f'; {held} streams held out' if held else ''}"
    yield "  " + _ROW.format(*_TITLES)
    for s in e.compared.scores:
        yield _mark(e, s) + _row(s.policy, s.score)
    yield "  " + _row(None, e.compared.never, "never an alarm")
    yield "  " + _row(None, e.compared.always, "always an alarm")
    yield "* chosen   = the bundle's policy, or the one given"
    yield from _choice(e)
    yield from (f"left out: {_named(o)}: {o.reason}" for o in e.grid.left_out)
    yield from (f"note: {note}" for note in (*definitions(e), *e.notes))
    yield "For comparison, published by others on other devices and patients, not ours:"
    yield from (f"  {text}" for text in LITERATURE)


def _choice(e: Evidence) -> Iterator[str]:
    budget = e.question.budget
    if budget is None:
        return
    if e.chosen is None:
        yield why_none(e.compared.scores[: len(e.grid.policies)], budget)
        return
    how = "the estimate" if budget.by == "estimate" else "the upper end of the interval"
    yield (
        f"budget {budget.false_alarms_per_patient_day:g} false alarms per patient-day, by {how}: chosen "
        f"{_named(e.chosen.policy)}"
    )
    if e.held_out is not None:
        yield f"on {e.held_out.never.patients} patients that took no part in the choice:"
        for s in e.held_out.scores:
            yield _mark(e, s) + _row(s.policy, s.score)


def _mark(e: Evidence, scored: PolicyScore) -> str:
    chosen = e.chosen is not None and scored.policy == e.chosen.policy
    return f"{'*' if chosen else ' '}{'=' if scored.policy == e.grid.reference else ' '}"


def _row(policy: AlarmPolicy | None, s: Score, name: str = "") -> str:
    keys = [f"{getattr(policy, key):g}" for key in SWEPT] if policy else ["", "", ""]
    detected = f"{s.detected} of {s.episodes}" if s.sensitivity.value is not None else "-"
    chance = "-" if s.chance_sensitivity is None or not policy else f"{s.chance_sensitivity:.2f}"
    middle, early, late = (m.value for m in (s.delay_median_min, s.delay_p10_min, s.delay_p90_min))
    delay = (
        "-"
        if middle is None or early is None or late is None
        else f"{middle:.1f} ({early:.1f} to {late:.1f})"
    )
    time = "-" if s.time_in_alarm.value is None else f"{s.time_in_alarm.value:.1%}"
    cells = [*keys, detected, _figure(s.sensitivity), chance, _figure(s.ppv)]
    alarms = f"{s.alarms_per_patient_day.value or 0.0:.2f}"
    row = _ROW.format(*cells, alarms, _figure(s.false_alarms_per_patient_day), delay, time)
    return f"{name:<20}{row[20:]}" if name else row


def _figure(m: Measured) -> str:
    if m.value is None:
        return "-"
    return f"{m.value:.2f}" + ("" if m.low is None or m.high is None else f" ({m.low:.2f}-{m.high:.2f})")


def _named(keys: object) -> str:
    return ", ".join(f"{key} {getattr(keys, key):g}" for key in SWEPT)


def write_policy(evidence: Evidence, out: Path) -> Path | None:
    """Write the chosen policy as policy.toml and return its path; without one, an older file goes."""
    path = out / POLICY_TOML
    if evidence.chosen is None:
        path.unlink(missing_ok=True)
        return None
    path.write_text(policy_toml(evidence.chosen.policy, _remarks(evidence, evidence.chosen)), "utf-8")
    return path


def _remarks(e: Evidence, chosen: PolicyScore) -> Iterator[str]:
    yield f"Alarm policy for ecgedge stream --policy. {RESEARCH_USE_ONLY}"
    if e.simulated:
        yield f"{SIMULATED}: says nothing about patients."
    yield f"Chosen by ecgedge alarms replay {__version__} with bundle {e.bundle_name} ({e.bundle_id}) over {e.source}."
    if e.question.budget is not None:
        budget = e.question.budget
        yield f"Budget: {budget.false_alarms_per_patient_day:g} false alarms per patient-day, by {budget.by}."
    yield f"On the patients that chose it: {_summary(chosen.score)}."
    if e.held_out is None:
        yield "It must be judged on other patients: on these it looks better than it is."
    else:
        yield f"On other patients: {_summary(e.held_out.scores[0].score)}."


def _summary(s: Score) -> str:
    return (
        f"{s.detected} of {s.episodes} episodes detected, "
        f"{_figure(s.false_alarms_per_patient_day)} false alarms per patient-day over {s.patient_days:.2f} of them"
    )
