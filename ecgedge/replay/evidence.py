"""The evidence: every policy of a grid over a cohort, what was chosen, and what a reader must know to judge it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final

from ecgedge.bundle import Bundle
from ecgedge.errors import UsageError
from ecgedge.policy import AlarmPolicy
from ecgedge.replay.choose import Budget, choose, hold_out
from ecgedge.replay.grid import Grid
from ecgedge.replay.intervals import Floats, draw_weights
from ecgedge.replay.run import Replayed
from ecgedge.replay.score import Chance, PolicyScore, Score, Tally, add, chance_of, score, tally
from ecgedge.replay.spans import Span
from ecgedge.replay.streams import SimulatedStream
from ecgedge.replay.truth import Episode, latent_episodes, require_inside

FEW_PATIENTS: Final = 20
WITH, WITHOUT, UNKNOWN = "with episodes", "without episodes", "truth unknown"


@dataclass(frozen=True)
class Question:
    """How alarms are judged.

    Attributes
    ----------
    early_s
        See `ecgedge.replay.score`.
    resamples, seed
        Of the intervals.
    budget, holdout_share
        Whether a policy is chosen, and which share of the patients it is judged on instead; None for neither.
    """

    early_s: float
    resamples: int = 1000
    seed: int = 0
    budget: Budget | None = None
    holdout_share: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be answered."""
        if not 0.0 <= self.early_s <= 86_400.0:
            raise UsageError(f"--early-s is {self.early_s:g}; it must be 0 to 86400 seconds")
        if self.resamples < 100:
            raise UsageError(f"--resamples is {self.resamples}; an interval needs 100 or more")
        if self.holdout_share is not None and self.budget is None:
            raise UsageError("--holdout-share is for a policy that is chosen: give a --budget too")


@dataclass(frozen=True)
class StreamFacts:
    """What a reader may check of a stream. `episodes` is None where the truth is unknown."""

    name: str
    patient: str
    group: str
    held_out: bool
    mode: str
    duration_s: float
    windows: int
    valid: int
    episodes: tuple[Episode, ...] | None
    estimates_sha256: str


@dataclass(frozen=True)
class Part:
    """Some patients: every policy over them, and what needs no ECG (never an alarm, always one)."""

    scores: tuple[PolicyScore, ...]
    never: Score
    always: Score


@dataclass(frozen=True)
class Evidence:
    """What `ecgedge alarms replay` found.

    `compared` are the patients on whom the grid was compared: all, or those that were not held out; `chance` is
    theirs. `held_out` holds the chosen policy and the reference over the others. `engines` is which runtime served
    each variant; `latent_truth` says that the truth is the simulator's own.
    """

    bundle_name: str
    bundle_id: str
    trained_on: str
    engines: tuple[tuple[str, str], ...]
    latent_truth: bool
    simulated_model: bool
    simulated_patients: bool
    source: str
    estimates_sha256: str
    question: Question
    grid: Grid
    compared: Part
    chance: Chance
    chosen: PolicyScore | None
    held_out: Part | None
    onsets_s: tuple[Mapping[str, tuple[float, ...]], ...]
    streams: tuple[StreamFacts, ...]
    notes: tuple[str, ...]

    @property
    def simulated(self) -> bool:
        """Whether anything in it is."""
        return self.simulated_model or self.simulated_patients

    @property
    def reference(self) -> PolicyScore:
        """The score of the policy that was given."""
        return next(s for s in self.compared.scores if s.policy == self.grid.reference)


def episodes_of(
    replayed: Sequence[Replayed], table: Mapping[str, tuple[Episode, ...]] | None, *, above_mmhg: float
) -> list[tuple[Episode, ...] | None]:
    """Return the true episodes of each stream, None where they are not known.

    Raises
    ------
    UsageError
        If the table speaks of times that a recording does not have.
    """
    found: list[tuple[Episode, ...] | None] = []
    for r in replayed:
        if r.latent_mmhg is not None:
            found.append(latent_episodes(r.latent_mmhg, above_mmhg=above_mmhg, duration_s=r.duration_s))
        elif table is None:
            found.append(None)
        else:
            require_inside(table[r.stream.name], duration_s=r.duration_s, name=r.stream.name)
            found.append(table[r.stream.name])
    return found


def patient_of(replayed: Replayed) -> str:
    """Return whose stream it is."""
    stream = replayed.stream
    return stream.name if isinstance(stream, SimulatedStream) else stream.patient


def judge(
    replayed: Sequence[Replayed],
    episodes: Sequence[tuple[Episode, ...] | None],
    grid: Grid,
    question: Question,
    *,
    bundle: Bundle,
    engines: tuple[tuple[str, str], ...],
    source: str,
) -> Evidence:
    """Return the evidence; neither the order of the streams nor who computed them changes it.

    Raises
    ------
    UsageError
        If a policy is asked for and the truth is unknown, or no patient is left to choose or to judge on.
    """
    order = sorted(range(len(replayed)), key=lambda n: replayed[n].stream.name)
    streams = [_Known(replayed[n], episodes[n]) for n in order]
    groups = _groups(streams)
    held = frozenset[str]()
    if question.holdout_share is not None:
        held = hold_out(groups, question.holdout_share)
    shown = [s for s in streams if s.patient not in held]
    others = [s for s in streams if s.patient in held]
    if question.budget is not None:
        _require_episodes(shown, "to choose on")
        if question.holdout_share is not None:
            _require_episodes(others, "to judge on")
    compared = _part(shown, grid.replayed, range(len(grid.replayed)), question)
    on_grid = compared.scores[: len(grid.policies)]
    chosen = choose(on_grid, question.budget) if question.budget is not None else None
    return Evidence(
        bundle_name=bundle.manifest.name,
        bundle_id=bundle.id,
        trained_on=bundle.manifest.provenance.trained_on,
        engines=engines,
        latent_truth=any(isinstance(s.replayed.stream, SimulatedStream) for s in streams),
        simulated_model=bundle.simulated,
        simulated_patients=any(s.replayed.mode == "demo" for s in streams),
        source=source,
        estimates_sha256=sha256("\n".join(s.replayed.estimates_sha256 for s in streams).encode()).hexdigest(),
        question=question,
        grid=grid,
        compared=compared,
        chance=_chance(shown, question),
        chosen=chosen,
        held_out=_judged(others, grid, chosen, question) if others and chosen is not None else None,
        onsets_s=tuple(_onsets(streams, n) for n in range(len(grid.replayed))),
        streams=tuple(s.facts(groups[s.patient], held_out=s.patient in held) for s in streams),
        notes=tuple(_notes(shown, grid, question, policy_chosen=chosen is not None)),
    )


@dataclass(frozen=True)
class _Known:
    """A stream and its truth."""

    replayed: Replayed
    episodes: tuple[Episode, ...] | None

    @property
    def patient(self) -> str:
        return patient_of(self.replayed)

    def facts(self, group: str, *, held_out: bool) -> StreamFacts:
        r = self.replayed
        return StreamFacts(
            name=r.stream.name,
            patient=self.patient,
            group=group,
            held_out=held_out,
            mode=r.mode,
            duration_s=r.duration_s,
            windows=r.windows,
            valid=r.valid,
            episodes=self.episodes,
            estimates_sha256=r.estimates_sha256,
        )


def _groups(streams: Sequence[_Known]) -> dict[str, str]:
    """Group patients by what must stand alike in both parts: scenario, or whether they were ever elevated."""
    groups: dict[str, str] = {}
    for s in streams:
        if isinstance(s.replayed.stream, SimulatedStream):
            groups[s.patient] = s.replayed.stream.scenario
        elif s.episodes is None:
            groups[s.patient] = UNKNOWN
        elif s.episodes or groups.get(s.patient) == WITH:
            groups[s.patient] = WITH
        else:
            groups[s.patient] = WITHOUT
    return groups


def _require_episodes(streams: Sequence[_Known], purpose: str) -> None:
    if any(s.episodes is None for s in streams):
        raise UsageError(
            "--budget needs to know when mPCWP was truly elevated; give a table with --episodes, or simulated patients"
        )
    if not any(s.episodes for s in streams):
        raise UsageError(
            f"no patient with an elevated episode {purpose}: sensitivity means nothing; give more patients"
        )


def _part(
    streams: Sequence[_Known], policies: Sequence[AlarmPolicy], numbers: Sequence[int], question: Question
) -> Part:
    """Score policies (by their numbers in each stream's spans) over the patients of `streams`."""
    patients = sorted({s.patient for s in streams})
    weights = draw_weights(len(patients), resamples=question.resamples, seed=question.seed)
    chance = _chance(streams, question)

    def scored(spans_of: Callable[[Replayed], Sequence[Span]], drawn: Floats = weights) -> Score:
        by_patient: dict[str, list[Tally]] = {patient: [] for patient in patients}
        for s in streams:
            r = s.replayed
            counted = tally(spans_of(r), s.episodes, duration_s=r.duration_s, early_s=question.early_s)
            by_patient[s.patient].append(counted)
        return score([add(tallies) for tallies in by_patient.values()], drawn, chance)

    return Part(
        scores=tuple(
            PolicyScore(policy, scored(partial(_spans_at, number)))
            for policy, number in zip(policies, numbers, strict=True)
        ),
        # They are what they are by construction: no interval.
        never=scored(lambda _: (), weights[:0]),
        always=scored(lambda r: (Span(0.0, r.duration_s),), weights[:0]),
    )


def _chance(streams: Sequence[_Known], question: Question) -> Chance:
    return chance_of(((s.episodes, s.replayed.duration_s) for s in streams), early_s=question.early_s)


def _spans_at(number: int, replayed: Replayed) -> Sequence[Span]:
    return replayed.spans[number]


def _judged(streams: Sequence[_Known], grid: Grid, chosen: PolicyScore, question: Question) -> Part:
    """Score the chosen policy, then the reference, over patients that took no part in the choice."""
    policies = tuple(dict.fromkeys((chosen.policy, grid.reference)))
    return _part(streams, policies, [grid.replayed.index(p) for p in policies], question)


def _onsets(streams: Sequence[_Known], number: int) -> dict[str, tuple[float, ...]]:
    """Return the onsets of one policy by stream, where there are any."""
    return {
        s.replayed.stream.name: tuple(span.on_s for span in spans)
        for s in streams
        if (spans := s.replayed.spans[number])
    }


def _notes(shown: Sequence[_Known], grid: Grid, question: Question, *, policy_chosen: bool) -> Sequence[str]:
    """Return what a reader must know to judge the figures."""
    notes: list[str] = []
    longest_s = max(s.replayed.duration_s for s in shown)
    deaf = [p for p in grid.policies if p.persistence_s > longest_s]
    if deaf:
        notes.append(
            f"No stream lasts longer than {longest_s:g} s: {len(deaf)} of {len(grid.policies)} policies, whose "
            "persistence is longer, can raise nothing here."
        )
    if any(s.episodes is None for s in shown):
        notes.append(
            "Nobody says when mPCWP was truly elevated: only the number of alarms and the time in alarm are known. "
            "Give a table with --episodes for the rest."
        )
    patients = len({s.patient for s in shown})
    if patients < FEW_PATIENTS:
        notes.append(f"{patients} patients are few: intervals that resample them are rough, and too narrow.")
    if policy_chosen and question.holdout_share is None:
        notes.append(
            "The chosen policy looks better on the patients that chose it than it is: judge it on others "
            "(--holdout-share keeps some back)."
        )
    return notes
