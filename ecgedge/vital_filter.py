"""A filter server for Vital Recorder: the estimates of a bundle as live tracks. Research use only.

Vital Recorder hands stretches of tracks to a server of filters and draws what comes back as new tracks. The protocol
has no document of its own; what is kept to here was read in the source of PyPI `pyvital` 0.6.0, VitalLab's own server:

- `pyvital/__main__.py`: `GET /` answers a JSON list with a filter each: `modname`, `name`, `group`, `desc`,
  `interval`, `overlap` (seconds), `inputs`, `options`, `outputs`, `license`, `reference`. `POST /<modname>` takes JSON
  under gzip (no header says so): `invokeid`, `inputs`, `interval`, `overlap` (as the user has set them), perhaps
  `options`; it answers JSON under gzip: a list with the records of each output, in the order of `outputs`, or null. The
  port is 3000 unless another is given.
- `pyvital/filters/abp_hpi.py`, `ecg_hrv.py`, `ecg_annotator.py`: `inputs` maps a track's name to `{"srate": Hz, "vals":
  [...]}`, a missing value is null or NaN; a record is `{"dt": seconds since the stretch began, "val": ...}`; an output
  is `num`, `wav` or `str`, with `unit`, `min` and `max`; what lies in the overlap is left out, for the stretch before
  told it.
- `pyvital/filters/pleth_ptt.py`: inputs are taken by their place, in the order of the filter's `inputs`.
- PyPI `vitaldb` 1.7.2, `VitalFile.run_filter`: a stretch is `interval` long, and the next one begins `interval -
  overlap` later; a track is an input if its name begins with the input's, so `ECG_I` may find `ECG_II`.

Not tried with a real Vital Recorder, and not known: whether it names an input by the filter's word or by the track's,
what it shows of an answer with an error, whether it reads a string output, whether `interval` may be a fraction (whole
seconds are asked for), and at which rate it hands waves over. The protocol has no unit: values are taken for
millivolts.
"""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from ecgedge.bundle import RESEARCH_USE_ONLY, Bundle
from ecgedge.ecg import Recording, check_rate
from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.events import Estimate
from ecgedge.leads import canonical_lead, format_lead_set
from ecgedge.stream import Bed
from ecgedge.stream.variants import VariantChoice

MOST_BODY_BYTES: Final = 8 << 20
MOST_INFLATED_BYTES: Final = 32 << 20
"""Twelve leads at 1,000 Hz for two minutes, as JSON."""

MOST_S: Final = 600.0
"""The longest stretch that is answered."""

MOST_WAITING: Final = 8
"""Requests that are read or wait for their turn; whoever comes then is told to come again."""

BODY_S: Final = 10.0
"""How long the body of a request may take to come."""

_SPARE_S: Final = 1
"""A stretch is so much longer than what it must hold: it may lack a sample or two at its end."""


class BadRequestError(EcgedgeError):
    """What the other side sent cannot be used; `status` is HTTP's."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Track:
    """A track that a filter makes; `field` is the estimate's number, None for its state in words."""

    name: str
    field: str | None
    unit: str = ""
    largest: float = 1.0

    def listed(self) -> dict[str, Any]:
        """Return it as the list of filters has it."""
        if self.field is None:
            return {"name": self.name, "type": "str", "unit": ""}
        return {"name": self.name, "type": "num", "unit": self.unit, "min": 0, "max": self.largest}


@dataclass(frozen=True)
class Filter:
    """A filter: one lead set of a bundle.

    Attributes
    ----------
    module
        Its name in a URL.
    leads
        Whose samples it wants, in this order.
    interval_s, overlap_s
        Length of a stretch, and how much of it the stretch before held already.
    """

    module: str
    title: str
    leads: tuple[str, ...]
    interval_s: int
    overlap_s: int
    tracks: tuple[Track, ...]
    about: str
    source: str

    def listed(self) -> dict[str, Any]:
        """Return it as `GET /` shows it."""
        return {
            "modname": self.module,
            "name": self.title,
            "group": "ecgedge, RESEARCH USE ONLY",
            "desc": self.about,
            "interval": self.interval_s,
            "overlap": self.overlap_s,
            "inputs": [{"name": f"ECG_{lead.upper()}", "type": "wav"} for lead in self.leads],
            "options": [],
            "outputs": [track.listed() for track in self.tracks],
            "license": "Apache-2.0",
            "reference": self.source,
        }


def filters_of(bundle: Bundle) -> tuple[Filter, ...]:
    """Return the filters of a bundle, one a lead set.

    Raises
    ------
    UsageError
        If the bundle does not estimate mPCWP.
    """
    manifest = bundle.manifest
    if "mpcwp_mmhg" not in {output.name for output in manifest.outputs}:
        raise UsageError(f"{bundle.source}: the bundle has no mPCWP to show; give one that estimates it")
    whole_s = manifest.window_s + manifest.hop_s * math.ceil(manifest.front_end.settle_s / manifest.hop_s)
    interval_s = math.ceil(whole_s) + _SPARE_S
    lead_sets = dict.fromkeys(variant.leads for variant in manifest.variants)
    simulated = "SIMULATED " if bundle.simulated else ""
    origin = "Trained on SIMULATED patients: a demonstration. " if bundle.simulated else ""
    return tuple(
        Filter(
            module="ecgedge_mpcwp_" + format_lead_set(leads).replace(",", "_"),
            title=f"{simulated}mPCWP ESTIMATE from ECG {format_lead_set(leads)} (research use only)",
            leads=leads,
            interval_s=interval_s,
            overlap_s=interval_s - math.ceil(manifest.hop_s),
            tracks=_tracks(bundle),
            about=f"{origin}An estimate, not a measurement. {RESEARCH_USE_ONLY}",
            source=f"bundle {manifest.name} {bundle.id}",
        )
        for leads in lead_sets
    )


def _tracks(bundle: Bundle) -> tuple[Track, ...]:
    before = "SIMULATED_ESTIMATE" if bundle.simulated else "ESTIMATE"
    names = {output.name for output in bundle.manifest.outputs}
    numbers = [
        Track(f"{before}_MPCWP_RESEARCH_ONLY", "mpcwp_mmhg", "mmHg", 40.0),
        Track(f"{before}_MPCWP_LOW_RESEARCH_ONLY", "low_mmhg", "mmHg", 40.0),
        Track(f"{before}_MPCWP_HIGH_RESEARCH_ONLY", "high_mmhg", "mmHg", 40.0),
        Track(f"{before}_P_ABOVE_15_RESEARCH_ONLY", "p_gt_15"),
        Track(f"{before}_P_ABOVE_18_RESEARCH_ONLY", "p_gt_18"),
    ]
    held = [track for track in numbers if not (track.field or "").startswith("p_") or track.field in names]
    return (*held, Track(f"{before}_STATE_RESEARCH_ONLY", None))


# --- one request, without I/O ---


def answer(wanted: Filter, body: bytes, *, bundle: Bundle, variants: VariantChoice) -> bytes:
    """Return the answer to a POST of `body`, as it goes out.

    Each request is answered from its own samples alone, by a bed that begins with them: the windows that end after
    the overlap, as `ecgedge predict` says them. A window that is invalid has a state and no number.

    Raises
    ------
    BadRequestError, RecordError
        If the body is not what the protocol wants, or no ECG.
    """
    request = _unpack(body)
    overlap_s = _number(request.get("overlap", wanted.overlap_s), "overlap")
    ecg = _recording(request.get("inputs"), wanted)
    bed = Bed(bundle, leads=ecg.leads, rate_hz=ecg.rate_hz, variants=variants)
    events = bed.push(ecg.samples_mv, t_s=0.0)
    estimates = [event for event in events if isinstance(event, Estimate)]
    told = [estimate for estimate in estimates if estimate.t_s > overlap_s]
    records = [_records(track, told) for track in wanted.tracks]
    if not estimates:
        text = f"no estimate: {ecg.duration_s:.1f} s is shorter than a window"
        records[-1] = [{"dt": round(ecg.duration_s, 3), "val": text}]
    return _gzip(json.dumps(records, allow_nan=False).encode())


def _records(track: Track, estimates: list[Estimate]) -> list[dict[str, Any]]:
    pairs = [(estimate.t_s, _value(track, estimate)) for estimate in estimates]
    return [{"dt": t_s, "val": value} for t_s, value in pairs if value is not None]


def _value(track: Track, estimate: Estimate) -> float | str | None:
    if track.field is None:
        return f"{estimate.validity}: {estimate.reason}" if estimate.reason else estimate.validity
    if estimate.validity == "invalid":
        return None
    low, high = estimate.interval_mmhg or (None, None)
    numbers = {
        "mpcwp_mmhg": estimate.mpcwp_mmhg,
        "low_mmhg": low,
        "high_mmhg": high,
        "p_gt_15": estimate.p_gt_15,
        "p_gt_18": estimate.p_gt_18,
    }
    return numbers[track.field]


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def _unpack(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(_inflate(body))
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is no JSON under gzip: {error}") from error
    if not isinstance(found, dict):
        raise BadRequestError("the body is no JSON object; expected inputs, interval, overlap, invokeid")
    return found


def _inflate(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(body, MOST_INFLATED_BYTES)
    except zlib.error as error:
        raise BadRequestError(f"the body is not gzip: {error}") from error
    if len(data) >= MOST_INFLATED_BYTES and not unpacker.eof:
        raise BadRequestError(f"the body unpacks to more than {MOST_INFLATED_BYTES} bytes", status=413)
    if not unpacker.eof or unpacker.unused_data:
        raise BadRequestError("the body is not one whole gzip stream")
    return data


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise BadRequestError(f"{name} is {str(value)[:40]!r}; expected a number")
    return float(value)


def _recording(inputs: object, wanted: Filter) -> Recording:
    """Return the samples of all inputs in the order of the filter's leads.

    Inputs may differ by one sample in length: a live track may be that far ahead.
    """
    if not isinstance(inputs, dict) or len(inputs) != len(wanted.leads):
        raise BadRequestError(f"expected inputs of {len(wanted.leads)} tracks: {','.join(wanted.leads)}")
    tracks = [_track(inputs[name], name) for name in _in_order(list(inputs), wanted.leads)]
    rates, lengths = {rate_hz for rate_hz, _ in tracks}, [len(values) for _, values in tracks]
    if len(rates) > 1:
        raise BadRequestError(f"the tracks have rates of {sorted(rates)} Hz; expected the same rate")
    if max(lengths) - min(lengths) > 1:
        raise BadRequestError(f"the tracks have {min(lengths)} to {max(lengths)} samples; expected as many")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
        samples_mv = np.stack([values[: min(lengths)] for _, values in tracks]).astype(np.float32)
    _require_different(samples_mv, wanted.leads)
    return Recording(samples_mv, tracks[0][0], wanted.leads, source="request")


def _in_order(names: list[str], leads: tuple[str, ...]) -> list[str]:
    """Return the names of the inputs in the order of the leads: by what they say, or else as they come."""
    said = [_lead_in(name) for name in names]
    if None not in said and set(said) == set(leads):
        return [names[said.index(lead)] for lead in leads]
    for name, found, lead in zip(names, said, leads, strict=True):
        if found not in (None, lead):
            raise BadRequestError(f"the track {name[:40]!r} stands where lead {lead} should")
    return names


def _lead_in(name: str) -> str | None:
    try:
        return canonical_lead(name.rpartition("/")[2])
    except ValueError:
        return None


def _track(track: object, name: str) -> tuple[float, NDArray[np.float64]]:
    if not isinstance(track, dict) or not isinstance(values := track.get("vals"), list):
        raise BadRequestError(f"the track {name[:40]!r} has no list of vals")
    rate_hz = _number(track.get("srate"), "srate")
    check_rate(rate_hz, source="request")
    if len(values) > MOST_S * rate_hz:
        raise BadRequestError(
            f"{len(values) / rate_hz:g} s is longer than the {MOST_S:g} s that are answered"
        )
    if not all(value is None or type(value) in (int, float) for value in values):
        raise BadRequestError(f"the track {name[:40]!r} holds values that are no numbers")
    try:
        return rate_hz, np.array(values, np.float64)
    except OverflowError as error:
        raise BadRequestError(f"the track {name[:40]!r} holds numbers beyond all measure") from error


def _require_different(samples_mv: NDArray[np.float32], leads: tuple[str, ...]) -> None:
    """Refuse one track that was chosen for two leads; leads that are flat are the bed's to judge."""
    seen: dict[bytes, str] = {}
    for row, lead in zip(samples_mv, leads, strict=True):
        if not np.any(row[1:] != row[:-1]) or np.isnan(row).all():
            continue
        if (twin := seen.setdefault(row.tobytes(), lead)) != lead:
            raise BadRequestError(f"leads {twin} and {lead} bring the same samples; choose another track")


# --- over HTTP ---


class FilterServer:
    """Answers Vital Recorder; `start` opens it.

    Parameters
    ----------
    bundle, variants
        Whose estimates it serves.

    Attributes
    ----------
    counts
        Requests: `answered`, `refused`, and `busy` for those that came while too many waited.

    Raises
    ------
    UsageError
        If the bundle does not estimate mPCWP.
    """

    def __init__(self, bundle: Bundle, variants: VariantChoice) -> None:
        self.counts: Counter[str] = Counter()
        self._bundle, self._variants = bundle, variants
        self._filters = {found.module: found for found in filters_of(bundle)}
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port: the given one, or a free one for 0.

        Raises
        ------
        UsageError
            If the address cannot be listened on.
        """
        app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._errors_as_json])
        app.router.add_get("/", self._list)
        app.router.add_post("/{module}", self._run)
        # A body is unpacked here, within limits, whether a header names its gzip or not.
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, lingering_time=1.0, shutdown_timeout=2.0
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.close()
            raise UsageError(f"{host}:{port}: cannot listen there: {error.strerror or error}") from error
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop to listen; safe to call twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        del request
        return web.json_response([found.listed() for found in self._filters.values()])

    async def _run(self, request: web.Request) -> web.Response:
        module = request.match_info["module"]
        if (wanted := self._filters.get(module)) is None:
            raise BadRequestError(f"no filter {module[:60]!r}; GET / lists them", status=404)
        if self._waiting >= MOST_WAITING:
            raise BadRequestError(f"{MOST_WAITING} requests are waiting; come again", status=429)
        self._waiting += 1
        try:
            body = await _body(request)
            async with self._turn:
                said = await asyncio.to_thread(
                    answer, wanted, body, bundle=self._bundle, variants=self._variants
                )
        finally:
            self._waiting -= 1
        self.counts["answered"] += 1
        return web.Response(body=said, content_type="application/octet-stream")

    @web.middleware
    async def _errors_as_json(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadRequestError as error:
            status, text = error.status, str(error)
        except EcgedgeError as error:
            status, text = 400, str(error)
        except web.HTTPException as error:
            status, text = error.status, error.reason
        self.counts["busy" if status == 429 else "refused"] += 1
        return web.json_response({"error": text}, status=status)


async def _body(request: web.Request) -> bytes:
    try:
        return await asyncio.wait_for(request.read(), BODY_S)
    except asyncio.TimeoutError:
        raise BadRequestError(f"the body did not come within {BODY_S:g} s", status=408) from None
