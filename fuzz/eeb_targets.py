"""Target: the host's side of the bridge, INFO, DATA, ACK, PING, ERROR and answers in any order, with any bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import seeds
from target import Target
from wire_targets import SHORT, WrongError

if TYPE_CHECKING:
    from ecgedge.feeds.eeb_host import EebHost

QUERIES = (
    "",
    "leads=I,II&rate_hz=500&lsb_nv=1000&mode=test",
    "set_rate_hz=250&set_samples=10&set_format=i24",
    "set_channels=0",
)
"""A device of which nothing is known, all is, and two that are to be set."""
TICK_S = 0.05
CONFIG_ACK, CONFIG_ID_AT = 0x04, 8 + 4
"""Its type, and where its config_id stands in a frame: the fuzzer cannot guess that number."""


def _eeb_host(folder: Path) -> Callable[[bytes], None]:
    """Feed parts of an input to the host that its first byte names: as bytes, and as a sealed frame."""
    del folder
    from ecgedge.errors import FeedError
    from ecgedge.feeds.eeb_host import EebHost
    from ecgedge.feeds.tcp import read_settings

    settings = [read_settings(query)[0] for query in QUERIES]

    def once(data: bytes) -> None:
        which, parts = data[0] if data else 0, data[1:].split(seeds.BETWEEN)
        found, framed = settings[which % len(settings)], which // len(settings) % 2 == 0
        host = EebHost(
            uri="fuzz", declared=found.declared, settings=found.values, framed=framed, wanted=found.wanted
        )
        # What the device then is not, or not any more, ends a feed by FeedError.
        with suppress(FeedError):
            _talk(host, parts, framed=framed)

    return once


def _talk(host: EebHost, parts: list[bytes], *, framed: bool) -> None:
    from ecgedge_bridge import Config, cobs, pack

    now_s, asked = 0.0, 0
    for part in parts:
        now_s += TICK_S * (part[0] if part else 1)
        sealed = _sealed(part[1:], asked)
        for received in (cobs.encode(sealed) + b"\0", part[1:] + b"\0") if framed else (sealed, part[1:]):
            _take(host, received, now_s)
        for frame in host.due(now_s=now_s):
            pack(frame)
            asked = frame.config_id if isinstance(frame, Config) else asked
        host.status()
    host.rest()


def _take(host: EebHost, received: bytes, now_s: float) -> None:
    """Garbage raises nothing, and is counted: only a whole frame, or time, may end the feed."""
    from ecgedge.errors import FeedError

    host.check(now_s=now_s)
    before = vars(host.counters).copy()
    try:
        host.take(received, now_s=now_s)
    except FeedError as error:
        if host.counters.frames == before["frames"]:
            raise WrongError("garbage ended the feed") from error
        raise
    if received.strip(b"\0") and vars(host.counters) == before:
        raise WrongError("neither taken nor counted")
    if sum(host.losses().values()) < sum(
        n for name, n in before.items() if name not in ("frames", "long_payload")
    ):
        raise WrongError("a loss was forgotten")


def _sealed(part: bytes, config_id: int) -> bytes:
    """Return a frame with the checksum, and in an answer the number, that it ought to have."""
    body = bytearray(part[:-4])
    if len(body) > CONFIG_ID_AT + 2 and body[1] == CONFIG_ACK:
        struct.pack_into("<H", body, CONFIG_ID_AT, config_id)
    from ecgedge_bridge.crc import crc32c

    return bytes(body) + struct.pack("<I", crc32c(bytes(body)))


def _eeb_host_seeds(data: Path | None) -> list[bytes]:
    """Return frames of each type in a row and alone, and a dialogue in which a device is set."""
    del data
    from dataclasses import replace

    from ecgedge_bridge import ConfigAck, ConfigStatus, Data, Info, Mode, SampleFormat, pack

    decoded = [bytes.fromhex(vector["decoded_hex"]) for vector in seeds.bridge_vectors("frames")]
    info = Info(
        seq=0, rate_num=500, rate_den=1, lsb_pv=1_000_000, gain_centi=100, leads=(1, 2), serial="S", firmware=(1, 0, 0),
        mode=Mode.TEST, simulated=True,
    )  # fmt: skip
    samples = [
        Data(
            seq=0, sample_index=10 * k, t_us=20_000 * k, n_channels=2, counts=tuple(range(20)), fmt=SampleFormat.I24,
            simulated=True,
        )
        for k in range(3)
    ]  # fmt: skip
    answer = ConfigAck(seq=0, sample_index=0, config_id=0, status=ConfigStatus.APPLIED)
    row = (info, samples[0], answer, replace(info, rate_num=250), *samples, info, *samples)
    dialogue = [pack(replace(frame, seq=seq)) for seq, frame in enumerate(row)]
    talks = [_joined(decoded), _joined(dialogue), *(_joined([frame]) for frame in decoded if frame)]
    return [
        bytes([which]) + talk for which in range(2 * len(QUERIES)) for talk in talks[: 2 if which else None]
    ]


def _joined(frames: list[bytes]) -> bytes:
    """Return frames as an input: in front of each how many ticks pass."""
    return seeds.BETWEEN.join(b"\x01" + frame for frame in frames)


TARGETS = {"eeb_host": Target(_eeb_host, _eeb_host_seeds, SHORT)}
