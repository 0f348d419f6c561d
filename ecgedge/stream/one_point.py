"""One-point calibration: a patient's estimates set against one catheter value.

Most of an estimate's error is the patient's own and does not average out (notes, alarms 2.1). So one value of mPCWP by
catheter moves all later estimates. The model behind it, in mmHg:

    estimate = pressure + b + w,       reference = pressure + u,
    b ~ N(0, B^2) the patient's,       w ~ N(0, W^2) a window's,       u ~ N(0, R^2) the catheter reading's.

B^2 + W^2 is what the bundle's interval was made for: its half width is z times the root of it, z the normal quantile of
its coverage. W is the standard deviation of the patient's own estimates around the reading. They may share errors for
minutes, so that their median counts as one window. Then the patient's part, given d = median - reference, is

    offset = k d,     its standard deviation sqrt(k V),     V = W^2 + R^2,     k = B^2 / (B^2 + V)

(the conjugate normal posterior; Gelman et al., Bayesian Data Analysis, 3rd ed., 2.5). Estimates are shown less the
offset. **The interval keeps its width**: under the model it could be narrower, but nobody has measured that. The
probabilities are those of a normal error as wide as the interval: the bundle's own are of the estimate as it was.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist, median, stdev
from typing import Final

from ecgedge.alarms import Reading
from ecgedge.bundle import VariantSpec
from ecgedge.errors import UsageError
from ecgedge.events import Calibrated, Estimate

SPAN_S: Final = 120.0
"""Valid estimates of so long before a reading are set against it."""

LEAST_SHARE: Final = 0.5
"""Of the windows due in it, so many must be valid."""


class Recent:
    """The valid estimates, uncalibrated, of the last `SPAN_S` by the variant that serves now."""

    __slots__ = (
        "_due",
        "_numbers",
        "variant",
    )

    def __init__(self, *, hop_s: float, variant: str | None = None, numbers: Sequence[float] = ()) -> None:
        self._due = math.floor(SPAN_S / hop_s + 1e-9)
        self.variant = variant
        self._numbers = array("d", numbers)  # time, estimate, time, estimate, ...

    @property
    def numbers(self) -> tuple[float, ...]:
        """Times and estimates, by turns, the oldest first."""
        return tuple(self._numbers)

    def push(self, estimate: Estimate) -> None:
        """Take what the model said of a window; only valid numbers are kept, another variant begins anew."""
        if estimate.validity != "valid" or estimate.mpcwp_mmhg is None:
            return
        numbers = self._numbers
        if estimate.variant != self.variant:
            self.variant = estimate.variant
            del numbers[:]
        numbers.extend((estimate.t_s, estimate.mpcwp_mmhg))
        if len(numbers) > 2 * self._due:
            del numbers[:2]

    def before(self, t_s: float) -> list[float]:
        """Return the estimates of the last `SPAN_S` before `t_s`.

        Raises
        ------
        UsageError
            If they are too few.
        """
        needed = max(2, math.ceil(LEAST_SHARE * self._due))
        found = [
            mmhg
            for at_s, mmhg in zip(self._numbers[::2], self._numbers[1::2], strict=True)
            if at_s > t_s - SPAN_S - 1e-6
        ]
        if len(found) < needed:
            raise UsageError(
                f"there are {len(found)} valid estimates in the last {SPAN_S:g} s, and a calibration needs {needed}; "
                "wait for a clean signal, then give the value that the catheter has then"
            )
        return found


def calibrate(
    estimates_mmhg: Sequence[float], reading: Reading, spec: VariantSpec, *, t_s: float
) -> Calibrated:
    """Return the patient's part of the error, learnt from one reading; `spec` is who made the estimates.

    Raises
    ------
    UsageError
        If the estimates vary more than the bundle's interval is wide: then nothing can be learnt of the patient.
    """
    found = median(estimates_mmhg)
    window = stdev(estimates_mmhg) ** 2
    noise = window + reading.sd_mmhg**2
    total = error_sd_mmhg(spec)
    share = 1.0
    if total is not None:
        patient = total**2 - window
        if patient <= 0.0:
            raise UsageError(
                f"the estimates of the last {SPAN_S:g} s vary by {math.sqrt(window):.1f} mmHg, more than the "
                f"bundle's interval allows for ({total:.1f}); wait until they are steady"
            )
        share = patient / (patient + noise)
    return Calibrated(
        t_s=t_s,
        variant=spec.name,
        reference_mmhg=reading.mpcwp_mmhg,
        offset_mmhg=share * (found - reading.mpcwp_mmhg),
        sd_mmhg=math.sqrt(share * noise),
    )


def error_sd_mmhg(spec: VariantSpec) -> float | None:
    """Return the standard deviation of a normal error as wide as the variant's interval; None without one."""
    half, coverage = spec.interval_halfwidth_mmhg, spec.interval_coverage
    if half is None or coverage is None or not 0.0 < coverage < 1.0:
        return None
    return half / NormalDist().inv_cdf((1.0 + coverage) / 2.0)


def shown(estimate: Estimate, calibrated: Calibrated, spec: VariantSpec) -> Estimate:
    """Return an estimate less the patient's part of its error, if the variant that made it is the calibrated one."""
    if estimate.mpcwp_mmhg is None or estimate.variant != calibrated.variant:
        return estimate
    mmhg, sd = estimate.mpcwp_mmhg - calibrated.offset_mmhg, error_sd_mmhg(spec)
    half = spec.interval_halfwidth_mmhg
    return replace(
        estimate,
        mpcwp_mmhg=mmhg,
        interval_mmhg=None if half is None else (max(0.0, mmhg - half), max(0.0, mmhg + half)),
        p_gt_15=_above(15.0, mmhg, sd, estimate.p_gt_15),
        p_gt_18=_above(18.0, mmhg, sd, estimate.p_gt_18),
        calibration=calibrated,
    )


def _above(limit_mmhg: float, mmhg: float, sd_mmhg: float | None, of_the_model: float | None) -> float | None:
    """Return the probability of a pressure above the limit; None where the bundle gives none, or no interval."""
    if of_the_model is None or sd_mmhg is None:
        return None
    return 1.0 - NormalDist(mmhg, sd_mmhg).cdf(limit_mmhg)


def describe(found: Calibrated, reading: Reading) -> str:
    """Say what was learnt, and from what."""
    return (
        f"calibrated by {reading.user}: {found.reference_mmhg:g} mmHg by catheter (+-{reading.sd_mmhg:g}); estimates "
        f"of {found.variant} are shown {abs(found.offset_mmhg):.1f} mmHg "
        f"{'lower' if found.offset_mmhg > 0 else 'higher'} "
        f"(+-{found.sd_mmhg:.1f}), with the interval as wide as it was"
    )
