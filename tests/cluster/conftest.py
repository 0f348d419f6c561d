"""A real bus for each file of tests."""

import asyncio

import pytest
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
