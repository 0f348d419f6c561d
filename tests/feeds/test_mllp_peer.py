"""HL7 over MLLP with npm's simple-hl7 on the other side: its client feeds us, its server takes what the sink sends."""

import asyncio
import contextlib
import json
import subprocess
from datetime import datetime, timedelta, timezone

import npm_peers
import numpy as np
from free_ports import free_port
from nats_server import answers
from sink_events import alarm, estimate, outbox, until

from ecgedge import read
from ecgedge.feeds import open_feed
from ecgedge.hl7 import Envelope, Waveforms, write_waveforms
from ecgedge.sinks.hl7 import open_hl7_sink

START = datetime(2026, 11, 28, 7, 30, tzinfo=timezone.utc)


# ------------------------------------------------------------------------------------- its client, our feed


def messages_of(ecg, *, seconds):
    """A recording as waveform messages of one second, as texts."""
    step = round(ecg.rate_hz)
    texts = []
    for second in range(seconds):
        samples_mv = ecg.samples_mv[:, second * step : (second + 1) * step]
        start = START + timedelta(seconds=second)
        waveforms = Waveforms(start, ecg.rate_hz, ecg.leads, samples_mv, "4711", "test")
        texts.append(write_waveforms(waveforms, Envelope(start, f"control-{second}")).decode())
    return texts


def send(port, texts):
    """Send them with simple-hl7's client, and return the acknowledgements that it read."""
    command, env = npm_peers.script("send_hl7.js", "simple-hl7")
    done = subprocess.run(
        [*command, "127.0.0.1", str(port)],
        input=json.dumps(texts),
        env=env,
        capture_output=True,
        text=True,
        timeout=60.0,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def hear(port, texts, n_samples):
    """Open the feed, let the peer send, and return (info, chunks, dropped, acknowledgements)."""
    opening = asyncio.create_task(open_feed(f"mllp://127.0.0.1:{port}?patient=4711"))
    while not await asyncio.to_thread(answers, port):
        assert not opening.done()
        await asyncio.sleep(0.02)
    sending = asyncio.create_task(asyncio.to_thread(send, port, texts))
    feed = await opening
    chunks = []
    async for chunk in feed:
        chunks.append(chunk)
        if sum(c.samples_mv.shape[1] for c in chunks) >= n_samples:
            break
    acknowledged = await sending
    dropped = dict(feed.dropped)
    await feed.close()
    return feed.info, chunks, dropped, acknowledged


def test_a_real_ecg_from_simple_hl7s_client_arrives_exactly(ecg_data):
    """It parses our messages and writes them again before it sends them: its reading of them is part of this."""
    npm_peers.script("send_hl7.js", "simple-hl7")
    ecg = read(ecg_data / "ptbxl" / "records500" / "00000" / "00001_hr.hea")
    texts = messages_of(ecg, seconds=10)
    info, chunks, dropped, acknowledged = asyncio.run(
        asyncio.wait_for(hear(free_port(), texts, 5000), timeout=90.0)
    )
    assert acknowledged == [{"code": "AA", "id": f"control-{n}", "type": "ACK"} for n in range(10)]
    assert (info.leads, info.rate_hz, info.mode) == (ecg.leads, 500.0, "test")
    np.testing.assert_array_equal(np.concatenate([c.samples_mv for c in chunks], axis=1), ecg.samples_mv)
    assert [round(c.t_s - chunks[0].t_s, 6) for c in chunks] == [float(n) for n in range(10)]
    assert dropped == {}


# ------------------------------------------------------------------------------------- our sink, its server


@contextlib.contextmanager
def receiver():
    """simple-hl7's server: its port, and the process that prints what it has parsed."""
    command, env = npm_peers.script("receive_hl7.js", "simple-hl7")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, text=True, **pipes) as process:
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def delivered(*events):
    """Let the sink deliver events to simple-hl7's server, and return what that has parsed."""

    async def main(port):
        async with outbox(open_hl7_sink(f"mllp://127.0.0.1:{port}?facility=ICU&patients=bed7:4711")) as box:
            for event in events:
                box.put("bed7", "demo", event)
            await until(lambda: box.n_waiting == 0)
            assert (box.delivered, box.refused, box.trouble) == (len(events), {}, None)

    with receiver() as (port, process):
        asyncio.run(main(port))
        return [json.loads(process.stdout.readline()) for _ in events]


def segments(message, name):
    return [segment["fields"] for segment in message["segments"] if segment["name"] == name]


def values(message):
    """OBX-5 by the name in OBX-3."""
    return {row[2].split("^")[1]: row[4] for row in segments(message, "OBX")}


def test_simple_hl7s_server_acknowledges_and_reads_an_estimate_and_an_alarm():
    one, two = estimate(30.0, 17.25), alarm(31.0)
    first, second, third = delivered(one, two, alarm(32.0, presence="off"))
    assert (first["type"], first["event"], first["sender"]) == ("ORU", "R01", "ECGEDGE")
    assert segments(first, "PID")[0][2] == "4711"
    low, high = one.interval_mmhg
    numbers = {
        "MDC_PRESS_BLD_ART_PULM_WEDGE": one.mpcwp_mmhg,
        "MPCWP_INTERVAL_LOW": low,
        "MPCWP_INTERVAL_HIGH": high,
        "P_MPCWP_GT_15": one.p_gt_15,
        "P_MPCWP_GT_18": one.p_gt_18,
        "SIGNAL_QUALITY": one.sqi,
    }
    found = values(first)
    assert {name: float(found[name]) for name in numbers} == numbers
    assert (found["LEADS"], found["VARIANT"]) == ("I,II", "limb")
    assert "Simulated data" in segments(first, "NTE")[0][2]
    assert (second["type"], second["event"]) == ("ORU", "R40")
    assert [values(message)["MDC_ATTR_EVENT_PHASE"] for message in (second, third)] == ["start", "end"]
    assert segments(second, "OBX")[0][4] == two.text
    assert segments(second, "OBR")[0][2] == segments(third, "OBR")[0][2]
    ids = [message["header"][7] for message in (first, second, third)]
    assert len(set(ids)) == 3
