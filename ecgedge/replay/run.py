"""Replays a grid of policies over a cohort: streams through beds once, policies over what they told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Final

from ecgedge.bundle import Bundle, load_bundle
from ecgedge.ecg import Mode
from ecgedge.errors import BundleError, EcgedgeError, RecordError, UsageError
from ecgedge.events import Estimate
from ecgedge.policy import AlarmPolicy
from ecgedge.progress import Tell
from ecgedge.replay.course import Course, CourseStore, course_sha256, require_a_window, run_beds
from ecgedge.replay.spans import Span, elevated_spans, replay_alarms
from ecgedge.replay.streams import Opened, SimulatedStream, Stream, open_stream
from ecgedge.runtime import AUTO
from ecgedge.runtime.memory import keep_freed_memory
from ecgedge.stream import Variants

CHUNK_S: Final = 60.0
"""Of a stream read at once; no figure depends on it."""

TOGETHER: Final = 8
"""Simulated streams that a process plays side by side: more gain nothing, and are lost where it is killed."""


@dataclass(frozen=True)
class Served:
    """How estimates are made: the bundle by its source and the id that it must have, the runtime, the work folder.

    Without a folder nothing is kept. `engines` is which runtime serves each variant, and goes with what is kept.
    """

    source: str
    bundle_id: str
    runtime: str = AUTO
    work: Path | None = None
    engines: tuple[tuple[str, str], ...] = ()
    chunk_s: float = CHUNK_S


@dataclass(frozen=True)
class Replayed:
    """One stream under every policy.

    Attributes
    ----------
    windows, valid
        How many windows were answered, and how many validly.
    latent_mmhg
        As in `Opened`.
    estimates_sha256
        Of all that the bed told.
    spans
        When MPCWP_ELEVATED was present, a tuple for each policy.
    """

    stream: Stream
    mode: Mode
    duration_s: float
    windows: int
    valid: int
    latent_mmhg: tuple[float, ...] | None
    estimates_sha256: str
    spans: tuple[tuple[Span, ...], ...]


def replay_streams(
    streams: Sequence[Stream],
    policies: Sequence[AlarmPolicy],
    served: Served,
    *,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda _: None,
    progress: Tell = lambda _done, _total: None,
) -> tuple[Replayed, ...]:
    """Return each stream under each policy, in the order given, whatever the number of processes.

    Parameters
    ----------
    streams, policies, served
        What is replayed, under what, with what.
    jobs
        Processes; 1 works in this one.
    tell
        Hears a line as each stream is done.
    progress
        Hears how many streams are done, and of how many.

    Raises
    ------
    RecordError, BundleError, UsageError
        As reading, serving and the work folder raise them; a recording's error names it.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; expected 1 or more processes")
    done: dict[int, Replayed] = {}
    for number, replayed in _all_done(streams, policies, served, min(jobs, len(streams))):
        done[number] = replayed
        progress(len(done), len(streams))
        tell(f"{len(done)} of {len(streams)}: {replayed.stream.name}, {replayed.windows} windows")
    return tuple(done[number] for number in range(len(streams)))


def replay_course(
    course: Course, stream: Stream, policies: Sequence[AlarmPolicy], *, hop_s: float
) -> Replayed:
    """Return one course under each policy."""
    end_s = course.head.duration_s
    alarms = (replay_alarms(course, policy, hop_s=hop_s) for policy in policies)
    estimates = [fact for fact in course.facts if isinstance(fact, Estimate)]
    return Replayed(
        stream=stream,
        mode=course.head.mode,
        duration_s=end_s,
        windows=len(estimates),
        valid=sum(e.validity == "valid" for e in estimates),
        latent_mmhg=course.head.latent_mmhg,
        estimates_sha256=course_sha256(course),
        spans=tuple(elevated_spans(of_policy, end_s=end_s) for of_policy in alarms),
    )


class _Replayer:
    """Serves one process: bundle and variants are opened at the first stream that needs them."""

    def __init__(self, served: Served, policies: Sequence[AlarmPolicy]) -> None:
        self._served, self._policies = served, policies
        self._stack = ExitStack()
        self._bundle = _load(served)
        self._store: CourseStore | None = None
        self._variants: Variants | None = None
        if served.work is not None:
            self._store = CourseStore(served.work, bundle=self._bundle, engines=dict(served.engines))

    def __enter__(self) -> _Replayer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, streams: Sequence[Stream]) -> list[Replayed]:
        # A recording is read whatever is kept of it: whether it is the same as before is seen in its samples.
        opened = [self._open(stream) for stream in streams]
        courses = {o.key: course for o in opened if (course := self._kept(o)) is not None}
        left = [o for o in opened if o.key not in courses]
        if left:
            courses |= {course.head.key: course for course in self._run(left)}
        hop_s = self._bundle.manifest.hop_s
        return [
            replay_course(courses[o.key], stream, self._policies, hop_s=hop_s)
            for o, stream in zip(opened, streams, strict=True)
        ]

    def _open(self, stream: Stream) -> Opened:
        try:
            opened = open_stream(stream, chunk_s=self._served.chunk_s)
            require_a_window(opened, self._bundle)
        except RecordError as error:
            name = stream.name
            raise error if name in str(error) else RecordError(f"{name}: {error}") from error
        return opened

    def _kept(self, opened: Opened) -> Course | None:
        return None if self._store is None else self._store.find(opened.key)

    def _run(self, streams: Sequence[Opened]) -> Sequence[Course]:
        if self._variants is None:
            serving = Variants(self._bundle, runtime=self._served.runtime)
            self._variants = self._stack.enter_context(serving)
        courses = run_beds(streams, self._bundle, self._variants)
        if self._store is not None:
            for course in courses:
                self._store.keep(course)
        return courses


def _load(served: Served) -> Bundle:
    bundle = load_bundle(served.source)
    if bundle.id != served.bundle_id:
        raise BundleError(f"{served.source} was changed while it was replayed; start again")
    return bundle


_workers: list[_Replayer] = []
"""The one of this process, if it is a worker."""


def _start_worker(served: Served, policies: Sequence[AlarmPolicy]) -> None:
    keep_freed_memory()  # hours of the same work
    _workers.append(_Replayer(served, policies))


def _work(streams: Sequence[Stream]) -> list[Replayed]:
    return _workers[0](streams)


def _parts(streams: Sequence[Stream], jobs: int) -> list[list[int]]:
    """Return which streams run side by side: a few simulated ones; a recording, which is held whole, alone."""
    most = min(TOGETHER, math.ceil(len(streams) / jobs))
    parts: list[list[int]] = []
    for number, stream in enumerate(streams):
        joins = (
            bool(parts)
            and isinstance(stream, SimulatedStream)
            and isinstance(streams[parts[-1][0]], SimulatedStream)
            and len(parts[-1]) < most
        )
        if joins:
            parts[-1].append(number)
        else:
            parts.append([number])
    return parts


def _all_done(
    streams: Sequence[Stream], policies: Sequence[AlarmPolicy], served: Served, jobs: int
) -> Iterator[tuple[int, Replayed]]:
    """Yield (place in `streams`, what came of it) as each is done."""
    parts = _parts(streams, max(jobs, 1))
    with _Replayer(served, policies) as here:
        if jobs <= 1:
            for part in parts:
                yield from zip(part, here([streams[n] for n in part]), strict=True)
            return
    # Spawned, not forked: an engine's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(served, policies)
    )
    with pool:
        futures: Mapping[Future[list[Replayed]], list[int]] = {
            pool.submit(_work, [streams[n] for n in part]): part for part in parts
        }
        try:
            for future in as_completed(futures):
                yield from zip(futures[future], future.result(), strict=True)
        except BrokenProcessPool as error:
            raise EcgedgeError(
                "a process of the replay was killed (out of memory?); run the same command again with fewer --jobs: "
                "what is done is kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
