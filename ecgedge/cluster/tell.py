"""Telling a bed of a cluster to do something, from anywhere: the command goes onto the bus, its answer comes back."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from ecgedge.cluster.bus import EVENTS, Bus, Delivery
from ecgedge.cluster.command import BedCommand, encode_command
from ecgedge.errors import EcgedgeError

WAIT_S: Final = 15.0
"""So long an answer is waited for: longer than a bed is away when its node dies."""


async def tell_bed(
    bus: Bus, bed: str, do: str, asked: Mapping[str, Any], *, wait_s: float = WAIT_S
) -> dict[str, Any]:
    """Have a bed do something; return its answer: "ok", and "error" where it is false.

    A command that nobody answers is taken back, so that it does not silence an alarm that nobody has seen.

    Raises
    ------
    EcgedgeError
        If nobody answers.
    BusError
        If the bus does not take the command; whether it has it is then not known.
    """
    key = uuid.uuid4().hex
    answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def take(delivery: Delivery) -> None:
        line = _answer(delivery.data)
        if line.get("id") == key and not answered.done():
            answered.set_result(line)

    following = await bus.follow_events(take, bed=bed, after=await bus.last(EVENTS))
    try:
        sequence = await bus.command(bed, encode_command(BedCommand(do, asked, key)), key=key)
        return await asyncio.wait_for(answered, wait_s)
    except (asyncio.TimeoutError, TimeoutError) as error:
        await bus.withdraw(sequence)
        raise EcgedgeError(
            f"nobody answers for bed {bed} in {wait_s:g} s: it is served nowhere, or still reads what it missed. The "
            "command was taken back; tell it again once the bed is back, and look whether it was obeyed after all"
        ) from error
    finally:
        await following.close()


def _answer(line: bytes) -> dict[str, Any]:
    """Return an answer; nothing of what is none."""
    try:
        plain = dict(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return {}
    return plain if plain.get("type") == "answer" else {}
