"""A beating dipole: Gaussians in time along directions in space, seen by eight leads.

Simulated, a test stimulus. P (right and left atrium), QRS and T are sums of Gaussians of the heart vector
(Frank's axes: X to the left, Y to the feet, Z to the back; mV), after the dynamical model of McSharry et al.
(IEEE Trans Biomed Eng 2003;50:289) and its dipole form (Sameni et al., EURASIP J Adv Signal Process
2007:43407). A lead is the projection of the heart vector by Dower's matrix (Dower, Machado & Osborne, Clin
Cardiol 1980;3:87); its inverse is Edenbrandt & Pahlm's (J Electrocardiol 1988;21:361).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgedge.sim.patient import Correlates, Traits

F64 = NDArray[np.float64]

INDEPENDENT_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")

DOWER: Final = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
"""(8, 3): the independent leads from X, Y, Z."""

_REACH_SIGMA: Final = 4.0
"""A Gaussian is cut where it has fallen to 0.03 % of its height: below 1 uV for every wave here."""
_EDGE_SIGMA: Final = 2.2
"""Onset and end of an atrial deflection, where it stands at 9 % of its height."""

# Ventricular activation: (time from R in ms, sigma in ms, X, Y, Z in mV).
_Lobes = tuple[tuple[float, float, float, float, float], ...]
_NORMAL: Final[_Lobes] = (
    (-26.0, 7.5, -0.16, -0.06, -0.26),
    (-4.0, 9.5, 0.95, 0.82, -0.10),
    (13.0, 9.5, 0.42, 0.25, 0.66),
    (32.0, 8.0, -0.12, -0.16, 0.22),
)
_LBBB: Final[_Lobes] = (
    (-28.0, 13.0, 0.20, 0.25, 0.22),
    (6.0, 20.0, 0.62, 0.45, 0.60),
    (46.0, 19.0, 0.75, 0.15, 0.62),
    (78.0, 14.0, 0.20, -0.10, 0.22),
)
_RBBB: Final[_Lobes] = (
    (-26.0, 7.5, -0.16, -0.06, -0.26),
    (-4.0, 9.5, 0.90, 0.75, 0.00),
    (12.0, 9.0, 0.30, 0.20, 0.42),
    (56.0, 17.0, -0.42, -0.08, -0.55),
)
_PVC: Final[_Lobes] = (
    (-20.0, 20.0, -0.30, 0.70, 0.40),
    (22.0, 26.0, 0.55, 1.10, 0.90),
    (66.0, 20.0, 0.25, 0.45, 0.35),
)
_LOBES: Final[dict[str, _Lobes]] = {"normal": _NORMAL, "av1": _NORMAL, "lbbb": _LBBB, "rbbb": _RBBB}

# Repolarisation: (time from the peak of T in ms, sigma in ms, X, Y, Z in mV); late slope steeper than the early.
_T_NORMAL: Final[_Lobes] = ((-42.0, 46.0, 0.16, 0.12, -0.10), (0.0, 30.0, 0.18, 0.14, -0.10))
_T_LBBB: Final[_Lobes] = ((-42.0, 48.0, -0.20, -0.06, -0.20), (0.0, 32.0, -0.16, -0.05, -0.16))
_T_RBBB: Final[_Lobes] = ((-42.0, 46.0, 0.20, 0.12, 0.08), (0.0, 30.0, 0.18, 0.12, 0.08))
_T_PVC: Final[_Lobes] = ((-45.0, 55.0, -0.22, -0.40, -0.32), (0.0, 36.0, -0.18, -0.30, -0.22))
_T_LOBES: Final[dict[str, _Lobes]] = {"normal": _T_NORMAL, "av1": _T_NORMAL, "lbbb": _T_LBBB, "rbbb": _T_RBBB}

_QRS_ONSET_MS: Final = -44.0
_T_PEAK_BEFORE_END_MS: Final = 62.0
_RIGHT_ATRIUM_MV: Final = np.array([0.030, 0.085, -0.050])
_LEFT_ATRIUM_XY_MV: Final = np.array([0.055, 0.050])


@dataclass(frozen=True)
class Beats:
    """Beats in order: R times, the RR interval that each repolarises by, its gain, and whether it is a PVC."""

    r_s: F64
    rr_s: F64
    gain: F64
    pvc: NDArray[np.bool_]


@dataclass(frozen=True)
class Waves:
    """Gaussians: centre (W,), sigma (W,) in seconds, and the heart vector at the peak (W, 3) in mV."""

    centre_s: F64
    sigma_s: F64
    vector_mv: F64


def heart_waves(beats: Beats, traits: Traits, correlates: Correlates) -> Waves:
    """Return the Gaussians of all `beats` of a patient whose correlates are those given."""
    own = _pick(beats, ~beats.pvc)
    ectopic = _pick(beats, beats.pvc)
    parts = [_ventricles(own, traits, correlates, _LOBES[traits.conduction], _T_LOBES[traits.conduction])]
    if ectopic.r_s.size:
        parts.append(_ventricles(ectopic, traits, correlates, _PVC, _T_PVC))
    if traits.rhythm == "sinus":
        parts.append(_atria(own, traits, correlates))
    return Waves(
        np.concatenate([p.centre_s for p in parts]),
        np.concatenate([p.sigma_s for p in parts]),
        np.concatenate([p.vector_mv for p in parts]),
    )


def render(waves: Waves, *, start_s: float, rate_hz: float, n: int) -> F64:
    """Return the heart vector (3, n) in mV: the sum of `waves` at n samples from `start_s` on."""
    centre = (waves.centre_s - start_s) * rate_hz
    sigma = waves.sigma_s * rate_hz
    first = np.maximum(np.ceil(centre - _REACH_SIGMA * sigma), 0).astype(np.intp)
    last = np.minimum(np.floor(centre + _REACH_SIGMA * sigma), n - 1).astype(np.intp)
    length = np.maximum(last - first + 1, 0)
    wave = np.repeat(np.arange(centre.size), length)
    within = np.arange(wave.size) - np.repeat(np.cumsum(length) - length, length)
    sample = within + first[wave]
    height = np.exp(-0.5 * np.square((sample - centre[wave]) / sigma[wave]))
    return np.stack([np.bincount(sample, height * axis[wave], n) for axis in waves.vector_mv.T])


def project(vector_mv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the independent leads (8, n) of a heart vector (3, n): Dower's matrix, summed in a fixed order."""
    x, y, z = DOWER.astype(np.float32).T[:, :, None]
    return np.asarray(x * vector_mv[0] + y * vector_mv[1] + z * vector_mv[2])


def left_atrium_sigma_ms(p_duration_ms: float) -> float:
    """Return the width of the left atrial deflection, which spreads with the P wave."""
    return 11.0 + 0.06 * p_duration_ms


def _pick(beats: Beats, mask: NDArray[np.bool_]) -> Beats:
    return Beats(beats.r_s[mask], beats.rr_s[mask], beats.gain[mask], beats.pvc[mask])


def _atria(beats: Beats, traits: Traits, correlates: Correlates) -> Waves:
    """Right atrium first, forward and down; left atrium later, to the left and back."""
    right_ms, left_ms = traits.right_atrium_sigma_ms, left_atrium_sigma_ms(correlates.p_duration_ms)
    # A P wave that outlasts the PR interval pushes the ventricles back: conduction waits for neither.
    onset_ms = _QRS_ONSET_MS - max(traits.pr_ms, correlates.p_duration_ms + 15.0)
    centre_ms = np.array(
        [onset_ms + _EDGE_SIGMA * right_ms, onset_ms + correlates.p_duration_ms - _EDGE_SIGMA * left_ms]
    )
    vectors = np.stack([_RIGHT_ATRIUM_MV * traits.p_gain, _left_atrium_mv(traits, correlates, left_ms)])
    return _waves(beats.r_s[:, None] + centre_ms * 1e-3, np.array([right_ms, left_ms]), vectors, beats.gain)


def _left_atrium_mv(traits: Traits, correlates: Correlates, sigma_ms: float) -> F64:
    """Return the left atrial vector whose deflection in V1 has the area `ptf_v1_uv_ms`."""
    x, y = _LEFT_ATRIUM_XY_MV * traits.p_gain
    v1_mv = correlates.ptf_v1_uv_ms * 1e-3 / (sigma_ms * np.sqrt(2.0 * np.pi))
    row = DOWER[INDEPENDENT_LEADS.index("V1")]
    return np.array([x, y, (v1_mv - row[0] * x - row[1] * y) / row[2]])


def _ventricles(beats: Beats, traits: Traits, correlates: Correlates, qrs: _Lobes, t: _Lobes) -> Waves:
    turn = _rotation(traits.axis_deg, traits.horizontal_deg) * np.exp(correlates.log_voltage)
    lobes, t_lobes = np.array(qrs), np.array(t)
    # Fridericia: QT = QTc * RR^(1/3).
    stretch = np.cbrt(beats.rr_s)[:, None]
    t_peak_ms = _QRS_ONSET_MS + traits.qtc_ms * stretch - _T_PEAK_BEFORE_END_MS
    late_ms = max(0.0, float(lobes[-1, 0]) - 32.0)
    r_s = beats.r_s[:, None]
    centre = np.concatenate(
        [
            r_s + lobes[:, 0] * traits.qrs_width * 1e-3,
            r_s + (t_peak_ms + late_ms + t_lobes[:, 0] * stretch) * 1e-3,
        ],
        axis=1,
    )
    sigma = np.concatenate([lobes[:, 1] * traits.qrs_width, t_lobes[:, 1]])
    vectors = np.concatenate([lobes[:, 2:], t_lobes[:, 2:] * traits.t_gain]) @ turn.T
    return _waves(centre, sigma, vectors, beats.gain)


def _waves(centre_s: F64, sigma_ms: F64, vectors_mv: F64, gain: F64) -> Waves:
    """Flatten (beats, waves) into one list."""
    beats = centre_s.shape[0]
    vector = gain[:, None, None] * vectors_mv
    return Waves(centre_s.ravel(), np.tile(sigma_ms * 1e-3, beats), vector.reshape(-1, 3))


def _rotation(frontal_deg: float, horizontal_deg: float) -> F64:
    """Turn by `frontal_deg` from X towards Y (clockwise, to the feet), and from X towards Z."""
    f, h = np.deg2rad(frontal_deg), np.deg2rad(horizontal_deg)
    frontal = np.array([[np.cos(f), -np.sin(f), 0.0], [np.sin(f), np.cos(f), 0.0], [0.0, 0.0, 1.0]])
    horizontal = np.array([[np.cos(h), 0.0, -np.sin(h)], [0.0, 1.0, 0.0], [np.sin(h), 0.0, np.cos(h)]])
    return np.asarray(frontal @ horizontal)
