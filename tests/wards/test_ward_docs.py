"""docs/ward.md and the deployment's page say what the code does."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from ecgedge.wards import config as config_module
from ecgedge.wards.config import BedConfig, WardSettings, load_ward
from ecgedge.wards.control import WardControl
from ecgedge.wards.outlet import MOST_WAITING
from ecgedge.wards.place import AGAIN_S

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "ward.md").read_text()


def file_in(text):
    """The ward's file that a text shows."""
    return re.search(r"^ *\[ward\]\n.*?(?=^```|^END|^Paths|\Z)", text, re.MULTILINE | re.DOTALL)[0]


@pytest.mark.parametrize(
    "text",
    [PAGE, config_module.__doc__, (REPO / "deploy" / "README.md").read_text()],
    ids=["docs", "head", "deploy"],
)
def test_a_file_that_is_shown_can_be_read(tmp_path, text):
    path = tmp_path / "beds.toml"
    path.write_text(file_in(text))
    (bed,) = load_ward(path).bed
    assert bed.name == "icu-3"


@pytest.mark.parametrize("text", [PAGE, config_module.__doc__], ids=["docs", "head"])
def test_every_key_is_shown(text):
    shown = re.findall(r"^ *(\w+) = ", file_in(text), re.MULTILINE)
    assert shown == [f.name for kind in (WardSettings, BedConfig) for f in fields(kind)]


def test_every_command_is_listed():
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert listed == ["do", *WardControl(None, open_bundle=None)._commands()]


def test_numbers_are_those_of_the_code():
    assert f"more than {MOST_WAITING:,} of them" in PAGE
    assert f"after {AGAIN_S[0]:g} s, 1 s, 2 s, ... at most {AGAIN_S[1]:g} s" in " ".join(PAGE.split())


def test_it_says_for_what_it_is():
    assert "research use only" in PAGE.lower()
