"""What a device runs must import without a training framework."""

import importlib
import pkgutil
import sys

import pytest
from typer.testing import CliRunner

DEVICE_PACKAGES = ("ecgedge", "ecgedge_bridge")
TRAINING_ONLY = ("torch", "onnx", "wfdb", "pyarrow", "sklearn", "matplotlib", "pydicom")


@pytest.fixture
def no_training_framework(monkeypatch):
    for name in TRAINING_ONLY:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [n for n in sys.modules if n.split(".")[0].startswith("ecgedge")]:
        monkeypatch.delitem(sys.modules, name)
    yield
    # What was imported anew here must not serve other tests: its error classes are not theirs.
    for name in [n for n in sys.modules if n.split(".")[0].startswith("ecgedge")]:
        del sys.modules[name]


def device_modules():
    for package in DEVICE_PACKAGES:
        root = importlib.import_module(package)
        yield package
        yield from (m.name for m in pkgutil.walk_packages(root.__path__, package + "."))


@pytest.mark.parametrize("name", sorted(device_modules()))
@pytest.mark.usefixtures("no_training_framework")
def test_imports_without_training_packages(name):
    importlib.import_module(name)


@pytest.mark.usefixtures("no_training_framework")
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "ptbxl_pclr_rlm", "--data", "x", "--out", "y"], "train"),
        (["evaluate", "run", "--data", "x", "--out", "y"], "train"),
        (["data", "build", "sim", "--out", "y"], "train"),
        (["export", "run", "--target", "cpu", "--data", "x", "--out", "y"], "export"),
    ],
)
def test_a_missing_extra_is_named(arguments, extra):
    from ecgedge.cli import app

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert f"ecgedge[{extra}]" in result.output.replace("\n", "")
