"""Print the vectors as plain lines, for test programs without a JSON parser. Python standard library only.

crc INPUT CRC | cobs DECODED ENCODED | canonical NAME WIRE | stream NAME WIRE, then the expected
`data ...`, `result ...` (and so on) lines and one `counters ...` line. Bytes are hexadecimal, "-" if there are none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
VALIDITIES = ("VLD", "VLDATED", "ONG", "QST", "CALIB", "INV", "OFLW", "UFLW", "NA")
# The fields of the other messages in their order on the wire; those with names have them in NAMES.
FIELDS = {
    "INFO": "spec_minor mode filter_mode rate_num rate_den lsb_pv gain_centi gain_id leads serial firmware",
    "ALERT": "sample_index condition kind priority present signal text_id",
    "ACK": "sample_index condition user_id",
    "CONFIG": "config_id channels rate_num rate_den n_samples fmt gain_id filter_mode mode",
    "CONFIG_ACK": "sample_index config_id status field",
    "PING": "ping_id t1_us",
    "PONG": "ping_id t1_us t2_us t3_us",
    "ERROR": "code about_type about_seq detail",
}
NAMES = {
    "mode": ("REAL", "TEST", "DEMO"),
    "filter_mode": ("UNKNOWN", "NONE", "DIAGNOSTIC", "MONITORING"),
    "kind": ("PHYSIOLOGICAL", "TECHNICAL"),
    "priority": ("NONE", "LOW", "MEDIUM", "HIGH"),
    "signal": ("OFF", "ON", "LATCHED", "ACKNOWLEDGED"),
    "status": ("APPLIED", "UNSUPPORTED", "BUSY", "FAILED"),
    "fmt": ("i16", "i24"),
}
COUNTERS = (
    "frames",
    "bad_cobs",
    "oversize",
    "bad_length",
    "bad_crc",
    "bad_version",
    "unknown_type",
    "bad_field",
    "long_payload",
    "lost_frames",
    "seq_back",
)


def load(name: str) -> list[dict[str, Any]]:
    """Return the vectors of one file."""
    vectors: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))[
        "vectors"
    ]
    return vectors


def frame_line(frame: dict[str, Any]) -> str:
    """Write a frame's fields as the C test program prints them."""
    if frame["type"] == "DATA":
        names = ("seq", "simulated", "sample_index", "t_us", "lead_off", "n_channels")
        numbers = [int(frame[name]) for name in names] + [
            ("i16", "i24").index(frame["fmt"]),
            frame["gain_id"],
        ]
        return " ".join(map(str, ["data", *numbers, *frame["counts"]]))
    if frame["type"] in FIELDS:
        return message_line(frame)
    pressures = [-32768 if frame[n] is None else frame[n] for n in ("mpcwp_cmmhg", "low_cmmhg", "high_cmmhg")]
    before = [int(frame[name]) for name in ("seq", "simulated", "sample_index")]
    after = [frame["p_elevated_u16"], frame["sqi_u8"], VALIDITIES.index(frame["validity"])]
    return " ".join(map(str, ["result", *before, *pressures, *after, frame["model_id"], frame["latency_ms"]]))


def message_line(frame: dict[str, Any]) -> str:
    """Write the fields of a message that is neither DATA nor RESULT; a list as its length and its members."""
    words = [frame["type"].lower(), frame["seq"], int(frame["simulated"])]
    for name in FIELDS[frame["type"]].split():
        value = frame[name]
        if isinstance(value, list):
            words += [len(value), *value]
        elif name in NAMES:
            words.append(NAMES[name].index(value))
        else:
            words.append(value if name == "serial" else int(value))
    return " ".join(map(str, words))


def counters_line(counters: dict[str, int]) -> str:
    """Write counters in their order; those not named are 0."""
    return " ".join(["counters", *(str(counters.get(name, 0)) for name in COUNTERS)])


def lines() -> Iterator[str]:
    """Yield every vector."""
    for vector in load("crc32c"):
        yield f"crc {vector['input_hex']} {vector['crc_hex']}"
    for vector in load("cobs"):
        yield f"cobs {vector['decoded_hex']} {vector['encoded_hex']}"
    for vector in load("frames"):
        yield f"canonical {vector['name']} {vector['wire_hex']}"
        yield f"stream {vector['name']} {vector['wire_hex']}"
        yield frame_line(vector["frame"])
        yield counters_line({"frames": 1})
    for vector in load("streams"):
        yield f"stream {vector['name']} {vector['wire_hex'] or '-'}"
        yield from map(frame_line, vector["frames"])
        yield counters_line(vector["counters"])


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
