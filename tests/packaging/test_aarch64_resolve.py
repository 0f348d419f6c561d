"""A Jetson installs our wheel from wheels alone: what pip chooses for aarch64 on Python 3.10 and 3.12."""

import sys

import pytest
from foreign_wheels import DEVICE_EXTRAS, Target, download, resolve
from pip_for import target_environment

JETPACK_6 = Target(python="3.10.12", machine="aarch64")
JETPACK_7 = Target(python="3.12.3", machine="aarch64")
TRAINING = {"torch", "onnx", "wfdb", "pandas", "pyarrow", "scikit-learn", "matplotlib", "triton"}


@pytest.fixture(scope="module", params=[JETPACK_6, JETPACK_7], ids=["JetPack 6", "JetPack 7"])
def resolved(request, wheel):
    return request.param, resolve(wheel, DEVICE_EXTRAS, request.param)


def test_every_file_is_a_wheel_for_this_python_and_machine(resolved):
    target, found = resolved
    python = "cp" + "".join(target.python.split(".")[:2])
    for wheel in found.wheels:
        assert wheel.file.endswith(".whl")
        interpreter, abi, platform = wheel.file.removesuffix(".whl").split("-")[-3:]
        if platform == "any":
            assert abi == "none"
        else:
            assert "aarch64" in platform
            assert interpreter == python or abi == "abi3"


def test_nothing_of_training_is_among_them(resolved):
    _, found = resolved
    assert not TRAINING & {wheel.name for wheel in found.wheels}
    assert not [wheel.name for wheel in found.wheels if wheel.name.startswith("nvidia")]


def test_the_markers_were_the_targets(resolved):
    target, found = resolved
    assert found.environment["platform_machine"] == "aarch64"
    assert found.environment["python_full_version"] == target.python
    assert set(found.environment) == set(target_environment(target.python, target.machine))


def test_every_version_is_the_constraint_of_that_python(resolved):
    target, found = resolved
    versions = {wheel.name: wheel.version for wheel in found.wheels}
    # The last of each that Python 3.10 has; notes of the projects' releases.
    if target is JETPACK_6:
        assert (versions["numpy"], versions["onnxruntime"], versions["scipy"]) == (
            "2.2.6",
            "1.23.2",
            "1.15.3",
        )
        assert {"tomli", "async-timeout"} <= set(versions)
    else:
        assert not {"tomli", "async-timeout"} & set(versions)


def test_a_set_without_wheels_is_refused_with_the_name(wheel, tmp_path):
    # numpy 2.4 needs Python 3.11: these constraints cannot be met on JetPack 6.
    (tmp_path / "constraints.txt").write_text("numpy==2.4.6\n")
    with pytest.raises(RuntimeError, match=r"Python 3\.10\.12 on aarch64:[\s\S]*numpy==2\.4\.6"):
        resolve(wheel, DEVICE_EXTRAS, JETPACK_6, constraints=tmp_path / "constraints.txt")


@pytest.mark.parametrize("target", [JETPACK_6, JETPACK_7], ids=["JetPack 6", "JetPack 7"])
def test_so_are_those_of_compiled_loops(wheel, target):
    files = {x.name: x.file for x in resolve(wheel, (*DEVICE_EXTRAS, "compiled"), target).dependencies}
    assert {"numba", "llvmlite"} <= set(files)
    assert "aarch64" in files["numba"]
    assert not TRAINING & set(files)


@pytest.mark.slow
def test_they_can_be_downloaded_and_the_size_is_said(resolved, wheel, tmp_path, capsys):
    target, found = resolved
    files = download(wheel, DEVICE_EXTRAS, target, tmp_path)
    assert sorted(path.name for path in files) == sorted(wheel.file for wheel in found.dependencies)
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    with capsys.disabled():
        sys.stdout.write(
            f"\nPython {target.python} on aarch64: {len(files)} wheels, {size_mb:.1f} MB to download\n"
        )
    assert size_mb < 150.0
