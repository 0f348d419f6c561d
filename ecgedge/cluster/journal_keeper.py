"""Takes the journals' parts off the bus and has them written; a bed whose journal the disk does not take is told.

The bus keeps the parts for a week, and the folder how far they are on its disk: whoever comes next goes on from there.
How far that is stands on the bus, too, where every node looks at it (`ecgedge.cluster.journal_watch`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from ecgedge.cluster.bus import JOURNAL, Bus, BusError, Delivery
from ecgedge.cluster.command import BedCommand, encode_command
from ecgedge.cluster.journal_files import JournalFile
from ecgedge.cluster.journal_part import JournalPart, read_part
from ecgedge.cluster.journal_watch import STATE, Written
from ecgedge.cluster.stream_reader import Mark, Reader, open_reader
from ecgedge.errors import RecordError
from ecgedge.patience import Patient
from ecgedge.wards.state import replace_file

SYNC_S: Final = 5.0
"""How often all is brought to the disk, and the bus told so; alarms are on the disk at once."""

AGAIN_S: Final = 2.0
"""A disk, or a bus, that does not take something is asked again after so long."""

MOST_WAITING: Final = 1_000
"""Parts of one bed that wait for the disk, of about three hours; then the oldest are given up, and the file says so."""

READ_AT_ONCE: Final = 100

MARK: Final = "read-up-to.json"
"""File of the folder that keeps how far the bus was read: without it all that the bus has is read again."""


class _Bed:
    """One bed's journal, and what waits for it: sequence, part, when it was published."""

    def __init__(self, path: Path, rotate_bytes: int | None) -> None:
        self.file = JournalFile(path, rotate_bytes)
        self.disk = Patient(f"the journal {path}")
        self.waiting: deque[tuple[int, JournalPart, float]] = deque(maxlen=MOST_WAITING)
        self.told: bool | None = None  # whether the bed was told that it fails; not known at first
        self.is_synced = True

    def write(self) -> None:
        """Write what waits; RecordError where the disk does not take it."""
        while self.waiting:
            _, part, published_s = self.waiting[0]
            self.is_synced = False
            self.disk.do(partial(self.file.write, part, published_s=published_s))
            self.waiting.popleft()

    def sync(self) -> None:
        """Bring all to the disk; RecordError where it does not take it."""
        if not self.is_synced:
            self.disk.do(self.file.sync)
            self.is_synced = True


class JournalKeeper:
    """Writes the journals of all beds into a folder.

    Parameters
    ----------
    bus
        Left open.
    folder
        One file a bed, NAME.jsonl, as a ward's.
    rotate_bytes
        See `ecgedge.journal.Journal`.
    say
        Takes what people must know.

    Attributes
    ----------
    read_up_to
        The sequence of the last message that was read.
    dropped
        How many were no part of a journal.
    """

    def __init__(
        self, bus: Bus, folder: Path, *, rotate_bytes: int | None = None, say: Callable[[str], None]
    ) -> None:
        self._bus, self._folder, self._rotate_bytes, self._say = bus, folder, rotate_bytes, say
        self._mark_path = folder / MARK
        self._beds: dict[str, _Bed] = {}
        self._written: Written
        self.read_up_to = 0
        self._said = ""
        self._stop = asyncio.Event()
        self.dropped = 0

    def stop(self) -> None:
        """End `run` in good order."""
        self._stop.set()

    async def run(self) -> None:
        """Write what comes until `stop`, then bring all to the disk."""
        reader = await open_reader(self._bus, JOURNAL, self._mark())
        self._written = Written(reader.reached)
        try:
            await self._say_how_far()
            await self._write_all(reader)
        finally:
            self._settle(reader)
            await self._say_how_far()
            await reader.close()
            for bed in self._beds.values():
                self._try(bed, partial(bed.disk.do, bed.file.close))

    async def _write_all(self, reader: Reader) -> None:
        next_sync_s = time.monotonic() + SYNC_S
        next_try_s = 0.0
        while not self._stop.is_set():
            try:
                for delivery in await reader.read(READ_AT_ONCE, wait_s=0.5):
                    await self._take(delivery)
            except BusError as error:
                self._tell_once(f"{error}; trying again")
                await asyncio.sleep(AGAIN_S)
            now_s = time.monotonic()
            if now_s >= next_try_s:
                next_try_s = now_s + AGAIN_S
                for name in [name for name, bed in self._beds.items() if bed.waiting]:
                    await self._write(name)
            if now_s >= next_sync_s:
                next_sync_s = now_s + SYNC_S
                self._settle(reader)
                await self._say_how_far()

    async def _take(self, delivery: Delivery) -> None:
        part = read_part(delivery.data)
        if part is None:
            self.dropped += 1
            self._say(f"what is no part of a journal is dropped ({self.dropped} so far)")
        else:
            bed = self._beds.get(part.bed)
            if bed is None:
                bed = self._beds[part.bed] = _Bed(self._folder / f"{part.bed}.jsonl", self._rotate_bytes)
            bed.waiting.append((delivery.sequence, part, delivery.published_s))
            if len(bed.waiting) == 1:  # else the disk does not take it now, and is tried again later
                await self._write(part.bed)
        self.read_up_to = delivery.sequence

    async def _write(self, name: str) -> None:
        bed = self._beds[name]
        why = self._try(bed, bed.write)
        if bed.told is None or bed.told != (why is not None):
            bed.told = why is not None
            await self._tell(name, why)

    def _try(self, bed: _Bed, work: Callable[[], None]) -> str | None:
        """Do it; return why the disk did not take it."""
        try:
            work()
        except RecordError as error:
            if not bed.told:
                self._say(f"{error}; its entries wait on the bus")
            return str(error)
        return None

    async def _tell(self, name: str, why: str | None) -> None:
        """Tell a bed whether its journal is written: its alarm JOURNAL_FAILED says so."""
        command = encode_command(BedCommand("journal", {"why": why}))
        try:
            await self._bus.command(name, command, key=f"journal-{name}-{time.time_ns()}")
        except BusError as error:
            self._beds[name].told = None  # so it is told again with the next part
            self._tell_once(str(error))

    def _settle(self, reader: Reader) -> None:
        """Bring all to the disk, and keep up to where it is there."""
        beds = list(self._beds.values())
        failed = [(bed, why) for bed in beds if (why := self._try(bed, bed.sync)) is not None]
        if not self.read_up_to:
            return
        # A bed that was told says itself that its journal fails: all others need not.
        silent = [why for bed, why in failed if not bed.told]
        mark = self._written.mark if silent else self._up_to(reader, [bed for bed in beds if not bed.told])
        self._written = Written(mark, silent[0] if silent else None)
        if failed:
            return
        try:
            replace_file(self._mark_path, self._up_to(reader, beds).to_bytes())
            self._said = ""
        except RecordError as error:  # then more is read again, and is not written twice
            self._tell_once(str(error))

    def _up_to(self, reader: Reader, beds: Iterable[_Bed]) -> Mark:
        """Return how far all was written of what these beds' journals were given."""
        return reader.mark(
            min((bed.waiting[0][0] - 1 for bed in beds if bed.waiting), default=self.read_up_to)
        )

    async def _say_how_far(self) -> None:
        """Say on the bus how far all is on the disk."""
        try:
            await self._bus.set_state(STATE, self._written.to_bytes())
        except BusError as error:
            self._tell_once(str(error))

    def _mark(self) -> Mark | None:
        """Return how far all journals of the folder are on its disk."""
        with suppress(OSError):
            return Mark.from_bytes(self._mark_path.read_bytes())
        return None

    def _tell_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
