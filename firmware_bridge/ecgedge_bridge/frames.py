"""DATA and RESULT of EEB v1 as frozen dataclasses (PROTOCOL.md sections 5.1 and 5.2).

A value that does not fit its field, or contradicts another one, raises ValueError when the frame is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_FRAME: Final = 640
"""Largest decoded frame: up to 655 bytes CRC-32C finds every error of five bits or fewer."""
HEADER_SIZE: Final = 8
CRC_SIZE: Final = 4
MAX_PAYLOAD: Final = MAX_FRAME - HEADER_SIZE - CRC_SIZE
DATA_HEAD_SIZE: Final = 20
"""Bytes of a DATA payload before its samples."""
MAX_CHANNELS: Final = 16
NO_VALUE: Final = -(2**15)
"""What stands on the wire where a RESULT has no pressure (INT16_MIN)."""


class FrameType(IntEnum):
    """The frame types of this version; PROTOCOL.md section 4 lists the reserved ones."""

    INFO = 0x01
    DATA = 0x02
    ACK = 0x03
    CONFIG_ACK = 0x04
    RESULT = 0x41
    ALERT = 0x42
    CONFIG = 0x43
    PING = 0x81
    PONG = 0x82
    ERROR = 0x83


class SampleFormat(IntEnum):
    """How a count stands on the wire: two's complement, little endian."""

    I16 = 0
    I24 = 1

    @property
    def width(self) -> int:
        """Bytes of one count."""
        return 2 + self


class Validity(IntEnum):
    """Whether a result may be believed; names as in BICEPS (IEEE 11073-10207) MeasurementValidity."""

    VLD = 0
    VLDATED = 1
    ONG = 2
    QST = 3
    CALIB = 4
    INV = 5
    OFLW = 6
    UFLW = 7
    NA = 8

    @property
    def carries_value(self) -> bool:
        """Whether a result of this validity may hold numbers."""
        return self in (Validity.VLD, Validity.VLDATED, Validity.QST)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Samples, from the device to the host.

    Attributes
    ----------
    seq
        Number of this frame in its direction, modulo 2**16.
    sample_index
        Index of the first sample since the device started, modulo 2**32: the time base.
    t_us
        Device clock at the first sample, microseconds since start.
    lead_off
        Bit i: the positive input of channel i is off; bit 16 + i: its negative input is off.
    n_channels
        1 to 16.
    counts
        Sample by sample, within it channel by channel: n_samples * n_channels integers.
    fmt
        I16 or I24.
    gain_id
        Which gain setting of the device the counts belong to.
    simulated
        The samples do not come from a patient (simulated or test signal).
    """

    seq: int
    sample_index: int
    t_us: int
    n_channels: int
    counts: tuple[int, ...]
    fmt: SampleFormat = SampleFormat.I16
    lead_off: int = 0
    gain_id: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame."""
        check_unsigned(self, seq=16, sample_index=32, t_us=64, lead_off=32, gain_id=8)
        object.__setattr__(self, "fmt", SampleFormat(self.fmt))
        if not 1 <= self.n_channels <= MAX_CHANNELS:
            raise ValueError(f"{self.n_channels} channels; a frame holds 1 to {MAX_CHANNELS}")
        if len(self.counts) % self.n_channels or not 1 <= self.n_samples <= 255:
            raise ValueError(
                f"{len(self.counts)} counts are not 1 to 255 samples of {self.n_channels} channels"
            )
        if (size := DATA_HEAD_SIZE + len(self.counts) * self.fmt.width) > MAX_PAYLOAD:
            raise ValueError(
                f"the payload would have {size} bytes; at most {MAX_PAYLOAD}: send fewer samples"
            )
        limit = 1 << (8 * self.fmt.width - 1)
        if min(self.counts) < -limit or max(self.counts) >= limit:
            raise ValueError(f"a count lies outside {-limit} to {limit - 1}")

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return len(self.counts) // self.n_channels


@dataclass(frozen=True, kw_only=True)
class Result:
    """An estimate, from the host to the device. Integers as on the wire; properties give physical units.

    Attributes
    ----------
    seq
        Number of this frame in its direction, modulo 2**16.
    sample_index
        Index of the last sample of the window that was estimated, modulo 2**32.
    mpcwp_cmmhg, low_cmmhg, high_cmmhg
        Mean pulmonary capillary wedge pressure and its interval, in 0.01 mmHg; None where there is none.
    p_elevated_u16
        Probability that the pressure is elevated, times 65535; 0 unless the validity carries a value.
    sqi_u8
        Signal quality, 0 (none) to 255 (best).
    validity
        Whether the numbers may be believed.
    model_id
        First four bytes of the bundle's id, the first one most significant.
    latency_ms
        From the window's last sample to this result; 65535 stands for that and longer.
    simulated
        The result comes from samples that are not a patient's.
    """

    seq: int
    sample_index: int
    validity: Validity
    mpcwp_cmmhg: int | None = None
    low_cmmhg: int | None = None
    high_cmmhg: int | None = None
    p_elevated_u16: int = 0
    sqi_u8: int = 0
    model_id: int = 0
    latency_ms: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame or contradicts itself."""
        check_unsigned(self, seq=16, sample_index=32, p_elevated_u16=16, sqi_u8=8, model_id=32, latency_ms=16)
        object.__setattr__(self, "validity", Validity(self.validity))
        pressures = (self.mpcwp_cmmhg, self.low_cmmhg, self.high_cmmhg)
        if any(p is not None and not NO_VALUE < p < 2**15 for p in pressures):
            raise ValueError(f"a pressure of {pressures} does not fit 16 bits of 0.01 mmHg")
        if not self.validity.carries_value and (pressures != (None, None, None) or self.p_elevated_u16):
            raise ValueError(f"a result of validity {self.validity.name} must not hold numbers")
        _check_interval(*pressures)

    @property
    def mpcwp_mmhg(self) -> float | None:
        """The pressure in mmHg, or None."""
        return None if self.mpcwp_cmmhg is None else self.mpcwp_cmmhg / 100

    @property
    def interval_mmhg(self) -> tuple[float, float] | None:
        """The interval in mmHg, or None."""
        if self.low_cmmhg is None or self.high_cmmhg is None:
            return None
        return self.low_cmmhg / 100, self.high_cmmhg / 100

    @property
    def p_elevated(self) -> float | None:
        """The probability, or None where the validity carries no value."""
        return self.p_elevated_u16 / 65535 if self.validity.carries_value else None

    @property
    def sqi(self) -> float:
        """Signal quality, 0 to 1."""
        return self.sqi_u8 / 255


def make_result(
    *,
    seq: int,
    sample_index: int,
    validity: Validity,
    mpcwp_mmhg: float | None = None,
    interval_mmhg: tuple[float, float] | None = None,
    p_elevated: float | None = None,
    sqi: float = 0.0,
    model_id: int = 0,
    latency_ms: float = 0.0,
    simulated: bool = False,
) -> Result:
    """Make a RESULT from physical units, rounded to the wire's steps.

    Numbers are left out where the validity carries none; `seq` and `sample_index` are taken modulo their
    field's size and a latency that does not fit is the longest that does.

    Raises
    ------
    ValueError
        When a pressure passes 327.67 mmHg in size, or a probability or `sqi` lies outside 0 to 1.
    """
    if not validity.carries_value:
        mpcwp_mmhg = p_elevated = None
    low, high = interval_mmhg if interval_mmhg and mpcwp_mmhg is not None else (None, None)
    return Result(
        seq=seq % 2**16,
        sample_index=sample_index % 2**32,
        validity=validity,
        mpcwp_cmmhg=_centi(mpcwp_mmhg),
        low_cmmhg=_centi(low),
        high_cmmhg=_centi(high),
        p_elevated_u16=0 if p_elevated is None else round(p_elevated * 65535),
        sqi_u8=round(sqi * 255),
        model_id=model_id,
        latency_ms=min(round(latency_ms), 65535),
        simulated=simulated,
    )


def _centi(mmhg: float | None) -> int | None:
    if mmhg is not None and not math.isfinite(mmhg):
        raise ValueError(f"a pressure of {mmhg} mmHg; pass None where there is none")
    return None if mmhg is None else round(mmhg * 100)


def _check_interval(mpcwp: int | None, low: int | None, high: int | None) -> None:
    if (low is None) != (high is None) or (mpcwp is None and low is not None):
        raise ValueError("an interval needs both ends and a pressure")
    if low is not None and high is not None and low > high:
        raise ValueError(f"the interval ends before it begins: {low} to {high}")


def check_unsigned(frame: object, **bits: int) -> None:
    """Raise ValueError unless each field named fits an unsigned number of so many bits."""
    for name, width in bits.items():
        value = getattr(frame, name)
        if not 0 <= value < 1 << width:
            raise ValueError(f"{name} is {value}; expected 0 to {(1 << width) - 1}")
