"""What may stand in a frame, and what is refused when it is made."""

import pytest

from ecgedge_bridge import Data, Decoder, Result, SampleFormat, Validity, encode_stream, make_result, to_wire

DATA = {"seq": 0, "sample_index": 0, "t_us": 0, "n_channels": 2, "counts": (0, 0)}
RESULT = {"seq": 0, "sample_index": 0, "validity": Validity.VLD}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seq": 65536}, "seq is 65536"),
        ({"seq": -1}, "seq is -1"),
        ({"sample_index": 2**32}, "sample_index"),
        ({"t_us": 2**64}, "t_us"),
        ({"lead_off": 2**32}, "lead_off"),
        ({"gain_id": 256}, "gain_id"),
        ({"n_channels": 0}, "0 channels"),
        ({"n_channels": 17, "counts": (0,) * 17}, "17 channels"),
        ({"counts": (0, 0, 0)}, "3 counts"),
        ({"counts": ()}, "0 counts"),
        ({"n_channels": 1, "counts": (0,) * 256}, "256 counts"),
        ({"n_channels": 16, "counts": (0,) * 320}, "660 bytes; at most 628"),
        ({"counts": (0, 32768)}, "outside -32768 to 32767"),
        ({"counts": (-(2**23) - 1, 0), "fmt": SampleFormat.I24}, "outside -8388608"),
        ({"fmt": 2}, "2 is not a valid SampleFormat"),
    ],
)
def test_data_that_does_not_fit_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Data(**{**DATA, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p_elevated_u16": 65536}, "p_elevated_u16"),
        ({"sqi_u8": 256}, "sqi_u8"),
        ({"model_id": 2**32}, "model_id"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"validity": 9}, "9 is not a valid Validity"),
        ({"mpcwp_cmmhg": -32768}, "does not fit"),
        ({"mpcwp_cmmhg": 32768}, "does not fit"),
        ({"mpcwp_cmmhg": 1, "validity": Validity.INV}, "INV must not hold numbers"),
        ({"p_elevated_u16": 1, "validity": Validity.NA}, "NA must not hold numbers"),
        ({"mpcwp_cmmhg": 1, "low_cmmhg": 1}, "both ends"),
        ({"low_cmmhg": 1, "high_cmmhg": 2}, "both ends and a pressure"),
        ({"mpcwp_cmmhg": 1, "low_cmmhg": 2, "high_cmmhg": 1}, "ends before it begins"),
    ],
)
def test_result_that_contradicts_itself_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Result(**{**RESULT, **change})


def test_validities_are_those_of_biceps():
    # ISO/IEEE 11073-10207, MeasurementValidity, in the order of its schema.
    names = ["Vld", "Vldated", "Ong", "Qst", "Calib", "Inv", "Oflw", "Uflw", "NA"]
    assert [v.name for v in Validity] == [n.upper() for n in names]
    assert [int(v) for v in Validity] == list(range(9))


def test_result_from_physical_units():
    result = make_result(
        seq=65537,
        sample_index=2**32 + 5,
        validity=Validity.QST,
        mpcwp_mmhg=17.204,
        interval_mmhg=(11.0, 23.4),
        p_elevated=0.5,
        sqi=1.0,
        latency_ms=1e6,
    )
    assert (result.seq, result.sample_index, result.latency_ms) == (1, 5, 65535)
    assert (result.mpcwp_cmmhg, result.low_cmmhg, result.high_cmmhg) == (1720, 1100, 2340)
    assert result.mpcwp_mmhg == 17.2
    assert result.interval_mmhg == (11.0, 23.4)
    assert result.p_elevated == pytest.approx(0.5, abs=1 / 65535)
    assert result.sqi == 1.0


def test_invalid_result_leaves_its_numbers_out():
    result = make_result(
        seq=0,
        sample_index=0,
        validity=Validity.INV,
        mpcwp_mmhg=17.2,
        interval_mmhg=(11.0, 23.4),
        p_elevated=0.5,
        sqi=0.1,
    )
    assert result == Result(seq=0, sample_index=0, validity=Validity.INV, sqi_u8=26)
    assert (result.mpcwp_mmhg, result.interval_mmhg, result.p_elevated) == (None, None, None)


@pytest.mark.parametrize("pressure", [float("nan"), float("inf"), 400.0])
def test_a_pressure_that_is_none_is_refused(pressure):
    with pytest.raises(ValueError, match="pressure of"):
        make_result(seq=0, sample_index=0, validity=Validity.VLD, mpcwp_mmhg=pressure)


def test_encode_stream_numbers_frames_and_samples():
    samples = [(i, -i) for i in range(25)]
    wire = b"".join(
        encode_stream(samples, rate_hz=500.0, samples_per_frame=10, first_seq=65535, first_index=2**32 - 10)
    )
    frames = Decoder().push(wire)
    assert [f.seq for f in frames] == [65535, 0, 1]
    assert [f.sample_index for f in frames] == [2**32 - 10, 0, 10]
    assert [f.t_us for f in frames] == [(2**32 - 10) * 2000, 2**32 * 2000, (2**32 + 10) * 2000]
    assert [f.n_samples for f in frames] == [10, 10, 5]
    assert [c for f in frames for c in f.counts] == [c for s in samples for c in s]


def test_encode_stream_refuses_changing_channels():
    with pytest.raises(ValueError, match="does not have 2 channels"):
        list(encode_stream([(1, 2), (1,)], rate_hz=500.0))


def test_the_documented_sizes_on_the_wire():
    # PROTOCOL.md section 8: 8 channels of 24 bits, 10 and 25 samples.
    for n_samples, decoded in ((10, 272), (25, 632)):
        frame = Data(
            seq=1, sample_index=1, t_us=1, n_channels=8, counts=(1,) * 8 * n_samples, fmt=SampleFormat.I24
        )
        assert decoded + 2 <= len(to_wire(frame)) <= decoded + 2 + decoded // 254
