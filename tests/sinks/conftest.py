"""Coroutines of tests run to their end, or fail."""

import asyncio

import pytest
from free_ports import free_port


@pytest.fixture
def run():
    """Run a test's coroutine; an outbox that hangs fails it."""

    def run(coroutine):
        async def main():
            return await asyncio.wait_for(coroutine, 60.0)

        return asyncio.run(main())

    return run


@pytest.fixture
def unused_port():
    """A port on which nobody listens, for now."""
    return free_port()
