"""Target profiles."""

import re

import pytest

from ecgedge.errors import UsageError
from ecgedge.target import BatchProfile, parse_target
from ecgedge_export.opset import OPSET
from ecgedge_export.targets import load_target, target_aliases, target_names, target_toml

JETSONS = ("jetson-agx-orin", "jetson-orin-nano", "jetson-thor")


def test_names():
    assert target_names() == (*JETSONS, "mcu", "openvino", "rtx", "x86-cpu")
    assert target_aliases() == {"cpu": "x86-cpu", "jetson": "jetson-orin-nano"}


@pytest.mark.parametrize("name", target_names())
def test_load(name):
    profile = load_target(name)
    assert profile.name == name
    assert profile.description
    assert profile.facts
    assert set(profile.precisions) <= {"fp32", "fp16", "int8"}
    assert set(profile.wanted) >= set(profile.precisions)
    assert profile.opset == OPSET
    assert f'name = "{name}"' in target_toml(name)


@pytest.mark.parametrize(("alias", "name"), [("cpu", "x86-cpu"), ("jetson", "jetson-orin-nano")])
def test_earlier_names_are_understood(alias, name):
    assert load_target(alias) == load_target(name)
    assert target_toml(alias) == target_toml(name)


@pytest.mark.parametrize("name", ["x86-cpu", "openvino", "mcu"])
def test_no_engine(name):
    assert load_target(name).engine is None


def test_rtx_is_built_at_export():
    profile = load_target("rtx")
    assert profile.engine.built == "export"
    assert profile.engine.runtime == "tensorrt_rtx"
    assert profile.engine.compute_capabilities == ("SM86", "SM89", "SM120")
    assert profile.verified == "built"


@pytest.mark.parametrize("name", JETSONS)
def test_a_jetsons_engine_is_built_on_the_device(name):
    """No Jetson GPU is a TensorRT-RTX target, so nothing may be compiled for it here."""
    profile = load_target(name)
    assert profile.engine.built == "device"
    assert profile.engine.compute_capabilities == ()
    assert profile.flavour == "rtx"
    assert profile.verified == "documents"
    assert any("nothing was run on a Jetson" in fact for fact in profile.facts)
    filled = [
        part.format(onnx="m.onnx", engine="m.engine", leads=2, samples=2500) for part in profile.engine.recipe
    ]
    assert {"--stronglyTyped", "--noTF32"} <= set(filled)
    sizes = [int(m.group(1)) for part in filled if (m := re.search(r"Shapes=ecg_mv:(\d+)x2x1x2500$", part))]
    assert tuple(sizes) == profile.engine.batch.sizes == (1, 8, 64)


def test_what_the_hardware_is():
    nano, agx, thor = (load_target(f"jetson-{name}").hardware for name in ("orin-nano", "agx-orin", "thor"))
    assert [h.compute_capability for h in (nano, agx, thor)] == ["SM87", "SM87", "SM110"]
    assert [h.dla_cores for h in (nano, agx, thor)] == [0, 2, 0]
    assert nano.memory_mb < agx.memory_mb < thor.memory_mb


def test_unknown():
    with pytest.raises(
        UsageError, match=r"unknown target 'tpu'; known targets: jetson-agx-orin, .*also cpu = x86"
    ):
        load_target("tpu")


@pytest.mark.parametrize("name", ["../targets/x86-cpu", "", "x86-cpu.toml"])
def test_no_paths(name):
    with pytest.raises(UsageError, match="unknown target"):
        target_toml(name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('name = "cpu"\nflavor = "cpu"', "did you mean 'flavour'"),
        ("name = ", "the file x is damaged"),
        ("name = " + "[" * 3000, "the file x is damaged: maximum recursion"),
        ('name = "a"\ndescription = "b"\nflavour = "rtx"\nprecisions = ["fp8"]', "fp8"),
    ],
)
def test_damaged(text, reason):
    with pytest.raises(UsageError, match=reason):
        parse_target(text, place="the file x")


def test_what_earlier_bundles_hold_is_still_read():
    text = 'name = "cpu"\ndescription = "d"\nflavour = "cpu"\nprecisions = ["fp32", "int8"]\nfacts = ["a"]'
    assert parse_target(text, place="target.toml").engine is None


@pytest.mark.parametrize("sizes", [(0, 1, 2), (4, 2, 8), (1, 9, 8)])
def test_batch_order(sizes):
    with pytest.raises(ValueError, match="1 <= smallest <= best <= largest"):
        BatchProfile(*sizes)
