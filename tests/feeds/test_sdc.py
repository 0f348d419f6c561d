"""The sdc:// feed: a real ECG from a provider in a process of its own, TLS, and providers in plain sdc11073."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosquitto import certificates

from ecgedge import read
from ecgedge.errors import FeedError, UsageError
from ecgedge.feeds import FeedInfo, open_feed, sdc
from ecgedge.feeds.sdc import Joiner, parse_sdc_uri
from ecgedge.rig.sdc import waveform_mds
from ecgedge.sdc.library import Certificates, import_sdc
from ecgedge.sdc.provider import description, start_provider
from ecgedge.sdc.reading import Stretch, Waveform, duration_s, read_stretches, read_waveforms

pytest.importorskip("sdc11073", reason="needs the extra sdc: pip install 'ecgedge[sdc]'")


@contextlib.contextmanager
def sender(source, uri, *more):
    """`ecgedge feed send` in a process of its own; with the address that it says it is at."""
    command = [sys.executable, "-m", "ecgedge", "feed", "send", "--from", str(source), "--to", uri, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = process.stderr.readline().split()
        yield process, said[-1], said[-2].rstrip(":")
    finally:
        process.kill()
        process.communicate()


async def hear(uri, *, n_samples=None):
    """Return (info, chunks, dropped, how it ended) once so many samples a lead have come, or at its end."""
    feed = await open_feed(uri)
    chunks, ended = [], None
    try:
        async for chunk in feed:
            chunks.append(chunk)
            if n_samples is not None and sum(c.samples_mv.shape[1] for c in chunks) >= n_samples:
                break
    except FeedError as error:
        ended = str(error)
    dropped = dict(feed.dropped)
    await feed.close()
    await feed.close()
    return feed.info, chunks, dropped, ended


def joined(chunks):
    return np.concatenate([chunk.samples_mv for chunk in chunks], axis=1)


@pytest.mark.parametrize("query", ["", "?unit=uV&report_s=0.25"])
def test_a_real_ecg_arrives_exactly(ecg_data, query):
    path = ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea"
    ecg = read(path)
    with sender(f"file:{path}", f"sdc://127.0.0.1{query}", "--speed", "4") as (process, uri, _):
        info, chunks, dropped, _ = asyncio.run(hear(uri, n_samples=5000))
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert (info.leads, info.rate_hz, info.mode, info.live) == (ecg.leads, 500.0, "test", True)
    assert info.resolution_mv == pytest.approx(1e-3)
    np.testing.assert_array_equal(joined(chunks), ecg.samples_mv)
    assert dropped == {}


def test_found_by_its_reference_and_gone_at_its_end():
    epr = "cc013678-79f6-403c-998f-3cc0cc050230"
    with sender("sim:stable?leads=I,II", f"sdc://127.0.0.1?epr={epr}", "--duration", "3") as (
        _,
        _,
        reference,
    ):
        assert reference == f"urn:uuid:{epr}"
        info, chunks, _, ended = asyncio.run(hear(f"sdc://127.0.0.1?epr={reference}"))
    assert (info.leads, info.mode) == (("I", "II"), "demo")
    assert sum(c.samples_mv.shape[1] for c in chunks) >= 1000
    assert "the provider" in ended
    with pytest.raises(FeedError, match="no provider urn:uuid:00000000"):
        asyncio.run(open_feed("sdc://127.0.0.1?epr=urn:uuid:00000000-79f6-403c-998f-3cc0cc050230"))


def test_a_provider_that_is_killed(monkeypatch):
    """Nothing tells of it but silence, or a subscription that cannot be renewed."""
    monkeypatch.setattr("ecgedge.feeds.live.LiveFeed.__init__.__kwdefaults__", {
        "wait_s": 0.5, "modulus": None, "silent_s": 1.0}, raising=False)  # fmt: skip
    with sender("sim:stable?leads=I,II", "sdc://127.0.0.1") as (process, uri, _):

        async def main():
            feed = await open_feed(uri)
            n = 0
            try:
                async for _ in feed:
                    n += 1
                    if n == 5:
                        process.kill()
            except FeedError as error:
                return str(error)
            finally:
                await feed.close()

        said = asyncio.run(asyncio.wait_for(main(), 60.0))
    assert "nothing has come for" in said or "the provider is gone" in said


def test_a_lead_that_falls_off_is_not_measured():
    with sender("sim:stable?leads=I,II,V1", "sdc://127.0.0.1", "--lead-off", "V1@1s", "--speed", "4") as (
        _,
        uri,
        _,
    ):
        info, chunks, dropped, _ = asyncio.run(hear(uri, n_samples=1500))
    assert info.leads == ("I", "II", "V1")
    samples_mv = joined(chunks)
    assert not np.isnan(samples_mv[:2]).any()
    off = np.isnan(samples_mv[2])
    assert not off[:480].any()
    assert off[-500:].all()
    assert dropped == {}


def test_tls_and_who_is_not_trusted(tmp_path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
        certificates(folder)

    def query(folder):
        files = ("server.pem", "server.key", "ca.pem")
        return "&".join(f"{k}={folder / v}" for k, v in zip(("cert", "key", "ca"), files, strict=True))

    with sender("sim:stable?leads=I,II", f"sdcs://127.0.0.1?{query(ours)}") as (_, uri, _):
        with pytest.raises(FeedError, match="trust each other"):
            asyncio.run(open_feed(f"{uri}?{query(other)}"))
        with pytest.raises(FeedError, match="cannot connect"):
            asyncio.run(open_feed(uri.replace("sdcs:", "sdc:")))
        info, chunks, _, _ = asyncio.run(hear(f"{uri}?{query(ours)}", n_samples=500))
    assert info.leads == ("I", "II")
    assert len(chunks) > 0


# ------------------------------------------------------------------ a provider that does what the test says


LEADS = FeedInfo(uri="x", leads=("I", "II"), rate_hz=500.0, mode="demo", chunk_s=0.1)


@contextlib.contextmanager
def provider(mds):
    running = start_provider(
        import_sdc(), description(mds), adapter="127.0.0.1", epr="cc013678-79f6-403c-998f-3cc0cc050231",
        name="peer", certificates=None,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.stop()


def report(running, t_s, values, *, handles=("ecg.I", "ecg.II"), validity="Vld", mode="Demo"):
    """One report in plain sdc11073."""
    types = running.library.pm_types
    with running.mdib.rt_sample_state_transaction() as changes:
        for handle in handles:
            state = changes.get_state(handle)
            if state.MetricValue is None:
                state.mk_metric_value()
            state.MetricValue.Samples = [Decimal(str(value)) for value in values]
            state.MetricValue.DeterminationTime = t_s
            state.MetricValue.MetricQuality.Validity = types.MeasurementValidity(validity)
            state.MetricValue.MetricQuality.Mode = types.GenerationMode(mode)


def uri_of(running):
    return f"sdc://{running.url.partition('://')[2]}"


@pytest.fixture
def subscribed(monkeypatch):
    """Is set once a feed has subscribed: it hears from the first report on."""
    connect, found = sdc._connect, threading.Event()

    def connected(*which):
        consumer = connect(*which)
        found.set()
        return consumer

    monkeypatch.setattr(sdc, "_connect", connected)
    return found


def test_what_a_provider_may_do_wrong(subscribed):
    """Leads of a report that are missing, a hole, invalid samples, another mode, another lead's handle."""
    mds = waveform_mds(LEADS, resolution_mv=1e-3, report_s=0.1)

    async def main():
        with provider(mds) as running:
            begin_s = time.time()

            async def talk():
                def at(k, *more, **facts):
                    return asyncio.to_thread(report, running, begin_s + k * 0.1, [0.25] * 50, *more, **facts)

                for k in range(4):
                    await at(k)
                await at(4, handles=("ecg.I",))
                await at(5, validity="Inv")
                await at(6, mode="Test")
                for k in range(8, 12):  # 7 is a hole
                    await at(k)

            opening = asyncio.create_task(hear(uri_of(running), n_samples=500))
            await asyncio.to_thread(subscribed.wait, 30.0)
            talking = asyncio.create_task(talk())
            found = await opening
            await talking
            return found

    _, chunks, dropped, _ = asyncio.run(asyncio.wait_for(main(), 60.0))
    by_place = {round((c.t_s - chunks[0].t_s) / 0.1): c.samples_mv for c in chunks}
    assert sorted(by_place) == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11][: len(by_place)]
    assert np.isnan(by_place[4][1]).all()
    assert not np.isnan(by_place[4][0]).any()
    assert np.isnan(by_place[5]).all()
    assert dropped == {"partial_reports": 1, "other_mode": 2, "lost_samples": 100}


def test_a_device_without_waveforms_is_refused_clearly():
    mds = '<pm:Mds Handle="mds0"><pm:Vmd Handle="v"><pm:Channel Handle="c"/></pm:Vmd></pm:Mds>'
    with provider(mds) as running, pytest.raises(FeedError, match="describes no ECG waveform"):
        asyncio.run(open_feed(uri_of(running)))


def test_a_device_that_sends_nothing_is_told(monkeypatch):
    monkeypatch.setattr("ecgedge.feeds.sdc.FIRST_S", 0.5)
    mds = waveform_mds(LEADS, resolution_mv=1e-3, report_s=0.1)
    with (
        provider(mds) as running,
        pytest.raises(FeedError, match=r"sent none within 0.5 s \(came: nothing\)"),
    ):
        asyncio.run(open_feed(uri_of(running)))


# ------------------------------------------------------------------------------------- without I/O


def metric(**more):
    from lxml import etree

    facts = {"code": "131329", "unit": "266418", "period": "PT0.002S", "resolution": "0.001", **more}
    text = description(
        '<pm:Mds Handle="m"><pm:Metric xsi:type="pm:RealTimeSampleArrayMetricDescriptor" Handle="h" '
        'Resolution="{resolution}" SamplePeriod="{period}"><pm:Type Code="{code}"/><pm:Unit Code="{unit}"/>'
        "</pm:Metric></pm:Mds>".format(**facts)
    )
    return etree.fromstring(text)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"unit": "266016"}, "unit '266016'"),
        ({"period": "PT0S"}, "sample period"),
        ({"period": "soon"}, "sample period"),
        ({"period": "PT100S"}, "0.01 Hz"),
        ({"code": "150052"}, "no ECG waveform"),
    ],
)
def test_a_description_that_cannot_be_is_refused(facts, said):
    with pytest.raises(FeedError, match=said):
        read_waveforms(metric(**facts), source="x")


def test_units_and_rounded_periods():
    (found,) = read_waveforms(metric(unit="266419", period="PT0.00278S", resolution="2.5"), source="x")
    assert (found.rate_hz, found.mv_per_unit, found.resolution_mv) == (360.0, 1e-3, 2.5e-3)
    assert duration_s("PT1M0.5S") == 60.5
    assert duration_s("P1D") == 86_400.0
    assert duration_s("P") is None


WAVEFORMS = [Waveform("a", "I", 500.0, 1.0, None, None), Waveform("b", "II", 500.0, 1.0, None, None)]


def stream(handle="a", time_ms="1000", samples="0.1 0.2", validity="Vld", mode="Demo"):
    from lxml import etree

    from ecgedge.sdc.reading import MSG, PM

    root = etree.Element(f"{{{MSG}}}WaveformStream")
    state = etree.SubElement(root, f"{{{MSG}}}State", DescriptorHandle=handle)
    value = etree.SubElement(state, f"{{{PM}}}MetricValue", DeterminationTime=time_ms, Samples=samples)
    etree.SubElement(value, f"{{{PM}}}MetricQuality", Validity=validity, Mode=mode)
    return root


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"handle": "c"}, "other_handles"),
        ({"time_ms": "noon"}, "bad_time"),
        ({"time_ms": "-5"}, "bad_time"),
        ({"samples": "0.1 x"}, "bad_samples"),
        ({"samples": ""}, "bad_samples"),
        ({"samples": "1e400"}, "bad_samples"),
        ({"mode": "Dream"}, "bad_mode"),
    ],
)
def test_garbage_in_a_report_is_counted(facts, name):
    dropped = Counter()
    assert list(read_stretches(stream(**facts), WAVEFORMS, dropped)) == []
    assert dropped == {name: 1}


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)


@given(words, words, words, words, words)
def test_garbage_never_raises(handle, time_ms, samples, validity, mode):
    dropped = Counter()
    found = list(read_stretches(stream(handle, time_ms, samples, validity, mode), WAVEFORMS, dropped))
    assert len(found) + sum(dropped.values()) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4)), max_size=20), st.integers(1, 7))
def test_how_reports_are_cut_changes_nothing(order, size):
    stretches = [
        Stretch(handle, k * 0.1, np.full(50, k, np.float32), "demo")
        for handle, k in sorted(order, key=lambda x: x[1])
    ]

    def told(parts):
        joiner = Joiner(WAVEFORMS)
        return [p.samples_mv.tobytes() for part in parts for p in joiner.take(part, arrived_s=0.0)]

    cut = [stretches[k : k + size] for k in range(0, len(stretches), size)]
    assert told(cut) == told([stretches])


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sdc://", "expected sdc://HOST"),
        ("sdc://127.0.0.1", "expected sdc://HOST"),
        ("sdc://127.0.0.1:80/x?epr=urn:uuid:1", "expected sdc://HOST"),
        ("sdc://127.0.0.1:80/x?colour=red", "colour is unknown"),
        ("sdc://127.0.0.1:80/x?ca=y", "ca is unknown"),
        ("sdcs://127.0.0.1:80/x?cert=a&key=b", "ca is missing"),
        ("sdc://127.0.0.1:http/x", "expected"),
    ],
)
def test_a_wrong_uri_says_what_is_missing(uri, said):
    with pytest.raises(FeedError, match=said):
        parse_sdc_uri(uri)


def test_an_adapter_that_is_not_ours_and_files_that_are_not_there():
    with pytest.raises(UsageError, match="cannot be used"):
        asyncio.run(open_feed("sdcs://127.0.0.1:9/x?cert=/no&key=/no&ca=/no"))
    with pytest.raises(UsageError, match="expected a UUID"):
        start_provider(import_sdc(), b"", adapter="127.0.0.1", epr="me", name="x", certificates=None)
    assert Certificates("a", "b", "c").ca == "c"
