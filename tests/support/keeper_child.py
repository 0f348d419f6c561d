"""Who writes the journals, in a process of its own, so that it can be killed: keeper_child.py URI FOLDER"""

import asyncio
import sys
from pathlib import Path

from ecgedge.cluster import journal_keeper
from ecgedge.cluster.bus import open_bus

journal_keeper.SYNC_S = 0.1


async def main(uri, folder):
    bus = await open_bus(uri)
    await journal_keeper.JournalKeeper(bus, Path(folder), say=print).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
