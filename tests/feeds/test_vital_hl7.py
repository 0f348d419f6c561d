"""What Vital Recorder sends, no sockets: one bed of one recorder, its tracks, holes by whole seconds, damage."""

import gzip
import itertools
import tracemalloc
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.feeds.vital_hl7 import MAX_INFLATED, BedMessages, Selection, Timeline, inflate

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)
RAMP = [x / 100.0 for x in range(100)]


def stamp(seconds):
    return f"{NOW + timedelta(seconds=seconds):%Y%m%d%H%M%S}"


def track(name, values=RAMP, *, kind="ECG_WAV", rate="@100", unit="mV"):
    return f"OBX|1|NA|{kind}^{name}{rate}||{'^'.join(map(str, values))}|{unit}|||||R\r"


def message(*tracks, begin=0, end=None, vr="OR1", bed="BED-1", mode="P"):
    end = begin + 1 if end is None else end
    return (
        f"MSH|^~\\&|VitalRecorder|{vr}|||{stamp(end)}||ORU^R01|7|{mode}|2.6\rPID|||\rPV1||I|{bed}\r"
        f"OBR|1|||VITAL_SIGNS|||{stamp(begin)}|{stamp(end)}\r{''.join(tracks)}"
    )


def zipped(*messages):
    return gzip.compress("".join(messages).encode(), 1)


def bed(**more):
    return BedMessages(Selection(vr="OR1", **more))


def second(begin, *names, **more):
    return zipped(message(*(track(name) for name in names or ["Monitor/ECG_II"]), begin=begin, **more))


def test_a_second_of_a_bed_becomes_a_packet():
    messages = bed()
    (packet,) = messages.take(second(0, "Monitor/ECG_II", "Monitor/V1"), arrived_s=3.0)
    assert (messages.first.leads, messages.first.rate_hz, messages.first.mode) == (
        ("II", "V1"),
        100.0,
        "real",
    )
    np.testing.assert_array_equal(packet.samples_mv, np.array([RAMP, RAMP], np.float32))
    assert (packet.index, packet.arrived_s) == (int(NOW.timestamp()) * 100, 3.0)
    assert messages.dropped == {}


def test_other_recorders_and_beds_never_mix_in():
    messages = bed()
    other = message(track("Monitor/ECG_II", [9.0] * 100), bed="BED-2")
    assert len(messages.take(zipped(message(track("Monitor/ECG_II")), other))) == 1
    assert messages.take(second(1, vr="OR2")) == []
    assert len(messages.take(zipped(other, message(track("Monitor/ECG_II"), begin=1)))) == 1
    assert messages.dropped == {"other_bed": 2, "other_recorder": 1}


def test_the_bed_and_the_device_of_the_uri_are_waited_for():
    messages = bed(bed="BED-2", device="B")
    assert messages.take(second(0)) == []
    assert messages.take(second(0, "A/ECG_II", bed="BED-2")) == []
    (packet,) = messages.take(second(1, "A/ECG_II", "B/ECG_V1", bed="BED-2"))
    assert messages.first.leads == ("V1",)
    assert packet.n == 100
    assert messages.dropped == {"other_bed": 1, "other_device": 2, "no_waveform": 1}


def test_the_device_of_the_first_ecg_is_kept():
    messages = bed()
    messages.take(second(0, "A/ECG9", "B/ECG_I", "C/ECG_II"))
    messages.take(second(1, "C/ECG_II", "B/ECG_I"))
    assert messages.first.leads == ("I",)
    assert messages.dropped == {"unknown_track": 1, "other_device": 2}


def test_tracks_that_name_no_lead_are_told_apart_and_can_be_named():
    messages = bed()
    assert messages.take(second(0, "Monitor/ECG1", "Monitor/ECG2")) == []
    assert messages.dropped == {"unknown_track": 2, "no_waveform": 1}
    assert list(messages.unknown) == ["Monitor/ECG1", "Monitor/ECG2"]
    named = bed(leads={"ECG1": "II", "Monitor/ECG2": "V5"})
    assert len(named.take(second(0, "Monitor/ECG1", "Monitor/ECG2", "Monitor/ECG_II"))) == 1
    assert named.first.leads == ("II", "V5")
    assert named.dropped == {"double_lead": 1}


def test_what_is_called_another_wave_is_no_lead_whatever_its_name():
    messages = bed()
    waves = [
        track("Monitor/II", kind="RESP_WAV"),
        track("Monitor/PLETH", kind="PLETH_WAV"),
        track("ART", kind=""),
    ]
    assert messages.take(zipped(message(*waves))) == []
    assert messages.dropped == {"no_waveform": 1}
    assert len(messages.take(zipped(message(*waves, track("ECG_V2", kind=""), begin=1)))) == 1
    assert messages.first.leads == ("V2",)


@pytest.mark.parametrize(
    ("unit", "said", "first_mv"),
    [("mV", None, 0.5), ("uV", None, 0.0005), ("", "uV", 0.0005), ("mV", "uV", 0.5)],
)
def test_units(unit, said, first_mv):
    (packet,) = bed(unit=said).take(zipped(message(track("ECG_II", [0.5], unit=unit))))
    assert packet.samples_mv[0, 0] == np.float32(first_mv)


@pytest.mark.parametrize(
    "bad",
    [
        track("ECG_II", unit=""),
        track("ECG_II", unit="mmHg"),
        track("ECG_II", rate=""),
        track("ECG_II", rate="@x"),
        track("ECG_II", rate="@20"),
        track("ECG_II", ["x"]),
        track("ECG_II", [1e9]),
        track("ECG_II") + track("ECG_V1", [0.5]),
    ],
)
def test_a_waveform_that_cannot_be_used_is_counted(bad):
    messages = bed()
    assert messages.take(zipped(message(bad))) == []
    assert messages.dropped == {"bad_waveform": 1}
    assert messages.first is None


def test_another_signal_is_refused_and_a_lead_that_is_off_is_nan():
    messages = bed()
    messages.take(second(0, "ECG_I", "ECG_II"))
    for other in (zipped(message(track("ECG_I", rate="@125"), begin=1)), second(1, "ECG_I", mode="T")):
        assert messages.take(other) == []
    (packet,) = messages.take(zipped(message(track("ECG_II"), track("ECG_V6"), begin=3)))
    assert np.isnan(packet.samples_mv[0]).all()
    np.testing.assert_array_equal(packet.samples_mv[1], np.float32(RAMP))
    assert messages.dropped == {"other_signal": 2, "new_lead": 1}


def test_a_sample_that_is_empty_was_not_measured():
    (packet,) = bed().take(zipped(message(track("ECG_II", [0.5, "", 0.25]))))
    np.testing.assert_array_equal(packet.samples_mv[0], np.float32([0.5, np.nan, 0.25]))


# ------------------------------------------------------------------------------------- gzip, garbage


def test_a_bomb_is_not_unpacked():
    bomb = gzip.compress(bytes(400 << 20))
    tracemalloc.start()
    messages = bed()
    assert messages.take(bomb) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert messages.dropped == {"oversized": 1}
    assert peak < 4 * MAX_INFLATED


SOUND = gzip.compress(b"MSH", mtime=0)  # as names of tests these must be the same in every process


@pytest.mark.parametrize(
    "bad",
    [b"", b"garbage", SOUND[:-3], SOUND * 2, gzip.compress(b"x", mtime=0) + b"y"],
)
def test_what_is_no_gzip_is_counted(bad):
    messages = bed()
    assert messages.take(bad) == []
    assert messages.dropped == {"bad_gzip": 1}


def test_as_much_as_may_be_is_unpacked():
    assert len(inflate(gzip.compress(bytes(MAX_INFLATED)))) == MAX_INFLATED
    with pytest.raises(ValueError, match="oversized"):
        inflate(gzip.compress(bytes(MAX_INFLATED + 1)))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_messages_are_taken_or_counted_and_never_raise(data):
    messages = bed()
    messages.take(second(0))
    bad = bytearray(
        message(track("Monitor/ECG_II", RAMP[:20]), track("Monitor/V1", RAMP[:20]), begin=1).encode()
    )
    for _ in range(data.draw(st.integers(1, 6))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    packets = messages.take(gzip.compress(bytes(bad)))
    assert packets or sum(messages.dropped.values())


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_in_a_sound_gzip_never_raises(garbage):
    messages = bed()
    messages.take(gzip.compress(b"MSH|^~\\&" + garbage))
    assert sum(messages.dropped.values()) > 0


# ------------------------------------------------------------------------------------- time


def indexes(*messages_):
    messages, found = bed(), []
    for one in messages_:
        found += [packet.index for packet in messages.take(one)]
    return [index - found[0] for index in found], dict(messages.dropped)


def test_a_lost_or_damaged_message_is_a_hole():
    assert indexes(second(0), second(1), second(3)) == ([0, 100, 300], {})
    cut = zipped(message(track("Monitor/ECG_II", ["x"]), begin=1))
    assert indexes(second(0), cut, second(2)) == ([0, 200], {"bad_waveform": 1})
    assert indexes(second(0), b"cut", second(2)) == ([0, 200], {"bad_gzip": 1})


def test_messages_without_an_ecg_are_a_hole():
    silent = [zipped(message(track("ART", kind="IABP_WAV"), begin=begin)) for begin in (1, 2)]
    assert indexes(second(0), *silent, second(3)) == ([0, 300], {"no_waveform": 2})


def test_a_clock_that_is_set_back_changes_nothing():
    assert indexes(second(0), second(1), second(-3600), second(-3599)) == (
        [0, 100, 200, 300],
        {"clock_set_back": 1},
    )


def recorder(n, *, window_s=1.0005, block_s=1.0, rate_hz=100.0, phase_s=0.3, rate_error=0.0):
    """Give what a recorder's clock says of n windows: whole seconds, and the samples of the blocks that fell in."""
    block_n = round(block_s * rate_hz)
    true_block_s = block_s * (1.0 + rate_error)
    for k in range(n):
        begin_s, end_s = phase_s + k * window_s, phase_s + (k + 1) * window_s
        blocks = int(end_s / true_block_s) - int(begin_s / true_block_s)
        if blocks:
            yield int(begin_s), int(end_s), blocks * block_n


@pytest.mark.parametrize("block_s", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("phase_s", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("rate_error", [0.0, 2e-4, -2e-4])
def test_a_recorder_that_runs_for_a_day_has_no_hole(block_s, phase_s, rate_error):
    timeline = Timeline(100.0)
    expected = None
    for begin_s, end_s, n in recorder(86_400, block_s=block_s, phase_s=phase_s, rate_error=rate_error):
        first = timeline.place(begin_s, end_s, n)
        assert expected in (None, first)
        expected = first + n
    assert timeline.set_back == 0


@given(
    lost=st.integers(1, 400),
    at=st.integers(1, 300),
    phase_s=st.floats(0.0, 0.999),
    block_s=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
)
@settings(deadline=None)
def test_a_hole_is_right_to_a_second(lost, at, phase_s, block_s):
    timeline = Timeline(100.0)
    windows = list(recorder(at + lost + 20, phase_s=phase_s, block_s=block_s))
    skipped_n = sum(n for *_, n in windows[at : at + lost])
    ends = []
    for begin_s, end_s, n in [*windows[:at], *windows[at + lost :]]:
        first = timeline.place(begin_s, end_s, n)
        ends.append((first, first + n))
    holes = [b - a for (_, a), (b, _) in itertools.pairwise(ends)]
    assert abs(holes[at - 1] - skipped_n) <= 110  # a second, and a block that came a message later
    assert holes[at - 1] > 0
    assert not any(holes[: at - 1] + holes[at:])
