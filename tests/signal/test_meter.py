"""The meter, block by block, against `assess` over all samples of the window: the same verdict, to the last bit."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import Conditioned, FrontEnd, Meter, Windower, assess, block_length
from ecgedge.sim import Simulator

SPEC = FrontEndSpec()
RAIL = round(SPEC.clip_mv / SPEC.lsb_mv)
LENGTHS = {"window_samples": 1280, "hop_samples": 128, "first_end": 1280}


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


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(1, 3999), max_size=12),
    restored=st.sets(st.integers(0, 12), max_size=3),
)
def test_it_judges_as_assess_does(seed, cuts, restored):
    rng = np.random.default_rng(seed)
    # Each lead is one kind, then another: what a window has left behind must leave no trace.
    parts = [[rng.choice(SIGNALS)(rng, 2000) for _ in range(2)] for _ in range(5)]
    counts = np.stack([np.concatenate(of_lead) for of_lead in parts])
    counts = np.clip(np.rint(counts), -RAIL, RAIL).astype(np.int16)
    status = np.zeros(counts.shape, np.uint8)
    for _ in range(rng.integers(4)):
        lead, start = rng.integers(5), rng.integers(4000)
        status[lead, start : start + rng.integers(1, 900)] = rng.integers(1, 3)

    def meter():
        return Meter(n_leads=5, window_samples=1280, block_samples=128, spec=SPEC)

    judges = meter()
    windower = Windower(n_leads=5, **LENGTHS, meter=(128, judges.push))
    ends = []
    edges = [0, *sorted(cuts), 4000]
    for k, (start, stop) in enumerate(pairwise(edges)):
        for window in windower.push(Conditioned(counts[:, start:stop], status[:, start:stop])):
            assert vars(judges.assess(window)) == vars(assess(window, SPEC))
            ends.append(window.end_index)
        if k in restored:
            judges, state = meter(), windower.state
            windower = Windower(n_leads=5, **LENGTHS, state=state, meter=(128, judges.push))
    assert ends == list(range(1280, 4001, 128))


def test_on_an_ecg_most_leads_need_no_second_look(monkeypatch):
    """What makes it cheap, and is no rule: of a clean ECG, the blocks alone say most."""
    looked_at = []
    import ecgedge.signal.meter as module

    plain = module.spread_of
    monkeypatch.setattr(module, "spread_of", lambda c, rms: looked_at.append(len(c)) or plain(c, rms))
    judges = Meter(n_leads=12, window_samples=2560, block_samples=256, spec=SPEC)
    windower = Windower(
        n_leads=12, window_samples=2560, hop_samples=256, first_end=2560, meter=(256, judges.push)
    )
    ecg_mv = Simulator("stable", seed=1, rate_hz=250.0).read(60 * 250)
    windows = 0
    for window in windower.push(FrontEnd(SPEC, n_leads=12, rate_hz=250.0).push(ecg_mv)):
        assert vars(judges.assess(window)) == vars(assess(window, SPEC))
        windows += 1
    assert sum(looked_at) < 0.3 * windows * 12


@pytest.mark.parametrize(
    ("window", "hop", "first", "block"),
    [
        (2500, 1250, 2500, 1250),
        (2560, 256, 2560, 256),
        (2500, 250, 2500, 250),
        (2500, 256, 2560, None),  # too short
        (2500, 500, 2500, None),  # five blocks have no half
        (750, 375, 750, None),  # an odd block
    ],
)
def test_the_block_divides_all_or_there_is_none(window, hop, first, block):
    assert block_length(window_samples=window, hop_samples=hop, first_end=first) == block
