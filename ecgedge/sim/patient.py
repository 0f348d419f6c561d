"""The simulated patient: traits, the pressure, and the ECG correlates that the pressure drives.

A test stimulus and a test of the line, never evidence: what a model scores on simulated patients says
nothing about people. The correlates and their directions are published, their sizes and the between-patient
spread are ours, chosen so that an observer who knows them exactly reaches an AUROC of about 0.80 for
mPCWP > 18 mmHg (`ecgedge.sim.observer`), where published models stand.

Each correlate is ``y = at_16 + per_mmhg * (mPCWP - 16) + offset + within``: `offset` is constant in a patient
(the confounder), `within` drifts slowly.

- P terminal force in V1: Morris et al., Circulation 1964;29:242 (left atrial involvement); serial changes follow
  left heart failure (Heikkila & Luomanmaki, Br Heart J 1970;32:510); against wedge pressure r = -0.75 in
  27 acute infarctions (Jpn Heart J 1976;17(2)).
- P duration: longer at high left atrial pressure (Magnani et al., Circ Arrhythm Electrophysiol 2009;2:72;
  P peak time against LVEDP: Cengiz et al., J Clin Hypertens 2019, doi 10.1111/jch.13530). Weaker evidence:
  the 1976 series above found no relation to wedge pressure, so it carries less here than the terminal force.
- Heart rate rises before decompensation, in some: by more than 3/min before 28 % of heart failure events, in
  16 % of quiet months (17,886 patients with implanted devices). A modest effect here.
- QRS voltage falls with congestion: Madias et al., J Am Coll Cardiol 2001;38:617 (anasarca).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal

import numpy as np

Rhythm = Literal["sinus", "af"]
Conduction = Literal["normal", "lbbb", "rbbb", "av1"]
Sex = Literal["female", "male"]

REFERENCE_MMHG: Final = 16.0
PRIOR_MEAN_MMHG: Final = 15.7
PRIOR_SD_MMHG: Final = 8.1
"""Mean and SD of mPCWP at catheterisation, range about 3 to 45 mmHg: Jeong, Stultz & Ghassemi, MLHC 2023."""
LOWEST_MMHG: Final = 3.0
HIGHEST_MMHG: Final = 45.0
WITHIN_FRACTION: Final = 0.15
"""SD of a correlate's slow drift inside a patient, as a fraction of its spread between patients."""

_CONDUCTIONS: Final[tuple[Conduction, ...]] = ("normal", "lbbb", "rbbb", "av1")
_CONDUCTION_SHARES: Final = (0.76, 0.08, 0.08, 0.08)

# 3 + gamma(shape, scale) has that mean and SD after the redraw above 45 mmHg (solved numerically).
_GAMMA_SHAPE: Final = 2.19
_GAMMA_SCALE_MMHG: Final = 5.95


@dataclass(frozen=True)
class Correlates:
    """What the pressure changes in the ECG.

    Attributes
    ----------
    p_duration_ms
        From the onset of the right atrial to the end of the left atrial deflection.
    ptf_v1_uv_ms
        Area of the left atrial deflection in V1; negative is posterior. Morris' limit of -0.04 mm s is
        -4000 uV ms. The terminal force that one measures is smaller where the right atrial deflection overlaps.
    heart_rate_bpm
        Mean ventricular rate.
    log_voltage
        Natural logarithm of the gain of QRS and T.
    """

    p_duration_ms: float
    ptf_v1_uv_ms: float
    heart_rate_bpm: float
    log_voltage: float


@dataclass(frozen=True)
class CorrelateModel:
    """How one correlate follows the pressure, and how much patients differ (SD)."""

    at_16: float
    per_mmhg: float
    between_sd: float
    low: float
    high: float

    @property
    def total_sd(self) -> float:
        """SD of everything but the pressure."""
        return self.between_sd * float(np.hypot(1.0, WITHIN_FRACTION))


CORRELATE_MODELS: Final[dict[str, CorrelateModel]] = {
    "p_duration_ms": CorrelateModel(116.0, 0.90, 16.0, 72.0, 190.0),
    "ptf_v1_uv_ms": CorrelateModel(-4500.0, -215.0, 3000.0, -17_000.0, 6_000.0),
    "heart_rate_bpm": CorrelateModel(76.0, 0.40, 12.0, 50.0, 110.0),
    "log_voltage": CorrelateModel(0.0, -0.0085, 0.25, -1.2, 0.9),
}
CORRELATE_NAMES: Final = tuple(field.name for field in fields(Correlates))
ZERO_CORRELATES: Final = Correlates(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Traits:
    """What makes one simulated patient differ from another; constant in time.

    `offsets` are the between-patient offsets of the correlates, `axis_deg` and `horizontal_deg` turn the
    ventricular loops in the frontal and the horizontal plane, the gains multiply amplitudes.
    """

    seed: int
    age_years: int
    sex: Sex
    rhythm: Rhythm
    conduction: Conduction
    pvc_rate: float
    offsets: Correlates
    respiration_hz: float
    respiration_rr: float
    respiration_gain: float
    rr_sd: float
    axis_deg: float
    horizontal_deg: float
    pr_ms: float
    qtc_ms: float
    p_gain: float
    right_atrium_sigma_ms: float
    t_gain: float
    qrs_width: float
    f_wave_hz: float
    f_wave_mv: float
    mains_hz: float
    noise_gain: float

    @property
    def patient_id(self) -> str:
        """Name of the patient; says that it is simulated."""
        return f"sim-{self.seed}"


def rng_for(seed: int, *stream: int) -> np.random.Generator:
    """Return the generator of one purpose: equal (seed, stream) give equal draws, others are independent."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *stream])))


def draw_traits(seed: int) -> Traits:
    """Draw the patient number `seed` of the population."""
    rng = rng_for(seed, 1)
    conduction = _CONDUCTIONS[int(rng.choice(len(_CONDUCTIONS), p=_CONDUCTION_SHARES))]
    return Traits(
        seed=seed,
        age_years=int(np.clip(round(rng.normal(64.0, 13.0)), 22, 94)),
        sex="male" if rng.random() < 0.6 else "female",
        rhythm="af" if rng.random() < 0.08 else "sinus",
        conduction=conduction,
        pvc_rate=float(rng.uniform(0.02, 0.12)) if rng.random() < 0.12 else 0.0,
        offsets=_draw_spread(rng, 1.0),
        respiration_hz=float(rng.uniform(0.18, 0.38)),
        respiration_rr=float(rng.uniform(0.005, 0.05)),
        respiration_gain=float(rng.uniform(0.01, 0.06)),
        rr_sd=float(rng.uniform(0.006, 0.025)),
        axis_deg=float(np.clip(rng.normal(-12.0, 15.0), -55.0, 25.0)),
        horizontal_deg=float(np.clip(rng.normal(0.0, 12.0), -30.0, 30.0)),
        pr_ms=float(
            rng.normal(245.0, 20.0) if conduction == "av1" else np.clip(rng.normal(165.0, 16.0), 125, 198)
        ),
        qtc_ms=float(np.clip(rng.normal(425.0, 20.0), 370.0, 490.0)),
        p_gain=float(np.exp(rng.normal(0.0, 0.18))),
        right_atrium_sigma_ms=float(rng.uniform(15.0, 19.0)),
        t_gain=float(np.exp(rng.normal(0.0, 0.3))),
        qrs_width=float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.25)),
        f_wave_hz=float(rng.uniform(4.5, 7.5)),
        f_wave_mv=float(rng.uniform(0.04, 0.12)),
        mains_hz=float(rng.choice((50.0, 60.0)) + rng.normal(0.0, 0.01)),
        noise_gain=float(np.exp(rng.normal(0.0, 0.4))),
    )


def draw_mpcwp_mmhg(rng: np.random.Generator) -> float:
    """Draw a mean wedge pressure of the population: skewed, mean 15.7, SD 8.1, 3 to 45 mmHg."""
    while True:
        mmhg = LOWEST_MMHG + float(rng.gamma(_GAMMA_SHAPE, _GAMMA_SCALE_MMHG))
        if mmhg <= HIGHEST_MMHG:
            return mmhg


def draw_within(rng: np.random.Generator) -> Correlates:
    """Draw where the slow drift inside a patient happens to be."""
    return _draw_spread(rng, WITHIN_FRACTION)


def correlates_at(traits: Traits, mpcwp_mmhg: float, within: Correlates = ZERO_CORRELATES) -> Correlates:
    """Return the correlates of a patient at a pressure, kept inside what an ECG can show."""
    return Correlates(**{name: _value(name, traits, mpcwp_mmhg, within) for name in CORRELATE_NAMES})


def _value(name: str, traits: Traits, mpcwp_mmhg: float, within: Correlates) -> float:
    model = CORRELATE_MODELS[name]
    value = model.at_16 + model.per_mmhg * (mpcwp_mmhg - REFERENCE_MMHG)
    value += float(getattr(traits.offsets, name)) + float(getattr(within, name))
    return min(max(value, model.low), model.high)


def _draw_spread(rng: np.random.Generator, fraction: float) -> Correlates:
    draws = rng.standard_normal(len(CORRELATE_NAMES)) * fraction
    return Correlates(
        **{
            name: float(draw) * CORRELATE_MODELS[name].between_sd
            for name, draw in zip(CORRELATE_NAMES, draws, strict=True)
        }
    )
