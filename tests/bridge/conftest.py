"""The C library, built once, and its test program as a partner for comparison."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).parents[2] / "firmware_bridge"


@pytest.fixture(scope="session")
def c_tests(tmp_path_factory) -> Path:
    """Folder with the built C tests; `make test` has passed there, plain and under the sanitizers."""
    if shutil.which("gcc") is None or shutil.which("make") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have gcc and make: the C library is half of the protocol")
        pytest.skip("no gcc or make here, so the C library cannot be built")
    build = tmp_path_factory.mktemp("eeb")
    command = ["make", "-C", str(FIRMWARE / "c"), "test", f"BUILD={build}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return build


class CDecoder:
    """A running `test_eeb_sanitized decode`: bytes in, the lines of a fresh C decoder out."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [str(program), "decode"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

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
        return self._process.wait(timeout=10)


@pytest.fixture(scope="module")
def c_decoder(c_tests):
    partner = CDecoder(c_tests / "test_eeb_sanitized")
    yield partner
    assert partner.close() == 0, "the sanitizers found something"
