"""Courses written by hand: one window each 5 s, and what is true of them."""

from collections.abc import Sequence
from pathlib import Path

from ecgedge.ecg import Mode
from ecgedge.events import Estimate, FeedEvent
from ecgedge.policy import AlarmPolicy
from ecgedge.replay.course import COURSE_FORMAT, Course, CourseHead
from ecgedge.replay.run import Replayed, replay_course
from ecgedge.replay.streams import RecordedStream

HOP_S = 5.0
WINDOW_S = 10.0
# Onset: 4 windows in 20 s, all of whose 3.2 exceed; recovery: the median of 4 windows in 20 s.
SMALL = AlarmPolicy(persistence_s=20.0, recovery_window_s=20.0, onset_probability=0.8)


def window(t_s: float, p: float) -> Estimate:
    """A valid window whose pressure says what its probability says: 8 to 28 mmHg."""
    mmhg = 8.0 + 20.0 * p
    return Estimate(t_s, mmhg, (mmhg - 12.0, mmhg + 12.0), p, p, "valid", None, 0.9, ("I", "II"), "I,II/fp32")


def course(
    probabilities: Sequence[float], *, latent: Sequence[float] | None = None, mode: Mode = "demo"
) -> Course:
    """The first window ends at 10 s, the others each 5 s; the stream ends with the last."""
    facts = [window(WINDOW_S + HOP_S * k, p) for k, p in enumerate(probabilities)]
    head = CourseHead(
        COURSE_FORMAT,
        "by-hand",
        mode,
        WINDOW_S + HOP_S * (len(facts) - 1),
        None if latent is None else tuple(latent),
    )
    return Course(head, (FeedEvent(0.0, "connected"), *facts))


def stretches(*parts: tuple[int, float]) -> list[float]:
    """(windows, probability) one after the other."""
    return [p for n, p in parts for _ in range(n)]


def replayed(
    name: str, made: Course, policies: Sequence[AlarmPolicy] = (SMALL,), *, patient: str | None = None
) -> Replayed:
    stream = RecordedStream(Path(name), name, patient or name)
    return replay_course(made, stream, policies, hop_s=HOP_S)
