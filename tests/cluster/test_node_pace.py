"""Whether a live feed's samples come at their rate and in time is judged on the bus, across the move of a bed."""

from dataclasses import replace

import needs
import pytest
from bus_lines import Told, messages

from ecgedge.cluster.bus import Bus, open_bus
from ecgedge.sim import Simulator

needs.nats()
CHUNK_S = 0.4


class Stamped(Bus):
    """A bus whose message number k (from 0) of a bed came at `came_s(k)` of the server's clock."""

    def came_s(self, k):
        return CHUNK_S * k

    async def follow(self, bed, take, *, after):
        async def stamped(delivery):
            await take(replace(delivery, published_s=1.7e9 + self.came_s(delivery.sequence - self.first)))

        return await super().follow(bed, stamped, after=after)


@pytest.fixture
def play(with_node, server):
    """Play a feed whose messages come when a function says; the bed moves after some. Return what one condition did."""

    def run(bed, condition, came_s, *, move_after, live=True, seconds=120):
        ecg = Simulator("stable", seed=1, rate_hz=250.0).read(seconds * 250)
        sent = messages(ecg, live=live)
        found = []

        async def test(bus, new_node, said):
            told = await Told.follow(bus)
            first = None

            async def stamped():
                own = await open_bus(server.uri)
                own.__class__ = Stamped
                own.first, own.came_s = first, came_s
                return own

            for number, (begin, end) in enumerate([(0, move_after), (move_after, len(sent))]):
                for k in range(begin, end):
                    sequence = await bus.publish(bed, sent[k], number=k)
                    first = sequence if first is None else first
                node = await new_node([bed], own=await stamped())
                await node.take([bed])
                last_s = CHUNK_S * end - 6.0

                def is_done(told, last_s=last_s):
                    return any(x["type"] == "estimate" and x["t_s"] >= last_s for x in told.of(bed))

                await told.until(is_done)
                if number == 0:
                    await node.release([bed])
            found.extend(line for line in told.of(bed) if line.get("condition") == condition)

        with_node(test)
        return [line["presence"] for line in found if "told again" not in line["text"]], found

    return run


def changes(presences):
    """Presences without those that are told twice in a row."""
    return [x for k, x in enumerate(presences) if k == 0 or presences[k - 1] != x]


def test_a_rate_that_is_not_the_declared_one_is_told_and_stays_told_after_a_move(play):
    presences, lines = play("slow", "FEED_RATE", lambda k: 2.0 * CHUNK_S * k, move_after=180)
    assert changes(presences) == ["on"]
    assert "samples come at 125 per second, and the feed declares 250" in lines[0]["text"]


def test_samples_that_come_late_are_told_until_they_come_in_time_whichever_node_has_the_bed(play):
    def came_s(k):
        return CHUNK_S * k + (8.0 if 100 <= k < 200 else 0.0)

    presences, lines = play("late", "FEED_DELAYED", came_s, move_after=150)
    assert changes(presences) == ["on", "off"]
    assert lines[-1]["t_s"] >= CHUNK_S * 200


@pytest.mark.parametrize("condition", ["FEED_RATE", "FEED_DELAYED"])
def test_what_is_played_at_any_speed_is_not_judged(play, condition):
    presences, _ = play(
        f"played-{condition}",
        condition,
        lambda k: 0.01 * k + (9.0 if k > 150 else 0.0),
        move_after=100,
        live=False,
    )
    assert presences == []
