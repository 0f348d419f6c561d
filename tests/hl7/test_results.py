"""Estimates and alarms as messages: others read them, and nothing in them claims more than there is."""

from dataclasses import replace
from datetime import datetime, timezone

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from ecgedge.events import Alarm, Calibrated, Estimate
from ecgedge.hl7.header import Envelope
from ecgedge.hl7.message import parse
from ecgedge.hl7.results import event_phase, write_alarm, write_estimate

NOW = datetime(2026, 1, 24, 5, 15, 39, 250_000, timezone.utc)
ENVELOPE = Envelope(NOW, "77")
ESTIMATE = Estimate(60.0, 17.1234, (12.1, 22.2), 0.71, 0.42, "valid", None, 0.93, ("I", "II"), "I,II/fp32")
INVALID = replace(
    ESTIMATE,
    mpcwp_mmhg=None,
    interval_mmhg=None,
    p_gt_15=None,
    p_gt_18=None,
    validity="invalid",
    reason="lead | off",
)
ALARM = Alarm(60.0, "MPCWP_ELEVATED", "physiological", "medium", "on", "on", "mPCWP estimate elevated")
LEAD_OFF = Alarm(60.0, "LEAD_OFF", "technical", "low", "on", "on", "Lead off: RA")


def observations(data):
    return {x.field(3, 2): x for x in parse(data).segments("OBX")}


def strict(data):
    # hl7apy does not know ORU_R40, which is built as ORU_R01 is.
    text = data.decode().replace("ORU^R40^ORU_R40", "ORU^R01^ORU_R01")
    assert parse_message(text, validation_level=VALIDATION_LEVEL.STRICT).validate()
    return hl7.parse(data.decode())


@pytest.mark.parametrize(
    "estimate", [ESTIMATE, INVALID, replace(ESTIMATE, mode="demo", validity="questionable")]
)
def test_others_read_an_estimate(estimate):
    data = write_estimate(estimate, ENVELOPE, at=NOW, patient_id="P1", location="Bed 3")
    other = strict(data)
    for ours, theirs in zip(parse(data).segments("OBX"), other.segments("OBX"), strict=True):
        assert ours.raw_field(5).decode() == str(theirs[5])
        assert ours.field(3) == str(theirs[3][0][0])
    assert parse(data).field("PID", 3) == "P1"
    assert parse(data).field("PV1", 3) == "Bed 3"


def test_an_estimate_s_numbers():
    found = observations(write_estimate(ESTIMATE, ENVELOPE, at=NOW))
    first = found["MDC_PRESS_BLD_ART_PULM_WEDGE"]
    assert [first.field(n) for n in (2, 3, 5, 6, 17)] == ["NM", "150052", "17.123", "266016", "ACALC"]
    assert first.field(14) == "20260124051539.2500+0000"
    numbers = {name: x.field(5) for name, x in found.items()}
    assert numbers["MPCWP_INTERVAL_LOW"] == "12.100"
    assert numbers["MPCWP_INTERVAL_HIGH"] == "22.200"
    assert numbers["P_MPCWP_GT_15"] == "0.710"
    assert numbers["P_MPCWP_GT_18"] == "0.420"
    assert numbers["SIGNAL_QUALITY"] == "0.930"
    assert numbers["LEADS"] == "I,II"
    assert {"REASON", "CALIBRATION_OFFSET"}.isdisjoint(numbers)


# OBX-8 and OBX-11 of IHE PCD TF-2, appendix B.8: R is "not reviewed nor validated", F would be "validated".
@pytest.mark.parametrize(
    ("estimate", "flags", "status", "processing"),
    [
        (ESTIMATE, b"", "R", "P"),
        (replace(ESTIMATE, validity="questionable"), b"QUES", "R", "P"),
        (INVALID, b"INV", "X", "P"),
        (replace(ESTIMATE, mpcwp_mmhg=None), b"NAV", "X", "P"),
        (replace(ESTIMATE, mode="demo"), b"DEMO", "R", "D"),
        (replace(INVALID, mode="test"), b"INV~TEST", "X", "T"),
    ],
)
def test_an_estimate_s_status(estimate, flags, status, processing):
    data = write_estimate(estimate, ENVELOPE, at=NOW)
    first = observations(data)["MDC_PRESS_BLD_ART_PULM_WEDGE"]
    assert (first.raw_field(8), first.field(11), parse(data).field("MSH", 11)) == (flags, status, processing)
    assert bool(first.raw_field(5)) == (status == "R")


@pytest.mark.parametrize("mode", ["real", "demo"])
def test_every_message_says_what_it_is(mode):
    for data in (
        write_estimate(replace(ESTIMATE, mode=mode), ENVELOPE, at=NOW),
        write_alarm(ALARM, ENVELOPE, at=NOW, mode=mode, alert_id="A1"),
    ):
        note = parse(data).field("NTE", 3)
        assert "not a measurement. Research use only." in note
        assert ("Simulated" in note) == (mode == "demo")


def test_reason_and_calibration_are_told():
    calibrated = replace(ESTIMATE, calibration=Calibrated(1.0, "12/fp32", 20.0, 2.5, 1.0))
    found = observations(write_estimate(calibrated, ENVELOPE, at=NOW))
    assert found["CALIBRATION_OFFSET"].field(5) == "2.500"
    assert observations(write_estimate(INVALID, ENVELOPE, at=NOW))["REASON"].field(5) == "lead | off"


@pytest.mark.parametrize(
    ("alarm", "flags", "state", "inactivation"),
    [
        (ALARM, b"H~PM~SP", "active", "enabled"),
        (replace(ALARM, priority="high", audible="paused"), b"H~PH~SP", "active", "audio-paused"),
        (replace(ALARM, signal="acknowledged"), b"H~PM~SP", "active", "alert-acknowledged"),
        (replace(ALARM, presence="off", signal="latched"), b"PM~SP", "latched", "enabled"),
        (replace(ALARM, presence="off", signal="off"), b"PM~SP", "inactive", "enabled"),
        (LEAD_OFF, b"PL~ST", "active", "enabled"),
    ],
)
def test_an_alarm_s_facets(alarm, flags, state, inactivation):
    data = write_alarm(alarm, ENVELOPE, at=NOW, mode="real", alert_id="A1", mpcwp_mmhg=19.5)
    strict(data)
    facets = list(parse(data).segments("OBX"))
    assert [x.field(4) for x in facets] == [f"1.1.1.1.{n}" for n in range(1, 6)]
    assert (facets[0].raw_field(8), facets[0].field(5), facets[0].field(3, 4)) == (
        flags,
        alarm.text,
        alarm.condition,
    )
    found = observations(data)
    assert found["MDC_PRESS_BLD_ART_PULM_WEDGE"].field(5) == "19.500"
    assert found["MDC_ATTR_ALARM_STATE"].field(5) == state
    assert found["MDC_ATTR_ALARM_INACTIVATION_STATE"].field(5) == inactivation
    assert parse(data).kind == "ORU^R40"


@pytest.mark.parametrize(
    ("changes", "previous", "phase"),
    [
        ({}, None, "start"),
        ({}, replace(ALARM, presence="off", signal="latched"), "start"),
        ({"signal": "acknowledged"}, ALARM, "update"),
        ({"priority": "high"}, ALARM, "escalate"),
        ({"priority": "low"}, ALARM, "de-escalate"),
        ({"presence": "off", "signal": "latched"}, ALARM, "end"),
        ({"presence": "off", "signal": "off"}, replace(ALARM, presence="off", signal="latched"), "update"),
    ],
)
def test_event_phases(changes, previous, phase):
    alarm = replace(ALARM, **changes)
    assert event_phase(alarm, previous) == phase
    data = write_alarm(alarm, ENVELOPE, at=NOW, mode="real", alert_id="A1", previous=previous)
    assert observations(data)["MDC_ATTR_EVENT_PHASE"].field(5) == phase
    order = parse(data).segment("OBR")
    assert (order.field(3), order.field(29, 2)) == ("A1", "" if phase == "start" else "A1")


def test_a_profile_stands_only_where_the_caller_claims_it():
    assert parse(write_estimate(ESTIMATE, ENVELOPE, at=NOW)).field("MSH", 21) == ""
    claimed = replace(ENVELOPE, profile=("IHE_PCD_001", "IHE PCD", "1.3.6.1.4.1.19376.1.6.1.1.1", "ISO"))
    data = write_estimate(ESTIMATE, claimed, at=NOW)
    strict(data)
    assert parse(data).field("MSH", 21, 3) == "1.3.6.1.4.1.19376.1.6.1.1.1"
