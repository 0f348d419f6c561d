"""`ecgedge vital-filter` as a process; VitalDB's own filter runner asks it, and its tracks go into a .vital file."""

import gzip
import http.client
import json
import re
import signal
import socket
import warnings

import needs
import numpy as np
import pytest

from ecgedge import read
from ecgedge.ecg import Recording
from ecgedge.prediction import predict

VitalFile = needs.vitaldb().utils.VitalFile
START_S = 1_700_000_000.0
TRACK, STATE = (f"SIMULATED_ESTIMATE_{name}_RESEARCH_ONLY" for name in ("MPCWP", "STATE"))


@pytest.fixture
def server(cli):
    """Its process, and its port once it listens."""
    with cli.start("vital-filter", "--bundle", "embedded", "--listen", "127.0.0.1:0") as process:
        try:
            announced = process.stderr.readline()
            assert "Research use only" in announced
            assert "SIMULATED" in announced
            yield process, int(re.search(r"on port (\d+) of", process.stderr.readline())[1])
        finally:
            process.kill()


def ask(port, path, content=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60.0)
    try:
        if content is None:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        connection.request("POST", path, gzip.compress(json.dumps(content).encode()))
        return json.loads(gzip.decompress(connection.getresponse().read()))
    finally:
        connection.close()


def recorded(ecg, lead, *, seconds):
    """A recorder's file with one lead in it."""
    file = VitalFile(None)
    file.dtstart, file.dtend = START_S, START_S + seconds
    values = ecg.samples_mv[ecg.leads.index(lead), : round(seconds * ecg.rate_hz)]
    file.add_track(f"SNUADC/ECG_{lead}", [{"dt": START_S, "val": values}], srate=ecg.rate_hz, unit="mV")
    return file


def filtered(file, port, listed):
    """Let VitalDB's runner ask the server about a file, and return the samples of each stretch."""
    sent = []

    def run(inputs, options, cfg):
        values = {
            name: [None if np.isnan(v) else float(v) for v in track["vals"]] for name, track in inputs.items()
        }
        tracks = {name: {"srate": inputs[name]["srate"], "vals": values[name]} for name in inputs}
        sent.extend(values.values())
        times = {key: cfg[key] for key in ("interval", "overlap")}
        content = {"invokeid": 7, "inputs": tracks, "options": options, **times}
        return ask(port, f"/{listed['modname']}", content)

    file.run_filter(run, listed)
    return sent


def test_vitaldbs_runner_makes_tracks_of_a_real_ecg(cli, server, ecg_data, bundle, tmp_path):
    """`VitalFile.run_filter` cuts, asks and lays out; what it lays out is what `predict` says of the same samples."""
    process, port = server
    listed = next(one for one in ask(port, "/") if one["modname"] == "ecgedge_mpcwp_II")
    ecg = read(ecg_data / "long_2lead" / "mitdb" / "100.hea")
    file = recorded(ecg, "II", seconds=60.0)
    sent = filtered(file, port, listed)
    expected = []
    for index, values in enumerate(sent):
        part = Recording(np.array([values], np.float32), ecg.rate_hz, ("II",))
        if part.duration_s >= 15.0:  # the last ones are shorter
            (newest,) = [row.estimate for row in predict(bundle, [part]) if row.estimate.t_s > 11.0]
            expected.append((START_S + 5.0 * index + newest.t_s, newest.mpcwp_mmhg))
    assert len(expected) == 10
    assert [(rec["dt"], rec["val"]) for rec in file.trks[TRACK].recs] == expected
    path = tmp_path / "filtered.vital"
    assert file.to_vital(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # vitaldb leaves the file to the garbage collector
        again = VitalFile(str(path)).trks
    values = [rec["val"] for rec in again[TRACK].recs]
    np.testing.assert_allclose(values, [value for _, value in expected], rtol=1e-6)
    assert again[TRACK].unit == "mmHg"
    assert {rec["val"] for rec in again[STATE].recs[:10]} == {"valid"}
    process.send_signal(signal.SIGTERM)
    assert f"requests: {len(sent)} answered" in cli.finish(process).stderr


def test_an_address_in_use_and_one_that_is_none(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("vital-filter", "--listen", f"127.0.0.1:{port}", exits=2)
    assert "cannot listen there" in done.stderr
    for wrong in ("3000", "127.0.0.1", "127.0.0.1:99999", "a:b", ":3000"):
        assert "expected HOST:PORT" in cli("vital-filter", "--listen", wrong, exits=2).stderr
