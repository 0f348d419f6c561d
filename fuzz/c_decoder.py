"""The firmware bridge's C decoder, fuzzed with the Python codec as its oracle.

libFuzzer (clang, with the address and undefined-behaviour sanitizers) drives firmware_bridge/c/fuzz_eeb.c for
`--seconds`, beginning with every vector. Then all that it kept, and `--tries` damaged copies and joins of that, go
through both decoders: every frame, every counter and every frame's bytes when it is sent again must be the same.

    python fuzz/c_decoder.py [--seconds 5] [--tries 3000]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import seeds
import typer
from run import HERE, MOST_MB, SLOWEST_S, Row, read_row, table

from ecgedge_bridge import Decoder, cobs
from ecgedge_bridge.crc import crc32c

FIRMWARE = HERE.parent / "firmware_bridge"
LONGEST = 4_000
LONGEST_BODY = 700
"""As in fuzz_eeb.c."""
WIRE, BODIES = b"\0", b"\1"
FIRST_FIELD = 1 + 2 + 8
"""Where an input of bodies has the first byte of the first payload."""


@dataclass(frozen=True)
class Compared:
    """What went through both decoders; `difference` tells the first input on which they differ."""

    inputs: int
    frames: int
    difference: str = ""


def vectors() -> Iterator[bytes]:
    """Yield every vector as an input: the bytes of its wire, and the bodies of its frames."""
    for name in ("frames", "streams"):
        for vector in seeds.bridge_vectors(name):
            yield WIRE + bytes.fromhex(vector["wire_hex"])
            if "decoded_hex" in vector:
                body = bytes.fromhex(vector["decoded_hex"])[:-4]
                yield BODIES + len(body).to_bytes(2, "little") + body


def wire_of(data: bytes) -> bytes:
    """Return the bytes that fuzz_eeb.c puts into the decoder for an input."""
    if not data or data[0] % 2 == 0:
        return data[1:]
    wire, at = b"", 1
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "little") % LONGEST_BODY
        body = data[at + 2 : at + 2 + size]
        at += 2 + len(body)
        wire += cobs.encode(body + crc32c(body).to_bytes(4, "little")) + b"\0"
    return wire


def damaged(inputs: list[bytes], tries: int) -> Iterator[bytes]:
    """Yield wires with bytes changed, lost, doubled and joined, by turns with frames whose fields are nearly right.

    The same ones at every run for the same inputs.
    """
    pick = np.random.default_rng(1)
    wires = [wire_of(one) for one in inputs]
    bodies = [one for one in inputs if one[:1] == BODIES and len(one) > FIRST_FIELD]
    for _ in range(tries // 2):
        wire = bytearray(b"".join(wires[k] for k in pick.integers(len(wires), size=pick.integers(1, 4))))
        for at in pick.integers(len(wire) + 1, size=pick.integers(1, 5)).tolist():
            put = (b"", b"\0", pick.bytes(1), bytes(wire[at : at + 5]) * 2)[pick.integers(4)]
            wire[at : at + (0, 1, 1, 2, 40)[pick.integers(5)]] = put
        yield bytes(wire)
        body = bytearray(bodies[pick.integers(len(bodies))])
        for at in pick.integers(FIRST_FIELD, len(body), size=pick.integers(1, 4)).tolist():
            body[at] = pick.integers(5) if pick.integers(2) else pick.integers(256)
        yield wire_of(bytes(body))


def compare(program: Path, wires: Iterable[bytes]) -> Compared:
    """Put wires through the C decoder and the Python decoder until they differ."""
    partner = seeds.of_tests("support/eeb_partner.py")
    c_decoder, c_recoder = (partner.CDecoder(program, mode) for mode in ("decode", "recode"))
    n, n_frames, difference = 0, 0, ""
    for wire in wires:
        decoder = Decoder()
        frames = decoder.push(wire)
        n, n_frames = n + 1, n_frames + len(frames)
        ours = [partner.lines_of(frames, decoder.counters), partner.recoded_lines(frames, decoder.counters)]
        theirs = [c_decoder.decode(wire), c_recoder.decode(wire)]
        if ours != theirs:
            difference = f"{wire.hex()}\nPython: {ours}\nC:      {theirs}"
            break
    if c_decoder.close() or c_recoder.close():
        difference = difference or "the sanitizers found something at the end"
    return Compared(n, n_frames, difference)


def fuzz(build: Path, corpus: Path, kept: Path, seconds: int) -> Row:
    """Run libFuzzer; what it keeps is added to the corpus."""
    kept.mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MOST_MB}", "-seed=1"]
    flags += [f"-artifact_prefix={kept}/", "-print_final_stats=1", f"-max_len={LONGEST}"]
    done = subprocess.run(
        [str(build / "fuzz_eeb"), *flags, str(corpus)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 120,
    )
    if not any(kept.iterdir()):
        kept.rmdir()
    return read_row("c_decoder", done.returncode, done.stdout + done.stderr)


def make(build: Path) -> None:
    """Build the fuzzer with clang and the test program with the sanitizers."""
    targets = [str(build / name) for name in ("fuzz_eeb", "test_eeb_sanitized")]
    words = ["make", "-C", str(FIRMWARE / "c"), *targets, f"BUILD={build}"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"the C library was not built: {done.stdout}{done.stderr}")


def main(seconds: int = 5, tries: int = 3000, findings: Path = HERE / "findings") -> None:
    """Fuzz, compare, print; exit with 1 where something was found, with 2 where it could not run in CI."""
    missing = [name for name in ("clang", "gcc", "make") if shutil.which(name) is None]
    if missing:
        print(f"{', '.join(missing)}: not installed (apt-get install clang libclang-rt-dev gcc make)")
        raise typer.Exit(2 if os.environ.get("CI") == "true" else 0)
    with tempfile.TemporaryDirectory() as folder:
        build, corpus = Path(folder, "build"), Path(folder, "corpus")
        corpus.mkdir()
        make(build)
        for k, seed in enumerate(vectors()):
            (corpus / f"seed{k:03}").write_bytes(seed)
        row = fuzz(build, corpus, findings / "c_decoder", seconds)
        inputs = [path.read_bytes() for path in sorted(corpus.iterdir())]
        whole = compare(build / "test_eeb_sanitized", map(wire_of, inputs))
        torn = compare(build / "test_eeb_sanitized", damaged(inputs, tries))
    print(table([row]))
    for name, compared in (("kept inputs", whole), ("damaged ones", torn)):
        print(f"C and Python: {compared.inputs} {name}, {compared.frames} frames, ", end="")
        print("alike" if not compared.difference else f"DIFFERENT on {compared.difference}")
    print(row.finding, file=sys.stderr, end="")
    raise typer.Exit(int(bool(row.finding or whole.difference or torn.difference)))


if __name__ == "__main__":
    typer.run(main)
