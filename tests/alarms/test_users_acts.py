"""The alarm requirements on what users do, R7 (acknowledgement) and R8 (a pause of the sound).

Times are reckoned by hand from the policy in helpers: the stream starts at 0 s and window n ends at 5 n s.
"""

import json
import math
from dataclasses import replace

import pytest

from ecgedge.alarms import CONDITIONS, AlarmEngine
from ecgedge.events import Alarm, AudioEvent
from ecgedge.policy import AlarmPolicy

from .helpers import ELEVATED, HOP_S, LONG, brief, elevated, engine, play, window, windows

# --- R7: acknowledgement ---


@pytest.mark.parametrize(("letter", "priority", "due_s"), [("H", "low", 1830.0), ("M", "medium", 630.0)])
def test_r7_an_acknowledged_signal_comes_on_again_after_its_time(letter, priority, due_s) -> None:
    """30 min at low priority, 10 at medium, by default; acknowledged at 30 s."""
    made = elevated(replace(LONG, medium_after_s=86_400.0), letter=letter)
    made.acknowledge(30.0, condition=ELEVATED, user="nurse 7")
    assert brief(made.advance(due_s - 0.001), condition=ELEVATED) == []
    (again,) = [a for a in made.advance(1e4) if a.condition == ELEVATED]
    assert brief([again], condition=ELEVATED) == [(due_s, priority, "on", "on")]
    assert again.text.endswith(f"; acknowledged {due_s - 30.0:g} s ago and still present")
    made.acknowledge(1e4, condition=ELEVATED, user="nurse 8")
    (third,) = [a for a in made.advance(5e4) if a.condition == ELEVATED]
    assert third.t_s == 1e4 + due_s - 30.0
    assert third.text == again.text, "the story of earlier acknowledgements does not pile up"


def test_r7_a_technical_condition_comes_on_again_too() -> None:
    made = engine(LONG)
    made.on_feed(3.0, connected=False)
    made.acknowledge(4.0, condition="FEED_LOST", user="a")
    assert brief(made.advance(1e4)) == [(1804.0, "FEED_LOST", "low", "on", "on")]
    assert made.advance(1e5) == [], "nobody acknowledged it since: it is on, and says so once"


def test_r7_a_second_acknowledgement_does_not_put_off_the_first() -> None:
    made = elevated(replace(LONG, acknowledge_timeout_low_s=100.0))
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    assert made.acknowledge(120.0, condition=ELEVATED, user="b") == []
    assert brief(made.advance(500.0)) == [(130.0, ELEVATED, "low", "on", "on")]


def test_r7_a_condition_that_went_has_no_time_out() -> None:
    made = elevated(replace(LONG, acknowledge_timeout_low_s=100.0))
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    assert brief(play(made, windows("........", first_s=35.0)), condition=ELEVATED) == [
        (50.0, "low", "off", "off")
    ]
    assert brief(made.advance(600.0)) == []


def test_r7_a_worse_condition_breaks_through_and_the_new_acknowledgement_counts() -> None:
    policy = replace(LONG, acknowledge_timeout_low_s=100.0, acknowledge_timeout_medium_s=50.0)
    made = elevated(policy)
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    assert brief(play(made, windows("MMMM", first_s=35.0))) == [(50.0, ELEVATED, "medium", "on", "on")]
    assert made.advance(140.0) == [], "the acknowledgement of the low alarm is void"
    made.acknowledge(150.0, condition=ELEVATED, user="a")
    assert brief(made.advance(300.0)) == [(200.0, ELEVATED, "medium", "on", "on")]


def test_r7_fewer_leads_off_do_not_put_off_the_time_out() -> None:
    made = engine(replace(LONG, acknowledge_timeout_low_s=100.0))
    for lead in ("V1", "V2"):
        made.on_lead(10.0, lead, on=False)
    made.acknowledge(20.0, condition="LEAD_OFF", user="a")
    assert brief(made.on_lead(90.0, "V1", on=True)) == [(90.0, "LEAD_OFF", "low", "on", "acknowledged")]
    (again,) = made.advance(500.0)
    assert (again.t_s, again.text) == (120.0, "leads off: V2; acknowledged 100 s ago and still present")


@pytest.mark.parametrize("name", CONDITIONS)
def test_r7_one_acknowledgement_never_touches_another_condition(name: str) -> None:
    made = elevated(letter="M")
    made.on_lead(26.0, "V1", on=False)
    made.on_estimate(window(30.0, validity="invalid", variant=None))
    made.on_feed(31.0, connected=False)
    before = {a.condition: a for a in made.active()}
    made.acknowledge(32.0, condition=name, user="a")
    after = {a.condition: a for a in made.active()}
    assert {n for n in before if before[n] != after[n]} == ({name} & before.keys())


# --- R8: the sound can be paused, for two minutes at most ---


def loud(policy: AlarmPolicy = LONG, *, letter: str = "H") -> AlarmEngine:
    """An elevated engine whose sound user a paused at 30 s for 60 s."""
    made = elevated(policy, letter=letter)
    assert made.pause_audio(30.0, duration_s=60.0, user=" a ") == [
        AudioEvent(30.0, "paused", 90.0, "audio paused for 60 s by a", "a")
    ]
    return made


def test_r8_a_pause_keeps_silent_what_is_on_and_shows_it_as_before() -> None:
    made = loud()
    (shown,) = made.active()
    assert (shown.signal, shown.audible, shown.sounds) == ("on", "paused", False)
    assert made.pause is not None
    assert made.pause.ends_s == 90.0


def test_r8_it_ends_by_itself_and_the_sound_is_back() -> None:
    made = loud()
    assert made.advance(89.999) == []
    assert made.advance(200.0) == [AudioEvent(90.0, "on", None, "audio on again: the pause is over")]
    (shown,) = made.active()
    assert (shown.audible, shown.sounds) == (None, True)
    assert made.pause is None


def test_r8_a_user_ends_it() -> None:
    made = loud()
    assert made.resume_audio(40.0, user="b") == [AudioEvent(40.0, "on", None, "audio on again, by b", "b")]
    assert made.resume_audio(41.0, user="b") == []
    assert made.advance(200.0) == []


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 120.1, math.inf, math.nan])
def test_r8_never_longer_than_the_policy_says(duration_s: float) -> None:
    made = elevated()
    with pytest.raises(ValueError, match=r"a pause of .* at most 120 seconds"):
        made.pause_audio(30.0, duration_s=duration_s, user="a")
    assert made.pause is None
    (event,) = made.pause_audio(30.0, duration_s=120.0, user="a")
    assert event.ends_s == 150.0


def test_r8_a_policy_may_say_less() -> None:
    with pytest.raises(ValueError, match="at most 30 seconds"):
        engine(replace(LONG, audio_pause_max_s=30.0)).pause_audio(1.0, duration_s=31.0, user="a")


@pytest.mark.parametrize("user", ["", " ", "two\nlines"])
def test_r8_someone_must_answer_for_a_pause(user: str) -> None:
    made = loud()
    with pytest.raises(ValueError, match="who pauses the audio"):
        made.pause_audio(31.0, duration_s=60.0, user=user)
    with pytest.raises(ValueError, match="who ends the pause of the audio"):
        made.resume_audio(31.0, user=user)


def test_r8_a_second_pause_takes_the_place_of_the_first() -> None:
    made = loud()
    (event,) = made.pause_audio(80.0, duration_s=100.0, user="b")
    assert (event.ends_s, event.user) == (180.0, "b")
    assert [e.t_s for e in made.advance(500.0)] == [180.0]


def test_r8_a_condition_of_no_higher_priority_comes_silently() -> None:
    made = loud()
    made.on_lead(40.0, "V1", on=False)
    (alarm,) = made.advance(50.0)
    assert (alarm.condition, alarm.signal, alarm.audible, alarm.sounds) == ("LEAD_OFF", "on", "paused", False)


def test_r8_a_new_condition_of_higher_priority_ends_it_and_is_heard() -> None:
    made = loud()
    ended, lost = made.on_feed(40.0, connected=False)
    assert ended == AudioEvent(
        40.0, "on", None, "audio on again: FEED_LOST of medium priority ends the pause"
    )
    assert (lost.condition, lost.priority, lost.sounds) == ("FEED_LOST", "medium", True)
    assert made.advance(200.0) == []


def test_r8_a_condition_that_grows_worse_ends_it_and_is_heard() -> None:
    ended, worse = play(loud(), windows("MMMM", first_s=35.0))
    assert (ended.state, ended.t_s) == ("on", 50.0)
    assert (worse.condition, worse.priority, worse.sounds) == (ELEVATED, "medium", True)


def test_r8_a_pause_that_began_over_a_medium_alarm_covers_another() -> None:
    (lost,) = loud(letter="M").on_feed(40.0, connected=False)
    assert (lost.priority, lost.audible) == ("medium", "paused")


def test_r8_a_pause_ahead_of_an_alarm_covers_low_priority_only() -> None:
    """Electrodes are changed in peace; an elevated pressure that comes meanwhile as medium is heard."""
    quiet = engine(LONG)
    quiet.pause_audio(10.0, duration_s=60.0, user="a")
    quiet.on_lead(11.0, "V1", on=False)
    assert [e.audible for e in quiet.advance(20.0)] == ["paused"]
    assert [type(e) for e in play(quiet, windows("MMMMM", first_s=21.0))] == [AudioEvent, Alarm]


def test_r8_what_was_acknowledged_does_not_widen_a_pause() -> None:
    made = elevated(replace(LONG, acknowledge_timeout_medium_s=20.0), letter="M")
    made.acknowledge(30.0, condition=ELEVATED, user="a")
    made.pause_audio(31.0, duration_s=60.0, user="a")
    ended, again = made.advance(60.0)
    assert (ended.t_s, ended.state) == (50.0, "on")
    assert (again.t_s, again.sounds) == (50.0, True)


def test_r8_what_comes_at_the_very_end_of_a_pause_is_heard() -> None:
    made = loud()
    made.on_lead(88.0, "V1", on=False)  # told of at 90
    ended, off = made.advance(90.0)
    assert (ended.state, off.condition, off.sounds) == ("on", "LEAD_OFF", True)


def test_r8_an_acknowledged_or_latched_alarm_is_silent_anyway() -> None:
    made = loud()
    (seen,) = made.acknowledge(40.0, condition=ELEVATED, user="a")
    assert (seen.audible, seen.sounds, seen.user) == (None, False, "a")


def test_r8_a_pause_survives_a_restart() -> None:
    made = loud()
    other = AlarmEngine.restore(LONG, hop_s=HOP_S, snapshot=json.loads(json.dumps(made.snapshot())))
    assert other.pause == made.pause
    assert other.active() == made.active()
    assert other.advance(200.0) == [AudioEvent(90.0, "on", None, "audio on again: the pause is over")]
