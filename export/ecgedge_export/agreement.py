"""Whether a variant raises the alarms that the trained network raises: both serve a bed on the same streams.

Outputs that differ a little can still move an alarm by minutes, or lose it. So the very code that serves a bedside is
run twice over the same samples, once with the network and once with the file, and the transitions of the alarms are
set against each other. The streams are SIMULATED (no recording at hand is hours long): a patient whose pressure rises
and falls again, under noise, with electrodes that fall off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, VariantSpec
from ecgedge.events import Alarm
from ecgedge.leads import standard_rows
from ecgedge.runtime import Runner
from ecgedge.sim import DEFAULT_SEED, Scenario, Simulator
from ecgedge.sim.scenario import OffInterval
from ecgedge.stream import Bed

K = TypeVar("K")
RATE_HZ: Final = 250.0
CHUNK_S: Final = 60.0
DURATION_S: Final = 50 * 60.0
SEEDS: Final = (DEFAULT_SEED,)
COURSE: Final = Scenario(
    "rise-and-fall",
    "mPCWP 10 mmHg, from 5 to 12 min up to 28, from 28 to 33 min down to 8; electrodes fall off now and then",
    ((300.0, 10.0), (720.0, 28.0), (1680.0, 28.0), (1980.0, 8.0)),
    off=(OffInterval("LL", 120.0, 150.0), OffInterval("RA", 2200.0, 2280.0)),
    off_period_s=7200.0,
)
WITHIN_S: Final = 60.0
"""Two transitions of one kind agree if they come within this time: a fifth of the five minutes an onset takes."""


@dataclass(frozen=True)
class AlarmAgreement:
    """How far two beds agree.

    Attributes
    ----------
    agreement
        Share of all transitions of both beds that have a partner in the other within `WITHIN_S`; 1 where none came.
    state_agreement
        Share of the time (in windows) over which the same alarms are present in both.
    transitions
        Of the network's bed.
    differences
        Every transition without a partner, and which bed it came from.
    """

    agreement: float
    state_agreement: float
    transitions: int
    differences: tuple[str, ...]


class NetworkRunner:
    """The trained network behind the protocol of the engines, so that a bed can serve it.

    Parameters
    ----------
    answer
        (B, K, T) millivolts to outputs by name.
    spec
        The variant whose place it takes.
    window_samples
        T.
    """

    def __init__(
        self,
        answer: Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]],
        spec: VariantSpec,
        *,
        window_samples: int,
    ) -> None:
        self._answer = answer
        self._spec = spec
        self._window_samples = window_samples

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self._spec.name

    @property
    def leads(self) -> tuple[str, ...]:
        """The measured leads."""
        return self._spec.leads

    @property
    def precision(self) -> str:
        """Of the variant whose place it takes."""
        return self._spec.precision

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return self._window_samples

    def run(self, ecg_mv: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the network's outputs."""
        return self._answer(ecg_mv)

    def close(self) -> None:
        """Do nothing: the network is the caller's."""

    def __enter__(self) -> NetworkRunner:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class _Only:
    """A bed's choice of variants where there is just one."""

    spec: VariantSpec
    runner: Runner
    stream = None

    def choose(self, usable: Collection[str]) -> tuple[VariantSpec, Runner] | None:
        return (self.spec, self.runner) if set(self.spec.leads) <= set(usable) else None


def has_alarms(outputs: Sequence[str]) -> bool:
    """Say whether any of these outputs raises an alarm of its own; classes and embeddings do not."""
    return "p_gt_18" in outputs or "mpcwp_mmhg" in outputs


def replay(
    bundle: Bundle, runners: Mapping[K, tuple[VariantSpec, Runner]], *, duration_s: float = DURATION_S
) -> dict[K, list[Alarm]]:
    """Return the alarms of one bed a runner, all fed with the same streams, one after the other.

    Times go on from stream to stream. All variants must be of one lead set.
    """
    alarms: dict[K, list[Alarm]] = {name: [] for name in runners}
    for k, seed in enumerate(SEEDS):
        beds = {
            name: Bed(bundle, leads=spec.leads, rate_hz=RATE_HZ, variants=_Only(spec, runner), mode="demo")
            for name, (spec, runner) in runners.items()
        }
        for t_s, samples_mv in _stream(seed, duration_s, start_s=k * duration_s):
            for name, bed in beds.items():
                rows = standard_rows(bed.leads)
                events = bed.push(samples_mv[rows], t_s=t_s)
                alarms[name] += [event for event in events if isinstance(event, Alarm)]
    return alarms


def _stream(seed: int, duration_s: float, *, start_s: float) -> Iterator[tuple[float, NDArray[np.float32]]]:
    simulator = Simulator(COURSE, seed=seed, rate_hz=RATE_HZ)
    for t_s in np.arange(0.0, duration_s, CHUNK_S):
        yield start_s + float(t_s), simulator.read(round(min(CHUNK_S, duration_s - t_s) * RATE_HZ))


def compare_alarms(
    reference: Sequence[Alarm], candidate: Sequence[Alarm], *, duration_s: float, hop_s: float
) -> AlarmAgreement:
    """Set the transitions of two beds against each other.

    Only physiological alarms count: a lead that is off is off in both beds, and would dilute the share.
    """
    ours, theirs = ([a for a in alarms if a.kind == "physiological"] for alarms in (reference, candidate))
    lost, extra = _without_partner(ours, theirs)
    total = len(ours) + len(theirs)
    differences = [("network only", alarm) for alarm in lost] + [("variant only", alarm) for alarm in extra]
    differences.sort(key=lambda pair: pair[1].t_s)
    return AlarmAgreement(
        agreement=1.0 if total == 0 else (total - len(lost) - len(extra)) / total,
        state_agreement=_same_state(ours, theirs, np.arange(hop_s, duration_s, hop_s)),
        transitions=len(ours),
        differences=tuple(f"{side}: {_describe(alarm)}" for side, alarm in differences),
    )


def _kind(alarm: Alarm) -> tuple[str, ...]:
    return alarm.condition, alarm.priority, alarm.presence, alarm.signal


def _without_partner(ours: Sequence[Alarm], theirs: Sequence[Alarm]) -> tuple[list[Alarm], list[Alarm]]:
    """Pair transitions of one kind in order of time; return what is left on each side."""
    lost: list[Alarm] = []
    free = list(theirs)
    for alarm in ours:
        near = [a for a in free if _kind(a) == _kind(alarm) and abs(a.t_s - alarm.t_s) <= WITHIN_S]
        if near:
            free.remove(near[0])  # both lists are in order of time
        else:
            lost.append(alarm)
    return lost, free


def _same_state(ours: Sequence[Alarm], theirs: Sequence[Alarm], times_s: NDArray[np.float64]) -> float:
    same = np.ones(len(times_s), bool)
    for condition in {alarm.condition for alarm in (*ours, *theirs)}:
        same &= _present(ours, condition, times_s) == _present(theirs, condition, times_s)
    return float(same.mean())


def _present(alarms: Sequence[Alarm], condition: str, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    changes = [(a.t_s, a.presence == "on") for a in alarms if a.condition == condition]
    present = np.zeros(len(times_s), bool)
    for t_s, is_on in changes:
        present[times_s >= t_s] = is_on
    return present


def _describe(alarm: Alarm) -> str:
    return f"{alarm.condition} {alarm.presence}, {alarm.signal}, {alarm.priority}, at {alarm.t_s:g} s"
