"""The page of the commands that serve, and the commands that say who may see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge.cli.app import say

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from ecgedge.bundle import Bundle
    from ecgedge.control import Command, Inbox
    from ecgedge.feeds import Feed
    from ecgedge.monitor.page import Page
    from ecgedge.monitor.settings import PageSettings
    from ecgedge.monitor.tap import PageTap
    from ecgedge.stream import Bed
    from ecgedge.wards.config import WardConfig
    from ecgedge.wards.place import Place

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
PageSessionOption = Annotated[
    float | None,
    typer.Option(
        "--page-session",
        help="Hours after which who has logged in is asked again (12 if left out); more is for the role view.",
    ),
]


def page_settings(
    address: str | None,
    users: Path | None,
    cert: Path | None,
    key: Path | None,
    hosts: list[str] | None,
    session_h: float | None,
) -> PageSettings | None:
    """Return the settings of --page and its companions; None without it.

    Raises
    ------
    UsageError
        If a companion stands alone, or the page would be open to others.
    """
    from ecgedge.errors import UsageError
    from ecgedge.monitor.settings import SHIFT_H, PageSettings, check_settings

    if address is None:
        if users or cert or key or hosts or session_h is not None:
            raise UsageError(
                "--page-users, --page-cert, --page-key, --page-host and --page-session are of no use without --page"
            )
        return None
    if session_h is not None and users is None:
        raise UsageError("--page-session is of no use without --page-users: nobody logs in")
    settings = PageSettings(
        address,
        _text(users),
        _text(cert),
        _text(key),
        tuple(hosts or ()),
        SHIFT_H if session_h is None else session_h,
    )
    check_settings(settings)
    return settings


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


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
    from ecgedge.errors import UsageError
    from ecgedge.monitor.beds import BedFacts
    from ecgedge.monitor.page import Page, Serving, without_secrets
    from ecgedge.monitor.tap import PageTap

    async def obey(to: str, command: Command) -> None:
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
        say=say,
    )
    tap = PageTap(page.hub, name, lambda: {"dropped": dict(source.dropped)})
    info = source.info
    facts = BedFacts(bed.leads, bed.rate_hz, without_secrets(info.uri), bed.mode, bed.policy, info.chunk_s)
    tap.describe(facts)
    await open_page(page, opened)
    return tap


async def open_page(page: Page | None, opened: AsyncExitStack) -> None:
    """Open a page, if there is one, which `opened` closes."""
    if page is not None:
        opened.push_async_callback(page.close)
        await page.open()


def open_ward_page(
    config: WardConfig, bundle: Bundle, place_of: Callable[[str], Place], *, speed: float
) -> Page | None:
    """Make the page of a ward, not open yet; None where its file has none."""
    settings = config.ward.shown
    if settings is None:
        return None
    from ecgedge.alarms import check_pause
    from ecgedge.control import PauseAudio
    from ecgedge.monitor.page import Page, Serving

    async def obey(name: str, command: Command) -> None:
        place = place_of(name)
        if isinstance(command, PauseAudio) and place.bed is not None:
            check_pause(command.duration_s, command.user, place.bed.policy)
        await place.obey(command)

    journals = config.ward.journals
    return Page(
        settings,
        Serving(bundle, bundle.manifest.alarm_policy, "demo" if bundle.simulated else "real"),
        obey=obey,
        ward=True,
        speed=speed,
        folder=None if journals is None else Path(journals),
        say=say,
    )
