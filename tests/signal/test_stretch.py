"""Compiled loops say what whole arrays say, to the bit; where they cannot be had, whole arrays go on."""

import builtins
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.signal import COMPILED, FrontEnd, push_together
from ecgedge.signal.quality import tenth_numbers
from ecgedge.signal.stretch import Switch

SPEC = FrontEndSpec()
RATES_HZ = (100.0, 128.0, 250.0, 257.0, 360.0, 500.0, 977.1, 1000.0)


def raw(rng, n_leads, n, gaps):
    """Return noise on an electrode's offset, here and there clipped, with leads that fall off and return."""
    samples_mv = (
        rng.normal(0.0, 2.0, (n_leads, n)) + rng.uniform(-300.0, 300.0, (n_leads, 1)) * rng.integers(0, 2)
    ).astype(np.float32)
    for _ in range(gaps):
        first, length = int(rng.integers(0, n)), int(rng.integers(1, 400))
        samples_mv[rng.integers(n_leads), first : first + length] = rng.choice([np.nan, np.inf, 1e6])
    return samples_mv


def pushed(samples_mv, cuts, rate_hz, spec):
    """Return all that a front end says of samples that come in pieces, and what it then remembers."""
    front_end = FrontEnd(spec, n_leads=len(samples_mv), rate_hz=rate_hz)
    parts = [front_end.push(piece) for piece in np.split(samples_mv, cuts, axis=1)]
    counts, status = (np.concatenate([getattr(p, x) for p in parts], axis=1) for x in ("counts", "status"))
    return [counts, status, *front_end.state.rows]


@given(st.integers(0, 10**6), st.integers(1, 13), st.sampled_from(RATES_HZ), st.integers(0, 3), st.data())
@settings(max_examples=60)
def test_any_chunking_rate_and_gaps_give_the_same_bits(seed, n_leads, rate_hz, gaps, data):
    samples_mv = raw(np.random.default_rng(seed), n_leads, 2500, gaps)
    cuts = [sorted(data.draw(st.lists(st.integers(0, 2500), max_size=6))) for _ in range(2)]
    said = []
    for on, pieces in zip((False, True), cuts, strict=True):
        assert COMPILED.on() is None
        if not on:
            COMPILED.off()
        said.append(pushed(samples_mv, pieces, rate_hz, SPEC))
    for plain, compiled in zip(*said, strict=True):
        np.testing.assert_array_equal(plain, compiled)


@pytest.mark.parametrize("notch_hz", [(), (50.0,), (50.0, 60.0), (50.0, 60.0, 100.0)])
def test_other_front_ends(notch_hz):
    """Three sections are filled up; six are more than are compiled."""
    spec = FrontEndSpec(highpass_hz=0.67, notch_hz=notch_hz, lowpass_hz=30.0, clip_mv=2.0)
    samples_mv = raw(np.random.default_rng(1), 3, 1500, 1)
    plain = pushed(samples_mv, [700], 500.0, spec)
    COMPILED.on()
    for a, b in zip(plain, pushed(samples_mv, [701], 500.0, spec), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_loops_are_used_for_streams_that_are_pushed_together(monkeypatch):
    COMPILED.on()
    loops, rows = COMPILED.loops, []

    def condition(samples_mv, *rest):
        rows.append(len(samples_mv))
        loops.condition(samples_mv, *rest)

    monkeypatch.setattr(COMPILED, "loops", SimpleNamespace(condition=condition, SECTIONS=loops.SECTIONS))
    rng = np.random.default_rng(2)
    chunks = [rng.normal(0.0, 1.0, (4, 500)).astype(np.float32) for _ in range(3)]
    chunks[2].flags.writeable = False  # as samples of a message are
    front_ends = [FrontEnd(SPEC, n_leads=4, rate_hz=500.0) for _ in chunks]
    for _ in range(2):
        said = push_together(front_ends, chunks)
    assert set(rows) == {12}
    COMPILED.off()
    for chunk, together in zip(chunks, said, strict=True):
        alone = FrontEnd(SPEC, n_leads=4, rate_hz=500.0)
        alone.push(chunk)
        np.testing.assert_array_equal(alone.push(chunk).counts, together.counts)


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(2, 300))
def test_numbers_of_tenths(seed, n_rows, n):
    rng = np.random.default_rng(seed)
    counts = rng.integers(-20480, 20481, (n_rows, n)).astype(np.int16)
    counts[rng.integers(n_rows)] = rng.choice([-20480, 0, 20480])
    plain = tenth_numbers(counts, None, SPEC)
    COMPILED.on()
    np.testing.assert_array_equal(plain, tenth_numbers(counts, None, SPEC))
    COMPILED.off()


def test_without_numba_whole_arrays_go_on(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.split(".")[0] == "numba":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    for name in [x for x in sys.modules if x == "ecgedge.signal.loops"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ecgedge.signal.loops", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    switch = Switch()
    assert "pip install 'ecgedge[compiled]'" in switch.on()
    assert switch.loops is None


def test_loops_that_differ_in_one_bit_are_not_used(monkeypatch):
    COMPILED.on()
    loops = COMPILED.loops

    def condition(*given):
        loops.condition(*given)
        given[-2][0, 0, 0] = np.nextafter(given[-2][0, 0, 0], np.inf)

    wrong = SimpleNamespace(condition=condition, SECTIONS=loops.SECTIONS)
    monkeypatch.setitem(sys.modules, "ecgedge.signal.loops", wrong)
    monkeypatch.setattr("ecgedge.signal.loops", wrong)
    switch = Switch()
    assert "other bits" in switch.on()
    assert switch.loops is None


def test_a_lead_that_is_off_leaves_the_streams_beside_it_whole():
    COMPILED.on()
    front_ends = [FrontEnd(SPEC, n_leads=2, rate_hz=500.0) for _ in range(3)]
    rng = np.random.default_rng(3)
    for turn in range(8):
        chunks = [rng.normal(0.0, 1.0, (2, 500)).astype(np.float32) for _ in front_ends]
        chunks[1][0, 100:300] = np.nan
        said = push_together(front_ends, chunks)
        assert all(one.whole == (not one.status.any()) for one in said)
        if turn > 3:
            assert [one.whole for one in said] == [True, False, True]
