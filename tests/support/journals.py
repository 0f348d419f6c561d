"""Journals to damage, cut and read."""

from pathlib import Path

from ecgedge.events import Alarm, AudioEvent, event_to_dict
from ecgedge.journal import Journal, read_journal

FACTS = {"bundle": "ab" * 32, "feed": "sim:decompensation?seed=1", "mode": "demo"}
ALARM = event_to_dict(Alarm(300.0, "MPCWP_ELEVATED", "physiological", "low", "on", "on", "elevated"))
AUDIO = event_to_dict(AudioEvent(310.0, "paused", 370.0, "audio paused for 60 s by nurse 7", "nurse 7"))


def estimate(i: int) -> dict:
    return {"type": "estimate", "t_s": i * 5.0, "p_gt_18": 0.25, "reason": None, "leads": ["I", "II"]}


def written(path: Path, n: int = 3) -> Path:
    """A journal of a header, `n` estimates and an alarm."""
    with Journal(path, facts=FACTS) as journal:
        for i in range(n):
            journal.append(estimate(i))
        journal.append(ALARM)
    return path


def events(path: Path) -> list[dict]:
    return [dict(e.event) for e in read_journal(path)]
