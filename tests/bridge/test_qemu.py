"""Firmware on an emulated Cortex-M4, and a host that reads its line byte by byte: samples, faults, counters."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import needs
import numpy as np
import pytest
import qemu_firmware
from qemu_device import LEADS, LineFaults, Scenario, electrode_off, run_alone
from qemu_firmware import LSB_PV, RATE_HZ, real_counts, to_mv, uri

from ecgedge.feeds import open_feed
from ecgedge.leads import STANDARD_LEADS
from ecgedge_bridge import Data, Decoder, Info, Mode

FRAME = 10
PLAY = Path(__file__).parents[2] / "firmware_bridge" / "qemu" / "play.py"


@pytest.fixture(scope="module")
def counts(ecg_data):
    """Ten seconds of a real record."""
    return real_counts(ecg_data, 10)


def heard(firmware, folder, counts, **faults):
    """Run to the end; return all bytes that came and the firmware's report."""
    folder.mkdir(exist_ok=True)
    with firmware.start(folder, counts, **faults) as device:
        with socket.create_connection(("127.0.0.1", device.port), 10.0) as host:
            received = b"".join(iter(lambda: host.recv(65536), b""))
        return received, device.report()


def decoded(received):
    decoder = Decoder()
    return decoder.push(received), decoder.counters


@pytest.fixture(scope="module")
def clean(firmware, counts, tmp_path_factory):
    """The line without a fault: bytes and report."""
    return heard(firmware, tmp_path_factory.mktemp("clean"), counts)


def samples(frames):
    """Sample index and counts of each DATA frame."""
    return [(f.sample_index, np.reshape(f.counts, (-1, len(LEADS)))) for f in frames if isinstance(f, Data)]


def damage(counters):
    return counters.bad_cobs + counters.bad_crc + counters.bad_length + counters.oversize


@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_a_feed_gets_every_sample(firmware, ecg_data, tmp_path, seconds):
    counts = real_counts(ecg_data, seconds)

    async def read(address):
        feed = await open_feed(address)
        chunks = [chunk.samples_mv async for chunk in feed]
        await feed.close()
        return np.concatenate(chunks, axis=1), feed

    with firmware.start(tmp_path, counts) as device:
        samples_mv, feed = asyncio.run(read(uri(device)))
        report = device.report()
    assert feed.info.leads == tuple(lead for lead in STANDARD_LEADS if lead in LEADS)
    np.testing.assert_array_equal(samples_mv, to_mv(counts))
    assert np.abs(counts).max() > 2**15, "24 bits are to be tested"
    assert feed.dropped == {}
    assert (report["sent"]["samples"], report["sent"]["data"]) == (len(counts), len(counts) // FRAME)
    assert not any(report["not_sent"].values())


def test_a_serial_feed_gets_every_sample_from_the_moment_it_listens(firmware, counts, tmp_path):
    pytest.importorskip("serial", reason="needs the extra serial: pip install 'ecgedge[serial]'")

    async def read(address):
        feed = await open_feed(address)
        chunks = []
        async for chunk in feed:
            chunks.append(chunk.samples_mv)
            if len(chunks) == 100:
                break
        dropped = dict(feed.dropped)
        await feed.close()
        return np.concatenate(chunks, axis=1), dropped

    settings = {"terminal": True, "stepped": False, "play_samples": 60 * RATE_HZ}
    with firmware.start(tmp_path, counts, **settings) as device:
        samples_mv, dropped = asyncio.run(read(uri(device)))
    played = to_mv(np.concatenate([counts, counts]))
    (start,) = (i for i in range(len(counts)) if np.array_equal(played[:, i : i + 20], samples_mv[:, :20]))
    np.testing.assert_array_equal(samples_mv, played[:, start : start + samples_mv.shape[1]])
    assert dropped.get("lost_samples", 0) == 0


def test_info_stands_first_and_every_five_seconds_and_says_what_is_played(clean, counts):
    frames, counters = decoded(clean[0])
    infos = [(at, frame) for at, frame in enumerate(frames) if isinstance(frame, Info)]
    per_s = RATE_HZ // FRAME
    assert [at // (5 * per_s) for at, _ in infos] == [0, 1, 2]
    assert infos[0][0] == 0
    info = infos[0][1]
    assert (info.rate_num, info.rate_den, info.lsb_pv, info.gain_centi) == (RATE_HZ, 1, LSB_PV, 600)
    assert [STANDARD_LEADS[code - 1] for code in info.leads] == list(LEADS)
    assert (info.mode, info.simulated) == (Mode.DEMO, True)
    assert counters.frames == len(frames) == len(counts) // FRAME + len(infos)
    assert damage(counters) == counters.lost_frames == 0


def test_data_says_when_its_first_sample_was_taken(clean):
    for frame in decoded(clean[0])[0]:
        if isinstance(frame, Data):
            assert frame.t_us == frame.sample_index * 1_000_000 // RATE_HZ


def test_a_seed_gives_the_same_faults_and_another_one_others(firmware, counts, tmp_path):
    faults = {"sent": LineFaults(dropped=0.01, flipped=0.01)}
    first, again, other = (
        heard(firmware, tmp_path / name, counts[:1000], seed=seed, **faults)[0]
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again != other


@pytest.mark.parametrize("share", [0.01, 0.0005])
def test_dropped_bytes_cost_the_frames_that_they_stood_in_and_no_other(
    firmware, counts, tmp_path, share, clean
):
    received, report = heard(firmware, tmp_path, counts, sent=LineFaults(dropped=share))
    dropped = report["line_sent"]["dropped"]
    assert dropped == len(clean[0]) - len(received)
    assert dropped == pytest.approx(share * len(clean[0]), rel=0.2)
    frames, counters = decoded(received)
    sent = report["sent"]["data"] + report["sent"]["info"]
    after_the_last = sent - 1 - frames[-1].seq
    before_the_first = frames[0].seq
    assert counters.frames + counters.lost_frames == sent - before_the_first - after_the_last
    assert 0 < sent - counters.frames <= dropped
    assert damage(counters) > 0
    for index, block in samples(frames):
        np.testing.assert_array_equal(block, counts[index : index + FRAME])


def test_a_flipped_bit_is_never_a_wrong_sample(firmware, counts, tmp_path, clean):
    received, report = heard(firmware, tmp_path, counts, sent=LineFaults(flipped=0.002))
    changed = np.frombuffer(received, np.uint8) ^ np.frombuffer(clean[0], np.uint8)
    assert np.unpackbits(changed).sum() == np.count_nonzero(changed) == report["line_sent"]["flipped"] > 100
    frames, counters = decoded(received)
    assert 0 < counters.frames < report["sent"]["data"]
    assert damage(counters) > 0
    for index, block in samples(frames):
        np.testing.assert_array_equal(block, counts[index : index + FRAME])


@pytest.mark.parametrize(("electrode", "leads"), [("LA", "I"), ("RA", "I II"), ("V3", "V3")])
def test_an_electrode_that_is_off_marks_its_leads_as_long_as_it_is(
    firmware, counts, tmp_path, electrode, leads
):
    faults = {"lead_off": electrode_off(electrode), "lead_off_from": 400, "lead_off_to": 600}
    frames, _ = decoded(heard(firmware, tmp_path, counts[:1000], **faults)[0])
    off = {f.sample_index: (f.lead_off | f.lead_off >> 16) & 0xFFFF for f in frames if isinstance(f, Data)}
    expected = sum(1 << LEADS.index(lead) for lead in leads.split())
    assert off == {index: expected if 400 <= index < 600 else 0 for index in range(0, 1000, FRAME)}
    other = [i for i, lead in enumerate(LEADS) if lead not in leads.split()]
    for index, block in samples(frames):
        np.testing.assert_array_equal(block[:, other], counts[index : index + FRAME, other])


def test_a_reset_begins_everything_anew_and_the_patient_goes_on(firmware, counts, tmp_path):
    received, report = heard(firmware, tmp_path, counts, reset_at=2345, reset_gap=150)
    frames, counters = decoded(received)
    assert (report["boots"], counters.seq_back) == (2, 1)
    (start,) = [at for at, frame in enumerate(frames) if isinstance(frame, Info) and frame.seq == 0 and at]
    before, after = samples(frames[:start]), samples(frames[start:])
    for index, block in before:
        np.testing.assert_array_equal(block, counts[index : index + FRAME])
    assert [index for index, _ in after] == list(range(0, len(after) * FRAME, FRAME))
    # What the chip had taken and not yet sent is lost with it.
    resumed = report["position"] - sum(len(block) for _, block in after)
    assert 2345 + 150 <= resumed < 2345 + 150 + 8 * FRAME
    for index, block in after:
        np.testing.assert_array_equal(block, counts[resumed + index :][: len(block)])
    assert report["sent"]["samples"] >= sum(len(block) for _, block in before + after)


def test_play_says_how_to_listen_and_reports_when_it_is_done(ecg_data):
    qemu_firmware.require_programs()
    recording = ecg_data / "ptbdb_15lead" / "s0010_re.hea"
    options = ["--seconds", "1", "--electrode", "V3", "--off-s", "0.5", "--on-s", "9"]
    command = [sys.executable, str(PLAY), str(recording), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as play:
        try:
            _, invitation = (play.stdout.readline() for _ in range(2))
            port = int(re.search(r'--feed "tcp://127.0.0.1:(\d+)\?mode=demo" --sink bridge', invitation)[1])
            with socket.create_connection(("127.0.0.1", port), 10.0) as host:
                frames, _ = decoded(b"".join(iter(lambda: host.recv(65536), b"")))
            report = json.loads(play.stdout.read())
        finally:
            play.kill()
    off = [f.sample_index for f in frames if isinstance(f, Data) and f.lead_off]
    assert off == list(range(250, 500, FRAME))
    assert report["sent"]["samples"] == RATE_HZ


def test_an_image_without_a_scenario_says_so(firmware, counts, tmp_path, monkeypatch):
    monkeypatch.setattr(Scenario, "pack", lambda _: bytes(200))
    with pytest.raises(RuntimeError, match=r"(?s)code 2.*no scenario at 0x21000000"):
        run_alone(firmware.image, Scenario(counts=counts), folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"counts": np.zeros((10, 3), np.int32)}, "shape"),
        ({"counts": np.zeros((0, 8), np.int32)}, "shape"),
        ({"counts": np.full((1, 8), 1 << 23)}, "24 bits"),
        ({"samples_per_frame": 26}, "26 samples a frame"),
    ],
)
def test_what_the_device_cannot_play_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        Scenario(**{"counts": np.zeros((1, 8), np.int32), **changes}).pack()


def test_cppcheck_finds_nothing():
    needs.programs("cppcheck", package="cppcheck")
    # The core reads the vector table, no code does.
    checks = ["--enable=warning,style,performance,portability", "--suppress=unusedStructMember:*startup.c"]
    files = [str(path) for path in sorted(PLAY.parent.glob("*.c"))]
    command = ["cppcheck", *checks, "--error-exitcode=1", "--std=c99", "--quiet", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
