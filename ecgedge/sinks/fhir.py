"""Sink `fhir:https://HOST/BASE#ca=FILE&token=FILE&patients=BED:ID` or `fhir:FILE.ndjson`: estimates for FHIR R5.

Each estimate is an Observation of status "preliminary": no person has verified it. Where there is no number,
dataAbsentReason says so. A server gets transactions whose entries it creates only where it does not have them
(ifNoneExist), so that one that was sent twice is stored once. `ecgedge journal fhir` makes one Observation of many.

Source: HL7 FHIR R5 (http://hl7.org/fhir/R5/): Observation, SampledData, Bundle, RESTful API.
"""

from __future__ import annotations

import errno
import io
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from ecgedge import __version__
from ecgedge.ecg import Mode
from ecgedge.errors import UsageError
from ecgedge.events import Estimate
from ecgedge.sinks.http import HttpAddress, Poster, parse_http
from ecgedge.sinks.outbox import SinkError, Told
from ecgedge.sinks.settings import parse_patients, read_secret, sink_settings

MOST: Final = 50
SYSTEM: Final = "urn:ecgedge:event"
_MDC: Final = "urn:iso:std:iso:11073:10101"
_UCUM: Final = "http://unitsofmeasure.org"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_MMHG: Final = {"unit": "mmHg", "system": _UCUM, "code": "mm[Hg]"}
_ONE: Final = {"unit": "1", "system": _UCUM, "code": "1"}
_NOTE: Final = "Estimate from the ECG, not a measurement. Research use only."
_MODE_NOTES: Final[dict[Mode, str]] = {"real": "", "test": " Test data.", "demo": " Simulated data."}
_EXAMPLE: Final = "fhir:https://fhir.example/r5"


def observation(
    estimate: Estimate, *, at: datetime, mode: Mode, bed: str, event_id: str, patient_id: str | None = None
) -> dict[str, Any]:
    """Return an estimate as an Observation; `at` is the time of its window's end."""
    found = _head(at, mode=mode, bed=bed, event_id=event_id, patient_id=patient_id)
    found["effectiveDateTime"] = _instant(at)
    if estimate.mpcwp_mmhg is None:
        found["dataAbsentReason"] = _absent(estimate.reason)
    else:
        found["valueQuantity"] = {"value": round(estimate.mpcwp_mmhg, 3), **_MMHG}
    if estimate.validity == "questionable":
        found["note"].append({"text": f"Questionable: {estimate.reason or 'without a reason'}."})
    low, high = estimate.interval_mmhg or (None, None)
    rows = [
        ("Lower end of the interval", low, _MMHG),
        ("Upper end of the interval", high, _MMHG),
        ("Probability of mPCWP above 15 mmHg", estimate.p_gt_15, _ONE),
        ("Probability of mPCWP above 18 mmHg", estimate.p_gt_18, _ONE),
        ("Signal quality index", estimate.sqi, _ONE),
    ]
    found["component"] = [
        {"code": {"text": text}, "valueQuantity": {"value": round(value, 3), **unit}}
        for text, value, unit in rows
        if value is not None
    ]
    return found


def series(
    values: Sequence[tuple[float, float | None]],
    *,
    zero: datetime,
    mode: Mode,
    bed: str,
    event_id: str,
    patient_id: str | None = None,
) -> dict[str, Any]:
    """Return estimates of one bed as one Observation whose value is SampledData: hundredths of mmHg at their offsets.

    Parameters
    ----------
    values
        Stream time in seconds, and mPCWP in mmHg; None, where there is no number, becomes E. At least one.
    zero
        The world's time at stream time 0.
    """
    first_s, last_s = values[0][0], values[-1][0]
    begin, end = (zero + timedelta(seconds=t_s) for t_s in (first_s, last_s))
    found = _head(end, mode=mode, bed=bed, event_id=event_id, patient_id=patient_id)
    found["effectivePeriod"] = {"start": _instant(begin), "end": _instant(end)}
    found["valueSampledData"] = {
        "origin": {"value": 0, **_MMHG},
        "factor": 0.01,
        "dimensions": 1,
        "intervalUnit": "ms",
        "offsets": " ".join(str(round((t_s - first_s) * 1e3)) for t_s, _ in values),
        "data": " ".join("E" if mmhg is None else str(round(mmhg * 100.0)) for _, mmhg in values),
    }
    return found


def write_series(
    path: Path,
    values: Iterable[tuple[float, float | None]],
    *,
    zero: datetime,
    mode: Mode,
    bed: str,
    patient_id: str | None,
    length_s: float,
) -> int:
    """Write estimates to a new NDJSON file, one `series` for each stretch of `length_s`; return how many.

    Raises
    ------
    UsageError
        If the file is there already, or cannot be written.
    """
    run, n = uuid.uuid4().hex[:12], 0
    try:
        with path.open("x") as stream:
            for _, stretch in groupby(values, key=lambda value: value[0] // length_s):
                found = series(
                    list(stretch),
                    zero=zero,
                    mode=mode,
                    bed=bed,
                    event_id=f"{run}-{bed}-{n}",
                    patient_id=patient_id,
                )
                stream.write(json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n")
                n += 1
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return n


def _head(at: datetime, *, mode: Mode, bed: str, event_id: str, patient_id: str | None) -> dict[str, Any]:
    subject: dict[str, Any] = {"display": f"bed {bed}"}
    if patient_id is not None:
        subject["identifier"] = {"value": patient_id}
    found: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [{"system": SYSTEM, "value": event_id}],
        "status": "preliminary",
        "code": {
            "coding": [{"system": _MDC, "code": "150052", "display": "MDC_PRESS_BLD_ART_PULM_WEDGE"}],
            "text": "mPCWP, estimated from the ECG",
        },
        "subject": subject,
        "issued": _instant(at),
        "method": {"text": f"calculated by ecgedge {__version__}"},
        "note": [{"text": _NOTE + _MODE_NOTES[mode]}],
    }
    if mode != "real":
        found["meta"] = {"tag": [{"system": _REASON, "code": "HTEST", "display": "test health data"}]}
    return found


def _absent(reason: str | None) -> dict[str, Any]:
    """Return why there is no number; that a later window may have one is `temp-unknown`."""
    coding = {"system": _ABSENT, "code": "temp-unknown", "display": "Temporarily Unknown"}
    return {"coding": [coding], "text": reason or "no valid window"}


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def transaction(observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a Bundle that creates each Observation, unless the server has it."""
    entries = [
        {
            "resource": one,
            "request": {
                "method": "POST",
                "url": "Observation",
                "ifNoneExist": f"identifier={SYSTEM}|{one['identifier'][0]['value']}",
            },
        }
        for one in observations
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


class _Forms:
    """Makes Observations of what is told, and knows who lies where."""

    def __init__(self, patients: Mapping[str, str]) -> None:
        self._patients = patients

    def of(self, told: Sequence[Told]) -> list[dict[str, Any]]:
        return [
            observation(
                one.event,
                at=one.at,
                mode=one.mode,
                bed=one.bed,
                event_id=one.id,
                patient_id=self._patients.get(one.bed),
            )
            for one in told
            if isinstance(one.event, Estimate)
        ]


_KINDS: Final = frozenset({Estimate.type})


class FhirServer:
    """A server that takes transactions."""

    def __init__(self, address: HttpAddress, *, token: str | None, patients: Mapping[str, str]) -> None:
        self._address, self._token = address, token
        self._poster, self._forms = Poster(address), _Forms(patients)

    @property
    def name(self) -> str:
        """Its base address."""
        return f"fhir:{self._address.name}"

    @property
    def most(self) -> int:
        """Entries of one transaction."""
        return MOST

    @property
    def kinds(self) -> frozenset[str]:
        """Estimates."""
        return _KINDS

    async def deliver(self, told: Sequence[Told]) -> None:
        """Post one transaction: all or none."""
        body = json.dumps(transaction(self._forms.of(told)), separators=(",", ":"), allow_nan=False).encode()
        headers = {"content-type": "application/fhir+json", "accept": "application/fhir+json"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        await self._poster.post(body, headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()


class FhirFile:
    """A file with one Observation a line, as bulk data has it (application/fhir+ndjson)."""

    def __init__(self, path: Path, *, patients: Mapping[str, str]) -> None:
        self._path, self._forms = path, _Forms(patients)
        try:
            self._stream = path.open("ab", buffering=0)
        except OSError as error:
            raise UsageError(f"cannot write FHIR resources to {path}: {error.strerror}") from error

    @property
    def name(self) -> str:
        """Its path."""
        return f"fhir:{self._path}"

    @property
    def most(self) -> int:
        """Lines of one write."""
        return MOST

    @property
    def kinds(self) -> frozenset[str]:
        """Estimates."""
        return _KINDS

    async def deliver(self, told: Sequence[Told]) -> None:
        """Write the lines; what a disk has taken a part of is taken away again."""
        lines = [json.dumps(one, separators=(",", ":"), allow_nan=False) for one in self._forms.of(told)]
        data, end = "".join(line + "\n" for line in lines).encode(), self._stream.seek(0, io.SEEK_END)
        try:
            taken, why = self._stream.write(data), os.strerror(errno.ENOSPC)
        except OSError as error:
            taken, why = 0, error.strerror or str(error)
        if taken != len(data):
            with suppress(OSError):
                self._stream.truncate(end)
            raise SinkError(f"the file cannot be written: {why}")

    async def close(self) -> None:
        """Close the file."""
        self._stream.close()


def open_fhir(uri: str) -> FhirServer | FhirFile:
    """Make the receiver of a `fhir:` URI; UsageError says what is wrong with it."""
    target = uri.partition(":")[2]
    if target.startswith(("http:", "https:")):
        address = parse_http(target, known=("token", "patients"), example=_EXAMPLE)
        secret = address.options.get("token")
        token = None if secret is None else read_secret(secret, what="the token of the FHIR server")
        return FhirServer(address, token=token, patients=_patients(address.options, uri))
    path, _, settings = target.partition("#")
    options = sink_settings(settings, ("patients",), uri=uri)
    if not path.endswith(".ndjson"):
        raise UsageError(f"{uri}: expected fhir:FILE.ndjson or a server, {_EXAMPLE}")
    return FhirFile(Path(path), patients=_patients(options, uri))


def _patients(options: Mapping[str, str], uri: str) -> dict[str, str]:
    return parse_patients(options.get("patients", ""), uri=uri)
