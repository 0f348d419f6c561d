"""Replays a grid of policies over a cohort: streams through beds once, policies over what they told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
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
from ecgedge.replay.course import Course, CourseStore, course_sha256, run_bed
from ecgedge.replay.spans import Span, elevated_spans, replay_alarms
from ecgedge.replay.streams import Opened, Stream, open_stream
from ecgedge.runtime import AUTO
from ecgedge.runtime.memory import keep_freed_memory
from ecgedge.stream import Variants

CHUNK_S: Final = 60.0
"""Of a stream pushed into a bed at once; no figure depends on it."""


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

    def __call__(self, stream: Stream) -> Replayed:
        try:
            course = self._course(stream)
        except RecordError as error:
            name = stream.name
            raise error if name in str(error) else RecordError(f"{name}: {error}") from error
        return replay_course(course, stream, self._policies, hop_s=self._bundle.manifest.hop_s)

    def _course(self, stream: Stream) -> Course:
        # A recording is read whatever is kept of it: whether it is the same as before is seen in its samples.
        opened = open_stream(stream, chunk_s=self._served.chunk_s)
        make = partial(self._run, opened)
        return make() if self._store is None else self._store.get(opened.key, make)

    def _run(self, opened: Opened) -> Course:
        if self._variants is None:
            serving = Variants(self._bundle, runtime=self._served.runtime)
            self._variants = self._stack.enter_context(serving)
        return run_bed(opened, self._bundle, self._variants)


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


def _work(stream: Stream) -> Replayed:
    return _workers[0](stream)


def _all_done(
    streams: Sequence[Stream], policies: Sequence[AlarmPolicy], served: Served, jobs: int
) -> Iterator[tuple[int, Replayed]]:
    """Yield (place in `streams`, what came of it) as each is done."""
    with _Replayer(served, policies) as here:
        if jobs <= 1:
            yield from enumerate(map(here, streams))
            return
    # Spawned, not forked: an engine's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(served, policies)
    )
    with pool:
        futures: Mapping[Future[Replayed], int] = {pool.submit(_work, s): n for n, s in enumerate(streams)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise EcgedgeError(
                "a process of the replay was killed (out of memory?); run the same command again with fewer --jobs: "
                "what is done is kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
