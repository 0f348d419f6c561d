"""The page of a process: made of its settings, told of its beds, opened and closed with it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecgedge import __version__
from ecgedge.bundle import RESEARCH_USE_ONLY, Bundle
from ecgedge.ecg import Mode
from ecgedge.errors import UsageError
from ecgedge.monitor.access import Access
from ecgedge.monitor.beds import limits_of, scrub
from ecgedge.monitor.gate import Limits
from ecgedge.monitor.hub import Hub
from ecgedge.monitor.live import Obey
from ecgedge.monitor.machine import Machine
from ecgedge.monitor.server import PageServer
from ecgedge.monitor.settings import LOOPBACK_NAMES, PageSettings, check_settings
from ecgedge.monitor.users import UsersBook
from ecgedge.policy import AlarmPolicy

VERSION: Final = 1


@dataclass
class Serving:
    """What serves now; a swap of bundles writes here."""

    bundle: Bundle
    policy: AlarmPolicy
    mode: Mode


class Page:
    """The page, with its hub.

    Parameters
    ----------
    settings
        Where, and for whom.
    serving
        What viewers are told first.
    obey
        Has a bed obey a command.
    ward
        Whether it is an overview of many beds.
    speed
        At which feeds play.
    folder
        Where journals are written, to tell how much room there is.
    say
        Takes what people must know.
    limits
        Of connections.

    Raises
    ------
    UsageError
        If it would be open to others, or a file cannot be read.
    """

    def __init__(
        self,
        settings: PageSettings,
        serving: Serving,
        *,
        obey: Obey,
        ward: bool = False,
        speed: float = 1.0,
        folder: Path | None = None,
        say: Callable[[str], None],
        limits: Limits | None = None,
    ) -> None:
        check_settings(settings)
        self._settings, self.serving, self._ward, self._say = settings, serving, ward, say
        self.hub = Hub(now_ms=_now_ms, now_s=time.monotonic, speed=speed)
        self._server = PageServer(
            self.hub,
            self._access(say),
            obey=obey,
            facts=self._hello,
            card=self._card,
            machine=Machine(folder or Path.cwd()),
            ward=ward,
            limits=limits,
            say=say,
            tls=None if settings.cert is None else tls_context(settings),
        )

    def _access(self, say: Callable[[str], None]) -> Access:
        settings = self._settings
        users = None
        if settings.users is not None:
            users = UsersBook(Path(settings.users), now_s=time.monotonic, say=say)
        return Access(
            users,
            hosts=allowed_hosts(settings),
            secure=settings.cert is not None,
            session_h=settings.session_h,
        )

    async def open(self) -> None:
        """Listen, and say where."""
        settings, say = self._settings, self._say
        await self._server.open(settings.host, settings.port)
        say(f"page: {self._server.url}")
        if settings.users is None:
            say(
                "page: without a file of users, whoever is on this machine may look and acknowledge by a typed name"
            )

    @property
    def url(self) -> str:
        """Where a browser finds it, once it is open."""
        return self._server.url

    async def close(self) -> None:
        """Close it; safe to call twice."""
        await self._server.close()

    def serve(self, bundle: Bundle) -> None:
        """Tell that another bundle serves."""
        self.serving.bundle = bundle
        self._server.tell_facts()

    def counts(self) -> dict[str, int]:
        """Return what was refused, dropped or cut, by name."""
        return self._server.counts()

    def _card(self) -> str:
        return self.serving.bundle.contents.get("card.md", b"There is no model card.").decode(
            "utf-8", "replace"
        )

    def _hello(self) -> dict[str, Any]:
        bundle, policy = self.serving.bundle, self.serving.policy
        manifest = bundle.manifest
        return {
            "type": "hello",
            "version": VERSION,
            "ecgedge": __version__,
            "server_ms": round(_now_ms(), 1),
            "mode": self.serving.mode,
            "simulated": bundle.simulated,
            "notice": RESEARCH_USE_ONLY,
            "ward": self._ward,
            "bundle": {
                "id": bundle.id,
                "name": manifest.name,
                "simulated": bundle.simulated,
                "trained_on": manifest.provenance.trained_on,
            },
            **limits_of(policy),
        }


def _now_ms() -> float:
    return time.time() * 1e3


def without_secrets(uri: str) -> str:
    """Return a feed's URI as everybody may see it; settings of a simulated patient or a file are no secret."""
    return uri if uri.startswith(("sim:", "file:")) else scrub(uri.partition("?")[0].partition("#")[0])


def allowed_hosts(settings: PageSettings) -> tuple[str, ...]:
    """Return the names by which browsers may reach the page; its address is always one."""
    if settings.is_loopback:
        return (*LOOPBACK_NAMES, settings.host, *settings.hosts)
    return (settings.host, socket.gethostname(), *settings.hosts)


def tls_context(settings: PageSettings) -> ssl.SSLContext:
    """Return what a TLS server needs; UsageError if a file cannot be read or the two do not belong together."""
    if settings.cert is None:
        raise UsageError("the page has no certificate")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert, settings.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the page's certificate {settings.cert} with the key {settings.key}: {error}; both must be PEM, "
            "and belong together"
        ) from error
    return context


def _no_password() -> str:
    """Ask nobody: a service has no terminal."""
    raise ValueError("the key is encrypted; give one that is not, readable by this user alone")
