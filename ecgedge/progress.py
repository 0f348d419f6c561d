"""A bar for long work, on standard error where that is a terminal; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

Tell: TypeAlias = Callable[[int, int], None]
"""Takes how much is done, and of how much."""
_T = TypeVar("_T")


def on_terminal() -> bool:
    """Say whether somebody would see a bar."""
    return sys.stderr.isatty()


@contextmanager
def progress(title: str) -> Iterator[Tell]:
    """Draw a bar while the context lasts; what it yields moves it."""
    if not on_terminal():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def tracked(title: str, items: Sequence[_T]) -> Iterator[_T]:
    """Give items one after another and move a bar with each that is done."""
    with progress(title) as tell:
        tell(0, len(items))
        for done, item in enumerate(items, 1):
            yield item
            tell(done, len(items))
