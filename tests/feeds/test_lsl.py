"""The lsl: feed: a real ECG from a second process, others' outlets and recorder, old data, holes, lost outlets."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import lsl_network
import numpy as np
import pytest

from ecgedge import read
from ecgedge.errors import FeedError, UsageError
from ecgedge.feeds import open_feed
from ecgedge.feeds.lsl import parse_lsl_uri

OUTLET = Path(__file__).with_name("lsl_outlet.py")


@pytest.fixture(scope="module", autouse=True)
def pylsl(tmp_path_factory):
    return lsl_network.on_this_machine(tmp_path_factory.mktemp("lsl"))


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch):
    """No other stream has a test's name, so none is waited for; a busy machine answers late."""
    monkeypatch.setattr("ecgedge.feeds.lsl.ALONE_S", 0.05)
    monkeypatch.setattr("ecgedge.feeds.lsl.RESOLVE_S", 30.0)
    monkeypatch.setattr("ecgedge.feeds.lsl.ANSWER_S", 30.0)


@contextmanager
def outlet(*steps, **plan):
    """Run another vendor's outlet in a process of its own; yield it and its name."""
    name = lsl_network.a_name()
    plan = {
        "name": name,
        "rate_hz": 500.0,
        "labels": ["II", "I"],
        "units": ["mV", "mV"],
        "steps": steps,
        **plan,
    }
    words = [sys.executable, str(OUTLET), json.dumps(plan)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield process, name
        finally:
            process.kill()


async def until_lost(feed):
    """Return the chunks that a feed brings, and with which words it ends."""
    chunks = []
    try:
        async for chunk in feed:
            chunks.append(chunk)  # noqa: PERF401 (a comprehension would lose what came before the error)
    except FeedError as error:
        return chunks, str(error)
    raise AssertionError("a feed of LSL has no other end")


async def samples_of(feed, n):
    """Return the first n samples, and the chunks they came in."""
    chunks = []
    async for chunk in feed:
        chunks.append(chunk)
        if sum(c.samples_mv.shape[1] for c in chunks) >= n:
            break
    return np.concatenate([c.samples_mv for c in chunks], axis=1), chunks


def hear(name, n, *, pause_s=0.0):
    """Open the feed, read n samples; return what it declared, samples, chunks, what it dropped."""

    async def run():
        feed = await open_feed(f"lsl:{name}")
        try:
            await asyncio.sleep(pause_s)
            samples_mv, chunks = await samples_of(feed, n)
            return feed.info, samples_mv, chunks, dict(feed.dropped)
        finally:
            await feed.close()
            await feed.close()

    return asyncio.run(asyncio.wait_for(run(), 60.0))


def ramp(first, n):
    """What the outlet pushes, its two channels (II, I) in standard order."""
    return np.arange(first, first + n, dtype=np.float32) + np.array([[1], [0]], np.float32)


def send(source, name, *words):
    words = ["--from", source, "--to", f"lsl:{name}", *words]
    return [sys.executable, "-m", "ecgedge", "feed", "send", *map(str, words)]


def test_a_real_ecg_arrives_exactly_from_a_second_process(ecg_data):
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    name = lsl_network.a_name()

    async def run():
        feed = await open_feed(f"lsl:{name}?type=ECG")
        chunks, why = await until_lost(feed)
        await feed.close()
        return feed.info, chunks, dict(feed.dropped), why

    with subprocess.Popen(
        send(f"file:{record}", name, "--speed", "max"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as device:
        assert f"waiting for a host: lsl:{name}" in device.stderr.readline()
        info, chunks, dropped, why = asyncio.run(asyncio.wait_for(run(), 60.0))
        assert device.wait(60.0) == 0
    assert "the outlet is gone" in why
    ecg = read(record)
    assert (info.leads, info.rate_hz, info.mode, info.live) == (ecg.leads, 500.0, "test", True)
    np.testing.assert_array_equal(np.concatenate([c.samples_mv for c in chunks], axis=1), ecg.samples_mv)
    assert dropped == {}


def test_another_vendors_outlet_is_put_in_standard_order_and_is_real():
    steps = [["wait"], *(["push", k, 20] for k in range(0, 400, 20))]
    with outlet(*steps, labels=["ECG II", "Lead I"]) as (_, name):
        info, samples_mv, chunks, dropped = hear(name, 400)
    assert (info.leads, info.rate_hz, info.mode, info.live) == (("I", "II"), 500.0, "real", True)
    np.testing.assert_array_equal(samples_mv, ramp(0, 400))
    assert dropped == {}
    times_s = np.array([c.t_s for c in chunks])
    sizes = [c.samples_mv.shape[1] for c in chunks]
    np.testing.assert_allclose(np.diff(times_s), np.array(sizes[:-1]) / 500.0, atol=1e-9)


def test_samples_pushed_one_by_one_and_stamped_each_by_itself_leave_no_hole():
    with outlet(["wait"], ["one", 0, 500]) as (_, name):
        _, samples_mv, _, dropped = hear(name, 400)
    np.testing.assert_array_equal(samples_mv[:, :400], ramp(0, 400))
    assert dropped == {}


@pytest.mark.parametrize(
    ("unit", "form", "mv"),
    [
        ("uV", "float32", 1e-3),
        ("microvolts", "int16", 1e-3),
        ("V", "double64", 1e3),
        ("millivolts", "int32", 1.0),
    ],
)
def test_units_are_converted(unit, form, mv):
    with outlet(["wait"], ["push", 0, 100], units=[unit] * 2, format=form) as (_, name):
        _, samples_mv, _, _ = hear(name, 100)
    np.testing.assert_array_equal(samples_mv, (ramp(0, 100).astype(np.float64) * mv).astype(np.float32))


def test_old_samples_are_dropped_and_counted_and_the_age_of_the_rest_is_known(monkeypatch):
    monkeypatch.setattr("ecgedge.feeds.lsl_inlet.FRESH_S", 0.3)
    steps = [
        ["wait"],
        ["old", 0, 300, 0.0],
        *(["push", k, 50] for k in range(1000, 1500, 50)),
    ]
    with outlet(*steps) as (_, name):

        async def run():
            feed = await open_feed(f"lsl:{name}")
            await asyncio.sleep(1.0)  # a bed takes its time to begin, and LSL keeps what comes
            samples_mv, _ = await samples_of(feed, 500)
            age_s = feed._source.age_s
            await feed.close()
            return samples_mv, dict(feed.dropped), age_s

        samples_mv, dropped, age_s = asyncio.run(asyncio.wait_for(run(), 60.0))
    np.testing.assert_array_equal(samples_mv, ramp(1000, 500))
    assert dropped == {"old_samples": 300}
    assert -8.0 < age_s < 1.0  # by its stamp it is of 8 s after the outlet's begin


def test_an_outlet_whose_samples_stay_old_is_refused(monkeypatch):
    monkeypatch.setattr("ecgedge.feeds.lsl_inlet.OLD_S", 0.5)
    steps = [["wait"], *[step for k in range(40) for step in (["old", 50 * k, 50, 30.0], ["sleep", 0.1])]]
    with outlet(*steps) as (_, name), pytest.raises(FeedError, match=r"are 3\d\.\d s old by their stamps"):
        hear(name, 1)


def test_a_hole_stays_a_hole_and_is_counted():
    steps = [["wait"], ["push", 0, 100], ["push", 140, 300]]
    with outlet(*steps) as (_, name):
        _, samples_mv, chunks, dropped = hear(name, 400)
    np.testing.assert_array_equal(samples_mv, np.concatenate([ramp(0, 100), ramp(140, 300)], axis=1))
    starts = [round((c.t_s - chunks[0].t_s) * 500) for c in chunks]
    firsts = [int(c.samples_mv[1, 0]) for c in chunks]
    assert starts == firsts
    assert dropped == {"lost_samples": 40}


def test_leads_that_are_off_are_nan_and_what_is_infinite_counts_as_not_measured():
    with outlet(["wait"], ["value", float("nan"), 50]) as (_, name):
        _, samples_mv, _, dropped = hear(name, 50)
    assert np.isnan(samples_mv).all()
    assert dropped == {}
    with outlet(["wait"], ["value", float("inf"), 50]) as (_, name):
        _, samples_mv, _, dropped = hear(name, 50)
    assert np.isnan(samples_mv).all()
    assert dropped == {"infinite": 100}


def test_an_outlet_that_is_killed_or_falls_silent_is_told():
    async def end_of(name, process):
        feed = await open_feed(f"lsl:{name}")
        feed._silent_s = 1.0 if process is None else 60.0
        try:
            async for _ in feed:
                if process is not None:
                    process.kill()
        except FeedError as error:
            return str(error)
        finally:
            await feed.close()

    with outlet(["wait"], ["push", 0, 100]) as (process, name):
        assert "the outlet is gone" in asyncio.run(end_of(name, process)), "by the connection, not by silence"
    with outlet(["wait"], ["push", 0, 100]) as (_, name):
        assert "nothing has come for 1 s" in asyncio.run(end_of(name, None))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"units": ["mV", "mmHg"]}, "the unit of channel I is 'mmHg'"),
        ({"units": ["mV", ""]}, "the unit of channel I is ''"),
        ({"labels": ["I", "EEG Fz"]}, "unknown lead 'EEG Fz'"),
        ({"labels": ["I", ""]}, "channel 2 has no label"),
        ({"labels": ["I", "Lead I"]}, "a lead stands twice"),
        ({"rate_hz": 0.0}, r"irregular \(0 Hz\)"),
        ({"rate_hz": 10.0}, "rate of 10 Hz is not usable"),
        ({"format": "string"}, "its samples are text"),
        ({"mode": "imagined"}, "mode 'imagined' is not one of"),
    ],
)
def test_what_a_stream_says_of_itself_must_be_usable(plan, words):
    with outlet(**plan) as (_, name), pytest.raises(FeedError, match=words):
        asyncio.run(open_feed(f"lsl:{name}"))


def test_streams_that_nobody_offers_or_two_do(monkeypatch):
    monkeypatch.setattr("ecgedge.feeds.lsl.RESOLVE_S", 0.5)
    with pytest.raises(FeedError, match="no such stream within"):
        asyncio.run(open_feed(f"lsl:{lsl_network.a_name()}"))
    monkeypatch.setattr("ecgedge.feeds.lsl.RESOLVE_S", 30.0)
    kind = lsl_network.a_name()
    with outlet(type=kind) as (_, first), outlet(type=kind) as (_, second):
        monkeypatch.setattr("ecgedge.feeds.lsl.ALONE_S", 30.0)  # no longer than until both have answered
        with pytest.raises(FeedError, match="2 streams fit") as caught:
            asyncio.run(open_feed(f"lsl:?type={kind}"))
        monkeypatch.setattr("ecgedge.feeds.lsl.ALONE_S", 0.05)
        assert first in str(caught.value)
        assert second in str(caught.value)

        async def one():
            feed = await open_feed(f"lsl:?type={kind}&source_id={second}")
            await feed.close()
            return feed.info

        assert asyncio.run(one()).leads == ("I", "II")


@pytest.mark.parametrize(
    "uri", ["lsl:", "lsl://host/x", "lsl:?name=x", "lsl:x?type=a&type=b", "lsl:x?speed=1", "lsl:a'b%22c"]
)
def test_a_wrong_uri_says_what_is_accepted(uri):
    with pytest.raises(FeedError, match="for example lsl:bed1"):
        parse_lsl_uri(uri)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(UsageError, match=r"pip install 'ecgedge\[lsl\]'"):
        asyncio.run(open_feed("lsl:bed1"))


def test_without_its_shared_library_that_is_said(tmp_path):
    words = "import asyncio; from ecgedge.feeds import open_feed; asyncio.run(open_feed('lsl:bed1'))"
    (tmp_path / "liblsl.so").write_text("no library")
    done = subprocess.run(
        [sys.executable, "-c", words],
        env={**os.environ, "PYLSL_LIB": str(tmp_path / "liblsl.so")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "UsageError: pylsl is installed, and finds no liblsl" in done.stderr


def test_faults_of_the_rig_are_heard_as_what_they_are():
    name = lsl_network.a_name()
    faults = ("--speed", "4", "--duration", "10", "--drop", "0.1", "--corrupt", "1e-5", "--lead-off", "V1@1s")
    with subprocess.Popen(send("sim:stable?leads=I,II,V1", name, *faults), stderr=subprocess.PIPE) as device:
        device.stderr.readline()
        info, samples_mv, _, dropped = hear(name, 4000)
        device.kill()
    assert info.mode == "demo"
    assert dropped["lost_samples"] > 200
    assert np.isnan(samples_mv[2, -100:]).all()
    assert np.isfinite(samples_mv[0]).mean() > 0.9


def test_the_recorder_of_that_world_records_our_sender_exactly(ecg_data, tmp_path):
    pytest.importorskip("labrecorder", reason="needs the development group: make dev (Python 3.11, Linux)")
    pyxdf = pytest.importorskip("pyxdf", reason="needs the development group: make dev")
    record = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    name, file = lsl_network.a_name(), tmp_path / "recorded.xdf"
    recorder = [sys.executable, str(OUTLET.with_name("lsl_recorder.py")), name, str(file)]
    with subprocess.Popen(
        send(f"file:{record}", name, "--speed", "4"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as device:
        assert "waiting" in device.stderr.readline()
        subprocess.run(recorder, stdout=subprocess.DEVNULL, check=True, timeout=60)
        assert device.wait(60.0) == 0
    (stream,), _ = pyxdf.load_xdf(str(file), synchronize_clocks=False, dejitter_timestamps=False)
    ecg = read(record)
    np.testing.assert_array_equal(stream["time_series"].T, ecg.samples_mv)
    np.testing.assert_allclose(np.diff(stream["time_stamps"]), 1 / 500.0, atol=1e-6)
    channels = stream["info"]["desc"][0]["channels"][0]["channel"]
    assert [channel["label"][0] for channel in channels] == list(ecg.leads)
    assert {channel["unit"][0] for channel in channels} == {"mV"}
    assert stream["info"]["desc"][0]["ecgedge"][0]["mode"] == ["test"]
