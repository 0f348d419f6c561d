"""The end of tasks that go on until they are cancelled."""

import asyncio

import pytest

from ecgedge import tasks
from ecgedge.tasks import end_tasks


async def on_and_on(*, deaf, heard):
    """Try for ever, as a loop does whose `wait_for` drops the first `deaf` cancellations."""
    while True:
        try:
            await asyncio.sleep(1000.0)
        except asyncio.CancelledError:
            heard.append("cancelled")
            if len(heard) > deaf:
                raise


async def fails_at_its_end():
    try:
        await asyncio.sleep(1000.0)
    finally:
        raise OSError("the line is cut")


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)


@pytest.mark.parametrize("deaf", [0, 1, 3])
def test_a_task_ends_however_many_cancellations_are_lost(deaf):
    async def main():
        heard = []
        task = asyncio.create_task(on_and_on(deaf=deaf, heard=heard))
        await asyncio.sleep(0)
        await asyncio.wait_for(end_tasks(task), 60.0)
        assert task.cancelled()
        return heard

    assert len(asyncio.run(main())) == deaf + 1


def test_what_ends_otherwise_has_ended():
    async def main():
        done = asyncio.create_task(asyncio.sleep(0))
        failing = asyncio.create_task(fails_at_its_end())
        await asyncio.sleep(0.01)
        await asyncio.wait_for(end_tasks(done, failing), 60.0)
        assert done.done()
        assert isinstance(failing.exception(), OSError)

    asyncio.run(main())


def test_no_task_is_at_its_end():
    asyncio.run(end_tasks())
