"""What a ward in one loop is fed, and what is looked for among the lines that it tells."""

import asyncio

from ecgedge.feeds import Chunk

RATE_HZ = 250.0


def chunks(samples_mv, *, t0_s=0.0, chunk_s=1.0):
    n = round(chunk_s * RATE_HZ)
    starts = range(0, samples_mv.shape[1], n)
    return [Chunk(t0_s + k / RATE_HZ, samples_mv[:, k : k + n], i) for i, k in enumerate(starts)]


def timeless(lines):
    """Without wall time and the journal's name."""
    return [{k: v for k, v in line.items() if k not in ("latency_ms", "journal")} for line in lines]


def of(lines, name, *types):
    return [x for x in timeless(lines) if x["bed"] == name and (not types or x["type"] in types)]


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.005)


def has(lines, name="a", **facts):
    return any(x["bed"] == name and facts.items() <= x.items() for x in lines)


def ended(lines, *names):
    return all(has(lines, name, type="summary") for name in names)
