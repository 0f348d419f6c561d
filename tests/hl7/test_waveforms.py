"""Waveforms as monitors send them, and as we send them; other packages read the same samples."""

import itertools
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import hl7
import numpy as np
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message as ApyMessage
from hl7apy.parser import parse_message
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecgedge.errors import Hl7Error, UsageError
from ecgedge.hl7.header import Envelope
from ecgedge.hl7.message import parse, split_messages
from ecgedge.hl7.waveforms import MAX_SAMPLES, Waveforms, read_waveforms, write_waveforms
from ecgedge.leads import STANDARD_LEADS

START = datetime(2026, 1, 24, 5, 15, 39, 250_000, timezone.utc)
ENVELOPE = Envelope(START, "77", facility="Ward")
HEADER = r"MSH|^~\&|MON|WARD|||20260124131540000+0800||ORU^R01^ORU_R01|1227|P|2.6"
ORDER = "OBR|1||||||20260124131539.25+0800|20260124131540.25+0800"
LEAD = "OBX|1|NA|131330^MDC_ECG_ELEC_POTL_II^MDC|1.1.1.1|1^-2^3|266418^MDC_DIM_MILLI_VOLT^MDC"
RATE = "OBX|2|NM|0^MDC_ATTR_SAMP_RATE^MDC|1.1.1.1.1|500|264608^MDC_DIM_PER_SEC^MDC"


def read(*lines, header=HEADER, order=ORDER, **options):
    return read_waveforms(parse("\r".join([header, "PID|||P1", order, *lines]).encode()), **options)


def some(leads=STANDARD_LEADS, n=50, mode="real", **values):
    samples_mv = np.random.default_rng(len(leads)).normal(0.0, 0.5, (len(leads), n)).astype(np.float32)
    return Waveforms(**{"start": START, "rate_hz": 500.0, "leads": leads, "samples_mv": samples_mv,
                        "patient_id": "P|1", "mode": mode, **values})  # fmt: skip


LEAD_SETS = st.sets(st.sampled_from(STANDARD_LEADS), min_size=1).map(
    lambda leads: tuple(lead for lead in STANDARD_LEADS if lead in leads)
)
SAMPLES = st.floats(-100.0, 100.0, width=32) | st.just(np.nan)


@st.composite
def waveforms(draw):
    leads = draw(LEAD_SETS)
    samples_mv = draw(arrays(np.float32, (len(leads), draw(st.integers(2, 8))), elements=SAMPLES))
    return Waveforms(
        start=START + timedelta(microseconds=100 * draw(st.integers(0, 10**9))),
        rate_hz=draw(st.sampled_from([100.0, 128.0, 250.0, 360.0, 500.0, 1000.0 / 3.0])),
        leads=leads,
        samples_mv=samples_mv,
        patient_id=draw(st.none() | st.text("aB1|^~\\&ä ", min_size=1, max_size=6)),
        mode=draw(st.sampled_from(["real", "test", "demo"])),
    )


@given(waveforms(), st.sampled_from([0.001, 0.01, 1.0, 0.000_001, 0.00125, 0.004_88, 2.0**-12]))
@settings(deadline=None)
def test_what_is_written_is_read(written, resolution_mv):
    whole = write_waveforms(written, ENVELOPE, resolution_mv=resolution_mv)
    found = read_waveforms(parse(whole))
    # Whole multiples of the resolution, correctly rounded; NaN where NaN was.
    steps = np.rint(written.samples_mv.astype(float) / resolution_mv)
    expected = (steps * resolution_mv).astype(np.float32)
    np.testing.assert_allclose(found.samples_mv, expected, rtol=1e-6, atol=1e-7 * resolution_mv)
    np.testing.assert_allclose(found.samples_mv, written.samples_mv, rtol=1e-6, atol=0.5001 * resolution_mv)
    assert replace(found, samples_mv=None) == replace(written, samples_mv=None)
    again = read_waveforms(parse(write_waveforms(found, ENVELOPE, resolution_mv=resolution_mv)))
    np.testing.assert_array_equal(again.samples_mv, found.samples_mv)


@pytest.mark.parametrize("decimals", [0, 1, 3, 6])
def test_decimals_are_the_nearest_float32(decimals):
    whole = write_waveforms(some(), ENVELOPE, resolution_mv=10.0**-decimals)
    texts = [
        segment.raw_field(5).split(b"^")
        for segment in parse(whole).segments("OBX")
        if segment.field(2) == "NA"
    ]
    expected = np.array(texts).astype(np.float64).astype(np.float32)
    np.testing.assert_array_equal(read_waveforms(parse(whole)).samples_mv, expected)


@pytest.mark.parametrize("resolution_mv", [0.001, 0.00125])
@pytest.mark.parametrize("patient_id", ["P|1", None])
def test_other_packages_read_what_we_write(resolution_mv, patient_id):
    written = some(("I", "V6"), n=20, mode="demo", patient_id=patient_id)
    written.samples_mv[0, 3] = np.nan
    text = write_waveforms(written, ENVELOPE, resolution_mv=resolution_mv, location="Bed 3").decode()
    ours = read_waveforms(parse(text.encode()))
    unit = 1.0 if resolution_mv == 0.001 else resolution_mv
    strict = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT)
    assert strict.validate()
    order = strict.oru_r01_patient_result.oru_r01_order_observation
    segments = [group.obx for group in order.oru_r01_observation if group.obx.obx_2.value == "NA"]
    taken_apart = [segment for segment in hl7.parse(text).segments("OBX") if str(segment[2]) == "NA"]
    for row, apy, other in zip(ours.samples_mv, segments, taken_apart, strict=True):
        for values in (apy.obx_5.value.split("^"), [str(x) for x in other[5][0]]):
            expected = np.array([float(value) if value else np.nan for value in values]) * unit
            np.testing.assert_array_equal(row, expected.astype(np.float32))
    assert strict.msh.msh_11.value == "D"
    assert [apy.obx_8.value for apy in segments] == ["DEMO", "DEMO"]


def test_what_hl7apy_builds():
    built = ApyMessage("ORU_R01", version="2.6")
    built.msh.msh_9, built.msh.msh_10, built.msh.msh_11 = "ORU^R01^ORU_R01", "1", "T"
    result = built.add_group("ORU_R01_PATIENT_RESULT")
    result.add_group("ORU_R01_PATIENT").add_segment("PID").pid_3 = "12345^^^Ward^MR"
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    order.add_segment("OBR").obr_7 = "20260124131539.25+0800"
    for line in (LEAD, RATE):
        order.add_group("ORU_R01_OBSERVATION").add(ApyMessage("ORU_R01", version="2.6").add_segment("OBX"))
        order.oru_r01_observation[-1].obx[0].value = line
    found = read_waveforms(parse(built.to_er7().encode()))
    np.testing.assert_array_equal(found.samples_mv, np.float32([[1, -2, 3]]))
    assert (found.leads, found.rate_hz, found.patient_id, found.mode) == (("II",), 500.0, "12345", "test")
    assert found.start == START


def test_a_monitor_with_counts_and_a_mark_for_what_it_did_not_measure():
    found = read(
        "OBX|1|NA|131330^MDC_ECG_ELEC_POTL_II^MDC|1.7.6.131330|80^88^32767|262656^MDC_DIM_DIMLESS^MDC",
        "OBX|2|NM|0^MDC_ATTR_SAMP_RATE^MDC|1.7.6.131330.1|500|264640^MDC_DIM_HZ^MDC",
        "OBX|3|NM|2327^MDC_ATTR_NU_MSMT_RES^MDC|1.7.6.131330.2|1.221|266419^MDC_DIM_MICRO_VOLT^MDC",
        "OBX|4|NM|262196^MDC_EVT_INOP^MDC|1.7.6.131330.3|32767",
        "OBX|5|NA|131329^MDC_ECG_ELEC_POTL_I^MDC|1.7.6.131329|-80^0^1",
        "OBX|6|NM|0^MDC_ATTR_SAMP_RATE^MDC|1.7.6.131329.1|500|264640^MDC_DIM_HZ^MDC",
        "OBX|7|NM|2327^MDC_ATTR_NU_MSMT_RES^MDC|1.7.6.131329.2|0.001221|266418^MDC_DIM_MILLI_VOLT^MDC",
        "OBX|8|NM|262196^MDC_EVT_INOP^MDC|1.7.6.131329.3|1",
        "OBX|9|NA|150452^MDC_PULS_OXIM_PLETH^MDC|1.7.6.150452|7^8",
        "OBX|10|NM|147842^MDC_ECG_HEART_RATE^MDC|1.7.4.147842|72|264864^MDC_DIM_BEAT_PER_MIN^MDC",
    )
    expected = np.array([[-80, 0, 1], [80, 88, np.nan]]) * 0.001221
    np.testing.assert_allclose(found.samples_mv, expected, rtol=1e-6)
    assert (found.leads, found.rate_hz, found.start) == (("I", "II"), 500.0, START)
    assert found.ignored == ("MDC_PULS_OXIM_PLETH",)


def test_vital_recorder_sends_a_bed_a_message():
    # As the simulator of VitalDB (PyPI vitalrecorder 1.0.0) writes them.
    header = r"MSH|^~\&|VitalRecorder|VR|||20260124131540||ORU^R01|{}|P|2.6" + "\rPID|||\rPV1||I|BED-{}\r"
    order = "OBR|1|||VITAL_SIGNS|||20260124131539|20260124131540\r"
    lines = "OBX|1|NM|ECG_HR^Monitor/HR||72|/min|||||R\rOBX|2|NA|ECG_WAV^Monitor/ECG_{}@100||0.1^^-0.3|mV|-1^1||||R\r"
    payload = "".join(header.format(n, n) + order + lines.format(lead) for n, lead in ((1, "II"), (2, "V5")))
    found = [
        read_waveforms(parse(data), zone=timezone(timedelta(hours=8)))
        for data in split_messages(payload.encode())
    ]
    assert [(x.leads, x.rate_hz, x.patient_id) for x in found] == [
        (("II",), 100.0, None),
        (("V5",), 100.0, None),
    ]
    assert found[0].start == START.replace(microsecond=0)
    np.testing.assert_array_equal(found[1].samples_mv, np.float32([[0.1, np.nan, -0.3]]))


@pytest.mark.parametrize(
    "identifier", ["131330", "^MDC_ECG_LEAD_II^MDC", "II", "1^Lead II^L", "99^ecg_ii^99X"]
)
def test_names_of_a_lead(identifier):
    assert read(LEAD.replace("131330^MDC_ECG_ELEC_POTL_II^MDC", identifier), RATE).leads == ("II",)


@pytest.mark.parametrize(
    ("unit", "millivolts"),
    [("mV", 1.0), ("266419^MDC_DIM_MICRO_VOLT^MDC", 1e-3), ("1^x^y^uV^microvolt^UCUM", 1e-3), ("nV", 1e-6)],
)
def test_units(unit, millivolts):
    found = read(LEAD.replace("266418^MDC_DIM_MILLI_VOLT^MDC", unit), RATE)
    np.testing.assert_allclose(found.samples_mv, np.float32([[1, -2, 3]]) * millivolts, rtol=1e-6)


@pytest.mark.parametrize(
    "rate",
    [
        "OBX|2|NM|67981|1.1.1.1.1|250|264608",
        "OBX|2|NM|0^MDC_ATTR_SAMP_RATE^MDC|1.1.1.1|250",
        "OBX|2|NM|0^MDC_ATTR_SAMP_PERIOD^MDC|1.1.1.1.1|4|264338^MDC_DIM_MILLI_SEC^MDC",
        "OBX|2|NM|0^MDC_ATTR_TIME_PD_SAMP^MDC|1.1.1.1.1|0.004|s",
    ],
)
def test_sampling_rates(rate):
    assert read(LEAD, rate).rate_hz == 250.0


def test_a_multiplexed_array_has_repetitions_in_time():
    found = read(LEAD.replace("|NA|", "|MA|").replace("1^-2^3", "1~-2~3"), RATE)
    np.testing.assert_array_equal(found.samples_mv, np.float32([[1, -2, 3]]))


@pytest.mark.parametrize("status", ["||INV|||X", "||NAV", "||DEMO~OFF", "||CAL|||R", "|||||X"])
def test_a_lead_that_is_unusable_is_not_measured(status):
    assert np.isnan(read(LEAD + status, RATE).samples_mv).all()


@pytest.mark.parametrize("status", ["", "||QUES|||R", "|||||F"])
def test_a_lead_that_is_in_doubt_is_measured(status):
    assert not np.isnan(read(LEAD + status, RATE).samples_mv).any()


def test_a_lead_without_samples_is_not_measured():
    empty = LEAD.replace("131330^MDC_ECG_ELEC_POTL_II", "131329").replace("1^-2^3", '""')
    found = read(LEAD, RATE, empty, RATE)
    np.testing.assert_array_equal(found.samples_mv, np.float32([[np.nan] * 3, [1, -2, 3]]))


@pytest.mark.parametrize(
    ("code", "flag", "mode"),
    [
        ("P", "", "real"),
        ("T", "", "test"),
        ("D", "", "demo"),
        ("P", "TEST", "test"),
        ("T", "DEMO", "demo"),
        ("D", "TEST", "demo"),
    ],
)
def test_modes(code, flag, mode):
    assert read(f"{LEAD}||{flag}", RATE, header=HEADER.replace("|P|", f"|{code}|")).mode == mode


def test_the_lead_s_time_goes_before_the_order_s():
    assert read(LEAD + "|" * 8 + "20260124131539.7500+0800", RATE).start == START + timedelta(seconds=0.5)


OTHER = LEAD.replace("131330^MDC_ECG_ELEC_POTL_II", "131329^MDC_ECG_ELEC_POTL_I").replace(
    "1.1.1.1", "1.1.1.2"
)
OTHER_RATE = RATE.replace("1.1.1.1.1", "1.1.1.2.1")
RESOLUTION = "OBX|3|NM|2327^MDC_ATTR_NU_MSMT_RES^MDC|1.1.1.1.2|{}|{}"
COUNTS = LEAD.replace("266418^MDC_DIM_MILLI_VOLT^MDC", "")


@pytest.mark.parametrize(
    ("lines", "place", "wrong"),
    [
        ([RATE], "OBX", "no ECG lead among the waveforms"),
        (
            [LEAD.replace("131330", "131329"), RATE],
            r"OBX\[1\]-3",
            "the code 131329 is lead I, the name .* lead II",
        ),
        ([LEAD, RATE, LEAD], r"OBX\[3\]-3", "the lead II stands twice"),
        ([LEAD], r"OBX\[1\]-3", "the sampling rate is missing"),
        ([LEAD, RATE.replace("|500|", "|fast|")], r"OBX\[2\]-5", "expected a number; found 'fast'"),
        ([LEAD, RATE.replace("|500|", "|-5|")], r"OBX\[2\]-5", "a sampling rate of -5 Hz"),
        ([LEAD, RATE.replace("264608^MDC_DIM_PER_SEC^MDC", "furlong")], r"OBX\[2\]-6", "the unit 'furlong'"),
        (
            [LEAD, RATE, OTHER, OTHER_RATE.replace("500", "250")],
            r"OBX\[1\]-3",
            "sampling rate 500.0 of II is not",
        ),
        (
            [LEAD, RATE, OTHER.replace("1^-2^3", "1^2"), OTHER_RATE],
            r"OBX\[3\]-5",
            "2 samples; other leads hold 3",
        ),
        (
            [LEAD, RATE, OTHER + "|" * 8 + "20260101", OTHER_RATE],
            r"OBX\[1\]-14",
            "start .* of II is not that of I",
        ),
        ([LEAD.replace("-2", "x"), RATE], r"OBX\[1\]-5", "'x' is no number"),
        ([LEAD, RATE, OTHER.replace("-2", "1e999"), OTHER_RATE], r"OBX\[3\]-5", "'1e999' is no number"),
        (
            [LEAD.replace("-2", "1001"), RATE],
            r"OBX\[1\]-5",
            "an amplitude of 1001 mV cannot come from electrodes",
        ),
        ([LEAD.replace("266418^MDC_DIM_MILLI_VOLT^MDC", "mmHg"), RATE], r"OBX\[1\]-6", "the unit 'mmHg'"),
        ([COUNTS, RATE], r"OBX\[1\]-6", "the lead is not calibrated"),
        ([COUNTS, RATE, RESOLUTION.format("0.5", "")], r"OBX\[1\]-6", "the lead is not calibrated"),
        ([COUNTS, RATE, RESOLUTION.format("0", "mV")], r"OBX\[3\]-5", "a resolution of 0 mV"),
        ([COUNTS, RATE, RESOLUTION.format("1e308", "V")], r"OBX\[3\]-5|OBX\[1\]-5", "resolution|amplitude"),
        ([LEAD.replace("1^-2^3", ""), RATE], r"OBX\[1\]-5", "0 samples a lead"),
        ([LEAD.replace("1^-2^3", "1^2~3^4"), RATE], r"OBX\[1\]-5", "several channels"),
        ([LEAD.replace("1^-2^3", "1~2"), RATE], r"OBX\[1\]-5", "several channels"),
        ([LEAD + "|" * 8 + "noon", RATE], r"OBX\[1\]-14", "'noon' is no time"),
        (
            [LEAD.replace("1^-2^3", "^" * MAX_SAMPLES), RATE],
            r"OBX\[1\]-5",
            "1048577 samples a lead; expected 1 to",
        ),
    ],
)
def test_what_is_wrong_is_named(lines, place, wrong):
    with pytest.raises(Hl7Error, match=rf"^({place}): .*({wrong})"):
        read(*lines)


def test_a_time_that_is_missing_or_a_mode_that_is_none_is_named():
    with pytest.raises(Hl7Error, match=r"OBR\[1\]-7: the time is missing"):
        read(LEAD, RATE, order="OBR|1")
    with pytest.raises(Hl7Error, match=r"MSH\[1\]-11: the processing id ''; expected P, T or D"):
        read(LEAD, RATE, header=HEADER.replace("|P|", "||"))


@pytest.mark.parametrize("value", [np.inf, 1e30])
def test_samples_that_cannot_be_written_are_refused(value):
    written = some(("I",), n=3)
    written.samples_mv[0, 1] = value
    with pytest.raises(UsageError, match="more than 15 digits, or are infinite"):
        write_waveforms(written, ENVELOPE)


def outcome(data):
    try:
        return read_waveforms(parse(data)).samples_mv.shape
    except Hl7Error as error:
        return error.place


WHOLE = {
    size: write_waveforms(some(("I", "V2"), n=4), ENVELOPE, resolution_mv=size) for size in (0.001, 0.00125)
}
TOKENS = st.sampled_from(
    [
        *(bytes([byte]) for byte in b"|^~&\\\r-.\xff"),
        b"",
        b"OBX|",
        b"1e300",
        b"9" * 40,
        b'""',
        b"nan",
        b"^^",
        b"|NA|",
    ]
)


CHANGES = st.tuples(st.integers(0, 10**4), st.integers(0, 9), TOKENS | st.binary(max_size=4))


@given(st.sampled_from(list(WHOLE.values())), st.lists(CHANGES, min_size=1, max_size=4))
@settings(deadline=None, max_examples=400)
def test_mutated_messages_are_read_or_named(data, changes):
    for at, gone, new in changes:
        at %= len(data)
        data = data[:at] + new + data[at + gone :]
    assert outcome(data) != ""


def test_every_cut_of_a_message_is_read_or_named():
    whole = WHOLE[0.001]
    found = {outcome(whole[:length]) for length in range(len(whole))}
    assert {"MSH[1]", "OBX", "OBX[1]-3"} <= {place for place in found if isinstance(place, str)}
    assert all(itertools.chain(found))


def test_another_waveform_under_a_lead_s_code_is_no_lead():
    other = LEAD.replace("MDC_ECG_ELEC_POTL_II", "MDC_PULS_OXIM_PLETH")
    found = read(other, RATE, OTHER, OTHER_RATE)
    assert (found.leads, found.ignored) == (("I",), ("MDC_PULS_OXIM_PLETH",))
