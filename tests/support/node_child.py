"""A ward node in a process of its own, so that it can be killed: node_child.py URI BUNDLE BED..."""

import asyncio
import sys

from bus_lines import QUICK

from ecgedge.bundle import load_bundle
from ecgedge.cluster.bus import open_bus
from ecgedge.cluster.ward_node import WardNode
from ecgedge.stream import Variants


def say(text):
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def main(uri, bundle, *beds):
    loaded = load_bundle(bundle)
    bus = await open_bus(uri, say=say)
    policies = dict.fromkeys(beds, QUICK)
    # A machine that stands still for a minute is no test of who writes the journals.
    node = WardNode(
        loaded, Variants(loaded), bus, policies=policies, state_s=1.0, journal_patience_s=0.0, say=say
    )
    running = asyncio.create_task(node.run())
    await node.take(beds)
    say("ready")
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
