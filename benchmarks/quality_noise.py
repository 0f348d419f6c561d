"""What is done to real ECGs before quality is judged: noise, faults and mix-ups of known size, all by one seed.

Samples are raw millivolts at 500 Hz, (records, leads, samples). Noise is synthetic (Gaussian, of stated bands).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

F32 = NDArray[np.float32]
RATE_HZ = 500.0
Change = Callable[[F32, np.random.Generator], F32]


@dataclass(frozen=True)
class Corruption:
    """A change, and the leads it counts on: all, those that it clips, or (mix-ups of whole records) the limb leads."""

    change: Change
    counts: str = "all"


def corruptions() -> Mapping[str, Corruption]:
    """Return every corruption by the name that the table gives it."""
    cases: dict[str, Corruption] = {"none": Corruption(lambda x, _rng: x)}
    for rms in (0.05, 0.1, 0.2, 0.5):
        cases[f"white noise, {rms:g} mV rms"] = Corruption(_noise(rms, None))
    for rms in (0.05, 0.1, 0.2, 0.5):
        cases[f"muscle noise (20 to 150 Hz), {rms:g} mV rms"] = Corruption(_noise(rms, (20.0, 150.0)))
    for rms in (0.1, 0.2, 0.5):
        cases[f"muscle noise for 2 s of 10, {rms:g} mV rms"] = Corruption(
            _noise(rms, (20.0, 150.0), burst=(4.0, 6.0))
        )
    for rms in (0.3, 1.0):
        cases[f"electrode motion (0.5 to 5 Hz), {rms:g} mV rms"] = Corruption(_noise(rms, (0.5, 5.0)))
    cases["electrode motion for 3 s of 10, 1 mV rms"] = Corruption(_noise(1.0, (0.5, 5.0), burst=(4.0, 7.0)))
    cases["five steps of 0.5 to 2 mV"] = Corruption(_steps)
    for mv in (0.5, 2.0, 5.0):
        cases[f"baseline, 0.3 Hz, {mv:g} mV"] = Corruption(_tone(mv, 0.3))
    for hz, mv in ((50.0, 0.2), (50.0, 1.0), (60.0, 1.0), (50.0, 3.0), (49.5, 1.0)):
        cases[f"hum, {hz:g} Hz, {mv:g} mV"] = Corruption(_tone(mv, hz))
    cases["flat"] = Corruption(lambda x, _rng: np.full_like(x, 0.2))
    cases["flat, 1 uV rms of noise"] = Corruption(lambda x, rng: _normal(x, rng) * np.float32(0.001))
    cases["noise alone, 0.5 mV rms"] = Corruption(lambda x, rng: _normal(x, rng) * np.float32(0.5))
    cases["electrode hangs loose: hum alone, 5 mV"] = Corruption(
        lambda x, rng: _tone(5.0, 50.0)(np.zeros_like(x), rng)
    )
    for mv in (0.5, 1.0, 2.0, 5.0):
        cases[f"clipped at {mv:g} mV"] = Corruption(_clip(mv), counts="clipped")
    cases["lead off for the second half"] = Corruption(_lead_off)
    cases["I replaced by another patient's"] = Corruption(_foreign_lead, counts="limb")
    cases["I 25 % too large"] = Corruption(_gain, counts="limb")
    cases["leads I and II mixed up"] = Corruption(lambda x, _rng: x[:, [1, 0, *range(2, 12)]], counts="limb")
    cases["electrodes RA and LA mixed up"] = Corruption(_arms_swapped, counts="limb")
    return cases


def _normal(like: F32, rng: np.random.Generator) -> F32:
    return rng.standard_normal(like.shape, dtype=np.float32)


def _noise(
    rms_mv: float, band_hz: tuple[float, float] | None, *, burst: tuple[float, float] | None = None
) -> Change:
    """Return a change that adds noise; of a burst, the times are counted from the start of the window's 10 s."""

    def change(x: F32, rng: np.random.Generator) -> F32:
        noise: F32 = _normal(x, rng)
        if band_hz is not None:
            sections = butter(4, band_hz, "bandpass", fs=RATE_HZ, output="sos")
            noise = sosfilt(sections, noise, axis=-1).astype(np.float32)
            noise /= noise.std()
        if burst is not None:
            t_s = 10.0 + (np.arange(x.shape[-1]) - x.shape[-1]) / RATE_HZ
            noise *= ((t_s >= burst[0]) & (t_s < burst[1])).astype(np.float32)
        return x + np.float32(rms_mv) * noise

    return change


def _tone(amplitude_mv: float, hz: float) -> Change:
    def change(x: F32, rng: np.random.Generator) -> F32:
        phase = rng.uniform(0.0, 2.0 * np.pi, (*x.shape[:2], 1))
        tone = amplitude_mv * np.sin(2.0 * np.pi * hz * np.arange(x.shape[-1]) / RATE_HZ + phase)
        return x + tone.astype(np.float32)

    return change


def _steps(x: F32, rng: np.random.Generator) -> F32:
    """Let the baseline jump five times within the window, at other times in every lead."""
    changed = x.copy()
    for lead in changed.reshape(-1, x.shape[-1]):
        for _ in range(5):
            at = x.shape[-1] - int(rng.integers(0, 4500))
            lead[at:] += np.float32(rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 2.0))
    return changed


def _clip(rail_mv: float) -> Change:
    return lambda x, _rng: np.clip(x, np.float32(-rail_mv), np.float32(rail_mv))


def _lead_off(x: F32, _rng: np.random.Generator) -> F32:
    changed = x.copy()
    changed[..., -2500:] = np.nan
    return changed


def _foreign_lead(x: F32, _rng: np.random.Generator) -> F32:
    changed = x.copy()
    changed[:, 0] = np.roll(x[:, 0], 1, axis=0)
    return changed


def _gain(x: F32, _rng: np.random.Generator) -> F32:
    changed = x.copy()
    changed[:, 0] *= np.float32(1.25)
    return changed


def _arms_swapped(x: F32, _rng: np.random.Generator) -> F32:
    """I changes sign, II and III change places, aVR and aVL do; what Wilson's terminal gives stays."""
    changed = x[:, [0, 2, 1, 4, 3, *range(5, 12)]]
    changed[:, 0] *= np.float32(-1.0)
    return changed
