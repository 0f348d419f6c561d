"""A real bus for each file of tests."""

import asyncio

import pytest
from bus_lines import QUICK
from nats_server import nats_server

from ecgedge.stream import Variants


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture(scope="module")
def variants(formula_bundle):
    """Those of the formula's bundle take the place of the embedded bundle's."""
    with Variants(formula_bundle) as loaded:
        yield loaded


@pytest.fixture
def on_bus(server):
    """Run a test's coroutine with a bus of its own."""
    from ecgedge.cluster.bus import open_bus

    def run(test):
        async def main():
            bus = await open_bus(server.uri)
            try:
                return await asyncio.wait_for(test(bus), 60.0)
            finally:
                await bus.close()

        return asyncio.run(main())

    return run


@pytest.fixture
def with_node(server, formula_bundle):
    """Run a test's coroutine beside a node of this process: it is given the bus of a reader, and a maker of nodes."""
    from ecgedge.cluster.bus import open_bus
    from ecgedge.cluster.ward_node import WardNode

    def run(test):
        async def main():
            bus, running, said = await open_bus(server.uri), [], []

            async def new_node(beds, *, own=None, **chosen):
                own = own or await open_bus(server.uri)
                chosen = {
                    "policies": dict.fromkeys(beds, QUICK),
                    "state_s": 0.5,
                    "journal_patience_s": 0.0,
                    "say": said.append,
                } | chosen
                node = WardNode(formula_bundle, Variants(formula_bundle), own, **chosen)
                running.append((node, asyncio.create_task(node.run())))
                return node

            try:
                await asyncio.wait_for(test(bus, new_node, said), 60.0)
            finally:
                for node, task in running:
                    node.stop()
                    await task
                await bus.close()

        asyncio.run(main())

    return run
