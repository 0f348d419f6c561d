"""An IEEE 11073 SDC provider of waveforms, as `ecgedge.feeds.sdc` and any other consumer subscribes to it."""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import FeedError
from ecgedge.feeds import Chunk, FeedInfo
from ecgedge.feeds.declared import declared_of, positive_setting
from ecgedge.mdc import LEAD_CODES, MILLIVOLT
from ecgedge.rig.address import options_of
from ecgedge.rig.writing import LSB_NV
from ecgedge.sdc.library import Certificates, import_sdc
from ecgedge.sdc.provider import Running, description, start_provider

REPORT_S: Final = 0.1
"""Of samples in a report, unless the URI says otherwise."""

WAIT_S: Final = 0.1
_HEAD: Final = struct.Struct("<d")
_MICROVOLT: Final = "266419"


def waveform_mds(info: FeedInfo, *, resolution_mv: float, report_s: float, unit: str = MILLIVOLT) -> str:
    """Return an MDS with one RealTimeSampleArray a lead (ISO/IEEE 11073-10207)."""
    scale = 1e3 if unit == _MICROVOLT else 1.0
    metrics = "".join(
        f'<pm:Metric xsi:type="pm:RealTimeSampleArrayMetricDescriptor" Handle="ecg.{lead}" MetricCategory="Msrmt" '
        f'MetricAvailability="Cont" DeterminationPeriod="PT{report_s:.6f}S" Resolution="{resolution_mv * scale:.9f}" '
        f'SamplePeriod="PT{1.0 / info.rate_hz:.9f}S"><pm:Type Code="{LEAD_CODES[lead]}"/><pm:Unit Code="{unit}"/>'
        "</pm:Metric>"
        for lead in info.leads
    )
    return (
        '<pm:Mds Handle="mds0" SafetyClassification="Inf"><pm:SystemContext Handle="context">'
        '<pm:PatientContext Handle="patient"/><pm:LocationContext Handle="location"/></pm:SystemContext>'
        f'<pm:Vmd Handle="ecg"><pm:Channel Handle="ecg.leads">{metrics}</pm:Channel></pm:Vmd></pm:Mds>'
    )


class SdcSender:
    """A provider. A message is the time of its first sample, and float32 millivolts, lead by lead."""

    def __init__(
        self, running: Running, info: FeedInfo, *, resolution_mv: float, report_s: float, in_microvolts: bool
    ) -> None:
        self._running, self._info = running, info
        self._mode = declared_of(info, lsb_nv=1.0).mode.capitalize()
        self._resolution_mv, self._scale = resolution_mv, 1000 if in_microvolts else 1
        self._step = Decimal(repr(round(resolution_mv * self._scale, 9)))
        self._n = max(1, round(report_s * info.rate_hz))
        self._pieces: list[NDArray[np.float32]] = []
        self._first_s: float | None = None
        self._begin_s = time.time()

    def encode(self, chunk: Chunk) -> list[bytes]:
        """Return the messages that a chunk makes whole; one ends where a lead comes off or comes back."""
        self._first_s = chunk.t_s if self._first_s is None else self._first_s
        self._pieces.append(chunk.samples_mv)
        joined: NDArray[np.float32] = np.concatenate(self._pieces, axis=1)
        n = joined.shape[1] // self._n * self._n
        self._pieces = [joined[:, n:]]
        return [
            message for k in range(0, n, self._n) for message in self._messages(joined[:, k : k + self._n])
        ]

    def rest(self) -> list[bytes]:
        """Return the messages of what is left at the end."""
        left = self._pieces[0] if self._pieces else np.empty((len(self._info.leads), 0), np.float32)
        self._pieces = []
        return list(self._messages(left)) if left.shape[1] else []

    def _messages(self, samples_mv: NDArray[np.float32]) -> Iterator[bytes]:
        off = np.isnan(samples_mv)
        edges = np.flatnonzero((off[:, 1:] != off[:, :-1]).any(axis=0)) + 1
        for piece in np.split(samples_mv, edges, axis=1):
            begin_s = self._first_s or 0.0
            self._first_s = begin_s + piece.shape[1] / self._info.rate_hz
            if not np.isnan(piece).all():  # a hole stays a hole
                yield _HEAD.pack(begin_s) + piece.astype("<f4").tobytes()

    async def send(self, message: bytes) -> None:
        """Report one to all who have subscribed."""
        (begin_s,) = _HEAD.unpack_from(message)
        values = np.frombuffer(message, "<f4", offset=_HEAD.size).reshape(len(self._info.leads), -1)
        await asyncio.to_thread(self._report, begin_s, values)

    async def close(self) -> None:
        """Report what is left, and take the provider away."""
        for message in self.rest():
            await self.send(message)
        await asyncio.to_thread(self._running.stop)

    def _report(self, begin_s: float, values: NDArray[np.float32]) -> None:
        types = self._running.library.pm_types
        with self._running.mdib.rt_sample_state_transaction() as changes:
            for lead, row in zip(self._info.leads, values, strict=True):
                state = changes.get_state(f"ecg.{lead}")
                if state.MetricValue is None:
                    state.mk_metric_value()
                value = state.MetricValue
                off = bool(np.isnan(row).any())
                value.DeterminationTime = self._begin_s + begin_s
                value.MetricQuality.Validity = (
                    types.MeasurementValidity.INVALID if off else types.MeasurementValidity.VALID
                )
                value.MetricQuality.Mode = types.GenerationMode(self._mode)
                value.Samples = self._decimals(np.zeros_like(row) if off else row)

    def _decimals(self, row: NDArray[np.float32]) -> list[Decimal]:
        counts = np.rint(np.nan_to_num(row.astype(np.float64)) / self._resolution_mv).astype(np.int64)
        return [int(count) * self._step for count in counts]


async def send_sdc(uri: str, info: FeedInfo, *, say: Callable[[str], None]) -> SdcSender:
    """Provide waveforms as `sdc://ADAPTER?epr=UUID&unit=mV&lsb_nv=1000&report_s=0.1` says, and wait for a consumer.

    `sdcs://` with `cert=FILE&key=FILE&ca=FILE` is over TLS.
    """
    parts = urlsplit(uri)
    files = ("cert", "key", "ca") if parts.scheme == "sdcs" else ()
    options = options_of(uri, parts.query, ("epr", "unit", "lsb_nv", "report_s", *files))
    if not parts.hostname or options.get("unit", "mV") not in ("mV", "uV"):
        raise FeedError(f"{uri}: expected sdc://ADDRESS-OF-OURS, and unit=mV or unit=uV if wanted")
    resolution_mv = positive_setting(options, "lsb_nv", LSB_NV, uri=uri) * 1e-6
    report_s = positive_setting(options, "report_s", REPORT_S, uri=uri)
    unit = _MICROVOLT if options.get("unit") == "uV" else MILLIVOLT
    certificates = None
    if parts.scheme == "sdcs":
        certificates = Certificates(*(options.get(name, "") for name in ("cert", "key", "ca")))
    library = import_sdc()
    mdib = description(waveform_mds(info, resolution_mv=resolution_mv, report_s=report_s, unit=unit))
    running = await asyncio.to_thread(
        start_provider,
        library,
        mdib,
        adapter=parts.hostname,
        epr=options.get("epr", str(uuid.uuid4())),
        name="ecgedge test rig",
        certificates=certificates,
    )
    scheme = "sdcs" if certificates else "sdc"
    say(f"waiting for a consumer of {running.epr}: {scheme}://{running.url.partition('://')[2]}")
    try:
        while not _has_consumer(running.provider):
            await asyncio.sleep(WAIT_S)
    except BaseException:
        running.stop()
        raise
    return SdcSender(
        running, info, resolution_mv=resolution_mv, report_s=report_s, in_microvolts=unit == _MICROVOLT
    )


def _has_consumer(provider: Any) -> bool:
    """Tell whether anyone has subscribed to waveforms."""
    action = provider.mdib.sdc_definitions.Actions.Waveform
    manager = provider.hosted_services.waveform_service.hosting_service.subscriptions_manager
    return bool(manager._get_subscriptions_for_action(action))  # noqa: SLF001 - the library has no other way to ask
