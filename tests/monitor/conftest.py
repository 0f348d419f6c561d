"""Coroutines of tests run to their end, or fail."""

import asyncio

import pytest


@pytest.fixture
def run():
    """Run a test's coroutine; a page that hangs fails it."""

    def run(coroutine):
        async def main():
            return await asyncio.wait_for(coroutine, 60.0)

        return asyncio.run(main())

    return run
