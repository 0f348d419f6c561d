"""The host's side of the bridge protocol without a wire: what came, and when; chunks, answers and counts out."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecgedge.errors import FeedError
from ecgedge.feeds.eeb_host import EebHost
from ecgedge.feeds.tcp import read_settings
from ecgedge_bridge import (
    Ack,
    Alert,
    AlertKind,
    AlertPriority,
    ConfigAck,
    ConfigStatus,
    Data,
    Error,
    Info,
    Mode,
    Ping,
    Pong,
    SampleFormat,
    SignalPresence,
    Validity,
    cobs,
    encode_stream,
    make_result,
    pack,
    to_wire,
)
from ecgedge_bridge.crc import crc32c

RATE = 500
INFO = Info(
    seq=0,
    rate_num=RATE,
    rate_den=1,
    lsb_pv=1_000_000,
    gain_centi=600,
    leads=(1, 2),
    serial="SN-7",
    firmware=(1, 2, 3),
    mode=Mode.REAL,
)


def host(query="", **more):
    found, _ = read_settings(query)
    return EebHost(
        uri="tcp://x:1",
        declared=found.declared,
        settings=found.values,
        framed=True,
        drift_ppm=found.drift_ppm,
        **more,
    )


class Device:
    """Makes the frames of a device that counts as PROTOCOL.md says; sample i of channel c is i + 1000 c."""

    def __init__(self):
        self.seq = self.index = 0

    def send(self, frame):
        frame = replace(frame, seq=self.seq % 2**16)
        self.seq += 1
        return to_wire(frame)

    def data(self, n=25, **more):
        counts = tuple(v for i in range(self.index, self.index + n) for v in (i, i + 1000))
        frame = Data(
            seq=0, sample_index=self.index, t_us=self.index * 2000, n_channels=2, counts=counts,
            fmt=SampleFormat.I24, **more,
        )  # fmt: skip
        self.index += n
        return self.send(frame)


def kinds(frames):
    return [type(frame).__name__ for frame in frames]


# ------------------------------------------------------------------------------------------ INFO


def test_info_is_enough():
    h, d = host("band_hz=0.05,150"), Device()
    assert h.declared is None
    assert h.take(d.data(), now_s=0.0) == []
    h.take(d.send(INFO), now_s=0.1)
    info = h.declared.info("tcp://x:1")
    assert (info.leads, info.rate_hz, info.mode, info.resolution_mv) == (("I", "II"), 500.0, "real", 1e-3)
    assert info.band_hz == (0.05, 150.0)
    (chunk,) = h.take(d.data(), now_s=0.2)
    np.testing.assert_allclose(chunk.samples_mv[0], np.arange(25, 50) * 1e-3, rtol=1e-6)
    assert h.losses() == {"before_info": 1}
    assert list(h.said) == ["tcp://x:1: the device is SN-7, firmware 1.2.3, mode real"]


@pytest.mark.parametrize(("mode", "shown"), [(Mode.TEST, "test"), (Mode.DEMO, "demo")])
def test_a_simulated_device_is_shown_as_one(mode, shown):
    h, d = host(), Device()
    h.take(d.send(replace(INFO, mode=mode, simulated=True)), now_s=0.0)
    assert h.declared.mode == shown
    assert len(h.take(d.data(simulated=True), now_s=0.0)) == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("leads=II,I", "says leads=II,I, and the device .* says I,II"),
        ("rate_hz=250", "says rate_hz=250"),
        ("lsb_nv=1002", "says lsb_nv=1002"),
        ("mode=demo", "says mode=demo"),
        ("leads=I,II,V1&rate_hz=500&lsb_nv=1000", "says leads=I,II,V1"),
    ],
)
def test_the_uri_may_not_contradict_info(query, words):
    with pytest.raises(FeedError, match=words):
        host(query).take(Device().send(INFO), now_s=0.0)


def test_a_rounded_number_in_the_uri_is_no_contradiction():
    h = host("leads=I,II&rate_hz=500&lsb_nv=286.1")
    h.take(Device().send(replace(INFO, lsb_pv=286_102)), now_s=0.0)
    assert h.declared.lsb_nv == 286.102


def test_an_info_that_cannot_be_used_says_why():
    with pytest.raises(FeedError, match=r"INFO\) cannot be used: .*10 Hz is not usable"):
        host().take(Device().send(replace(INFO, rate_num=10)), now_s=0.0)


def test_another_gain_and_another_order_of_the_leads_hold_for_what_follows():
    h, d = host(), Device()
    h.take(d.send(INFO), now_s=0.0)
    h.take(d.data(), now_s=0.0)
    assert h.take(d.data(gain_id=1), now_s=0.0) == []  # its INFO was lost
    h.take(d.send(replace(INFO, gain_id=1, lsb_pv=2_000_000, leads=(2, 1))), now_s=0.0)
    (chunk,) = h.take(d.data(gain_id=1), now_s=0.0)
    np.testing.assert_allclose(chunk.samples_mv[1], np.arange(50, 75) * 2e-3, rtol=1e-6)
    assert h.losses() == {"gain_changed": 1, "lost_samples": 25}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rate_num": 250}, "rate was 500 Hz and is 250 Hz"),
        ({"leads": (1, 7)}, "leads was I,II and is I,V1"),
        ({"serial": "SN-8"}, "serial number was SN-7 and is SN-8"),
        ({"mode": Mode.DEMO, "simulated": True}, "mode was real and is demo"),
    ],
)
def test_what_a_bed_was_made_for_may_not_change(changed, words):
    h, d = host(), Device()
    h.take(d.send(INFO), now_s=0.0)
    with pytest.raises(FeedError, match=words):
        h.take(d.send(replace(INFO, **changed)), now_s=1.0)


# ------------------------------------------------------------------------------------------ a device that starts anew


def played(h, d, n, now_s):
    """Send n frames, each as it is whole; return the chunks and the time after them."""
    chunks = []
    for _ in range(n):
        now_s += 25 / RATE
        chunks += h.take(d.data(), now_s=now_s)
    return chunks, now_s


@pytest.mark.parametrize("away_s", [0.4, 3.0, 20.0])
@pytest.mark.parametrize("with_info", [True, False])
def test_samples_after_a_restart_stand_where_they_came(away_s, with_info):
    h, d = host("" if with_info else "leads=I,II&rate_hz=500&lsb_nv=1000"), Device()
    if with_info:
        h.take(d.send(INFO), now_s=10.0)
    _, now_s = played(h, d, 40, 10.0)
    again = Device()
    if with_info:
        h.take(again.send(INFO), now_s=now_s + away_s)
    chunks, _ = played(h, again, 10, now_s + away_s)
    assert len(chunks) == 10
    assert chunks[0].t_s == pytest.approx(2.0 + away_s, abs=1 / RATE)
    np.testing.assert_allclose(chunks[0].samples_mv[0], np.arange(25) * 1e-3, rtol=1e-6)
    assert np.diff([c.t_s for c in chunks]) == pytest.approx(0.05)
    losses = h.losses()
    assert (losses["restarts"], losses["lost_samples"]) == (1, round(away_s * RATE))
    assert h.status()["misplaced_s"] == pytest.approx(0.0, abs=1e-6)
    assert h.device_index(chunks[0].t_s) == 0
    assert h.device_index(1.0) < 0


def test_how_far_samples_are_misplaced_is_told_once_it_shows():
    h, d = host("leads=I,II&rate_hz=500&lsb_nv=1000"), Device()
    _, now_s = played(h, d, 40, 10.0)
    again = Device()
    first = again.data() + again.data()
    h.take(
        first, now_s=now_s + 1.0 + 0.05 + 0.2
    )  # held up for 0.2 s: the first came with the second, and late
    played(h, again, 10, now_s + 1.0 + 0.1)
    assert h.status()["misplaced_s"] == pytest.approx(0.2, abs=0.01)


def test_faster_than_time_a_restart_is_a_hole_all_the_same():
    h, d = host("leads=I,II&rate_hz=500&lsb_nv=1000"), Device()
    h.take(b"".join(d.data() for _ in range(40)), now_s=10.0)
    again = Device()
    chunks = h.take(again.data() + again.data(), now_s=10.0)
    assert [c.t_s for c in chunks] == [2.25, 2.3]


def test_after_a_restart_info_is_waited_for():
    h, d = host(), Device()
    h.take(d.send(INFO), now_s=10.0)
    _, now_s = played(h, d, 40, 10.0)
    again = Device()
    assert played(h, again, 3, now_s + 1.0)[0] == []
    h.take(again.send(INFO), now_s=now_s + 1.2)
    chunks, _ = played(h, again, 2, now_s + 1.15)
    assert chunks[0].t_s == pytest.approx(2.0 + 1.15, abs=0.02)
    assert h.losses()["before_info"] == 3


def test_one_frame_from_the_past_is_no_restart():
    h, d = host("leads=I,II&rate_hz=500&lsb_nv=1000"), Device()
    first = d.data()
    h.take(first + d.data(), now_s=0.1)
    chunks = h.take(first + d.data() + first + d.data(), now_s=0.2)
    assert [c.t_s for c in chunks] == [0.1, 0.15]
    assert h.losses() == {"duplicates": 2, "seq_back": 2, "lost_frames": 3}


def test_a_restart_sends_alerts_again_and_no_old_result():
    h, d = host(), Device()
    h.take(d.send(INFO), now_s=10.0)
    played(h, d, 40, 10.0)
    h.out.alert(alert(), now_s=12.0)
    h.out.result(make_result(seq=0, sample_index=900, validity=Validity.INV))
    assert kinds(h.due(now_s=12.0)) == ["Ping", "Alert", "Result"]
    h.out.result(make_result(seq=0, sample_index=999, validity=Validity.INV))
    again = Device()
    h.take(again.send(INFO), now_s=12.5)
    played(h, again, 2, 12.5)
    assert kinds(h.due(now_s=12.7)) == ["Ping", "Alert"]
    assert h.losses()["results_unsent"] == 1


# ------------------------------------------------------------------------------------------ out


def alert(condition=5, signal=SignalPresence.ON):
    return Alert(
        seq=0,
        sample_index=1,
        condition=condition,
        kind=AlertKind.TECHNICAL,
        priority=AlertPriority.LOW,
        present=signal in (SignalPresence.ON, SignalPresence.ACKNOWLEDGED),
        signal=signal,
    )


def test_an_alert_is_told_every_five_seconds_and_its_end_three_times():
    h = host()
    told = []
    for tick in range(160):
        if tick in (0, 48):
            h.out.alert(alert(signal=SignalPresence.ON if tick == 0 else SignalPresence.OFF), now_s=tick / 4)
        told += [(tick / 4, frame.signal.name) for frame in h.due(now_s=tick / 4)]
    assert told == [*((t, "ON") for t in (0.0, 5.0, 10.0)), *((t, "OFF") for t in (12.0, 17.0, 22.0))]


def test_numbers_count_all_frames_of_the_host():
    h = host()
    h.out.alert(alert(1), now_s=0.0)
    h.out.alert(alert(2), now_s=0.0)
    h.out.result(make_result(seq=0, sample_index=1, validity=Validity.INV))
    assert [frame.seq for frame in h.due(now_s=0.0)] == [0, 1, 2]


def test_an_ack_is_handed_on_in_the_devices_name():
    h, d = host(), Device()
    h.take(d.send(INFO), now_s=0.0)
    h.take(d.send(Ack(seq=0, sample_index=0, condition=1, user_id=0)), now_s=0.0)
    h.take(d.send(Ack(seq=0, sample_index=0, condition=5, user_id=3)), now_s=0.0)
    assert list(h.acks) == [
        ("MPCWP_ELEVATED", "a button of front end SN-7"),
        ("LEAD_OFF", "user 3 of front end SN-7"),
    ]


def test_an_ack_of_nothing_known_is_refused_once_a_second():
    h, d = host(), Device()
    for _ in range(3):
        h.take(d.send(Ack(seq=0, sample_index=0, condition=999)), now_s=5.0)
    (error,) = h.due(now_s=5.0)
    assert (error.code, error.about_type, error.about_seq) == (2, 0x03, 0)
    h.take(d.send(Ack(seq=0, sample_index=0, condition=999)), now_s=6.0)
    assert [e.about_seq for e in h.due(now_s=6.0)] == [3]
    assert h.losses() == {"unknown_condition": 4}


def test_another_major_version_is_refused():
    h = host("leads=I,II&rate_hz=500&lsb_nv=1000")
    body = bytearray(pack(INFO)[:-4])
    body[0] = 2
    wire = bytes(body) + crc32c(bytes(body)).to_bytes(4, "little")
    for _ in range(3):
        h.take(cobs.encode(wire) + b"\0", now_s=1.0)
    (error,) = h.due(now_s=1.0)
    assert (error.code, error.detail) == (1, 1)
    assert h.heard_s is None
    assert len(h.said) == 1
    assert "another major version" in h.said[0]
    assert h.losses() == {"bad_version": 3}


def test_errors_of_the_device_are_counted_and_said_once():
    h, d = host(), Device()
    for code in (5, 5, 77):
        h.take(d.send(Error(seq=0, code=code, detail=9)), now_s=0.0)
    assert [text.partition("says ")[2] for text in h.said] == [
        "ERROR 5 (internal), detail 9; further ones are counted only",
        "ERROR 77 (of a later version), detail 9; further ones are counted only",
    ]
    assert h.losses() == {"device_errors": 3}


def test_a_config_ack_that_nobody_asked_for_is_counted():
    h, d = host(), Device()
    h.take(d.send(ConfigAck(seq=0, sample_index=0, config_id=1, status=ConfigStatus.APPLIED)), now_s=0.0)
    assert h.losses() == {"not_asked": 1}


# ------------------------------------------------------------------------------------------ clocks


def exchanged(h, d, *, ppm, seconds=60.0, jitter_us=0):
    """Let a device answer whose clock is 3 s ahead and fast by so much."""
    rng, now_s = np.random.default_rng(1), 100.0
    h.take(d.send(INFO), now_s=now_s)
    while now_s < 100.0 + seconds:
        for ping in h.due(now_s=now_s):
            assert isinstance(ping, Ping)
            way_s = (100 + rng.integers(0, jitter_us + 1)) * 1e-6
            t_us = round((now_s + way_s) * 1e6 * (1 + ppm * 1e-6)) + 3_000_000
            answer = Pong(seq=0, ping_id=ping.ping_id, t1_us=ping.t1_us, t2_us=t_us, t3_us=t_us)
            h.take(d.send(answer), now_s=now_s + 2 * way_s)
        now_s += 0.25


@pytest.mark.parametrize(("ppm", "drifts"), [(0.0, False), (-80.0, False), (150.0, False), (-400.0, True)])
def test_offset_and_drift_of_the_devices_clock(ppm, drifts):
    h, d = host(), Device()
    exchanged(h, d, ppm=ppm, jitter_us=200)
    clock = h.status()["clock"]
    assert clock["drift_ppm"] == pytest.approx(ppm, abs=10.0)
    assert clock["offset_ms"] == pytest.approx(3000.0 + ppm * 0.13, abs=1.0)
    assert clock["drift_ok"] is not drifts
    assert ("device_clock_drift" in h.losses()) is drifts
    assert sum(h.out.sent.values()) <= 31


def test_age_is_told_by_the_devices_clock():
    h, d = host(), Device()
    exchanged(h, d, ppm=0.0)
    d.index = 170 * RATE  # its clock is then at 170 s, ours at 167 s
    h.take(d.data(), now_s=167.0 + 0.05 + 0.030)
    assert h.status()["age_s"] == pytest.approx(0.030, abs=0.002)


def test_the_device_may_ask_too_and_a_late_answer_says_so():
    h, d = host(), Device()
    h.take(d.send(Ping(seq=0, ping_id=9, t1_us=77)), now_s=1.0)
    (pong,) = h.due(now_s=1.5)
    assert (pong.ping_id, pong.t1_us, pong.t2_us, pong.t3_us) == (9, 77, 1_000_000, 1_500_000)


def test_an_answer_to_nothing_is_counted():
    h, d = host(), Device()
    h.take(d.send(Pong(seq=0, ping_id=5, t1_us=1, t2_us=2, t3_us=3)), now_s=1.0)
    assert h.losses() == {"unasked_pongs": 1}
    assert h.status()["clock"] == {}


# ------------------------------------------------------------------------------------------ however bytes are cut


@given(
    st.lists(st.integers(0, 200), max_size=8),
    st.sets(st.integers(0, 39), max_size=6),
    st.integers(1, 39),
    st.lists(st.tuples(st.integers(0, 199), st.integers(0, 8)), max_size=4),
)
@example([], set(), 2, [])  # the device comes to the index at which it started anew
@example([], {4}, 3, [])
@settings(max_examples=60)
def test_chunking_never_matters(cuts, lost, restart, flips):
    d = Device()
    parts = [d.send(INFO)]
    for number in range(40):
        if number == restart:
            d = Device()
            parts.append(d.send(INFO))
        wire = d.data()
        parts += [wire] * (number not in lost)
    stream = bytearray(b"".join(parts))
    for at, bit in flips:
        at = at * len(stream) // 200
        stream[at : at + 1] = b"" if bit == 8 else bytes([stream[at] ^ 1 << bit])
    stream = bytes(stream)
    seen = []
    edges = [0, *sorted(c * len(stream) // 200 for c in cuts), len(stream)]
    for pieces in ([stream], [stream[a:b] for a, b in itertools.pairwise(edges)]):
        h = host("leads=I,II&rate_hz=500&lsb_nv=1000")
        chunks = [c for piece in pieces for c in h.take(piece, now_s=10.0)]
        seen.append(([(c.t_s, c.seq, c.samples_mv.tobytes()) for c in chunks], h.losses(), list(h.said)))
        times = [c.t_s for c in chunks]
        assert times == sorted(times)
        for chunk in chunks:  # nothing shifts within a run
            first = round(float(chunk.samples_mv[0, 0]) * 1e3)
            np.testing.assert_allclose(chunk.samples_mv[0], np.arange(first, first + 25) * 1e-3, rtol=1e-5)
    assert seen[0] == seen[1]


def test_messages_without_cobs_give_the_same():
    frames = list(encode_stream([(i, -i) for i in range(100)], rate_hz=500.0))
    whole = host("leads=I,II&rate_hz=500&lsb_nv=1000")
    settings_, _ = read_settings("leads=I,II&rate_hz=500&lsb_nv=1000")
    apart = EebHost(uri="ws://x", declared=settings_.declared, settings=settings_.values, framed=False)
    a = whole.take(b"".join(frames), now_s=0.0)
    b = [c for frame in frames for c in apart.take(cobs.decode(frame[:-1], limit=640), now_s=0.0)]
    assert [(c.t_s, c.samples_mv.tobytes()) for c in a] == [(c.t_s, c.samples_mv.tobytes()) for c in b]
    assert apart.take(b"\0" * 700, now_s=0.0) == []
    assert apart.losses() == {"oversize": 1}


def test_a_restart_after_months_is_none_the_less_one():
    h, d = host("leads=I,II&rate_hz=500&lsb_nv=1"), Device()
    d.index = 3_000_000_000  # from there to 0 is less than half way round: the count alone would say ahead

    def frame(index):
        data = Data(seq=0, sample_index=index, t_us=index * 2000, n_channels=2, counts=(1, 2) * 25)
        return d.send(data)

    first = [3_000_000_000 + 25 * k for k in range(20)]
    for k, index in enumerate(first):
        h.take(frame(index), now_s=10.0 + 0.05 * (k + 1))
    chunks = [c for k in range(4) for c in h.take(frame(25 * k), now_s=13.0 + 0.05 * (k + 1))]
    assert chunks[0].t_s == pytest.approx(6_000_000.0 + 3.0, abs=0.01)
    assert h.losses()["restarts"] == 1
