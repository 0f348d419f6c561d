"""The page of a process: made of its settings, told of its beds, opened and closed with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecgedge import __version__
from ecgedge.bundle import RESEARCH_USE_ONLY, Bundle
from ecgedge.ecg import Mode
from ecgedge.feeds import FeedInfo
from ecgedge.monitor.access import Access
from ecgedge.monitor.beds import BedFacts
from ecgedge.monitor.hub import Hub
from ecgedge.monitor.live import Obey
from ecgedge.monitor.machine import Machine
from ecgedge.monitor.server import PageServer
from ecgedge.monitor.settings import PageSettings, check_settings
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
    ) -> None:
        check_settings(settings)
        self._settings, self.serving, self._ward = settings, serving, ward
        self.hub = Hub(now_ms=_now_ms, now_s=time.monotonic, speed=speed)
        self._server = PageServer(
            self.hub,
            Access(),
            obey=obey,
            facts=self._hello,
            card=self._card,
            machine=Machine(folder or Path.cwd()),
            ward=ward,
        )

    async def open(self, *, say: Callable[[str], None]) -> None:
        """Listen, and say where."""
        settings = self._settings
        await self._server.open(settings.host, settings.port)
        say(f"page: {self._server.url}")
        if settings.users is None:
            say(
                "page: without a file of users, whoever is on this machine may look and acknowledge by a typed name"
            )

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
            "limits": {
                "elevated_mmhg": policy.threshold_mmhg,
                "recovery_mmhg": policy.threshold_mmhg - policy.recovery_margin_mmhg,
                "medium_lower_bound_mmhg": policy.medium_lower_bound_mmhg,
                "onset_probability": policy.onset_probability,
                "recovery_probability": policy.recovery_probability,
            },
            "lifetime_s": policy.estimate_lifetime_s,
            "pause_max_s": policy.audio_pause_max_s,
        }


def _now_ms() -> float:
    return time.time() * 1e3


def facts_of_feed(info: FeedInfo) -> BedFacts:
    """Return what the page tells of a feed; its URI is told without name, password and query."""
    return BedFacts(info.leads, info.rate_hz, without_secrets(info.uri), info.mode)


def without_secrets(uri: str) -> str:
    """Return a feed's URI as everybody may see it."""
    if uri.startswith(("sim:", "file:")):
        return uri
    address = uri.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        return address
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
