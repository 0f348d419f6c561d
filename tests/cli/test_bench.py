"""`ecgedge bench` and the choice of the runtime, as a user meets them."""

import json

import pytest
from hand_made import make_bundle


@pytest.fixture
def small(tmp_path):
    make_bundle(tmp_path / "small.ecgb")
    return "small.ecgb"


def test_one_bundle(cli, small, tmp_path):
    done = cli(
        "bench", small, "--runtime", "ort,openvino", "--batch", "1,4", "--seconds", "0.02", "--rounds", "1",
        "--json", "found.json", "--html", "found.html",
    )  # fmt: skip
    assert "SIMULATED" in done.stdout
    assert "SIMULATED" in done.stderr
    assert "Research use only" in done.stdout
    assert "Peak of one core" in done.stdout
    assert "…" not in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert "Research use only" in found["use"]
    (bundle,) = found["bundles"]
    assert bundle["simulated"] is True
    assert [(row["variant"], row["runtime"]) for row in bundle["rows"]] == [
        ("I,II/fp32", "ort"), ("I,II/fp32", "openvino"),
    ]  # fmt: skip
    assert [speed["batch"] for speed in bundle["rows"][0]["speeds"]] == [1, 4]
    assert found["machine"]["versions"]["openvino"]
    page = (tmp_path / "found.html").read_text("utf-8")
    for words in ("SIMULATED DATA", "Research use only", "The model alone", "I,II/fp32", "<td>openvino</td>"):
        assert words in page


def test_two_bundles_pair_by_pair(cli, small):
    done = cli("bench", small, "--against", small, "--runtime", "ort", "--seconds", "0.02", "--rounds", "1")
    assert f"{small} against {small}" in done.stdout
    assert "x1.00" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--runtime", "coreml"), "runtime 'coreml' is not known; choose one of auto, tensorrt, ort, "),
        (("--batch", "1,x"), "--batch is '1,x'"),
        (("--batch", "0"), "at least 1"),
        (("--seconds", "0"), "give more than 0"),
        (("--runtime", "ort-cuda"), "has no CUDAExecutionProvider"),
    ],
)
def test_usage(cli, small, options, message):
    assert message in cli("bench", small, *options, exits=2).stderr


def test_no_bundle(cli):
    assert "no bundle" in cli("bench", "nowhere", exits=4).stderr


def test_stream_and_predict_on_another_runtime(cli, recording):
    for runtime in ("ort", "openvino"):
        events = cli.stream(f"file:{recording}", "--runtime", runtime)
        assert events[-1]["windows"] == 5
        cli("predict", "embedded", recording, "--out", f"{runtime}.csv", "--runtime", runtime)
    ort, openvino = ((cli.folder / f"{name}.csv").read_text().splitlines() for name in ("ort", "openvino"))
    assert len(ort) == len(openvino) == 6
    pressures = [[float(line.split(",")[2]) for line in lines[1:]] for lines in (ort, openvino)]
    assert pressures[0] == pytest.approx(pressures[1], abs=1e-3)


def test_an_unknown_runtime_is_refused_before_a_monitor_is_called(cli):
    done = cli(
        "stream", "--feed", "tcp://127.0.0.1:1?leads=I&rate_hz=250&lsb_nv=1", "--runtime", "coreml", exits=2
    )
    assert "runtime 'coreml' is not known" in done.stderr


def test_a_runtime_that_is_not_installed(cli, recording):
    done = cli.without(["openvino"], "stream", "--feed", f"file:{recording}", "--runtime", "openvino")
    assert "pip install 'ecgedge[openvino]'" in done.stderr
