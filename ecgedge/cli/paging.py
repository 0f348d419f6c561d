"""The page of the commands that serve, and the commands that say who may see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge.cli.app import say

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from ecgedge.control import Command, Inbox
    from ecgedge.feeds import Feed
    from ecgedge.monitor.settings import PageSettings
    from ecgedge.monitor.tap import PageTap
    from ecgedge.stream import Bed

PageOption = Annotated[
    str | None,
    typer.Option(
        "--page", help="Serve the bedside page on PORT of this machine, or on HOST:PORT; docs/page.md."
    ),
]
PageUsersOption = Annotated[
    Path | None, typer.Option("--page-users", help="Who may see the page: a file of `ecgedge page add`.")
]
PageCertOption = Annotated[
    Path | None, typer.Option("--page-cert", help="The page's TLS certificate (PEM, with its chain).")
]
PageKeyOption = Annotated[Path | None, typer.Option("--page-key", help="The certificate's key (PEM).")]
PageHostOption = Annotated[
    list[str] | None,
    typer.Option("--page-host", help="A further name under which browsers reach the page; repeat for more."),
]


def page_settings(
    address: str | None, users: Path | None, cert: Path | None, key: Path | None, hosts: list[str] | None
) -> PageSettings | None:
    """Return the settings of --page and its companions; None without it.

    Raises
    ------
    UsageError
        If a companion stands alone, or the page would be open to others.
    """
    from ecgedge.errors import UsageError
    from ecgedge.monitor.settings import PageSettings, check_settings

    if address is None:
        if users or cert or key or hosts:
            raise UsageError(
                "--page-users, --page-cert, --page-key and --page-host are of no use without --page"
            )
        return None
    files = [None if path is None else str(path) for path in (users, cert, key)]
    settings = PageSettings(address, *files, hosts=tuple(hosts or ()))
    check_settings(settings)
    return settings


async def open_bed_page(
    settings: PageSettings | None,
    bed: Bed,
    source: Feed,
    inbox: Inbox,
    *,
    name: str,
    speed: float,
    journal: Path | None,
    opened: AsyncExitStack,
) -> PageTap | None:
    """Open the page of one bed, which `opened` closes, and return the bed's way to it; None without a page."""
    if settings is None:
        return None
    from ecgedge.alarms import check_pause
    from ecgedge.control import PauseAudio
    from ecgedge.monitor.page import Page, Serving, facts_of_feed
    from ecgedge.monitor.tap import PageTap

    async def obey(to: str, command: Command) -> None:
        from ecgedge.errors import UsageError

        if to != name:
            raise UsageError(f"there is no bed {to}; there is {name}")
        if isinstance(command, PauseAudio):
            check_pause(command.duration_s, command.user, bed.policy)
        await inbox.ask(command)

    page = Page(
        settings,
        Serving(bed.bundle, bed.policy, bed.mode),
        obey=obey,
        speed=1.0 if source.info.live else speed,
        folder=None if journal is None else journal.resolve().parent,
    )
    tap = PageTap(page.hub, name)
    page.hub.describe(name, facts_of_feed(source.info), lambda: {"dropped": dict(source.dropped)})
    opened.push_async_callback(page.close)
    await page.open(say=say)
    return tap
