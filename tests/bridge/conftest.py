"""The C library, built once, and its test program as a partner for comparison."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from eeb_partner import CDecoder

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


@pytest.fixture(scope="module")
def c_decoder(c_tests):
    partner = CDecoder(c_tests / "test_eeb_sanitized")
    yield partner
    assert partner.close() == 0, "the sanitizers found something"


@pytest.fixture(scope="module")
def c_recoder(c_tests):
    partner = CDecoder(c_tests / "test_eeb_sanitized", "recode")
    yield partner
    assert partner.close() == 0, "the sanitizers found something"
