"""Lines to a reader who blocks, goes, or has a full disk: alarms all arrive, and what is missing is counted."""

import errno
import io
import json
import os
import threading
import time

import pytest

from ecgedge.sinks import waiting
from ecgedge.wards import outlet as module
from ecgedge.wards.outlet import Outlet


class Reader(io.RawIOBase):
    """Takes what it is given: at most `most` bytes a write, while it is let, and as `troubles` say."""

    def __init__(self, *, most=1 << 20):
        self.taken, self.most, self.troubles, self.closed_times = b"", most, [], 0
        self.let, self.asked = threading.Event(), threading.Event()
        self.let.set()

    def write(self, data):
        self.asked.set()
        assert self.let.wait(60.0)
        if self.troubles:
            trouble = self.troubles.pop(0)
            if isinstance(trouble, Exception):
                raise trouble
            return trouble
        self.taken += bytes(data[: self.most])
        return min(len(data), self.most)

    def close(self):
        self.closed_times += 1

    @property
    def lines(self):
        return self.taken.decode().splitlines()


def put(outlet, *lines, kind="estimate", urgent=False):
    for line in lines:
        outlet.put(line.encode(), kind=kind, urgent=urgent)


def until(is_so):
    end_s = time.monotonic() + 20.0
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.002)


def blocked(reader, outlet):
    """Let the reader hold the first line; what comes now waits."""
    reader.let.clear()
    put(outlet, "first")
    assert reader.asked.wait(60.0)


@pytest.mark.parametrize("most", [1, 3, 1 << 20])
def test_lines_come_whole_and_in_order_however_few_bytes_are_taken_at_once(most):
    reader = Reader(most=most)
    outlet = Outlet(reader, owned=True)
    put(outlet, *(f"line {k}" for k in range(100)))
    outlet.close()
    assert reader.lines == [f"line {k}" for k in range(100)]
    assert (reader.closed_times, outlet.dropped, outlet.failure) == (1, {}, None)


def test_a_stream_that_is_not_owned_stays_open():
    reader = Reader()
    outlet = Outlet(reader, owned=False)
    outlet.close()
    outlet.close()
    assert reader.closed_times == 0


def test_for_a_reader_who_blocks_the_oldest_lines_are_given_up_and_alarms_are_not():
    reader = Reader()
    outlet = Outlet(reader, owned=True, most_waiting=10)
    blocked(reader, outlet)
    for k in range(11):
        put(outlet, f"estimate {k}")
        put(outlet, f"alarm {k}", kind="alarm", urgent=True)
    assert outlet.dropped == {"estimate": 5}
    assert outlet.waiting == 17
    put(outlet, "check", kind="self_check")
    reader.let.set()
    outlet.close()
    told, *rest = reader.lines[1:]
    assert reader.lines[0] == "first"
    assert json.loads(told) == {"type": "dropped", "events": {"estimate": 5}}
    expected = [x for k in range(11) for x in ((f"estimate {k}",) if k >= 5 else ()) + (f"alarm {k}",)]
    assert rest == [*expected, "check"]


def test_every_line_is_there_or_counted_and_every_alarm_is_there():
    reader = Reader()
    outlet = Outlet(reader, owned=True, most_waiting=20)
    for k in range(3000):
        if k % 400 == 100:
            reader.let.clear()
        if k % 400 == 300:
            reader.let.set()
        put(outlet, f"alarm {k}", kind="alarm", urgent=True) if k % 3 == 0 else put(outlet, f"estimate {k}")
    reader.let.set()
    outlet.close()
    kept = [line for line in reader.lines if not line.startswith("{")]
    told = [json.loads(line)["events"] for line in reader.lines if line.startswith("{")]
    assert [line for line in kept if line.startswith("alarm")] == [f"alarm {k}" for k in range(0, 3000, 3)]
    assert len(kept) + outlet.dropped["estimate"] == 3000
    assert sum(t["estimate"] for t in told) == outlet.dropped["estimate"] > 500
    assert [int(line.split()[1]) for line in kept] == sorted(int(line.split()[1]) for line in kept)


def test_even_alarms_end_somewhere(monkeypatch):
    monkeypatch.setattr(waiting, "MOST_URGENT", 5)
    reader = Reader()
    outlet = Outlet(reader, owned=True)
    blocked(reader, outlet)
    put(outlet, *(f"alarm {k}" for k in range(8)), kind="alarm", urgent=True)
    reader.let.set()
    outlet.close()
    assert outlet.dropped == {"alarm": 3}
    assert json.loads(reader.lines[1])["events"] == {"alarm": 3}
    assert reader.lines[2:] == [f"alarm {k}" for k in range(3, 8)]


def test_many_alarms_that_wait_do_not_slow_the_ward_down():
    reader = Reader()
    outlet = Outlet(reader, owned=True, most_waiting=100)
    blocked(reader, outlet)
    scanned = 0

    def count():
        nonlocal scanned
        scanned += 1

    give_up, outlet._lines._give_up = outlet._lines._give_up, lambda: (count(), give_up())
    put(outlet, *map(str, range(5000)), kind="alarm", urgent=True)
    put(outlet, *map(str, range(1000)))
    assert scanned <= 20  # once for each 50 estimates, never for alarms
    reader.let.set()
    outlet.close()


def test_a_full_disk_is_tried_again_and_no_line_is_lost_or_torn(monkeypatch):
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    said, reader = [], Reader(most=4)
    full = OSError(errno.ENOSPC, "No space left on device")
    reader.troubles = [full, full, None]  # None: a stream that is not ready
    outlet = Outlet(reader, owned=True, say=said.append)
    put(outlet, "one", "two")
    until(lambda: "written again" in str(said))
    put(outlet, "three")
    outlet.close()
    assert reader.lines == ["one", "two", "three"]
    assert said == [
        "the events cannot be written: No space left on device; they wait, and the watch goes on",
        "the events are written again",
    ]
    assert (outlet.failure, outlet.dropped) == (None, {})


def test_a_disk_that_stays_full_does_not_hold_up_the_end(monkeypatch):
    reader = Reader()
    reader.troubles = [OSError(errno.ENOSPC, "No space left on device")] * 1000
    outlet = Outlet(reader, owned=True)
    put(outlet, "one", "two", kind="alarm", urgent=True)
    until(lambda: outlet.failure)
    put(outlet, "three")
    began_s = time.monotonic()
    outlet.close(wait_s=300.0)
    assert (
        time.monotonic() - began_s < 60.0
    )  # as soon as it hears of the end, not after a thousand more refusals
    assert outlet.dropped == {"alarm": 2, "estimate": 1}


def test_a_closed_pipe_is_said_once_and_all_lines_are_counted():
    reads, writes = os.pipe()
    os.close(reads)
    said = []
    outlet = Outlet(io.FileIO(writes, "wb"), owned=True, say=said.append)
    put(outlet, "one", kind="alarm", urgent=True)
    until(lambda: outlet.dropped)
    put(outlet, "two", "three")
    outlet.close()
    assert outlet.dropped == {"alarm": 1, "estimate": 2}
    (text,) = said
    assert "nobody reads the events any more" in text
    assert outlet.failure == text


def test_a_blocked_reader_does_not_hold_up_the_end():
    reads, writes = os.pipe()
    outlet = Outlet(io.FileIO(writes, "wb"), owned=True)
    put(outlet, "x" * 200_000)  # more than a pipe holds
    time.sleep(0.05)
    put(outlet, "never taken")
    began_s = time.monotonic()
    outlet.close(wait_s=0.2)
    assert time.monotonic() - began_s < 60.0  # not for ever
    assert outlet.dropped == {"estimate": 1}
    os.close(reads)
    until(lambda: not outlet._thread.is_alive())
    outlet.close()
