"""The outbox: order, again and again, bounds, and that nothing goes in silence."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_events import alarm, estimate, outbox, self_check, until

from ecgedge.sinks.outbox import BedOutlet, RefusedError, SinkError, first_trouble
from ecgedge.sinks.waiting import Waiting


class Memory:
    """A receiver in memory that does what `moods` says of each attempt, and takes all when there are none left."""

    name, kinds = "memory", None

    def __init__(self, moods=(), *, most=4, kinds=None):
        self.moods, self.most, self.kinds = list(moods), most, kinds
        self.took, self.attempts, self.closed = [], [], 0

    async def deliver(self, told):
        self.attempts.append([one.event.t_s for one in told])
        mood = self.moods.pop(0) if self.moods else None
        if mood == "hang":
            await asyncio.sleep(1000.0)
        if mood is not None:
            raise mood
        self.took += told

    async def close(self):
        self.closed += 1

    @property
    def times(self):
        return [one.event.t_s for one in self.took]


def test_events_come_in_order_and_numbered_by_bed(run):
    receiver = Memory()

    async def main():
        async with outbox(receiver) as box:
            for t_s in range(10):
                box.put("a" if t_s % 2 else "b", "demo", estimate(float(t_s)))

    run(main())
    assert receiver.times == [float(t) for t in range(10)]
    assert [(one.bed, one.number) for one in receiver.took[:4]] == [("b", 0), ("a", 0), ("b", 1), ("a", 1)]
    assert len({one.id for one in receiver.took}) == 10
    assert receiver.closed == 1
    plain = receiver.took[0].plain
    assert plain["research_use_only"] is True
    assert (plain["bed"], plain["mode"], plain["type"]) == ("b", "demo", "estimate")


def test_what_was_not_taken_comes_again_and_is_a_trouble_meanwhile(run):
    receiver, said = Memory([SinkError("the line is cut")] * 40), []

    async def main():
        async with outbox(receiver, said=said) as box:
            box.put("a", "real", alarm(1.0))
            box.put("a", "real", alarm(2.0))
            await until(lambda: box.trouble is not None)
            assert box.trouble == "memory: the line is cut"
            assert first_trouble([box]) == box.trouble
            assert box.status()["waiting"] == 2
            receiver.moods.clear()
            await until(lambda: box.n_waiting == 0)
            assert box.trouble is None
            assert box.status()["delivered"] == 2

    run(main())
    assert receiver.times == [1.0, 2.0]
    assert said == [
        "sink memory: the line is cut; events wait and are sent again",
        "sink memory takes events again",
    ]


def test_a_receiver_that_hangs_is_a_trouble(run):
    receiver = Memory(["hang"])

    async def main():
        async with outbox(receiver, attempt_s=0.5) as box:
            box.put("a", "real", alarm())
            await until(lambda: box.trouble is not None)
            assert "wait for more than 0.3 s" in box.trouble
            await until(lambda: box.n_waiting == 0)
            assert box.trouble is None

    run(main())
    assert len(receiver.took) == 1


def test_an_error_that_nobody_thought_of_ends_nothing(run):
    receiver = Memory([ZeroDivisionError("oh")])

    async def main():
        async with outbox(receiver) as box:
            box.put("a", "real", alarm())

    run(main())
    assert len(receiver.took) == 1


def test_who_refuses_a_batch_is_asked_one_by_one(run):
    receiver, said = Memory(), []
    deliver = receiver.deliver

    async def picky(told):
        if any(one.event.t_s == 2.0 for one in told):
            receiver.attempts.append([one.event.t_s for one in told])
            raise RefusedError("two is wrong")
        await deliver(told)

    receiver.deliver = picky

    async def main():
        async with outbox(receiver, said=said) as box:
            for t_s in range(5):
                box.put("a", "real", alarm(float(t_s)))
            await until(lambda: box.n_waiting == 0)
            assert box.refused == {"alarm": 1}
            assert box.trouble == "memory: refused an event: two is wrong"

    run(main())
    assert receiver.times == [0.0, 1.0, 3.0, 4.0]
    assert receiver.attempts == [[0.0, 1.0, 2.0, 3.0], [0.0], [1.0], [2.0], [3.0], [4.0]]
    assert said[-1] == "sink memory: events that were refused: 1 of type alarm"


def test_what_waits_has_a_bound_and_alarms_are_kept(run):
    receiver, said = Memory([SinkError("down")] * 10_000), []

    async def main():
        async with outbox(receiver, said=said, most_waiting=100) as box:
            for t_s in range(1000):
                box.put("a", "real", estimate(float(t_s)))
                if t_s % 10 == 0:
                    box.put("a", "real", alarm(t_s + 0.5))
            await asyncio.sleep(0)
            assert box.n_waiting <= 100 + 100 + 1
            dropped = box.dropped["estimate"]
            receiver.moods.clear()
            await until(lambda: box.n_waiting == 0)
            assert box.delivered + dropped == 1100

    run(main())
    assert [t for t in receiver.times if t % 1.0 == 0.5] == [t + 0.5 for t in range(0, 1000, 10)]
    assert receiver.times == sorted(receiver.times)
    numbers = [one.number for one in receiver.took]
    assert len(set(range(1100)) - set(numbers)) == 1100 - len(numbers), (
        "a hole in the numbers for each lost event"
    )
    assert any(text.startswith("sink memory: events that were never taken") for text in said)


def test_the_end_counts_what_was_never_taken(run):
    receiver, said = Memory([SinkError("down")] * 10_000), []

    async def main():
        async with outbox(receiver, said=said) as box:
            box.put("a", "real", alarm())
            box.put("a", "real", estimate())
        box.put("a", "real", alarm())  # after the end: nobody is there
        await box.close()

    run(main())
    assert said[-1] == "sink memory: events that were never taken: 1 of type alarm, 1 of type estimate"
    assert receiver.closed == 1


@pytest.mark.parametrize("rounds", range(8))
def test_the_end_comes_in_whichever_round_of_the_loop_an_attempt_fails(run, rounds):
    """Before Python 3.12 `wait_for` drops a cancellation that comes as what it waits for fails."""

    class Failing(Memory):
        async def deliver(self, told):
            self.attempts.append(told)
            if len(self.attempts) == 1:
                await closing.wait()
                for _ in range(rounds):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(1000.0)
            raise SinkError("down")

    receiver, closing = Failing(), asyncio.Event()

    async def main():
        async with outbox(receiver, attempt_s=1000.0) as box:
            box.put("a", "real", alarm())
            await until(lambda: receiver.attempts)
            closing.set()
            await box.close(wait_s=0.0)

    run(main())
    assert receiver.closed == 1


def test_who_can_wait_loses_nothing(run):
    receiver = Memory()

    async def main():
        async with outbox(receiver, most_waiting=50) as box:
            way = BedOutlet(box, "a", "demo", patient=True)
            for t_s in range(500):
                await way.send(estimate(float(t_s)))
            await way.close()

    run(main())
    assert receiver.times == [float(t) for t in range(500)]


def test_a_receiver_has_no_form_for_some_events(run):
    receiver = Memory(kinds=frozenset({"alarm"}))

    async def main():
        async with outbox(receiver) as box:
            box.put("a", "real", self_check())
            box.put("a", "real", alarm())

    run(main())
    assert [one.number for one in receiver.took] == [0]


class Thing:
    def __init__(self, n, urgent):
        self.n, self.urgent, self.kind = n, urgent, "x" if urgent else "y"


@given(st.lists(st.one_of(st.booleans(), st.integers(1, 5))), st.integers(1, 8))
def test_nothing_of_a_queue_is_lost_uncounted(steps, most):
    """Booleans are put, urgent or not; numbers are taken."""
    queue, n, taken, told = Waiting(most_waiting=most), 0, [], 0
    for step in steps:
        if step is True or step is False:
            queue.put(Thing(n, step))
            n += 1
        else:
            taken += queue.take(step)
            told += sum(queue.given_up().values())
    left = queue.take()
    told += sum(queue.given_up().values())
    order = [thing.n for thing in taken + left]
    assert order == sorted(order)
    assert len(order) + sum(queue.dropped.values()) == n
    assert told == sum(queue.dropped.values())
    assert queue.dropped["x"] == 0
    assert len(queue) == 0
    with pytest.raises(IndexError):
        _ = queue.oldest
