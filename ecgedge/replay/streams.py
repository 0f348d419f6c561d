"""What is replayed: simulated patients and recordings, each a stream of chunks with a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecgedge.ecg import Mode
from ecgedge.errors import RecordError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records import read
from ecgedge.sim import Simulator
from ecgedge.sim.scenario import find_scenario

SIM_RATE_HZ: Final = 250.0
DEFAULT_HOURS: Final = 24.0
HOURS: Final[Mapping[str, float]] = MappingProxyType({"decompensating": 4.0})
"""How long a scenario is streamed, where that is not `DEFAULT_HOURS`: the rise is over after 2 hours."""

FIRST_SEED: Final = 1000
"""Seeds 0 to 399 took part in choosing the embedded bundle's policy."""

LATENT_STEP_S: Final = 60.0
"""How often the latent pressure of a simulated patient is looked at."""

_RECORDING_SUFFIXES: Final = (".hea", ".dcm", ".edf", ".vital", ".xml", ".npz")


@dataclass(frozen=True)
class SimulatedStream:
    """A simulated patient to whom a scenario happens."""

    scenario: str
    seed: int
    hours: float

    @property
    def name(self) -> str:
        """Of the stream and, since every seed is another person, of the patient."""
        return f"{self.scenario} {self.seed}"


@dataclass(frozen=True)
class RecordedStream:
    """A recording in a file. `name` is how it is written in tables; `patient` whose it is."""

    path: Path
    name: str
    patient: str


Stream: TypeAlias = SimulatedStream | RecordedStream


@dataclass(frozen=True)
class Opened:
    """A stream ready to play.

    Attributes
    ----------
    key
        Names the very samples: where it is the same, so are they.
    chunks
        (time of the first sample, (n_leads, n) millivolts), in order and without holes.
    latent_mmhg
        True pressure at 1, 2, ... times `LATENT_STEP_S`; None where nobody knows it.
    """

    key: str
    leads: tuple[str, ...]
    rate_hz: float
    mode: Mode
    duration_s: float
    chunks: Iterator[tuple[float, NDArray[np.float32]]]
    latent_mmhg: tuple[float, ...] | None


def simulated_streams(
    wanted: Sequence[str], *, first_seed: int = FIRST_SEED, hours: float | None = None
) -> tuple[SimulatedStream, ...]:
    """Return the streams of "scenario:patients", one seed a patient, counted up from `first_seed` over all.

    No seed comes twice: the same seed in two scenarios would be the same person.

    Raises
    ------
    UsageError
        If a scenario is unknown, or a number cannot work.
    """
    if first_seed < 0:
        raise UsageError(f"--first-seed is {first_seed}; it must be 0 or above")
    if hours is not None and not 0.0 < hours <= 24.0 * 31:
        raise UsageError(f"--hours is {hours:g}; it must be above 0 and at most 744 (a month)")
    streams: list[SimulatedStream] = []
    for text in wanted:
        scenario, _, count = text.partition(":")
        find_scenario(scenario)
        if not count.isascii() or not count.isdigit() or int(count) < 1:
            raise UsageError(f"--sim is {text!r}; expected SCENARIO:PATIENTS, for example stable:50")
        length = HOURS.get(scenario, DEFAULT_HOURS) if hours is None else hours
        start = first_seed + len(streams)
        streams += [SimulatedStream(scenario, seed, length) for seed in range(start, start + int(count))]
    return tuple(streams)


def find_recordings(places: Sequence[Path]) -> tuple[RecordedStream, ...]:
    """Return the recordings of files and folders (searched through, in the order of their names).

    Each is a patient of its own until someone says otherwise.

    Raises
    ------
    RecordError
        If a folder holds none.
    UsageError
        If a recording is given twice.
    """
    paths: list[Path] = []
    for place in places:
        found = [place]
        if place.is_dir():
            found = sorted(p for p in place.rglob("*") if p.suffix.lower() in _RECORDING_SUFFIXES)
            if not found:
                kinds = ", ".join(_RECORDING_SUFFIXES)
                raise RecordError(f"{place}: no recording in this folder ({kinds}); give another one")
        paths += found
    names = [path.as_posix() for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{twice[0]} is given twice; a recording counts once")
    return tuple(RecordedStream(path, name, name) for path, name in zip(paths, names, strict=True))


def open_stream(stream: Stream, *, chunk_s: float) -> Opened:
    """Open a stream; recordings keep their gaps, as missing samples.

    Raises
    ------
    RecordError
        If a recording cannot be read.
    """
    if isinstance(stream, SimulatedStream):
        return _open_simulated(stream, chunk_s)
    recording = read(stream.path, gaps="keep")
    samples_mv, rate_hz = recording.samples_mv, recording.rate_hz
    digest = sha256(f"{','.join(recording.leads)} {rate_hz!r} {samples_mv.shape} ".encode())
    digest.update(np.ascontiguousarray(samples_mv).tobytes())
    step = max(1, round(chunk_s * rate_hz))
    return Opened(
        key=f"recording-{digest.hexdigest()[:32]}",
        leads=recording.leads,
        rate_hz=rate_hz,
        mode=recording.mode,
        duration_s=recording.duration_s,
        chunks=((k / rate_hz, samples_mv[:, k : k + step]) for k in range(0, samples_mv.shape[1], step)),
        latent_mmhg=None,
    )


def _open_simulated(stream: SimulatedStream, chunk_s: float) -> Opened:
    simulator = Simulator(stream.scenario, seed=stream.seed, rate_hz=SIM_RATE_HZ)
    total = round(stream.hours * 3600.0 * SIM_RATE_HZ)
    step = max(1, round(chunk_s * SIM_RATE_HZ))
    looks = int(total / SIM_RATE_HZ / LATENT_STEP_S)
    return Opened(
        key=f"sim-{stream.scenario}-{stream.seed}-{stream.hours:g}h",
        leads=STANDARD_LEADS,
        rate_hz=SIM_RATE_HZ,
        mode="demo",
        duration_s=total / SIM_RATE_HZ,
        chunks=((k / SIM_RATE_HZ, simulator.read(min(step, total - k))) for k in range(0, total, step)),
        latent_mmhg=tuple(simulator.mpcwp_mmhg((k + 1) * LATENT_STEP_S) for k in range(looks)),
    )
