"""The C library's test program as a partner: its lines for some bytes, and what Python would have said of them."""

import struct
import subprocess
from pathlib import Path

from ecgedge_bridge import Ack, Alert, Config, ConfigAck, Data, Error, Info, Ping, Pong, Result, to_wire

_FIELDS = {
    Info: "spec_minor mode filter_mode rate_num rate_den lsb_pv gain_centi gain_id leads serial firmware",
    Alert: "sample_index condition kind priority present signal text_id",
    Ack: "sample_index condition user_id",
    Config: "config_id channels rate_num rate_den n_samples fmt gain_id filter_mode mode",
    ConfigAck: "sample_index config_id status field",
    Ping: "ping_id t1_us",
    Pong: "ping_id t1_us t2_us t3_us",
    Error: "code about_type about_seq detail",
}


class CDecoder:
    """A running `test_eeb_sanitized decode` (or `recode`): bytes in, the lines of a fresh C decoder out."""

    def __init__(self, program: Path, mode: str = "decode") -> None:
        self._process = subprocess.Popen([str(program), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def decode(self, data: bytes) -> list[str]:
        self._process.stdin.write(struct.pack("<I", len(data)) + data)
        self._process.stdin.flush()
        lines = []
        while not lines or not lines[-1].startswith("counters"):
            line = self._process.stdout.readline()
            assert line, f"the C decoder died with code {self._process.wait()} on {data.hex()}"
            lines.append(line.decode().rstrip("\n"))
        return lines

    def close(self) -> int:
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait(timeout=60)


def lines_of(frames, counters):
    """Write what the C test program answers to `decode`."""
    return [*map(line_of, frames), counters_line(counters)]


def line_of(frame):
    """Write a frame's fields as the C test program prints them."""
    if isinstance(frame, Data):
        head = [frame.seq, frame.simulated, frame.sample_index, frame.t_us, frame.lead_off, frame.n_channels]
        return " ".join(["data", *(str(int(v)) for v in [*head, frame.fmt, frame.gain_id, *frame.counts])])
    if not isinstance(frame, Result):
        return message_line(frame)
    pressures = [-32768 if p is None else p for p in (frame.mpcwp_cmmhg, frame.low_cmmhg, frame.high_cmmhg)]
    head = [frame.seq, frame.simulated, frame.sample_index, *pressures, frame.p_elevated_u16, frame.sqi_u8]
    return " ".join(
        ["result", *(str(int(v)) for v in [*head, frame.validity, frame.model_id, frame.latency_ms])]
    )


def recoded_lines(frames, counters):
    """Write what the C test program answers to `recode`."""
    return [*(to_wire(frame).hex() for frame in frames), counters_line(counters)]


def counters_line(counters):
    """Write counters in the order that both have."""
    return " ".join(["counters", *map(str, vars(counters).values())])


def message_line(message):
    """Write a message's fields as the C test program prints them."""
    name = "config_ack" if isinstance(message, ConfigAck) else type(message).__name__.lower()
    words = [name, message.seq, int(message.simulated)]
    for field in _FIELDS[type(message)].split():
        value = getattr(message, field)
        if isinstance(value, tuple):
            words += [len(value), *value]
        else:
            words.append(value if field == "serial" else int(value))
    return " ".join(map(str, words))
