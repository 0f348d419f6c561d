"""A feed that plays what a test gives it."""

import asyncio

from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.leads import STANDARD_LEADS


class At(float):
    """A pause that ends so many seconds after the feed began: what a busy machine loses, the next one gives back."""


class MemoryFeed:
    """Plays steps: a Chunk is delivered, a number is a pause in seconds, an Event is awaited, an exception raised."""

    def __init__(self, *steps, info=None, rate_hz=250.0):
        self.info = info or FeedInfo("memory:", STANDARD_LEADS, rate_hz, "demo", 1.0)
        self.steps = steps
        self.closed = 0
        self.dropped = {}

    async def __aiter__(self):
        begin_s = asyncio.get_running_loop().time()
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, Chunk):
                yield step
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, At):
                await asyncio.sleep(begin_s + step - asyncio.get_running_loop().time())
            else:
                await asyncio.sleep(step)

    async def close(self):
        self.closed += 1
