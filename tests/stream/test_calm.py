"""What a calm bed skips would have said nothing: it says, and knows, what one says that skips nothing."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecgedge.alarms import AlarmEngine, Reading
from ecgedge.errors import UsageError
from ecgedge.events import Alarm, Estimate, FeedEvent
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.sim import Simulator
from ecgedge.stream import Bed

RATE_HZ = 250.0
POLICY = AlarmPolicy(
    persistence_s=10.0,
    recovery_window_s=10.0,
    medium_after_s=15.0,
    estimate_lifetime_s=12.0,
    poor_signal_s=12.0,
    acknowledge_timeout_low_s=9.0,
    acknowledge_timeout_medium_s=7.0,
    doubt_s=5.0,
    envelope_s=5.0,
    lead_fault_s=5.0,
)
QUICK = AlarmPolicy(
    persistence_s=5.0,
    recovery_window_s=5.0,
    medium_after_s=3.0,
    onset_probability=0.3,
    recovery_probability=0.2,
    threshold_mmhg=10.0,
)


class AttentiveBed(Bed):
    """Aligns every chunk."""

    def _as_due(self, _t_s):
        return False


class AttentiveEngine(AlarmEngine):
    """Looks at every step of time for what is due."""

    @property
    def _calm_until_s(self):
        return -math.inf

    @_calm_until_s.setter
    def _calm_until_s(self, until_s):
        pass


def spoil(samples_mv, how, rng):
    """Return a second of ECG with something wrong in it."""
    samples_mv, lead, at = samples_mv.copy(), rng.integers(12), rng.integers(samples_mv.shape[1])
    if how == "lead off":
        samples_mv[lead, at:] = np.nan
    elif how == "all off":
        samples_mv[:, at:] = np.nan
    elif how == "flat":
        samples_mv[lead] = 0.1
    elif how == "noise":
        samples_mv += rng.normal(0.0, 1.5, samples_mv.shape).astype(np.float32)
    return samples_mv


SPOILT = ("lead off", "all off", "flat", "noise")
SHIFTS_S = {
    "gap": 0.7,
    "long gap": 5.0,
    "very long gap": 61.0,
    "late": -0.5,
    "set back": -3600.0,
    "tremble": 0.002,
}


def tell(bed, what):
    """Tell the bed something between two chunks; return what it says."""
    now_s = bed.due_s
    if what == "calibrate":
        try:
            return bed.calibrate(now_s, reading=Reading(15.0, "ann"))
        except UsageError:
            return []
    if what == "acknowledge":
        seen = [a.condition for a in bed.alarms() if a.signal != "acknowledged"]
        return bed.acknowledge(now_s, condition=seen[0], user="bob") if seen else []
    return {
        "slow": lambda: bed.feed_rate(now_s, why="too slow"),
        "not slow": lambda: bed.feed_rate(now_s, why=None),
        "delayed": lambda: bed.feed_delay(now_s, why="too late"),
        "not delayed": lambda: bed.feed_delay(now_s, why=None),
        "no journal": lambda: bed.journal(now_s, why="disk full"),
        "journal": lambda: bed.journal(now_s, why=None),
        "pause": lambda: bed.pause_audio(now_s, duration_s=4.0, user="ann"),
        "time": lambda: bed.advance(now_s + 0.4),
        "silence": lambda: bed.advance(now_s + 8.0),
        "lost": bed.feed_lost,
        "uncalibrate": lambda: bed.uncalibrate(now_s, user="ann"),
    }[what]()


TOLD = (
    *("calibrate", "acknowledge", "slow", "not slow", "delayed", "not delayed", "no journal", "journal"),
    *("pause", "time", "silence", "lost", "uncalibrate"),
)


def lived(bed, ecg, course, seed):
    """Bring a second after the other, each after calm ones; return all that the bed said, and its snapshot."""
    rng, events, shift_s, second = np.random.default_rng(seed), [], 0.0, 0
    for calm_s, what in course:
        for k in range(calm_s + 1):
            samples_mv = ecg[:, second * 250 : second * 250 + 250]
            if k == calm_s and what in SPOILT:
                samples_mv = spoil(samples_mv, what, rng)
            elif k == calm_s and what in SHIFTS_S:
                shift_s += SHIFTS_S[what]
            elif k == calm_s:
                events += tell(bed, what)
            events += bed.push(samples_mv, t_s=100.0 + second + shift_s)
            second += 1
    return events, bed.snapshot().to_bytes()


@pytest.fixture(scope="module")
def ecg():
    return Simulator("stable", seed=1, rate_hz=RATE_HZ).read(round(260 * RATE_HZ))


@settings(max_examples=60)
@given(
    course=st.lists(
        st.tuples(st.integers(0, 14), st.sampled_from([*SPOILT, *SHIFTS_S, *TOLD])), min_size=6, max_size=14
    ),
    seed=st.integers(0, 2**32 - 1),
    policy=st.sampled_from([POLICY, QUICK]),
)
@example(
    course=[(14, "late"), (14, "late"), (14, "set back"), (14, "time"), (14, "late")], seed=0, policy=POLICY
)
@example(
    course=[(14, "lost"), (14, "tremble"), (14, "gap"), (14, "slow"), (14, "not slow")], seed=0, policy=POLICY
)
@example(
    course=[(14, "silence"), (14, "flat"), (14, "noise"), (14, "no journal"), (9, "journal")],
    seed=0,
    policy=QUICK,
)
def test_what_a_calm_bed_skips_would_have_said_nothing(formula_bundle, variants, ecg, course, seed, policy):
    def bed(kind):
        return kind(formula_bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, policy=policy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecgedge.stream.watch.AlarmEngine", AttentiveEngine)
        expected = lived(bed(AttentiveBed), ecg, course, seed)
    assert lived(bed(Bed), ecg, course, seed) == expected


def test_a_bed_is_calm_until_something_comes(new_bed, ecg, monkeypatch):
    aligned = []
    monkeypatch.setattr(
        Bed, "_aligned", lambda bed, chunk, t_s, old=Bed._aligned: aligned.append(t_s) or old(bed, chunk, t_s)
    )
    bed, events = new_bed(), []
    for second in range(30):
        events += bed.push(
            ecg[:, second * 250 : second * 250 + 250], t_s=second + (1.0 if second > 20 else 0.0)
        )
    assert aligned[:2] == [0.0, 22.0]  # and then until windows are whole again
    assert [e.state for e in events if isinstance(e, FeedEvent)] == ["connected", "gap"]
    assert any(isinstance(e, Estimate) and e.validity == "valid" for e in events)
    assert not any(isinstance(e, Alarm) for e in events)
