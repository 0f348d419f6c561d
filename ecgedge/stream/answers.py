"""What a bed says of a window: who answers for the leads that can be used, and how far the answer can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ecgedge.alarms import Fact, Reading
from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.ecg import Mode
from ecgedge.embedding import EmbeddingEnvelope
from ecgedge.errors import EngineError
from ecgedge.events import Calibrated, Estimate, Validity
from ecgedge.leads import LIMB_LEADS
from ecgedge.runtime import DISTANCE, Outputs
from ecgedge.signal import Quality, Windower
from ecgedge.stream.one_point import Recent, calibrate, shown
from ecgedge.stream.variants import VariantChoice
from ecgedge.stream.watch import ALL_WELL
from ecgedge.stream.work import Infer, Seat, Server, take_seat

T = TypeVar("T")

ENVELOPE_MARGIN = 1.5
"""A window's SD may leave the training range by this factor before the estimate is called questionable."""


class Placed(NamedTuple):
    """A window in its stream: who holds its samples, where and when it ends, which leads are off then, and the mode.

    `doubt` says what is wrong with the feed, if anything is.
    """

    windower: Windower
    end_index: int
    t_s: float
    off: frozenset[str]
    mode: Mode
    doubt: str | None = None


class Answer(NamedTuple):
    """An estimate, and the facts that it brings for alarms: what holds with its text, what does not with None."""

    estimate: Estimate
    facts: tuple[tuple[Fact, str | None], ...] = ()


@dataclass(frozen=True)
class _Server:
    """Who answers for some of the bed's leads.

    `rows` are those of the samples that it wants, None for all; a standard deviation of one of its leads from `low_mv`
    up to `high_mv` is not questionable.
    """

    spec: VariantSpec
    runner: Server
    rows: list[int] | None
    low_mv: tuple[float, ...]
    high_mv: tuple[float, ...]

    def of_its_leads(self, of_all: Sequence[T]) -> Sequence[T]:
        """Return the values of its own leads, of those of the bed's."""
        return of_all if self.rows is None else [of_all[row] for row in self.rows]


class Answers:
    """Asks a bundle's variants for one bed; keeps its seat with the one that answered last.

    Parameters
    ----------
    leads
        Of the bed.
    bundle, variants
        What serves.
    hop_s
        Time from window to window.

    Attributes
    ----------
    recent
        What was estimated lately.
    calibrated
        What estimates are set against, if anything; see `ecgedge.stream.one_point`.
    """

    __slots__ = (
        "_envelope",
        "_leads",
        "_seat",
        "_servers",
        "_spec",
        "_specs",
        "_variants",
        "calibrated",
        "recent",
    )

    def __init__(
        self,
        leads: Sequence[str],
        bundle: Bundle,
        variants: VariantChoice,
        *,
        hop_s: float,
    ) -> None:
        self._leads, self._variants = tuple(leads), variants
        self._spec = bundle.manifest.front_end
        self._envelope = _envelope_by_lead(bundle)
        self._servers: dict[tuple[bool, ...], _Server | None] = {}
        self._seat: Seat | None = None
        self._specs = {spec.name: spec for spec in bundle.manifest.variants}
        self.recent = Recent(hop_s=hop_s)
        self.calibrated: Calibrated | None = None

    def learn(self, reading: Reading, t_s: float) -> Calibrated:
        """Return what a catheter value at `t_s` says of this patient's estimates.

        Raises
        ------
        UsageError
            If there are too few of them, or too unsteady ones.
        """
        estimates_mmhg = self.recent.before(t_s)
        return calibrate(estimates_mmhg, reading, self._specs[self.recent.variant or ""], t_s=t_s)

    def leave(self) -> None:
        """Give the seat up: the next window begins anew."""
        if self._seat is not None:
            self._seat.leave()
        self._seat = None

    def ask(self, place: Placed, quality: Quality) -> Infer | None:
        """Return what asks the model about a window of this quality; None where no variant can serve."""
        server = self._server(quality.usable)
        if server is None:
            return None
        if self._seat is None or self._seat.runner is not server.runner:
            self.leave()
            self._seat = take_seat(server.runner)
        return Infer(self._seat, place.windower, server.rows, place.end_index, self._spec)

    def answer(self, place: Placed, quality: Quality, said: Outputs | EngineError | None) -> Answer:
        """Answer for a window, of which the model said this when it was asked; None if it was not."""
        server = self._server(quality.usable)
        if server is None or said is None:
            return Answer(self._invalid(place, quality))
        if isinstance(said, EngineError):
            failed = self._invalid(place, quality, reason=f"model failed: {said}")
            return Answer(failed, (("MODEL_FAILED", f"the model failed: {said}"),))
        if quality.settling:
            why = place.doubt or "signal settling"
            estimate = self._shown(_estimate(place, server.spec, said, quality.sqi, why), server)
            return Answer(estimate, (("MODEL_FAILED", None),))
        outside = _outside(quality, server)
        if outside is None and server.spec.embedding is not None:
            outside = _strange(said, server.spec.embedding)
        doubt = _doubt(quality, server) if quality.contradicts or any(quality.doubts) else None
        reason = place.doubt or outside or doubt
        estimate = self._shown(_estimate(place, server.spec, said, quality.sqi, reason), server)
        if outside is None and doubt is None:
            return Answer(estimate, ALL_WELL)
        facts: tuple[tuple[Fact, str | None], ...] = (
            ("MODEL_FAILED", None),
            ("OUT_OF_ENVELOPE", outside),
            ("SIGNAL_DOUBTFUL", doubt),
        )
        return Answer(estimate, facts)

    def _shown(self, estimate: Estimate, server: _Server) -> Estimate:
        """Remember what the model said, and set it against the catheter value, if there is one."""
        self.recent.push(estimate)
        return estimate if self.calibrated is None else shown(estimate, self.calibrated, server.spec)

    def _server(self, usable: tuple[bool, ...]) -> _Server | None:
        """Return who answers when these leads can be used; looked up once."""
        if usable not in self._servers:
            choice = self._variants.choose([x for x, ok in zip(self._leads, usable, strict=True) if ok])
            self._servers[usable] = None if choice is None else self._serving(*choice)
        return self._servers[usable]

    def _serving(self, spec: VariantSpec, runner: Server) -> _Server:
        rows = [self._leads.index(lead) for lead in spec.leads]
        trained = [self._envelope.get(lead, (0.0, math.inf)) for lead in spec.leads]
        return _Server(
            spec,
            runner,
            None if rows == list(range(len(self._leads))) else rows,
            tuple(low_mv / ENVELOPE_MARGIN for low_mv, _ in trained),
            tuple(high_mv * ENVELOPE_MARGIN for _, high_mv in trained),
        )

    def _invalid(self, place: Placed, quality: Quality, *, reason: str | None = None) -> Estimate:
        """Answer nothing. `variant` names what would have served, had all leads that are on been clean."""
        on = [lead for lead in self._leads if lead not in place.off]
        would_serve = self._variants.choose(on)
        return Estimate(
            t_s=place.t_s,
            mpcwp_mmhg=None,
            interval_mmhg=None,
            p_gt_15=None,
            p_gt_18=None,
            validity="invalid",
            reason=reason or self._why_unusable(quality, place.off) or f"no model variant for {','.join(on)}",
            sqi=quality.sqi,
            leads=tuple(on),
            variant=would_serve[0].name if would_serve else None,
            mode=place.mode,
        )

    def _why_unusable(self, quality: Quality, off: frozenset[str]) -> str | None:
        """Say "off: V1,V2; flat: I" for the leads that cannot be used."""
        by_reason: dict[str, list[str]] = {}
        for lead, why in zip(self._leads, quality.reasons, strict=True):
            if why:
                # A window that ends in a hole in time looks like a lead that is off; the lead was not.
                by_reason.setdefault("gap" if why == "off" and lead not in off else why, []).append(lead)
        return "; ".join(f"{reason}: {','.join(names)}" for reason, names in by_reason.items()) or None


def _outside(quality: Quality, server: _Server) -> str | None:
    """Name a lead that moves more or less than those of the training data did."""
    sds_mv = server.of_its_leads(quality.sd_mv)
    for lead, low_mv, sd_mv, high_mv in zip(
        server.spec.leads, server.low_mv, sds_mv, server.high_mv, strict=True
    ):
        if not low_mv <= sd_mv <= high_mv:
            return f"lead {lead} outside the training envelope"
    return None


def _strange(said: Outputs, embedding: EmbeddingEnvelope) -> str | None:
    """Say so where the embedding is farther from those of the training data than hardly any of new patients."""
    if said.get(DISTANCE, 0.0) <= embedding.bound:
        return None
    return "embedding outside the training envelope"


def _doubt(quality: Quality, server: _Server) -> str | None:
    """Say "mains: I,II; limb leads contradict each other" of the leads that the model uses."""
    found: dict[str, list[str]] = {}
    leads = server.spec.leads
    for lead, doubt in zip(leads, server.of_its_leads(quality.doubts), strict=True):
        if doubt is not None:
            found.setdefault(doubt, []).append(lead)
    said = [f"{doubt}: {','.join(of_doubt)}" for doubt, of_doubt in found.items()]
    if quality.contradicts and any(lead in LIMB_LEADS for lead in leads):
        said.append("limb leads contradict each other")
    return "; ".join(said) or None


def _estimate(place: Placed, spec: VariantSpec, outputs: Outputs, sqi: float, reason: str | None) -> Estimate:
    """Return the estimate of a model that has answered; `reason` says why it is questionable, if it is."""
    named = dict(outputs)
    mpcwp = named.pop("mpcwp_mmhg", None)
    half = spec.interval_halfwidth_mmhg
    interval = None if mpcwp is None or half is None else (max(0.0, mpcwp - half), mpcwp + half)
    validity: Validity = "valid" if reason is None else "questionable"
    return Estimate(
        t_s=place.t_s,
        mpcwp_mmhg=mpcwp,
        interval_mmhg=interval,
        p_gt_15=named.pop("p_gt_15", None),
        p_gt_18=named.pop("p_gt_18", None),
        validity=validity,
        reason=reason,
        sqi=sqi,
        leads=spec.leads,
        variant=spec.name,
        mode=place.mode,
        outputs=named,
    )


def _envelope_by_lead(bundle: Bundle) -> dict[str, tuple[float, float]]:
    envelope = bundle.manifest.envelope
    ranges = zip(envelope.sd_low_mv, envelope.sd_high_mv, strict=True)
    return dict(zip(envelope.leads, ranges, strict=True))
