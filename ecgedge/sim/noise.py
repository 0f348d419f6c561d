"""What stands between a heart and an amplifier: electrodes, skin, muscles, motion, mains.

Simulated, a test stimulus. Nine electrodes (RA, LA, LL, V1..V6) have a potential each; leads are differences
of them, so one bad electrode spoils exactly the leads that use it. The right leg (RL) drives the reference.
Sizes are of the usual order of bedside monitoring, not fitted to data; half-cell offsets go up to 100 mV
(IEC 60601-2-27 and AAMI EC13 ask a monitor to stand 300 mV).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ELECTRODES: Final = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
N_ELECTRODES: Final = len(ELECTRODES)
MAX_OFFSET_MV: Final = 100.0


def leads_from_electrodes(electrodes_mv: F32) -> F32:
    """Return I, II, V1..V6 (8, n) from electrode potentials (9, n).

    I = LA - RA, II = LL - RA, Vn = Vn - (RA + LA + LL)/3: Wilson's central terminal.
    """
    right, left, foot = electrodes_mv[:3]
    leads = np.empty((8, electrodes_mv.shape[1]), np.float32)
    np.subtract(left, right, out=leads[0])
    np.subtract(foot, right, out=leads[1])
    np.subtract(electrodes_mv[3:], (right + left + foot) / np.float32(3.0), out=leads[2:])
    return leads


@dataclass(frozen=True)
class NoiseLevels:
    """Sizes of the disturbances at one electrode; SD in microvolts unless said otherwise.

    `muscle_uv` is the SD of white noise at 500 Hz sampling, the density stays at other rates. `mains_uv` and
    `respiration_uv` are amplitudes. Motion: bumps of up to `motion_mv`, `motion_per_min` of them.
    """

    muscle_uv: float = 9.0
    wander_uv: float = 70.0
    respiration_uv: float = 60.0
    mains_uv: float = 6.0
    motion_per_min: float = 0.6
    motion_mv: float = 0.8

    def scaled(self, gain: float) -> NoiseLevels:
        """Return these levels times `gain`; how often motion comes stays."""
        return NoiseLevels(
            self.muscle_uv * gain,
            self.wander_uv * gain,
            self.respiration_uv * gain,
            self.mains_uv * gain,
            self.motion_per_min,
            self.motion_mv * gain,
        )


class ElectrodeNoise:
    """Makes the noise of nine electrodes, block by block.

    Parameters
    ----------
    levels
        How much of what.
    mains_hz, respiration_hz
        Frequencies of this bed and patient.
    rate_hz, block_samples
        Fixed for the life of the object: the tables below are made once.
    rng
        Draws what stays constant: how much mains and respiration each electrode picks up.
    """

    def __init__(
        self,
        levels: NoiseLevels,
        *,
        mains_hz: float,
        respiration_hz: float,
        rate_hz: float,
        block_samples: int,
        rng: np.random.Generator,
    ) -> None:
        self._levels = levels
        self._rate_hz = rate_hz
        self._n = block_samples
        self._knots_per_block = max(1, round(block_samples / rate_hz))
        tones = [
            (respiration_hz, levels.respiration_uv),
            (mains_hz, levels.mains_uv),
            (3 * mains_hz, levels.mains_uv / 5),
        ]
        tones = [(hz, uv) for hz, uv in tones if hz < 0.45 * rate_hz]
        self._tone_hz = np.array([hz for hz, _ in tones])
        self._tone_mv = _pick_up(rng, np.array([uv for _, uv in tones]) * 1e-3)
        weights, knot = _splines(self._knots_per_block, block_samples)
        self._table = np.concatenate([weights, _tone_table(self._tone_hz, rate_hz, block_samples)])
        edges = np.searchsorted(knot, np.arange(self._knots_per_block + 1))
        self._pieces = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
        self._wander = rng.standard_normal((N_ELECTRODES, 3))
        self._effort = rng.standard_normal(3)

    def block(self, *, start_s: float, rng: np.random.Generator) -> F32:
        """Return (9, block_samples) mV of the block that starts at `start_s`; blocks come in order."""
        k = self._knots_per_block
        self._wander = np.concatenate([self._wander[:, -3:], rng.standard_normal((N_ELECTRODES, k))], axis=1)
        self._effort = np.concatenate([self._effort[-3:], rng.standard_normal(k)])
        wander = (self._wander * (self._levels.wander_uv * 1e-3)).astype(np.float32)
        tones, muscle = self._tones_at(start_s), self._muscle_mv()
        noise = rng.standard_normal((N_ELECTRODES, self._n), np.float32)
        # Piece by piece between knots: four splines reach a sample.
        for first, piece in enumerate(self._pieces):
            near = slice(first, first + 4)
            noise[:, piece] *= _summed(muscle[None, near], self._table[:4, piece])
            noise[:, piece] += _summed(
                np.concatenate([wander[:, near], tones], axis=1), self._table[:, piece]
            )
        self._move(noise, rng)
        return noise

    def _muscle_mv(self) -> F32:
        """Return the SD of muscle noise at the knots: it swells and fades with what the patient does."""
        sd_mv = self._levels.muscle_uv * 1e-3 * np.sqrt(self._rate_hz / 500.0)
        return np.asarray(np.exp(0.4 * self._effort) * sd_mv, np.float32)

    def _tones_at(self, start_s: float) -> F32:
        phasor = self._tone_mv * np.exp(2j * np.pi * self._tone_hz * start_s)
        return np.concatenate([phasor.real, -phasor.imag], axis=1).astype(np.float32)

    def _move(self, noise: F32, rng: np.random.Generator) -> None:
        """Add motion artefacts: bumps that begin and end inside the block."""
        expected = self._levels.motion_per_min * self._n / self._rate_hz / 60.0
        for _ in range(int(rng.poisson(expected))):
            length = min(int(rng.uniform(0.3, 2.5) * self._rate_hz), self._n)
            first = int(rng.integers(0, self._n - length + 1))
            u = np.arange(length) / length
            swing = np.sin(2.0 * np.pi * (rng.uniform(0.5, 7.0) * u * length / self._rate_hz + rng.random()))
            bump = self._levels.motion_mv * rng.uniform(0.2, 1.0) * np.square(np.sin(np.pi * u)) * swing
            noise[int(rng.integers(N_ELECTRODES)), first : first + length] += bump.astype(np.float32)


def _summed(weights: F32, rows: F32) -> F32:
    """Return weights (m, k) @ rows (k, n), summed in the order of k: a matrix product rounds as the processor likes."""
    total: F32 = weights[:, :1] * rows[0]
    for k in range(1, len(rows)):
        total += weights[:, k : k + 1] * rows[k]
    return total


def _pick_up(rng: np.random.Generator, amplitude_mv: F64) -> NDArray[np.complex128]:
    """Return complex amplitudes (9, tones): a common phase per tone, sizes and small lags per electrode."""
    tones = amplitude_mv.size
    size = rng.uniform(0.2, 1.0, (N_ELECTRODES, tones)) * rng.choice((-1.0, 1.0), (N_ELECTRODES, tones))
    phase = rng.uniform(0.0, 2.0 * np.pi, tones) + rng.normal(0.0, 0.2, (N_ELECTRODES, tones))
    return np.asarray(size * amplitude_mv * np.exp(1j * phase))


def _tone_table(hz: F64, rate_hz: float, n: int) -> F32:
    """Return (2 * tones, n): cosines, then sines, from phase zero."""
    angle = 2.0 * np.pi * hz[:, None] * np.arange(n) / rate_hz
    return np.concatenate([np.cos(angle), np.sin(angle)]).astype(np.float32)


def _splines(knots: int, n: int) -> tuple[F32, NDArray[np.intp]]:
    """Return the weights (4, n) of uniform cubic B-splines and the first knot (n,) that each sample uses."""
    u = np.arange(n) / n * knots
    knot = np.minimum(u.astype(np.intp), knots - 1)
    f = u - knot
    weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6.0
    return weights.astype(np.float32), knot
