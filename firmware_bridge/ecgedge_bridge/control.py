"""The messages of EEB v1 beside DATA and RESULT (PROTOCOL.md sections 5.3 to 5.10), as frozen dataclasses.

A value that does not fit its field, or contradicts another one, raises ValueError when the message is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ecgedge_bridge.frames import (
    DATA_HEAD_SIZE,
    MAX_CHANNELS,
    MAX_PAYLOAD,
    Data,
    Result,
    SampleFormat,
    check_unsigned,
)

SPEC_MAJOR: Final = 1
SPEC_MINOR: Final = 1
"""The version of PROTOCOL.md that this package follows."""
MAX_SERIAL: Final = 16
CONFIG_SIZE: Final = 17

LEADS: Final = ("-", "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Lead names by their code; 0 is a channel that is no lead, and so is any code of a later version."""

CONDITION_IDS: Final[dict[str, int]] = {
    "MPCWP_ELEVATED": 1,
    "FEED_LOST": 2,
    "MODEL_FAILED": 3,
    "NO_VARIANT": 4,
    "LEAD_OFF": 5,
    "FEED_STALE": 6,
    "FEED_RATE": 7,
    "FEED_DELAYED": 8,
    "SATURATED": 9,
    "FLAT": 10,
    "GAP": 11,
    "POOR_SIGNAL": 12,
    "OUT_OF_ENVELOPE": 13,
    "SIGNAL_DOUBTFUL": 14,
    "MODEL_LATE": 15,
    "JOURNAL_FAILED": 16,
    "DELIVERY_FAILED": 17,
    "CLOCK_UNSYNC": 18,
    "MPCWP_RISING": 19,
}
"""Alarm conditions and their numbers on the wire. A number never gets another meaning; a new condition takes the
next free one."""


class Mode(IntEnum):
    """Where the samples come from."""

    REAL = 0
    TEST = 1
    DEMO = 2


class FilterMode(IntEnum):
    """What the device does to the signal before it samples or sends it."""

    UNKNOWN = 0
    NONE = 1
    DIAGNOSTIC = 2
    MONITORING = 3


class AlertKind(IntEnum):
    """Whether the condition is the patient's or the equipment's."""

    PHYSIOLOGICAL = 0
    TECHNICAL = 1


class AlertPriority(IntEnum):
    """From least to most urgent."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3


class SignalPresence(IntEnum):
    """What the user is shown; BICEPS (IEEE 11073-10207) says On, Off, Latch, Ack."""

    OFF = 0
    ON = 1
    LATCHED = 2
    ACKNOWLEDGED = 3


class ConfigStatus(IntEnum):
    """What became of a CONFIG."""

    APPLIED = 0
    UNSUPPORTED = 1
    BUSY = 2
    FAILED = 3


class ErrorCode(IntEnum):
    """Codes of this version. An `Error` may hold others: a later version's."""

    VERSION = 1
    UNKNOWN_CONDITION = 2
    UNSUPPORTED = 3
    BUSY = 4
    INTERNAL = 5


@dataclass(frozen=True, kw_only=True)
class Info:
    """What the device is and how it samples; from the device, on connect and every 5 s.

    Attributes
    ----------
    rate_num, rate_den
        Samples per second and channel, as a fraction.
    lsb_pv
        Worth of one count in picovolts, at the input.
    gain_centi
        Gain of the amplifier before the converter, times 100; `lsb_pv` has it in already.
    gain_id
        The gain setting that both belong to, as in DATA.
    leads
        One code per channel: an index of LEADS, or a later version's.
    serial
        1 to 16 printable ASCII characters without blanks.
    firmware
        Major, minor, patch.
    simulated
        Must be set unless the mode is REAL.
    """

    seq: int
    rate_num: int
    rate_den: int
    lsb_pv: int
    gain_centi: int
    leads: tuple[int, ...]
    serial: str
    firmware: tuple[int, int, int]
    mode: Mode
    filter_mode: FilterMode = FilterMode.UNKNOWN
    gain_id: int = 0
    spec_minor: int = SPEC_MINOR
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame or contradicts itself."""
        check_unsigned(
            self, seq=16, rate_num=32, rate_den=32, lsb_pv=32, gain_centi=16, gain_id=8, spec_minor=8
        )
        object.__setattr__(self, "mode", Mode(self.mode))
        object.__setattr__(self, "filter_mode", FilterMode(self.filter_mode))
        _check_positive(self, "rate_num", "rate_den", "lsb_pv", "gain_centi")
        _check_leads(self.leads)
        if not 1 <= len(self.serial) <= MAX_SERIAL or not all("!" <= c <= "~" for c in self.serial):
            raise ValueError(f"serial {self.serial!r} is not 1 to {MAX_SERIAL} printable ASCII characters")
        if any(not 0 <= n < 1 << bits for n, bits in zip(self.firmware, (8, 8, 16), strict=True)):
            raise ValueError(f"firmware version {self.firmware} does not fit 8, 8 and 16 bits")
        if self.simulated != (self.mode is not Mode.REAL):
            raise ValueError(f"mode {self.mode.name} with simulated={self.simulated}: they contradict")

    @property
    def rate_hz(self) -> float:
        """Samples per second and channel."""
        return self.rate_num / self.rate_den

    @property
    def lead_names(self) -> tuple[str, ...]:
        """Name per channel; "-" for one that is no lead, or none that this version knows."""
        return tuple(LEADS[code] if code < len(LEADS) else "-" for code in self.leads)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alarm condition and its signal, from the host to the device.

    Attributes
    ----------
    sample_index
        The sample at which this state began, modulo 2**32.
    condition
        A number of CONDITION_IDS, or a later version's; never 0.
    present
        Whether the condition is present; its signal is on or acknowledged then, else off or latched.
    text_id
        Which text to show; 0 is the condition's own.
    """

    seq: int
    sample_index: int
    condition: int
    kind: AlertKind
    priority: AlertPriority
    present: bool
    signal: SignalPresence
    text_id: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame or contradicts itself."""
        check_unsigned(self, seq=16, sample_index=32, condition=16, text_id=16)
        _check_positive(self, "condition")
        object.__setattr__(self, "kind", AlertKind(self.kind))
        object.__setattr__(self, "priority", AlertPriority(self.priority))
        object.__setattr__(self, "signal", SignalPresence(self.signal))
        if self.present not in (False, True):
            raise ValueError(f"presence {self.present} is neither 0 nor 1")
        object.__setattr__(self, "present", bool(self.present))
        if self.present != (self.signal in (SignalPresence.ON, SignalPresence.ACKNOWLEDGED)):
            raise ValueError(f"a signal that is {self.signal.name} with present={self.present}")


@dataclass(frozen=True, kw_only=True)
class Ack:
    """A user has seen an alarm, from the device to the host; `user_id` 0: a button, nobody known."""

    seq: int
    sample_index: int
    condition: int
    user_id: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame."""
        check_unsigned(self, seq=16, sample_index=32, condition=16, user_id=16)
        _check_positive(self, "condition")


@dataclass(frozen=True, kw_only=True)
class Config:
    """How the device shall sample and send, from the host.

    Attributes
    ----------
    config_id
        The host's number for this request; the answer repeats it.
    channels
        Bit i: channel i shall be sent.
    n_samples
        Samples per channel in a frame.
    filter_mode
        UNKNOWN: leave it as it is.
    """

    seq: int
    config_id: int
    channels: int
    rate_num: int
    rate_den: int
    n_samples: int
    fmt: SampleFormat = SampleFormat.I16
    gain_id: int = 0
    filter_mode: FilterMode = FilterMode.UNKNOWN
    mode: Mode = Mode.REAL
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame or no DATA frame could hold."""
        check_unsigned(
            self, seq=16, config_id=16, channels=16, rate_num=32, rate_den=32, n_samples=8, gain_id=8
        )
        _check_positive(self, "channels", "rate_num", "rate_den", "n_samples")
        object.__setattr__(self, "fmt", SampleFormat(self.fmt))
        object.__setattr__(self, "filter_mode", FilterMode(self.filter_mode))
        object.__setattr__(self, "mode", Mode(self.mode))
        size = DATA_HEAD_SIZE + self.channels.bit_count() * self.n_samples * self.fmt.width
        if size > MAX_PAYLOAD:
            raise ValueError(f"DATA would have {size} bytes; at most {MAX_PAYLOAD}: ask for fewer samples")


@dataclass(frozen=True, kw_only=True)
class ConfigAck:
    """What became of a CONFIG, from the device.

    Attributes
    ----------
    sample_index
        The first sample to which the settings apply; without meaning unless the status is APPLIED.
    field
        Offset in the CONFIG payload of the first field that was refused; 0: none, or not known.
    """

    seq: int
    sample_index: int
    config_id: int
    status: ConfigStatus
    field: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame or contradicts itself."""
        check_unsigned(self, seq=16, sample_index=32, config_id=16, field=8)
        object.__setattr__(self, "status", ConfigStatus(self.status))
        if self.field >= CONFIG_SIZE or (self.field and self.status is ConfigStatus.APPLIED):
            raise ValueError(f"field {self.field} with status {self.status.name}")


@dataclass(frozen=True, kw_only=True)
class Ping:
    """A question for the other side's clock; `t1_us` is the asker's clock as it sends."""

    seq: int
    ping_id: int
    t1_us: int
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame."""
        check_unsigned(self, seq=16, ping_id=32, t1_us=64)


@dataclass(frozen=True, kw_only=True)
class Pong:
    """The answer: `ping_id` and `t1_us` repeated, the answerer's clock as PING came and as PONG goes."""

    seq: int
    ping_id: int
    t1_us: int
    t2_us: int
    t3_us: int
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame or contradicts itself."""
        check_unsigned(self, seq=16, ping_id=32, t1_us=64, t2_us=64, t3_us=64)
        if self.t3_us < self.t2_us:
            raise ValueError(f"answered at {self.t3_us} us, before the question came at {self.t2_us} us")


@dataclass(frozen=True, kw_only=True)
class Error:
    """What one side cannot do for the other.

    Attributes
    ----------
    code
        An ErrorCode, or a later version's; never 0.
    about_type, about_seq
        The frame that it answers; 0 and 0 where there is none, or it could not be read.
    detail
        For VERSION, the major version that the sender speaks; else 0 or a number for the log.
    """

    seq: int
    code: int
    about_type: int = 0
    about_seq: int = 0
    detail: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit the frame."""
        check_unsigned(self, seq=16, code=8, about_type=8, about_seq=16, detail=32)
        _check_positive(self, "code")


Control = Info | Alert | Ack | Config | ConfigAck | Ping | Pong | Error
Frame = Data | Result | Control


def _check_positive(message: object, *names: str) -> None:
    for name in names:
        if getattr(message, name) == 0:
            raise ValueError(f"{name} is 0; it must be at least 1")


def _check_leads(leads: tuple[int, ...]) -> None:
    if not 1 <= len(leads) <= MAX_CHANNELS:
        raise ValueError(f"{len(leads)} leads; a device has 1 to {MAX_CHANNELS} channels")
    if any(not 0 <= code <= 255 for code in leads):
        raise ValueError(f"lead codes {leads} do not fit 8 bits")
    known = [code for code in leads if 0 < code < len(LEADS)]
    if len(set(known)) < len(known):
        raise ValueError(f"a lead stands twice in {leads}")
