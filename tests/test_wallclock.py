"""Whether the wall clock is synchronised: the kernel's own word, and how often it is asked."""

import ctypes
import struct
import sys

import pytest

from ecgedge import wallclock
from ecgedge.wallclock import LOOK_S, ClockWatch, clock_synchronised

STA_UNSYNC, STA_CLOCKERR = 0x0040, 0x1000
STATUS_AT = 5 * struct.calcsize("l")  # behind modes (padded), offset, freq, maxerror and esterror


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex(2) is Linux's")
def test_the_kernels_word_is_that_of_its_status_bits():
    timex = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None).adjtimex(timex)
    (status,) = struct.unpack_from("i", timex, STATUS_AT)
    expected = None if state < 0 else not status & (STA_UNSYNC | STA_CLOCKERR)
    assert clock_synchronised() is expected


@pytest.mark.parametrize(("returned", "says"), [(0, True), (1, True), (4, True), (5, False), (-1, None)])
def test_what_the_system_call_returns(monkeypatch, returned, says):
    class Library:
        def adjtimex(self, _):
            return returned

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    assert clock_synchronised() is says


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_where_there_is_no_such_call_nothing_is_claimed(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert clock_synchronised() is None


def test_it_is_read_now_and_then_and_what_was_known_stays_known():
    said = iter([None, False, None, True])
    watch = ClockWatch(lambda: next(said))
    assert watch.synchronised is None
    assert watch.look(100.0) is None
    assert watch.look(100.0 + 0.9 * LOOK_S) is None, "not yet read again"
    assert [watch.look(100.0 + k * LOOK_S) for k in (1, 2, 3)] == [False, False, True]


def test_one_second_look_may_find_that_all_is_well_before_an_alarm_comes():
    from ecgedge.policy import AlarmPolicy

    assert AlarmPolicy().clock_unsync_s >= 2.0 * wallclock.LOOK_S
