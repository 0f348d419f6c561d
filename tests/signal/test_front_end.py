"""The front end against theory, against scipy without streaming, and against what its status promises."""

import numpy as np
import pytest
from scipy.signal import butter, iirnotch, sosfilt, sosfilt_zi, sosfreqz, tf2sos, upfirdn

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.errors import RecordError
from ecgedge.signal import MEASURED, MISSING, SETTLING, FrontEnd, condition, counts_to_mv
from ecgedge.signal.front_end import check_spec
from ecgedge.signal.resample import polyphase_taps, rate_ratio
from ecgedge.signal.stretch import rounded

SPEC = FrontEndSpec()
LSB_MV = 2.0**-12


def condition_mv(samples, rate_hz, spec=SPEC):
    """Condition rows of samples; return float64 millivolts."""
    front_end = FrontEnd(spec, n_leads=len(samples), rate_hz=rate_hz)
    return counts_to_mv(front_end.push(samples.astype(np.float32)).counts, spec).astype(np.float64)


def reference_sections():
    """The filters as the design text states them, from scipy."""
    return np.vstack(
        [
            butter(2, 0.5, "highpass", fs=250, output="sos"),
            tf2sos(*iirnotch(50, 30, fs=250)),
            tf2sos(*iirnotch(60, 30, fs=250)),
            butter(4, 40, fs=250, output="sos"),
        ]
    )


def reference(x, rate_hz):
    """Condition one lead with whole-array scipy calls: pad with the past, upfirdn, sosfilt from zi."""
    ratio = rate_ratio(rate_hz, 250.0)
    if ratio != 1:
        up, down = ratio.numerator, ratio.denominator
        stop_hz = min(rate_hz, 250.0) - 40.0
        taps = polyphase_taps(ratio, rate_in_hz=rate_hz, pass_hz=40.0, stop_hz=stop_hz).T.ravel()
        n_out = -(-len(x) * up // down)
        past = down * (len(taps) // up // down + 2)  # a whole number of outputs: past / down * up of them
        padded = np.concatenate([np.full(past, x[0]), x])
        first = past // down * up
        x = upfirdn(taps, padded, up=up, down=down)[first : first + n_out]
    sections = reference_sections()
    y, _ = sosfilt(sections, x, zi=sosfilt_zi(sections) * x[0])
    return y


@pytest.mark.parametrize("rate_hz", [100.0, 128.0, 250.0, 257.0, 360.0, 500.0, 1000.0])
def test_equals_whole_array_scipy(rate_hz):
    """Before rounding the two agree to 1e-9 mV, so after rounding to one count, and nearly always exactly."""
    rng = np.random.default_rng(5)
    x = (rng.normal(0.0, 0.7, int(20 * rate_hz)) + 12.0).astype(np.float32)
    counts = FrontEnd(SPEC, n_leads=1, rate_hz=rate_hz).push(x[None]).counts[0]
    expected = reference(x.astype(np.float64), rate_hz) / LSB_MV
    assert np.abs(counts - expected).max() <= 0.5 + 1e-9 / LSB_MV


@pytest.mark.parametrize("rate_hz", [100.0, 360.0, 500.0])
def test_agrees_with_scipy_to_1e_9_mv(rate_hz):
    """The same at counts of 2**-30 mV: small signals show the arithmetic, not the rounding."""
    fine = FrontEndSpec(lsb_mv=2.0**-30, clip_mv=2.0**-16)
    x = (1e-5 * np.random.default_rng(6).normal(0.0, 0.2, int(5 * rate_hz))).astype(np.float32)
    ours = FrontEnd(fine, n_leads=1, rate_hz=rate_hz).push(x[None]).counts[0] * 2.0**-30
    np.testing.assert_allclose(ours, reference(x.astype(np.float64), rate_hz), atol=1e-9, rtol=0)


@pytest.mark.parametrize("rate_hz", [100.0, 250.0, 360.0, 500.0, 1000.0])
@pytest.mark.parametrize("tone_hz", [0.05, 0.5, 1.0, 5.0, 10.0, 25.0, 39.0])
def test_gain_follows_theory(rate_hz, tone_hz):
    t = np.arange(int(60 * rate_hz)) / rate_hz
    mv = condition_mv(2.0 * np.sin(2 * np.pi * tone_hz * t)[None], rate_hz)[0, 40 * 250 :]
    t_out = np.arange(len(mv)) / 250.0
    amplitude = 2 * abs(np.mean(mv * np.exp(-2j * np.pi * tone_hz * t_out)))
    _, response = sosfreqz(reference_sections(), worN=[tone_hz], fs=250.0)
    assert amplitude / 2.0 == pytest.approx(abs(response[0]), abs=0.003)


@pytest.mark.parametrize("rate_hz", [128.0, 250.0, 360.0, 500.0, 1000.0])
def test_what_must_pass_and_what_must_go(rate_hz):
    """Gains that the design names, without any filter of ours in the expectation."""
    t = np.arange(int(40 * rate_hz)) / rate_hz

    def gain_db(tone_hz):
        mv = condition_mv(4.0 * np.sin(2 * np.pi * tone_hz * t)[None], rate_hz)[0, 20 * 250 :]
        return 20 * np.log10(max(mv.std() * np.sqrt(2.0), LSB_MV) / 4.0)

    assert gain_db(0.05) < -39.0  # second order, a decade below the corner: -40 dB
    assert abs(gain_db(10.0)) < 0.2
    assert abs(gain_db(20.0)) < 0.3
    assert gain_db(45.0) < -4.0
    assert gain_db(50.0) < -40.0
    # At 128 Hz the notch takes the tone; its image at 68 Hz, above the pass band, is only damped.
    assert gain_db(60.0) < (-34.0 if rate_hz == 128.0 else -40.0)


@pytest.mark.parametrize("tone_hz", [211.0, 230.0, 249.0])
def test_what_would_fold_into_the_pass_band_is_stopped(tone_hz):
    """At 500 Hz, 211 to 249 Hz fold to 39 to 1 Hz; 60 dB of 4 mV is 0.004 mV."""
    t = np.arange(10_000) / 500.0
    mv = condition_mv(4.0 * np.sin(2 * np.pi * tone_hz * t)[None], 500.0)[0, 1000:]
    assert np.abs(mv).max() <= 0.004 + LSB_MV


@pytest.mark.parametrize("rate_hz", [90.0, 100.0, 128.0, 257.0, 360.0, 400.0, 500.0, 1000.0])
def test_an_offset_of_300_mv_leaves_nothing(rate_hz):
    offset = np.full((2, int(5 * rate_hz)), 300.0)
    assert np.abs(condition_mv(offset, rate_hz)).max() == 0.0
    t = np.arange(int(10 * rate_hz)) / rate_hz
    tone = np.sin(2 * np.pi * 8.0 * t)[None]
    difference = condition_mv(tone + 300.0, rate_hz) - condition_mv(tone, rate_hz)
    assert np.abs(difference).max() < 2 * LSB_MV  # float32 itself holds 300 mV to 3e-5 mV


def test_causal():
    """What comes later changes nothing that went out before."""
    rng = np.random.default_rng(2)
    x = rng.normal(0.0, 1.0, (1, 3000)).astype(np.float32)
    y = x.copy()
    y[:, 2000:] = 9.0
    a, b = (FrontEnd(SPEC, n_leads=1, rate_hz=360.0).push(v).counts for v in (x, y))
    before = -(-2000 * 25 // 36)
    np.testing.assert_array_equal(a[:, :before], b[:, :before])
    assert (a[:, before:] != b[:, before:]).any()


def test_counts_clip_and_round_half_to_even():
    values = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9]]) * LSB_MV
    assert rounded(values, FrontEndSpec()).tolist() == [[0, 2, 2, 0, -2, 20480, -20480]]


def test_counts_are_exact_in_float32():
    counts = np.arange(-20480, 20481, dtype=np.int16)
    mv = counts_to_mv(counts, SPEC)
    assert mv.dtype == np.float32
    np.testing.assert_array_equal(mv.astype(np.float64) * 4096.0, counts)
    assert mv.max() == 5.0


def test_delay_is_named():
    assert FrontEnd(SPEC, n_leads=1, rate_hz=250.0).delay_s == 0.0
    assert 0.01 < FrontEnd(SPEC, n_leads=1, rate_hz=500.0).delay_s < 0.02
    assert 0.09 < FrontEnd(SPEC, n_leads=1, rate_hz=100.0).delay_s < 0.12


# --- status: what was measured, what still settles ------------------------------------------------------


def noise(n, *, n_leads=1, seed=0):
    return np.random.default_rng(seed).normal(0.0, 1.0, (n_leads, n)).astype(np.float32)


def test_the_start_settles():
    status = FrontEnd(SPEC, n_leads=1, rate_hz=500.0).push(noise(3000)).status[0]
    assert (status[:500] == SETTLING).all()
    assert (status[500:] == MEASURED).all()


def test_before_the_first_sample_there_are_zeros():
    x = noise(2000, n_leads=2) + 50.0
    x[1, :700] = np.nan
    out = FrontEnd(SPEC, n_leads=2, rate_hz=250.0).push(x)
    assert (out.counts[1, :700] == 0).all()
    assert (out.status[1, :700] == MISSING).all()
    assert (out.status[1, 700:1200] == SETTLING).all()
    assert (out.status[1, 1200:] == MEASURED).all()
    assert (out.status[0] != MISSING).all()
    # The late lead starts as any lead starts.
    alone = FrontEnd(SPEC, n_leads=1, rate_hz=250.0).push(x[1:, 700:])
    np.testing.assert_array_equal(out.counts[1, 700:], alone.counts[0])


@pytest.mark.parametrize("rate_hz", [100.0, 250.0, 500.0, 360.0])
def test_a_long_gap_starts_the_lead_anew(rate_hz):
    """After it the lead is what a fresh front end makes of it, whatever the electrode's offset is now."""
    n, start, stop = int(12 * rate_hz), int(4 * rate_hz), int(6 * rate_hz)  # on whole outputs at these rates
    x = noise(n)
    x[:, stop:] += 250.0
    x[:, start:stop] = np.nan
    out = FrontEnd(SPEC, n_leads=1, rate_hz=rate_hz).push(x)
    fresh = FrontEnd(SPEC, n_leads=1, rate_hz=rate_hz).push(x[:, stop:])
    np.testing.assert_array_equal(out.counts[:, 1500:], fresh.counts)
    np.testing.assert_array_equal(out.status[:, 1500:], fresh.status)
    assert (out.status[0, 1000:1500] == MISSING).all()


def test_a_short_gap_is_bridged():
    """49 samples of 250 Hz are under 0.2 s: held, no restart, settling afterwards; 51 restart."""
    for n_missing, restarts in ((50, False), (51, True)):
        x = noise(3000)
        x[:, 1000 : 1000 + n_missing] = np.nan
        filled = x.copy()
        filled[:, 1000 : 1000 + n_missing] = x[0, 999]
        out = FrontEnd(SPEC, n_leads=1, rate_hz=250.0).push(x)
        held = FrontEnd(SPEC, n_leads=1, rate_hz=250.0).push(filled)
        assert np.array_equal(out.counts, held.counts) is not restarts
        status = out.status[0, 1000:]
        assert (status[:n_missing] == MISSING).all()
        assert (status[n_missing : n_missing + 500] == SETTLING).all()
        assert (status[n_missing + 500 :] == MEASURED).all()


def test_a_lost_sample_between_two_outputs_still_settles():
    """At 500 Hz only every second sample is an output's newest; losing another shows as SETTLING."""
    x = noise(4000)
    x[0, 2001] = np.nan
    status = FrontEnd(SPEC, n_leads=1, rate_hz=500.0).push(x).status[0]
    assert (status[1001:1501] == SETTLING).all()
    assert (status[500:1001] == MEASURED).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e30, 1001.0])
def test_what_no_electrode_gives_counts_as_missing(bad):
    x = noise(1000)
    y = x.copy()
    x[0, 600:620], y[0, 600:620] = bad, np.nan
    a, b = (FrontEnd(SPEC, n_leads=1, rate_hz=250.0).push(v) for v in (x, y))
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_array_equal(a.status, b.status)


def test_the_callers_array_is_left_alone():
    x = noise(1000)
    x[0, 100:200] = np.nan
    before = x.copy()
    for rate_hz in (250.0, 500.0):
        FrontEnd(SPEC, n_leads=1, rate_hz=rate_hz).push(x)
    np.testing.assert_array_equal(x, before)


def test_condition_is_the_front_end_on_the_whole():
    x = noise(5000, n_leads=2)
    whole = condition(Recording(x, 500.0, ("I", "II")), SPEC)
    pushed = FrontEnd(SPEC, n_leads=2, rate_hz=500.0).push(x)
    np.testing.assert_array_equal(whole.counts, pushed.counts)
    np.testing.assert_array_equal(whole.status, pushed.status)
    assert whole.counts.shape == (2, 2500)
    assert (whole.counts.dtype, whole.status.dtype) == (np.int16, np.uint8)


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunk",
    [
        np.zeros((3, 10), np.float32),
        np.zeros(10, np.float32),
        np.zeros((1, 2, 10), np.float32),
        np.zeros((2, 10), np.float64),
        np.zeros((2, 10), np.int16),
    ],
)
def test_wrong_chunks_are_refused_and_change_nothing(chunk):
    front_end = FrontEnd(SPEC, n_leads=2, rate_hz=250.0)
    with pytest.raises(RecordError, match="expected"):
        front_end.push(chunk)
    x = noise(300, n_leads=2)
    fresh = FrontEnd(SPEC, n_leads=2, rate_hz=250.0)
    np.testing.assert_array_equal(front_end.push(x).counts, fresh.push(x).counts)


def test_an_empty_chunk_is_nothing():
    out = FrontEnd(SPEC, n_leads=2, rate_hz=500.0).push(np.zeros((2, 0), np.float32))
    assert out.counts.shape == out.status.shape == (2, 0)
    assert (out.counts.dtype, out.status.dtype) == (np.int16, np.uint8)


@pytest.mark.parametrize("rate_hz", [0.0, 50.0, 89.9, 30_000.0, float("nan")])
def test_unusable_rates_are_refused(rate_hz):
    with pytest.raises(RecordError, match="sampling rate"):
        FrontEnd(SPEC, n_leads=1, rate_hz=rate_hz)


def test_a_rate_too_low_for_the_low_pass_is_refused():
    with pytest.raises(RecordError, match="lowpass_hz 47"):
        FrontEnd(FrontEndSpec(lowpass_hz=47.0), n_leads=1, rate_hz=92.0)


def test_no_leads_are_refused():
    with pytest.raises(ValueError, match="at least one lead"):
        FrontEnd(SPEC, n_leads=0, rate_hz=250.0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (FrontEndSpec(highpass_hz=50.0), "highpass_hz 50"),
        (FrontEndSpec(highpass_hz=0.0), "highpass_hz 0"),
        (FrontEndSpec(notch_hz=(125.0,)), "125 Hz cannot run"),
        (FrontEndSpec(lowpass_hz=130.0, notch_hz=()), "130 Hz cannot run"),
        (FrontEndSpec(clip_mv=9.0), "does not fit int16"),
    ],
)
def test_specs_that_cannot_work_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        check_spec(spec)
    with pytest.raises(ValueError, match=message):
        FrontEnd(spec, n_leads=1, rate_hz=250.0)
