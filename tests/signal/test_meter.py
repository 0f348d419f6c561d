"""Windows judged by what is remembered of their tenths, many beds at once, against `assess`: the same to the bit."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.leads import STANDARD_LEADS
from ecgedge.signal import COMPILED, Assess, Conditioned, Meter, Windower, assess, assess_together
from ecgedge.signal.raw import RAW_BLOCKS
from ecgedge.signal.raw_track import N_RAW

SPEC = FrontEndSpec()
RAIL = round(SPEC.clip_mv / SPEC.lsb_mv)


def noise(rng, n):
    return rng.normal(0.0, 1500.0, n)


def drift(rng, n):
    return np.cumsum(rng.normal(0.0, rng.choice([0.3, 3.0, 30.0]), n))


def steps(rng, n):
    return np.repeat(rng.normal(0.0, 500.0, -(-n // 40)), 40)[:n]


def rails(rng, n):
    return np.where(rng.random(n) < rng.choice([0.001, 0.02, 0.5]), RAIL, -RAIL) * (rng.random(n) < 0.9)


def beats(rng, n):
    t = np.arange(n) % rng.integers(150, 300)
    return 4000.0 * np.exp(-(((t - 75) / 4.0) ** 2)) + rng.normal(0.0, rng.choice([2.0, 60.0]), n)


def still(rng, n):
    return np.full(n, rng.integers(-5000, 5000))


SIGNALS = (noise, drift, steps, rails, beats, still)


def draw(rng, n_leads, n=4000):
    """Each lead is one kind, then another: what a window has left behind must leave no trace."""
    parts = [[rng.choice(SIGNALS)(rng, n // 2) for _ in range(2)] for _ in range(n_leads)]
    counts = np.stack([np.concatenate(of_lead) for of_lead in parts])
    status = np.zeros(counts.shape, np.uint8)
    for _ in range(rng.integers(4)):
        lead, start = rng.integers(n_leads), rng.integers(n)
        status[lead, start : start + rng.integers(1, 900)] = rng.integers(1, 3)
    return Conditioned(np.clip(np.rint(counts), -RAIL, RAIL).astype(np.int16), status)


def raw(rng, n_leads):
    """Numbers as they may be of raw blocks, some of them missing."""
    numbers = rng.exponential(rng.choice([0.01, 1.0]), (RAW_BLOCKS, N_RAW, n_leads)).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.05] = np.nan
    numbers[:, -2:] = rng.random((RAW_BLOCKS, 2, n_leads)) < 0.3
    return numbers


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_leads=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    hop=st.sampled_from([64, 128, 200, 256, 640, 1280, 1408]),
    late=st.sets(st.integers(1, 11), max_size=4),
    restored=st.sets(st.integers(0, 12), max_size=3),
    compiled=st.booleans(),
)
def test_beds_together_are_judged_as_each_window_alone(seed, n_leads, hop, late, restored, compiled):
    """Also where a bed begins later than the others, or anew without its meter; 64 and 200 are no whole tenths."""
    if compiled:
        assert COMPILED.on() is None
    else:
        COMPILED.off()
    rng = np.random.default_rng(seed)
    lengths = {"window_samples": 1280, "hop_samples": hop}
    named = [STANDARD_LEADS[:n] if rng.random() < 0.8 else () for n in n_leads]
    is_raw = rng.random() < 0.5
    streams = [draw(rng, n) for n in n_leads]
    windows = [
        Windower(n_leads=n, **lengths).push(stream) for n, stream in zip(n_leads, streams, strict=True)
    ]
    meters = [Meter(n_leads=n, leads=names, **lengths) for n, names in zip(n_leads, named, strict=True)]
    for turn in range(1 + (4000 - 1280) // hop):
        if turn in restored:
            meters[0] = Meter(n_leads=n_leads[0], leads=named[0], **lengths)
        here = [k for k in range(len(n_leads)) if turn or k not in late]
        raws = [raw(rng, n_leads[k]) if is_raw else None for k in here]
        asked = [
            Assess(meters[k], next(windows[k]), SPEC, of_bed) for k, of_bed in zip(here, raws, strict=True)
        ]
        alone = [vars(assess(a.window, SPEC, raw=a.raw, leads=a.meter.leads)) for a in asked]
        assert [vars(quality) for quality in assess_together(asked)] == alone


def heart(rng, n_leads, n):
    """A heart's leads: each its share of one course, the limb leads as Einthoven's and Goldberger's equations say."""
    t = np.arange(n) % 200
    waves = np.stack([900.0 * np.exp(-(((t - at) / 6.0) ** 2)) for at in (60, 75)])
    one, two = (waves * rng.uniform(0.5, 1.5, (2, 1)) + rng.normal(0.0, 0.3, (2, n))).round()
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    chest = [waves[0] * size + rng.normal(0.0, 0.3, n) for size in rng.uniform(0.5, 1.5, 6)]
    return np.rint(np.stack(limb + chest))[:n_leads].astype(np.int16)


def raw_of_a_heart(rng, n_leads):
    numbers = np.full((RAW_BLOCKS, N_RAW, n_leads), 0.001, np.float32)
    numbers[:, 2], numbers[:, 3], numbers[:, 4] = 0.05, 0.9, -0.3
    numbers[:, 3] += rng.random((RAW_BLOCKS, n_leads)) * 0.01
    numbers[:, -2:] = 0.0
    return numbers


ALL = slice(None)
IN_COUNTS = {
    "noise": ((3, ALL), np.random.default_rng(0).normal(0.0, 900.0, 1280)),
    "flat": ((3, slice(700, None)), 0),
    "clipped": ((3, slice(700, 730)), RAIL),
    "wander": ((3, ALL), 500 * np.sin(np.arange(1280) / 400.0)),
    "burst": ((3, slice(700, 828)), np.random.default_rng(1).normal(0.0, 900.0, 128)),
    "another heart's limb lead": ((1, ALL), np.roll(heart(np.random.default_rng(2), 12, 1280)[1], 70)),
}
IN_RAW = {
    "hum": ((ALL, 0, 3), 9.0),
    "muscle": ((ALL, 1, 3), 9.0),
    "top": ((ALL, slice(3, 6, 2), 3), 1.0),
    "bottom": ((ALL, slice(4, 7, 2), 3), (-0.9, 1.0)),
    "unknown": ((2, ALL, 3), np.nan),
}


@pytest.mark.parametrize("fault", [*IN_COUNTS, *IN_RAW])
def test_only_what_is_not_surely_clean_is_judged_with_whole_arrays(monkeypatch, fault):
    """Each fault and doubt is seen at a glance, and what is clean has the same bits."""
    import ecgedge.signal.meter as module

    assert COMPILED.on() is None
    judged = []
    plain = module.judge
    monkeypatch.setattr(
        module, "judge", lambda kept, n, *rest, **raw: judged.append(n) or plain(kept, n, *rest, **raw)
    )
    rng = np.random.default_rng(5)
    hearts = [heart(rng, 12, 1280) for _ in range(9)]
    raws = [raw_of_a_heart(rng, 12) for _ in hearts]
    if fault in IN_COUNTS:
        where, what = IN_COUNTS[fault]
        hearts[4][where] = what
    else:
        where, what = IN_RAW[fault]
        raws[4][where] = what
    lengths = {"window_samples": 1280, "hop_samples": 128}
    asked = []
    for counts, of_raw in zip(hearts, raws, strict=True):
        stream = Conditioned(counts, np.zeros(counts.shape, np.uint8), whole=True)
        window = next(Windower(n_leads=12, **lengths).push(stream))
        asked.append(Assess(Meter(n_leads=12, leads=STANDARD_LEADS, **lengths), window, SPEC, of_raw))
    found = assess_together(asked)
    assert judged == [[12]]
    for a, quality in zip(asked, found, strict=True):
        assert vars(quality) == vars(assess(a.window, SPEC, raw=a.raw, leads=STANDARD_LEADS))
    suspect = found[4].reasons != found[0].reasons or any(found[4].doubts) or found[4].contradicts
    assert suspect == (fault != "unknown")
    assert not any(any(quality.doubts) for quality in found[:4])


def test_a_tenth_is_measured_once(monkeypatch):
    """What makes it cheap: samples are looked at as they come, and never again."""
    import ecgedge.signal.meter as module

    looked_at = []
    plain = module.tenth_numbers
    monkeypatch.setattr(
        module, "tenth_numbers", lambda *given: looked_at.append(given[0].shape) or plain(*given)
    )
    lengths = {"window_samples": 1280, "hop_samples": 128}
    meter = Meter(n_leads=3, **lengths)
    for window in Windower(n_leads=3, **lengths).push(draw(np.random.default_rng(0), 3)):
        assess_together([Assess(meter, window, SPEC)])
    assert looked_at == [(30, 128)] + [(3, 128)] * (4000 // 128 - 10)


def test_no_call_looks_at_more_rows_than_fit_the_cache(monkeypatch):
    import ecgedge.signal.meter as module

    rows = []
    plain = module.tenth_numbers
    monkeypatch.setattr(module, "tenth_numbers", lambda *given: rows.append(len(given[0])) or plain(*given))
    lengths = {"window_samples": 1280, "hop_samples": 128}
    stream = draw(np.random.default_rng(0), 12, 1408)
    windows = [Windower(n_leads=12, **lengths).push(stream) for _ in range(20)]
    meters = [Meter(n_leads=12, **lengths) for _ in windows]
    for _ in range(2):
        assess_together(
            [Assess(meter, next(window), SPEC) for meter, window in zip(meters, windows, strict=True)]
        )
    assert rows == [120] * 20 + [96, 96, 48]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_meter_is_never_copied(copied):
    """Compiled loops know its memory by address."""
    with pytest.raises(TypeError, match="snapshot"):
        copied(Meter(n_leads=2, window_samples=2500, hop_samples=250))
