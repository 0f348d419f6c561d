"""Sink `prometheus://HOST:PORT/metrics`: what an overseer of many beds wants to graph, for Prometheus to fetch.

Needs the extra `prometheus`. No alarm may hang on it: whoever fetches hears of a change up to a scrape later, and never
of one that came and went between two of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from ecgedge.ecg import Mode
from ecgedge.errors import UsageError, missing_extra
from ecgedge.events import Alarm, Estimate, Event, Expired

_HELP: Final = "Research use only."
_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class _Bed:
    """What is known of one bed."""

    mode: Mode
    estimate: Estimate | None = None
    told_s: float = 0.0
    alarms: dict[str, Alarm] = field(default_factory=dict)
    windows: Counter[str] = field(default_factory=Counter)
    onsets: Counter[str] = field(default_factory=Counter)

    def take(self, event: Event) -> None:
        if isinstance(event, Estimate):
            self.estimate, self.told_s = event, time.monotonic()
            self.windows[event.validity] += 1
        elif isinstance(event, Expired):
            self.estimate = None
        elif isinstance(event, Alarm):
            before = self.alarms.get(event.condition)
            if event.presence == "on" and (before is None or before.presence == "off"):
                self.onsets[event.condition] += 1
            self.alarms[event.condition] = event


class PrometheusPage:
    """A page of metrics, as an `Output`; `serve` opens it."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._host, self._port, self._path = host, port, path
        self._beds: dict[str, _Bed] = {}
        self._runner: web.AppRunner | None = None
        self._library = _import()
        self._registry = self._library.CollectorRegistry()
        self._registry.register(self)

    @property
    def name(self) -> str:
        """Its address."""
        return f"prometheus://{self._host}:{self._port}{self._path}"

    @property
    def trouble(self) -> None:
        """None: nothing is delivered here, it is fetched."""
        return None

    def put(self, bed: str, mode: Mode, event: Event, *, at: datetime | None = None) -> None:
        """Take an event; a page shows what is, and not when it was told."""
        del at
        self._beds.setdefault(bed, _Bed(mode)).take(event)

    async def room(self) -> None:
        """There always is."""

    async def taken(self) -> None:
        """Nothing waits."""

    def status(self) -> dict[str, Any]:
        """Return what an overseer wants to know."""
        return {"beds": len(self._beds), "delivery": "information only"}

    async def serve(self) -> None:
        """Open the page.

        Raises
        ------
        UsageError
            If the address cannot be listened on.
        """
        app = web.Application()
        app.router.add_get(self._path, self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.close()
            raise UsageError(f"{self.name}: cannot listen there: {error.strerror or error}") from error
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Close the page; safe to call twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        del request
        text = self._library.generate_latest(self._registry)
        return web.Response(body=text, headers={"Content-Type": _FORMAT})

    # --- as prometheus_client asks a collector ---

    def describe(self) -> list[Any]:
        """Nothing beforehand: names do not depend on the beds."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield all metrics as they are now."""
        yield from self._estimates()
        yield from self._alarms()

    def _estimates(self) -> Iterator[Any]:
        now_s = time.monotonic()
        value = self._gauge(
            "mpcwp_mmhg", "Estimate of mPCWP of the newest valid window; absent where there is none."
        )
        valid = self._gauge("estimate_valid", "1 where the newest window is valid.")
        quality = self._gauge("signal_quality", "Signal quality index of the newest window, 0 to 1.")
        age = self._gauge("estimate_age_seconds", "Since the newest estimate was told.")
        windows = self._counter("windows", "Windows by validity.", "validity")
        for name, bed in self._beds.items():
            labels = [name, bed.mode]
            if bed.estimate is not None:
                if bed.estimate.mpcwp_mmhg is not None:
                    value.add_metric(labels, bed.estimate.mpcwp_mmhg)
                valid.add_metric(labels, float(bed.estimate.validity == "valid"))
                quality.add_metric(labels, bed.estimate.sqi)
                age.add_metric(labels, now_s - bed.told_s)
            for validity, n in bed.windows.items():
                windows.add_metric([*labels, validity], n)
        yield from (value, valid, quality, age, windows)

    def _alarms(self) -> Iterator[Any]:
        on = self._gauge("alarm_on", "1 where the condition is present.", "condition", "priority")
        sounds = self._gauge("alarm_sounds", "1 where the alarm is to be heard.", "condition", "priority")
        onsets = self._counter("alarm_onsets", "How often a condition came on.", "condition")
        for name, bed in self._beds.items():
            labels = [name, bed.mode]
            for condition, alarm in bed.alarms.items():
                on.add_metric([*labels, condition, alarm.priority], float(alarm.presence == "on"))
                sounds.add_metric([*labels, condition, alarm.priority], float(alarm.sounds))
            for condition, n in bed.onsets.items():
                onsets.add_metric([*labels, condition], n)
        yield from (on, sounds, onsets)

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        core = self._library.core
        return core.GaugeMetricFamily(f"ecgedge_{name}", f"{text} {_HELP}", labels=["bed", "mode", *labels])

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        core = self._library.core
        return core.CounterMetricFamily(f"ecgedge_{name}", f"{text} {_HELP}", labels=["bed", "mode", *labels])


def _import() -> Any:
    try:
        import prometheus_client.core
    except ImportError as error:
        raise missing_extra(
            extra="prometheus", package="prometheus_client", purpose="the sink prometheus:"
        ) from error
    return prometheus_client


def parse_prometheus(uri: str) -> tuple[str, int, str]:
    """Return host, port and path of a `prometheus://` URI; UsageError says what is wrong with it."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{uri}: {error}") from error
    if not host or port is None or parts.query or parts.fragment:
        raise UsageError(
            f"{uri}: expected prometheus://HOST:PORT/metrics, for example prometheus://127.0.0.1:9464"
        )
    return host, port, parts.path or "/metrics"


async def open_prometheus(uri: str) -> PrometheusPage:
    """Open the page of a `prometheus://` URI; UsageError says what is wrong with it."""
    page = PrometheusPage(*parse_prometheus(uri))
    await page.serve()
    return page
