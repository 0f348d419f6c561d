"""The comparison of the C decoder with the Python codec sees a difference; the fuzzing itself is `make fuzz-c`."""

import shutil
import subprocess
import sys
from pathlib import Path

import needs
import pytest

REPO = Path(__file__).parents[2]
SOURCES = ("eeb.c", "eeb.h", "test_eeb.c", "Makefile")


@pytest.fixture(scope="module")
def c_decoder():
    sys.path.insert(0, str(REPO / "fuzz"))
    try:
        import c_decoder

        yield c_decoder
    finally:
        sys.path.remove(str(REPO / "fuzz"))
        for name in ("c_decoder", "run", "seeds"):
            sys.modules.pop(name, None)


def build(folder, *, change=("", "")):
    needs.programs("gcc", "make", package="gcc make")
    for name in SOURCES:
        shutil.copy(REPO / "firmware_bridge" / "c" / name, folder)
    text = (folder / "eeb.c").read_text()
    assert change[0] in text
    (folder / "eeb.c").write_text(text.replace(*change))
    program = folder / "build" / "test_eeb_sanitized"
    command = ["make", "-C", str(folder), str(program), f"BUILD={folder / 'build'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def test_every_vector_and_damaged_ones_are_read_alike(c_decoder, tmp_path):
    inputs = list(c_decoder.vectors())
    wires = [*map(c_decoder.wire_of, inputs), *c_decoder.damaged(inputs, 300)]
    compared = c_decoder.compare(build(tmp_path), wires)
    assert (compared.inputs, compared.difference) == (len(wires), "")
    assert compared.frames > 200


@pytest.mark.parametrize(
    "change",
    [
        ("ahead < 0x8000u", "ahead < 0x7FFFu"),
        ("EEB_PRIORITY_HIGH),", "EEB_PRIORITY_MEDIUM),"),
        ("(is_printable && !ended)", "is_printable || ended"),
        ("put_uint(w, payload, 2u);", "put_uint(w, payload + 1u, 2u);"),
    ],
    ids=["counter", "range", "rule", "encoder"],
)
def test_a_difference_is_seen(c_decoder, tmp_path, change):
    program = build(tmp_path, change=change)
    inputs = list(c_decoder.vectors())
    wires = [*map(c_decoder.wire_of, inputs), *c_decoder.damaged(inputs, 3000)]
    compared = c_decoder.compare(program, wires)
    assert "Python: " in compared.difference
    assert "C: " in compared.difference


def test_bodies_are_sealed_and_a_wire_is_taken_as_it_is(c_decoder):
    from ecgedge_bridge import Decoder

    assert c_decoder.wire_of(b"\0\1\2\0") == b"\1\2\0"
    assert c_decoder.wire_of(b"") == b""
    body = bytes([1, 0x81, 7, 0, 12, 0, 0, 0]) + bytes(12)
    (ping,) = Decoder().push(c_decoder.wire_of(b"\1" + bytes([20, 0]) + body))
    assert (ping.seq, ping.ping_id) == (7, 0)


def test_the_fuzzer_runs_and_reads_its_corpus(tmp_path):
    needs.programs("clang", "gcc", "make", package="clang libclang-rt-dev gcc make")
    if run("clang", "-print-file-name=libclang_rt.fuzzer-x86_64.a").stdout.strip().startswith("libclang"):
        pytest.skip("needs libFuzzer: apt-get install libclang-rt-dev")
    script = str(REPO / "fuzz" / "c_decoder.py")
    done = run(sys.executable, script, "--seconds", "1", "--tries", "100", "--findings", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("alike") == 2
    assert not list(tmp_path.iterdir())


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
