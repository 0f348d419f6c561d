"""Scripts that run other people's npm packages, which `make peers` installs into .peers/."""

import os
import shutil
from pathlib import Path

import pytest

_REPO = Path(__file__).parents[2]
_MODULES = _REPO / ".peers" / "node_modules"


def script(name, package):
    """Return the command that runs a script of tests/support/peers and its environment; skip where it cannot run."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node: apt-get install nodejs npm, then make peers")
    if not (_MODULES / package / "package.json").is_file():
        pytest.skip(f"needs the npm package {package}: make peers")
    return [node, str(Path(__file__).parent / "peers" / name)], {**os.environ, "NODE_PATH": str(_MODULES)}
