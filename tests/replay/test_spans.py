"""What is replayed is what a bed tells: its own alarms are the reference."""

import numpy as np
import pytest
from courses import HOP_S, SMALL, course, stretches, window

from ecgedge.alarms import DELAYS, AlarmEngine
from ecgedge.events import Alarm, Estimate, FeedEvent
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.replay.course import Course, CourseHead, from_lines, run_beds, to_lines
from ecgedge.replay.spans import Span, elevated_spans, replay_alarms
from ecgedge.replay.streams import Opened, SimulatedStream, open_stream
from ecgedge.sim import Simulator
from ecgedge.stream import Bed

RATE_HZ = 250.0


def opened(samples_mv, *, chunk=1000, leads=STANDARD_LEADS, key="key"):
    n = samples_mv.shape[1]
    chunks = ((k / RATE_HZ, samples_mv[:, k : k + chunk]) for k in range(0, n, chunk))
    return Opened(key, leads, RATE_HZ, "demo", n / RATE_HZ, chunks, None)


def run_bed(stream, bundle, variants):
    (made,) = run_beds([stream], bundle, variants)
    return made


@pytest.fixture(scope="module")
def troubled_mv():
    """Three minutes with every kind of fact: leads that fall off, nothing at all for a while, noise."""
    samples_mv = Simulator("lead-off", seed=3, rate_hz=RATE_HZ).read(45_000).copy()
    samples_mv[:, 5_000:6_000] = np.nan
    samples_mv[:, 25_000:44_000] = np.random.default_rng(0).normal(0, 3, (12, 19_000)).astype(np.float32)
    return samples_mv


# Above what a hand-made p of the embedded bundle reaches, and far below it: alarms never, and nearly always.
POLICIES = [
    AlarmPolicy(),
    AlarmPolicy(onset_probability=0.02, recovery_probability=0.01, persistence_s=10.0, recovery_window_s=10.0),
    AlarmPolicy(onset_probability=0.03, recovery_probability=0.02, persistence_s=20.0, medium_after_s=15.0,
                lead_off_s=0.5, poor_signal_s=10.0, recovery_window_s=5.0, recovery_margin_mmhg=0.0, latching=False),
]  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_every_alarm_is_the_beds_own(bundle, variants, troubled_mv, policy):
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, policy=policy, mode="demo")
    events = [e for e in bed.push(troubled_mv, t_s=0.0) if isinstance(e, Alarm)]
    # Those of DELAYS follow from more than estimates and feed events; no policy that is compared changes them.
    told = [e for e in events if e.condition not in DELAYS]
    made = run_bed(opened(troubled_mv), bundle, variants)
    assert replay_alarms(made, policy, hop_s=bundle.manifest.hop_s) == told
    assert len(told) > 3
    assert any(a.condition == "MPCWP_ELEVATED" for a in told) == (policy.onset_probability < 0.5)


def test_a_course_holds_every_kind_of_fact_and_no_alarm(bundle, variants, troubled_mv):
    made = run_bed(opened(troubled_mv), bundle, variants)
    assert {f.state for f in made.facts if isinstance(f, FeedEvent)} == {"connected", "lead_off", "lead_on"}
    assert {f.validity for f in made.facts if isinstance(f, Estimate)} == {"valid", "questionable", "invalid"}
    assert not any(isinstance(f, Alarm) for f in made.facts)
    assert from_lines(to_lines(made)) == made


@pytest.mark.parametrize("chunk", [1, 777, 45_000])
def test_no_chunking_changes_a_course(bundle, variants, troubled_mv, chunk):
    cut_mv = troubled_mv[:, :8_000] if chunk == 1 else troubled_mv
    assert run_bed(opened(cut_mv, chunk=chunk), bundle, variants) == run_bed(opened(cut_mv), bundle, variants)


def test_streams_side_by_side_are_what_each_is_alone(bundle, variants, troubled_mv):
    """Of several lengths, with leads that come and go at other times."""

    def streams():
        yield opened(troubled_mv, chunk=20_000, key="troubled")
        yield opened(troubled_mv[:2, 3_000:17_001], leads=("I", "II"), key="short")
        yield from (
            open_stream(SimulatedStream(scenario, seed, 0.03), chunk_s=60.0)
            for seed, scenario in enumerate(("stable", "decompensating", "noisy", "lead-off"))
        )

    together = run_beds([*streams()], bundle, variants)
    assert together == [run_bed(stream, bundle, variants) for stream in streams()]
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
    told = bed.push(troubled_mv, t_s=0.0)
    assert together[0].facts == tuple(e for e in told if isinstance(e, Estimate | FeedEvent))


def test_a_simulated_stream_is_the_simulators(bundle, variants):
    stream = SimulatedStream("decompensating", 5, 0.02)
    one, other = (run_bed(open_stream(stream, chunk_s=s), bundle, variants) for s in (7.0, 60.0))
    assert one == other
    assert one.head.duration_s == 72.0
    assert one.head.latent_mmhg == (Simulator("decompensating", seed=5).mpcwp_mmhg(60.0),)


def test_floats_are_kept_exactly_even_those_that_are_no_number():
    odd = window(10.0, 0.1 + 0.2)
    head = CourseHead(1, "k", "real", 10.0, None)
    text = to_lines(
        Course(head, (odd, Estimate(15.0, float("nan"), None, None, None, "valid", None, 1e-300, (), None)))
    )
    back = from_lines(text)
    assert back.facts[0] == odd
    assert to_lines(back) == text


def test_an_onset_and_its_end_are_those_reckoned_by_hand():
    # Windows end at 10, 15, ... s. The 4 windows to 45 s are the first whose share of 0.8 exceeds (4 of 4); the
    # medians of the 4 to 70 s (p 0.9, 0.1, 0.1, 0.1) are the first under the recovery limits.
    made = course(stretches((4, 0.1), (6, 0.9), (10, 0.1)))
    assert elevated_spans(replay_alarms(made, SMALL, hop_s=HOP_S), end_s=105.0) == (Span(45.0, 70.0),)


def test_an_alarm_that_stays_lasts_to_the_end():
    made = course(stretches((4, 0.1), (10, 0.9)))
    assert elevated_spans(replay_alarms(made, SMALL, hop_s=HOP_S), end_s=made.head.duration_s) == (
        Span(45.0, 75.0),
    )


def test_an_escalation_is_no_second_onset():
    policy = AlarmPolicy(persistence_s=20.0, medium_after_s=10.0, recovery_window_s=20.0)
    alarms = replay_alarms(course(stretches((4, 0.1), (10, 0.9))), policy, hop_s=HOP_S)
    assert [a.priority for a in alarms] == ["low", "medium"]
    assert len(elevated_spans(alarms, end_s=75.0)) == 1


def test_what_time_alone_brings_comes_at_the_end_too():
    made = course([0.1], mode="real")
    quiet = Course(CourseHead(1, "k", "real", 100.0, None), made.facts)
    alarms = replay_alarms(quiet, AlarmPolicy(poor_signal_s=60.0), hop_s=HOP_S)
    assert [(a.condition, a.t_s) for a in alarms] == [("POOR_SIGNAL", 70.0)]


def test_acknowledging_is_not_an_end():
    engine = AlarmEngine(SMALL, hop_s=HOP_S)
    alarms = [a for f in course(stretches((4, 0.1), (6, 0.9))).facts[1:] for a in engine.on_estimate(f)]
    alarms += engine.acknowledge(60.0, condition="MPCWP_ELEVATED", user="nurse")
    assert len(elevated_spans(alarms, end_s=60.0)) == 1
