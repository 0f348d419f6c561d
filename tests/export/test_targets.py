"""Target profiles."""

import re

import pytest

from ecgedge.errors import UsageError
from ecgedge_export.targets import load_target, target_names, target_toml


def test_names():
    assert target_names() == ("cpu", "jetson", "rtx")


@pytest.mark.parametrize("name", target_names())
def test_load(name):
    profile = load_target(name)
    assert profile.name == name
    assert profile.description
    assert set(profile.precisions) <= {"fp32", "int8"}
    assert f'name = "{name}"' in target_toml(name)


def test_cpu_has_no_engine():
    assert load_target("cpu").engine is None
    assert load_target("cpu").flavour == "cpu"


def test_rtx_is_built_at_export():
    engine = load_target("rtx").engine
    assert engine.built == "export"
    assert engine.runtime == "tensorrt_rtx"
    assert engine.compute_capabilities == ("SM86", "SM89", "SM120")


def test_jetson_is_built_on_the_device():
    """No Jetson GPU is a TensorRT-RTX target, so nothing may be compiled for it here."""
    profile = load_target("jetson")
    assert profile.engine.built == "device"
    assert profile.engine.compute_capabilities == ()
    assert profile.flavour == "rtx"
    filled = [
        part.format(onnx="m.onnx", engine="m.engine", leads=2, samples=2500) for part in profile.engine.recipe
    ]
    assert "--stronglyTyped" in filled
    sizes = [int(m.group(1)) for part in filled if (m := re.search(r"Shapes=ecg_mv:(\d+)x2x1x2500$", part))]
    batch = profile.engine.batch
    assert sizes == [batch.smallest, batch.best, batch.largest]


def test_unknown():
    with pytest.raises(UsageError, match="unknown target 'tpu'; known targets: cpu, jetson, rtx"):
        load_target("tpu")


@pytest.mark.parametrize("name", ["../targets/cpu", "", "cpu.toml"])
def test_no_paths(name):
    with pytest.raises(UsageError, match="unknown target"):
        target_toml(name)


def test_damaged(monkeypatch):
    monkeypatch.setattr("ecgedge_export.targets.target_toml", lambda _: 'name = "cpu"\nflavor = "cpu"')
    with pytest.raises(UsageError, match="did you mean 'flavour'"):
        load_target("cpu")
