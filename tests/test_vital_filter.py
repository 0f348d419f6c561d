"""The filter server over real HTTP: what it lists, what it says of real ECGs, and what a wire may bring."""

import asyncio
import gzip
import io
import json
import tracemalloc
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge import read
from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.prediction import predict
from ecgedge.vital_filter import (
    MOST_BODY_BYTES,
    MOST_INFLATED_BYTES,
    MOST_WAITING,
    FilterServer,
    answer,
    filters_of,
)

TWELVE, PAIR, SINGLE = "ecgedge_mpcwp_12", "ecgedge_mpcwp_I_II", "ecgedge_mpcwp_II"
BEFORE = "SIMULATED_ESTIMATE_MPCWP"


@pytest.fixture(scope="module")
def ask(bundle, variants):
    """Ask a server of its own: (method, path, body, headers) -> (status, body as JSON, its content type)."""

    async def talk(method, path, body, headers):
        server = FilterServer(bundle, variants)
        port = await server.start("127.0.0.1", 0)
        try:
            async with (
                aiohttp.ClientSession(auto_decompress=False) as session,
                session.request(
                    method, f"http://127.0.0.1:{port}{path}", data=body and io.BytesIO(body), headers=headers
                ) as response,
            ):
                data = await response.read()
                assert "Content-Encoding" not in response.headers
                counts = dict(server.counts)
                return response.status, data, response.headers["Content-Type"], counts
        finally:
            await server.close()

    def ask(path, body=None, *, method="POST", headers=None):
        status, data, kind, counts = asyncio.run(talk(method, path, body, headers))
        if status == 200 and method == "POST":
            assert counts == {"answered": 1}
            return status, json.loads(gzip.decompress(data))
        assert kind.startswith("application/json")
        return status, json.loads(data)

    return ask


def request(ecg, *, names=None, interval=16, overlap=11, **more):
    """What Vital Recorder sends, as pyvital 0.6.0 reads it."""
    names = names or [f"ECG_{lead.upper()}" for lead in ecg.leads]
    rows = [[None if np.isnan(v) else float(v) for v in row] for row in ecg.samples_mv]
    inputs = {name: {"srate": ecg.rate_hz, "vals": row} for name, row in zip(names, rows, strict=True)}
    content = {"invokeid": 1, "inputs": inputs, "interval": interval, "overlap": overlap, **more}
    return gzip.compress(json.dumps(content).encode())


def part(ecg, leads, *, seconds=16.0):
    """So much of some leads; what a record is too short for is told again from its beginning."""
    n = round(seconds * ecg.rate_hz)
    rows = [ecg.leads.index(lead) for lead in leads]
    samples_mv = np.tile(ecg.samples_mv[rows], (1, -(-n // ecg.samples_mv.shape[1])))[:, :n]
    return replace(ecg, leads=tuple(leads), samples_mv=np.ascontiguousarray(samples_mv))


@pytest.fixture(scope="module")
def real(ecg_data):
    return read(ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea")


def by_track(found, listed):
    return {track["name"]: records for track, records in zip(listed["outputs"], found, strict=True)}


@pytest.fixture(scope="module")
def listed(ask):
    status, filters = ask("/", method="GET")
    assert status == 200
    return {one["modname"]: one for one in filters}


# --- what it lists ---


def test_the_list_has_the_keys_of_pyvital_and_says_what_this_is(listed):
    assert sorted(listed) == sorted(
        f"ecgedge_mpcwp_{leads}" for leads in ("12", "I_II_V1", "I_II", "I", "II")
    )
    for one in listed.values():
        assert list(one) == [
            *("modname", "name", "group", "desc", "interval", "overlap"),
            *("inputs", "options", "outputs", "license", "reference"),
        ]
        for word in ("SIMULATED", "ESTIMATE", "research use only"):
            assert word in one["name"]
        assert all(track["name"].startswith("SIMULATED_ESTIMATE_") for track in one["outputs"])
        assert all(track["name"].endswith("_RESEARCH_ONLY") for track in one["outputs"])
        assert (type(one["interval"]), type(one["overlap"])) == (int, int)
    assert listed[PAIR]["inputs"] == [{"name": "ECG_I", "type": "wav"}, {"name": "ECG_II", "type": "wav"}]
    number, *_, state = listed[PAIR]["outputs"]
    assert number == {"name": f"{BEFORE}_RESEARCH_ONLY", "type": "num", "unit": "mmHg", "min": 0, "max": 40.0}
    assert state["type"] == "str"


def test_only_a_simulation_is_called_simulated(bundle):
    real = replace(bundle.manifest.provenance, simulated=False)
    for one in filters_of(replace(bundle, manifest=replace(bundle.manifest, provenance=real))):
        assert "SIMULATED" not in json.dumps(one.listed())
        assert one.tracks[0].name == "ESTIMATE_MPCWP_RESEARCH_ONLY"


def test_a_bundle_without_mpcwp_is_refused(bundle):
    outputs = tuple(output for output in bundle.manifest.outputs if output.name != "mpcwp_mmhg")
    with pytest.raises(UsageError, match="no mPCWP"):
        filters_of(replace(bundle, manifest=replace(bundle.manifest, outputs=outputs)))


# --- what it says ---


@pytest.mark.parametrize(
    ("module", "leads"), [(TWELVE, STANDARD_LEADS), (PAIR, ("I", "II")), (SINGLE, ("II",))]
)
def test_a_real_ecg_has_the_estimate_of_predict(ask, listed, bundle, real, module, leads):
    ecg = part(real, leads)
    status, found = ask(f"/{module}", request(ecg))
    assert status == 200
    tracks = by_track(found, listed[module])
    expected = [row.estimate for row in predict(bundle, [ecg]) if row.estimate.t_s > 11.0]
    assert [estimate.validity for estimate in expected] == ["valid"]
    one = expected[0]
    numbers = {
        "MPCWP": one.mpcwp_mmhg,
        "MPCWP_LOW": one.interval_mmhg[0],
        "MPCWP_HIGH": one.interval_mmhg[1],
        "P_ABOVE_15": one.p_gt_15,
        "P_ABOVE_18": one.p_gt_18,
        "STATE": "valid",
    }
    assert tracks == {
        f"SIMULATED_ESTIMATE_{name}_RESEARCH_ONLY": [{"dt": 15.0, "val": value}]
        for name, value in numbers.items()
    }


def test_no_overlap_tells_every_window(ask, bundle, real):
    ecg = part(real, ("I", "II"), seconds=31.0)
    _, found = ask(f"/{PAIR}", request(ecg, interval=31, overlap=0))
    expected = [(row.estimate.t_s, row.estimate.mpcwp_mmhg) for row in predict(bundle, [ecg])]
    assert [(record["dt"], record["val"]) for record in found[0]] == expected
    assert [record["dt"] for record in found[0]] == [10.0, 15.0, 20.0, 25.0, 30.0]
    assert found[-1][0]["val"] == "questionable: signal settling"


@pytest.mark.parametrize("value", [0.0, None])
def test_no_number_where_the_signal_is_flat_or_missing(ask, real, value):
    ecg = part(real, ("I", "II"))
    ecg.samples_mv[:] = np.nan if value is None else value
    status, found = ask(f"/{PAIR}", request(ecg))
    assert status == 200
    assert found[:-1] == [[], [], [], [], []]
    assert [record["val"].split(":")[0] for record in found[-1]] == ["invalid"]


def test_a_stretch_that_is_too_short_says_so(ask, real):
    status, found = ask(f"/{PAIR}", request(part(real, ("I", "II"), seconds=4.0), overlap=0))
    assert status == 200
    assert found == [
        *([] for _ in range(5)),
        [{"dt": 4.0, "val": "no estimate: 4.0 s is shorter than a window"}],
    ]


def test_tracks_are_known_by_their_lead_or_else_by_their_place(ask, real):
    ecg = part(real, ("I", "II"))
    _, expected = ask(f"/{PAIR}", request(ecg))
    swapped = replace(ecg, samples_mv=ecg.samples_mv[::-1])
    object.__setattr__(swapped, "leads", ecg.leads)
    for names, sent in (
        (["SNUADC/ECG_I", "SNUADC/ECG_II"], ecg),
        (["Bed 7/ECG_II", "Bed 7/ECG_I"], swapped),
        (["ECG1", "ECG2"], ecg),
        (["ECG1", "ECG_II"], ecg),
    ):
        assert ask(f"/{PAIR}", request(sent, names=names))[1] == expected
    assert ask(f"/{PAIR}", request(swapped, names=["ECG1", "ECG2"]))[1] != expected


def test_a_header_that_names_the_gzip_changes_nothing(ask, real):
    body = request(part(real, ("II",)))
    plain = ask(f"/{SINGLE}", body)
    assert ask(f"/{SINGLE}", body, headers={"Content-Encoding": "gzip"}) == plain


def test_one_sample_less_in_a_lead_is_taken(ask, real):
    ecg = part(real, ("I", "II"))
    content = json.loads(gzip.decompress(request(ecg)))
    content["inputs"]["ECG_II"]["vals"].pop()
    status, found = ask(f"/{PAIR}", gzip.compress(json.dumps(content).encode()))
    assert (status, found) == ask(f"/{PAIR}", request(ecg))


# --- what a wire may bring ---


def _packed(content):
    return gzip.compress(json.dumps(content).encode())


def _with(real, **track):
    content = json.loads(gzip.decompress(request(part(real, ("II",), seconds=1.0))))
    content["inputs"]["ECG_II"] |= track
    return _packed(content)


GARBAGE = [
    (lambda _: b"", "not one whole gzip stream"),
    (lambda _: b"hello", "not gzip"),
    (lambda _: b'{"inputs": {}}', "not gzip"),
    (lambda _: gzip.compress(b"x" * 100)[:-4], "not one whole gzip stream"),
    (lambda _: gzip.compress(b"{}") + b"more", "not one whole gzip stream"),
    (lambda _: gzip.compress(b"\xff\xfe"), "no JSON"),
    (lambda _: gzip.compress(b"[" * 100_000), "no JSON"),
    (lambda _: gzip.compress(b"9" * 10_000), "JSON"),
    (lambda _: _packed([1]), "no JSON object"),
    (lambda _: _packed({}), "expected inputs of 1 tracks: II"),
    (lambda _: _packed({"inputs": {"ECG_II": 3}}), "no list of vals"),
    (lambda _: _packed({"inputs": {"ECG_II": {"vals": []}}}), "srate is 'None'"),
    (
        lambda _: _packed({"inputs": {"ECG_V5": {"srate": 500, "vals": [0.0]}}}),
        "'ECG_V5' stands where lead II",
    ),
    (lambda real: _with(real, srate=20), "20 Hz is not usable"),
    (lambda real: _with(real, srate=-500), "-500 Hz is not usable"),
    (lambda real: _with(real, srate="500"), "srate is '500'"),
    (lambda real: _with(real, srate=float("nan")), "srate is 'nan'"),
    (lambda real: _with(real, vals=[]), "no samples"),
    (lambda real: _with(real, vals=[1.0, "2"]), "no numbers"),
    (lambda real: _with(real, vals=[True]), "no numbers"),
    (lambda real: _with(real, vals=[float("inf")]), "infinite"),
    (lambda real: _with(real, vals=[1e300]), "infinite"),
    (lambda real: _with(real, vals=[10**400]), "beyond all measure"),
    (lambda real: _with(real, vals=[2000.0]), "microvolts"),
    (lambda real: _with(real, srate=100, vals=[0.0] * 60_001), "600.01 s is longer than the 600 s"),
    (lambda real: request(part(real, ("II",)), overlap="much"), "overlap is 'much'"),
    (lambda real: request(part(real, ("I", "II"))), "expected inputs of 1 tracks"),
]


@pytest.mark.parametrize(("make", "said"), GARBAGE)
def test_garbage_is_refused_with_its_reason(ask, real, make, said):
    status, found = ask(f"/{SINGLE}", make(real))
    assert status == 400
    assert list(found) == ["error"]
    assert said in found["error"]
    assert "Traceback" not in found["error"]


def test_two_leads_must_fit_each_other(ask, real):
    def change(**changes):
        content = json.loads(gzip.decompress(request(part(real, ("I", "II")))))
        for key, make in changes.items():
            content["inputs"]["ECG_II"][key] = make(content["inputs"])
        return _packed(content)

    for body, said in (
        (change(srate=lambda _: 250), "rates of [250.0, 500.0] Hz"),
        (change(vals=lambda inputs: inputs["ECG_II"]["vals"][:-2]), "7998 to 8000 samples"),
        (change(vals=lambda inputs: inputs["ECG_I"]["vals"]), "leads I and II bring the same samples"),
    ):
        status, found = ask(f"/{PAIR}", body)
        assert status == 400
        assert said in found["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/abp_hpi", 404), ("POST", "/a/b", 404), ("GET", f"/{PAIR}", 405), ("POST", "/", 405)],
)
def test_what_is_not_there_is_a_4xx_in_json(ask, method, path, status):
    found = ask(path, b"", method=method)
    assert found[0] == status
    assert list(found[1]) == ["error"]


def test_a_bomb_is_not_unpacked(ask, bundle, variants):
    bomb = gzip.compress(b" " * (4 * MOST_INFLATED_BYTES))
    assert len(bomb) < MOST_BODY_BYTES
    status, found = ask(f"/{SINGLE}", bomb)
    assert (status, str(MOST_INFLATED_BYTES) in found["error"]) == (413, True)
    wanted = filters_of(bundle)[0]
    tracemalloc.start()
    try:
        with pytest.raises(EcgedgeError, match="unpacks to more"):
            answer(wanted, bomb, bundle=bundle, variants=variants)
        assert tracemalloc.get_traced_memory()[1] < 3 * MOST_INFLATED_BYTES
    finally:
        tracemalloc.stop()


def test_a_body_that_is_too_large_is_not_read(ask):
    status, found = ask(f"/{SINGLE}", b"x" * (MOST_BODY_BYTES + 1))
    assert status == 413
    assert list(found) == ["error"]


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_requests_are_answered_or_refused(bundle, variants, data):
    wanted = next(one for one in filters_of(bundle) if one.leads == ("II",))
    text = bytearray(b'{"invokeid":1,"inputs":{"ECG_II":{"srate":500,"vals":[0.1,null,0.3]}},"overlap":1}')
    for _ in range(data.draw(st.integers(1, 6))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = answer(wanted, gzip.compress(bytes(text)), bundle=bundle, variants=variants)
    except EcgedgeError:
        return
    assert len(json.loads(gzip.decompress(found))) == len(wanted.tracks)


def test_many_at_once_wait_their_turn_and_some_are_told_to_come_again(bundle, variants, real):
    body = request(part(real, ("II",)))

    async def main():
        server = FilterServer(bundle, variants)
        port = await server.start("127.0.0.1", 0)

        async def one(session):
            async with session.post(f"http://127.0.0.1:{port}/{SINGLE}", data=body) as response:
                return response.status, await response.read()

        try:
            async with aiohttp.ClientSession() as session:
                return await asyncio.gather(*(one(session) for _ in range(3 * MOST_WAITING))), server.counts
        finally:
            await server.close()

    answers, counts = asyncio.run(main())
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429}
    assert counts == {"answered": statuses.count(200), "busy": statuses.count(429)}
    assert len({data for status, data in answers if status == 200}) == 1


def test_a_body_that_does_not_come_is_not_waited_for(bundle, variants, monkeypatch):
    monkeypatch.setattr("ecgedge.vital_filter.BODY_S", 0.2)

    async def main():
        server = FilterServer(bundle, variants)
        port = await server.start("127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"POST /{SINGLE} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx".encode())
            said = await reader.readline()
            writer.close()
            return said
        finally:
            await server.close()

    assert asyncio.run(asyncio.wait_for(main(), 60.0)).startswith(b"HTTP/1.1 408")
