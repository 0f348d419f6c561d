"""The sink fhir:, with a real HTTP server and the models of fhir.resources (R5), which check every resource."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from fhir.resources.bundle import Bundle
from fhir.resources.observation import Observation
from sink_events import alarm, estimate, http_server, outbox, until

from ecgedge.errors import UsageError
from ecgedge.sinks.fhir import FhirFile, observation, open_fhir, series

AT = datetime(2026, 11, 28, 7, 30, tzinfo=timezone.utc)


def of(event, **more):
    return observation(event, **{"at": AT, "mode": "real", "bed": "bed7", "event_id": "run-bed7-0", **more})


def test_an_estimate_is_a_preliminary_observation():
    found = of(estimate(), patient_id="4711")
    checked = Observation(**found)
    assert checked.status == "preliminary"
    assert (float(checked.valueQuantity.value), checked.valueQuantity.code) == (17.25, "mm[Hg]")
    assert checked.subject.identifier.value == "4711"
    assert checked.effectiveDateTime == AT
    assert "Research use only" in checked.note[0].text
    assert "meta" not in found
    assert {c.code.text: float(c.valueQuantity.value) for c in checked.component} == {
        "Lower end of the interval": 11.25,
        "Upper end of the interval": 23.25,
        "Probability of mPCWP above 15 mmHg": 0.7,
        "Probability of mPCWP above 18 mmHg": 0.4,
        "Signal quality index": 0.93,
    }


def test_no_number_has_a_reason_and_a_simulation_says_so():
    checked = Observation(**of(estimate(mmhg=None), mode="demo"))
    assert checked.valueQuantity is None
    assert checked.dataAbsentReason.coding[0].code == "temp-unknown"
    assert checked.dataAbsentReason.text == "lead_off"
    assert checked.meta.tag[0].code == "HTEST"
    assert "Simulated data" in checked.note[0].text


def test_a_doubt_is_noted():
    checked = Observation(**of(estimate(validity="questionable", reason="SIGNAL_DOUBTFUL")))
    assert checked.note[1].text == "Questionable: SIGNAL_DOUBTFUL."


def test_a_series_is_sampled_data():
    hour = [(30.0, 17.25), (40.0, None), (50.5, 18.0)]
    found = series(hour, zero=AT, mode="test", bed="bed7", event_id="x")
    checked = Observation(**found)
    data = checked.valueSampledData
    assert data.data == "1725 E 1800"
    assert data.offsets == "0 10000 20500"
    assert (float(data.factor), data.origin.code, data.intervalUnit) == (0.01, "mm[Hg]", "ms")
    assert checked.effectivePeriod.start == AT + timedelta(seconds=30.0)


def test_a_server_gets_transactions_that_create_once(run, tmp_path):
    token = tmp_path / "token"
    token.write_text("abc\n")

    async def main():
        async with http_server() as server:
            server.answers = [503, 200]
            uri = f"fhir:http://127.0.0.1:{server.port}/r5#token={token}&patients=a:1"
            async with outbox(open_fhir(uri)) as box:
                for t_s in (30.0, 40.0, 50.0):
                    box.put("a", "demo", estimate(t_s))
                    box.put("a", "demo", alarm(t_s))  # has no form
                await until(lambda: box.delivered == 3)
            return server.requests

    requests = run(main())
    path, headers, _ = requests[-1]
    assert path == "/r5"
    assert headers["Authorization"] == "Bearer abc"
    assert headers["Content-Type"] == "application/fhir+json"
    assert requests[0][2] == requests[1][2], "what was sent in vain is sent again as it was"
    entries = [entry for _, _, body in requests[1:] for entry in Bundle(**json.loads(body)).entry]
    asked = [entry.request.ifNoneExist for entry in entries]
    assert len(set(asked)) == 3
    assert all(question.startswith("identifier=urn:ecgedge:event|") for question in asked)
    assert {entry.resource.subject.identifier.value for entry in entries} == {"1"}


def test_a_file_has_one_observation_a_line(run, tmp_path):
    path = tmp_path / "out.ndjson"

    async def main():
        async with outbox(open_fhir(f"fhir:{path}")) as box:
            for t_s in range(120):
                box.put("a", "real", estimate(float(t_s), None if t_s % 3 else 16.0))

    run(main())
    lines = [Observation(**json.loads(line)) for line in path.read_text().splitlines()]
    assert len(lines) == 120
    assert sum(line.dataAbsentReason is None for line in lines) == 40


def test_a_full_disk_leaves_no_half_line(run, tmp_path):
    said = []

    async def main():
        receiver = FhirFile(tmp_path / "out.ndjson", patients={})
        receiver._stream.close()
        receiver._stream = open("/dev/full", "ab", buffering=0)  # noqa: SIM115 - closed by the sink
        async with outbox(receiver, said=said) as box:
            box.put("a", "real", estimate())
            await until(lambda: box.trouble is not None)
            assert "No space left" in box.trouble

    run(main())
    assert said[-1].endswith("never taken: 1 of type estimate")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("fhir:out.json", "expected fhir:FILE.ndjson"),
        ("fhir:/no/folder/out.ndjson", "No such file"),
        ("fhir:out.ndjson#colour=red", "colour is unknown"),
        ("fhir:https://host/r5#patients=a", "expected BED:ID"),
        ("fhir:https://host/r5#token=/no/file", "cannot be read"),
    ],
)
def test_a_wrong_uri_is_named(uri, said):
    with pytest.raises(UsageError, match=said):
        open_fhir(uri)
