"""A bed that is restored goes on as if nothing had happened; one that does not fit is refused."""

import hashlib
import io
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import RecordError, UsageError
from ecgedge.events import Alarm, Estimate
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, BedSnapshot
from ecgedge.stream.snapshot import _MAGIC, BED_FORMAT

QUICK = AlarmPolicy(persistence_s=20.0, recovery_window_s=20.0)


@pytest.fixture(scope="module")
def ecg():
    """80 s at 500 Hz of which V3 is off from 50 to 75 s, with a hole in one lead, and a flat stretch."""
    samples_mv = Simulator("lead-off", seed=5, rate_hz=500.0).read(80 * 500)
    samples_mv[3, 4000:4500] = np.nan
    samples_mv[:, 9000:12_500] *= 3.0
    return samples_mv


@pytest.fixture
def new_bed(formula_bundle, variants):
    def make(policy=QUICK, **changes):
        options = {
            "leads": STANDARD_LEADS,
            "rate_hz": 500.0,
            "variants": variants,
            "policy": policy,
            **changes,
        }
        return Bed(formula_bundle, **options)

    return make


def restarted(bed, bundle, variants, policy=QUICK):
    """The bed as another process has it, which has only the bytes."""
    data = bed.snapshot().to_bytes()
    again = Bed.restore(
        bundle, BedSnapshot.from_bytes(data, source="bed.state"), variants=variants, policy=policy
    )
    assert again.snapshot().to_bytes() == data
    return again


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(1, 39_999), min_size=1, max_size=8, unique=True),
    hole_s=st.sampled_from([0.0, 0.4, 3.0, 61.0, -20.0]),
    acknowledged=st.booleans(),
)
def test_restarted_or_not_the_events_are_the_same(formula_bundle, variants, ecg, cuts, hole_s, acknowledged):
    edges = [0, *sorted(cuts), 40_000]
    straight = Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=500.0, variants=variants, policy=QUICK)
    broken = restarted(straight, formula_bundle, variants)
    expected, said = [], []
    for k, (start, stop) in enumerate(pairwise(edges)):
        t_s = start / 500.0 + hole_s * (k > len(edges) // 2)
        for bed, events in ((straight, expected), (broken, said)):
            events += bed.push(ecg[:, start:stop], t_s=t_s)
            if acknowledged:
                events += bed.acknowledge(t_s, condition="MPCWP_ELEVATED", user="a nurse")
                events += bed.pause_audio(t_s, duration_s=7.0, user="a nurse")
        broken = restarted(broken, formula_bundle, variants)
    assert said == expected
    totals = {"latency_ms": {}, "journal": None}
    assert broken.summary(**totals) == straight.summary(**totals)


def test_a_bed_that_has_heard_nothing_is_restored(formula_bundle, variants, new_bed, ecg):
    straight = new_bed()
    straight.advance(30.0)
    again = restarted(straight, formula_bundle, variants)
    assert again.push(ecg[:, :6000], t_s=0.0) == straight.push(ecg[:, :6000], t_s=0.0)


def test_an_alarm_outlives_a_restart(formula_bundle, variants, new_bed, ecg):
    bed = new_bed()
    events = bed.push(ecg, t_s=0.0)
    shown = [e.condition for e in bed.alarms()]
    assert shown
    assert any(isinstance(e, Alarm) for e in events)
    assert [e.condition for e in restarted(bed, formula_bundle, variants).alarms()] == shown


@pytest.mark.parametrize("place", [0, 5, 30, 200, -1])
def test_a_damaged_snapshot_is_refused(new_bed, ecg, place):
    bed = new_bed()
    bed.push(ecg[:, :3000], t_s=0.0)
    data = bytearray(bed.snapshot().to_bytes())
    data[place] ^= 1
    with pytest.raises(RecordError, match=r"bed\.state is no snapshot of a bed, or damaged; remove it"):
        BedSnapshot.from_bytes(bytes(data), source="bed.state")
    with pytest.raises(RecordError, match="no snapshot"):
        BedSnapshot.from_bytes(b"", source="bed.state")


def test_another_bundle_or_policy_is_refused(bundle, formula_bundle, variants, new_bed, ecg):
    bed = new_bed()
    bed.push(ecg[:, :3000], t_s=0.0)
    snapshot = bed.snapshot()
    with pytest.raises(UsageError, match="serve it with the same"):
        Bed.restore(bundle, snapshot, policy=QUICK)
    with pytest.raises(UsageError, match="another alarm policy"):
        Bed.restore(formula_bundle, snapshot, variants=variants, policy=AlarmPolicy())


def test_the_snapshot_of_a_bed_is_small(new_bed, ecg):
    bed = new_bed()
    events = bed.push(ecg[:, : 60 * 500], t_s=0.0)
    assert len([e for e in events if isinstance(e, Estimate)]) == 11
    assert len(bed.snapshot().to_bytes()) < 150_000


def _array(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


_FORMAT_ONLY = json.dumps({"bed": {"format": BED_FORMAT}, "alarms": {}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no array",
        _array(np.zeros(3, np.uint8)),
        _array(np.frombuffer(b"[]", np.uint8)),
        _array(np.frombuffer(_FORMAT_ONLY, np.uint8)),
        b"\x93NUMPY\x01\x00\x02\x00{(",
    ],
    ids=["empty", "bytes", "no JSON", "no facts", "facts missing", "header"],
)
def test_a_digest_alone_makes_no_snapshot(body):
    digest = hashlib.sha256(body).hexdigest().encode()
    with pytest.raises(RecordError, match=r"bed\.state is no snapshot of a bed.*remove it"):
        BedSnapshot.from_bytes(_MAGIC + digest + b"\n" + body, source="bed.state")
