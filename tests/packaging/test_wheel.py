"""The wheel holds our four packages, the embedded bundle and the recipes, and nothing with a generic name."""

import zipfile
from pathlib import Path

import pytest

EMBEDDED_LIMIT_BYTES = 2_000_000
STATIC_LIMIT_BYTES = 100_000


@pytest.fixture(scope="module")
def contents(wheel):
    return zipfile.ZipFile(wheel)


def test_top_level_names(contents):
    names = {entry.split("/")[0] for entry in contents.namelist()}
    expected = {"ecgedge", "ecgedge_train", "ecgedge_export", "ecgedge_bridge"}
    assert {n for n in names if not n.endswith(".dist-info")} == expected


def test_what_the_commands_need_is_inside(contents):
    names = contents.namelist()
    for needed in (
        "ecgedge/embedded.ecgb/manifest.json",
        "ecgedge/py.typed",
        "ecgedge/monitor/static/index.html",
        "ecgedge_train/recipes/ptbxl_pclr_rlm.toml",
        "ecgedge_export/targets/x86-cpu.toml",
    ):
        assert needed in names
    assert not [n for n in names if "test" in n.split("/")[-1] and n.endswith(".py") and "selftest" not in n]


def test_the_page_is_whole_and_small(contents):
    """All that git has of it and no more: a browser is given nothing else."""
    folder = Path(__file__).parents[2] / "ecgedge" / "monitor" / "static"
    sizes = {
        i.filename.removeprefix("ecgedge/monitor/static/"): i.compress_size
        for i in contents.infolist()
        if i.filename.startswith("ecgedge/monitor/static/")
    }
    assert set(sizes) == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert 0 < sum(sizes.values()) <= STATIC_LIMIT_BYTES


def test_embedded_bundle_is_small(contents):
    sizes = [i.file_size for i in contents.infolist() if i.filename.startswith("ecgedge/embedded.ecgb/")]
    assert 0 < sum(sizes) <= EMBEDDED_LIMIT_BYTES
