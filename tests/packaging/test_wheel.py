"""The wheel holds our four packages, the embedded bundle and the recipes, and nothing with a generic name."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
EMBEDDED_LIMIT_BYTES = 2_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_top_level_names(wheel):
    names = {entry.split("/")[0] for entry in wheel.namelist()}
    expected = {"ecgedge", "ecgedge_train", "ecgedge_export", "ecgedge_bridge"}
    assert {n for n in names if not n.endswith(".dist-info")} == expected


def test_what_the_commands_need_is_inside(wheel):
    names = wheel.namelist()
    for needed in (
        "ecgedge/embedded.ecgb/manifest.json",
        "ecgedge/py.typed",
        "ecgedge_train/recipes/ptbxl_pclr_rlm.toml",
        "ecgedge_export/targets/x86-cpu.toml",
    ):
        assert needed in names
    assert not [n for n in names if "test" in n.split("/")[-1] and n.endswith(".py") and "selftest" not in n]


def test_embedded_bundle_is_small(wheel):
    sizes = [i.file_size for i in wheel.infolist() if i.filename.startswith("ecgedge/embedded.ecgb/")]
    assert 0 < sum(sizes) <= EMBEDDED_LIMIT_BYTES
