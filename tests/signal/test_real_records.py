"""Recordings of people: two rates of one ECG agree, clean leads pass, noise and hum do not."""

from collections import Counter

import needs
import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import FrontEnd, Windower, assess, counts_to_mv

wfdb = needs.wfdb()

SPEC = FrontEndSpec()


def read(path):
    record = wfdb.rdrecord(str(path.with_suffix("")))
    return np.ascontiguousarray(record.p_signal.T, dtype=np.float32), float(record.fs)


def condition_mv(samples, rate_hz):
    front_end = FrontEnd(SPEC, n_leads=len(samples), rate_hz=rate_hz)
    return counts_to_mv(front_end.push(samples).counts, SPEC).astype(np.float64), front_end.delay_s


def windows_of(samples, rate_hz):
    windower = Windower(n_leads=len(samples), window_samples=2500, hop_samples=2500)
    conditioned = FrontEnd(SPEC, n_leads=len(samples), rate_hz=rate_hz).push(samples)
    # A window is a view of the buffer until the next one is asked for.
    return [w._replace(counts=w.counts.copy(), status=w.status.copy()) for w in windower.push(conditioned)]


def correlations(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])


@pytest.fixture(scope="module")
def ptbxl_500(ecg_data):
    records = sorted((ecg_data / "ptbxl" / "records500").glob("*/*.hea"))
    assert len(records) > 300
    return records


def test_the_100_hz_copy_looks_like_the_500_hz_original(ptbxl_500):
    """Once the FIRs' delays (23 samples apart) are taken out, every lead correlates by more than 0.98."""
    found = []
    for path in ptbxl_500[:25]:
        name = path.name.replace("_hr", "_lr")
        original, delay_500 = condition_mv(*read(path))
        copy, delay_100 = condition_mv(*read(path.parents[2] / "records100" / path.parent.name / name))
        shift = round((delay_100 - delay_500) * 250.0)
        settled = slice(750, 2500 - shift)  # 3 s
        found.append(correlations(original[:, settled], copy[:, 750 + shift :]))
    assert shift == 23
    assert np.min(found) > 0.98
    assert np.median(found) > 0.99


@pytest.mark.parametrize(("record", "up"), [("100", 25), ("105", 25)])
def test_mit_bih_looks_like_itself_resampled_by_scipy(ecg_data, record, up):
    """360 Hz through the front end, against the same signal brought to 250 Hz by scipy without delay."""
    from scipy.signal import resample_poly

    samples, rate_hz = read(ecg_data / "long_2lead" / "mitdb" / f"{record}.hea")
    samples = samples[:, : 60 * 360]
    ours, delay_s = condition_mv(samples, rate_hz)
    at_250 = resample_poly(samples.astype(np.float64), up, 36, axis=-1, padtype="line").astype(np.float32)
    theirs, no_delay_s = condition_mv(at_250, 250.0)
    assert no_delay_s == 0.0
    shift = round(delay_s * 250.0)
    settled = slice(750, 14_000)
    delayed = ours[:, 750 + shift : 14_000 + shift]
    assert correlations(delayed, theirs[:, settled]).min() > 0.999
    np.testing.assert_allclose(delayed.std(axis=1), theirs[:, settled].std(axis=1), rtol=0.01)


def test_ptbxl_leads_are_usable(ptbxl_500):
    reasons = Counter()
    for path in ptbxl_500[::4]:
        for window in windows_of(*read(path)):
            reasons.update(assess(window, SPEC).reasons)
    assert reasons.total() == 95 * 12
    assert reasons[None] / reasons.total() > 0.97


def test_the_noisy_record_scores_lower_than_the_clean_one(ecg_data):
    """MIT-BIH 105 is described as noisy, 100 as clean."""
    sqi = {}
    for record in ("100", "105"):
        samples, rate_hz = read(ecg_data / "long_2lead" / "mitdb" / f"{record}.hea")
        sqi[record] = np.mean([assess(w, SPEC).sqi for w in windows_of(samples, rate_hz)])
    assert sqi["100"] > 0.95
    assert sqi["105"] < sqi["100"] - 0.1


@pytest.mark.parametrize("rate_hz", [100.0, 360.0, 500.0])
def test_white_noise_is_no_ecg(rate_hz):
    samples = np.random.default_rng(1).normal(0.0, 1.0, (12, int(100 * rate_hz))).astype(np.float32)
    reasons = Counter(r for w in windows_of(samples, rate_hz) for r in assess(w, SPEC).reasons)
    assert set(reasons) == {"noise"}


def test_noise_on_top_of_an_ecg_is_found(ptbxl_500):
    """0.3 mV rms of white noise over 500 Hz drowns most leads; 0.02 mV drowns none."""
    rng = np.random.default_rng(2)
    usable = {}
    for rms_mv in (0.02, 0.3):
        reasons = Counter()
        for path in ptbxl_500[:20]:
            samples, rate_hz = read(path)
            noisy = samples + rng.normal(0.0, rms_mv, samples.shape).astype(np.float32)
            reasons.update(r for w in windows_of(noisy, rate_hz) for r in assess(w, SPEC).reasons)
        usable[rms_mv] = reasons[None] / reasons.total()
    assert usable[0.02] > 0.97
    assert usable[0.3] < 0.4


@pytest.mark.parametrize("mains_hz", [49.5, 50.0, 50.5, 59.5, 60.0, 60.5])
@pytest.mark.parametrize("amplitude_mv", [1.0, 50.0])
def test_hum_alone_is_no_ecg(mains_hz, amplitude_mv):
    t = np.arange(10_000) / 500.0
    hum = (amplitude_mv * np.cos(2 * np.pi * mains_hz * t)).astype(np.float32)[None]
    assert all(assess(w, SPEC).reasons[0] in {"flat", "noise", "clipped"} for w in windows_of(hum, 500.0))


def test_hum_under_an_ecg_is_taken_away(ptbxl_500):
    """1 mV of 50 Hz on every lead: after settling the ECG is as it was."""
    for path in ptbxl_500[:5]:
        samples, rate_hz = read(path)
        hum = np.sin(2 * np.pi * 50.0 * np.arange(samples.shape[1]) / rate_hz).astype(np.float32)
        clean, _ = condition_mv(samples, rate_hz)
        hummed, _ = condition_mv(samples + hum, rate_hz)
        assert np.abs(hummed - clean)[:, 500:].max() < 0.003
