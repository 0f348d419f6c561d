"""The commands of Dockerfile.x86's build stage, run as they stand on this machine's Python.

No image can be built where there is neither a Docker daemon nor a registry, but the commands can be run: proot
lays folders over the paths that they name, so that nothing of the machine is touched.
"""

import shutil
import subprocess
import sys

import pytest

from .images import REPO, read_image

PYTHON = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Run COPY and RUN of the build stage; return the folder that the image gets as /opt/ecgedge."""
    if shutil.which("proot") is None:
        pytest.skip("proot absent; `make system-deps-slow` installs it on Debian")
    image = read_image("Dockerfile.x86")
    image.arguments["PYTHON_VERSION"] = PYTHON
    folders = {
        f"/{name}": tmp_path_factory.mktemp(name.replace("/", "-"))
        for name in ("src", "build", "wheels", "opt/ecgedge")
    }
    binds = [word for inside, outside in folders.items() for word in ("-b", f"{outside}:{inside}")]
    for command in image.stages[0]:
        if command.cmd == "COPY":
            *sources, destination = command.value
            for source in sources:
                _copy(REPO / source, folders["/src"] / destination)
        elif command.cmd == "RUN":
            (text,) = command.value
            line = ["proot", *binds, "-w", "/src", "/bin/sh", "-c", image.filled(text)]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return folders["/opt/ecgedge"], binds


def _copy(source, destination):
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, destination)


@pytest.mark.slow
def test_it_leaves_a_device_environment_compiled_and_without_pip(built):
    folder, binds = built
    (packages,) = folder.glob("lib/python*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert {"ecgedge", "numpy", "onnxruntime"} <= names
    assert not {"pip", "torch", "onnx", "wfdb", "hatchling"} & names
    compiled = {path.parents[1] / f"{path.name.split('.')[0]}.py" for path in packages.rglob("*.pyc")}
    assert set(packages.rglob("*.py")) <= compiled
    done = subprocess.run(
        ["proot", *binds, "/opt/ecgedge/bin/ecgedge", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
