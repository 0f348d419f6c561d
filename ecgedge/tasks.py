"""The end of tasks that go on until they are cancelled."""

from __future__ import annotations

import asyncio
from typing import Any, Final

AGAIN_S: Final = 1.0
"""A task that has not ended within so long is told to again."""


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until all have ended; what they raise at their end is nobody's any more.

    One cancellation may be lost: before Python 3.12 `asyncio.wait_for` drops it where what it waits for ends in the
    same round of the loop, and a task that tries again and again goes on.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
