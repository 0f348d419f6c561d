"""The device images, as far as they can be checked where no image can be built.

The commands of the build stage themselves are run by test_build_stage.py.
"""

import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from foreign_wheels import DEVICE_EXTRAS, Target, resolve
from packaging.specifiers import SpecifierSet

from .images import DEPLOY, NAMES, REPO, read_image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MACHINES = {"Dockerfile.x86": "x86_64", "Dockerfile.jetpack6": "aarch64", "Dockerfile.jetpack7": "aarch64"}
# What the vendors say of the bases: JetPack 6 is Ubuntu 22.04, JetPack 7 is 24.04.
PYTHONS = {"Dockerfile.x86": "3.12", "Dockerfile.jetpack6": "3.10", "Dockerfile.jetpack7": "3.12"}


@pytest.fixture(params=NAMES)
def image(request):
    return read_image(request.param)


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def _install_words(image):
    """Words of the command that installs the wheel, as the shell splits them."""
    (line,) = [text for (text,) in image.values("RUN", stage=0) if "--only-binary" in text]
    return shlex.split(image.filled(line))


def test_every_dockerfile_is_read_here():
    assert sorted(path.name for path in DEPLOY.glob("Dockerfile*")) == sorted(NAMES)


def test_the_linter_has_nothing_to_say(image):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--format", "json", DEPLOY / image.name], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout) == []
    assert done.returncode == 0


def test_what_is_copied_exists_and_is_all_that_docker_is_sent(image):
    copies = [command for stage in image.stages for command in stage if command.cmd in ("COPY", "ADD")]
    sources = {word for copy in copies if not copy.flags for word in copy.value[:-1]}
    assert [source for source in sources if not (REPO / source).exists()] == []
    lines = (REPO / ".dockerignore").read_text().splitlines()
    assert sources == {line[1:] for line in lines if line.startswith("!")}


def test_the_packages_of_the_wheel_are_copied(image, project):
    wheel = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {word for value in image.values("COPY", stage=0) for word in value[:-1]}
    assert {*wheel["packages"], project["readme"], *project["license-files"]} <= copied


def test_the_install_line_takes_wheels_under_the_constraints_and_never_pip(image):
    words = _install_words(image)
    assert words[:4] == ["/build/bin/pip", "--python", "/opt/ecgedge/bin/python", "install"]
    assert words[words.index("-c") + 1] == "constraints.txt"
    assert "--only-binary=:all:" in words
    (venv,) = re.findall(
        r"venv --without-pip (--system-site-packages )?/opt/ecgedge",
        " ".join(text for (text,) in image.values("RUN", stage=0)),
    )
    # TensorRT's Python package lies in the base's system folder, on a Jetson alone.
    assert bool(venv) == image.name.startswith("Dockerfile.jetpack")


def test_the_extras_are_for_devices_and_there_are_such(image, project):
    extras = image.arguments["EXTRAS"].split(",")
    assert _install_words(image)[-1].endswith(f"[{','.join(extras)}]")
    assert set(extras) <= set(project["optional-dependencies"])
    assert not set(extras) & {"train", "export", "all", "records", "ray", "rtx"}
    assert tuple(extras) == DEVICE_EXTRAS


def test_python_is_the_bases_and_one_that_the_project_takes(image, project):
    python = image.arguments["PYTHON_VERSION"]
    assert python == PYTHONS[image.name]
    assert f"{python}.0" in SpecifierSet(project["requires-python"])
    assert any("sys.version.startswith" in text for (text,) in image.values("RUN", stage=0))


def test_the_install_line_resolves_for_that_python_and_machine(image, wheel):
    target = Target(python=f"{image.arguments['PYTHON_VERSION']}.0", machine=MACHINES[image.name])
    found = resolve(wheel, image.arguments["EXTRAS"].split(","), target)
    assert {"numpy", "scipy", "onnxruntime"} <= {wheel.name for wheel in found.dependencies}


def test_the_entry_point_is_in_the_wheel_and_takes_the_default_command(image, wheel):
    (entry,) = image.values("ENTRYPOINT", stage=-1)
    (command,) = image.values("CMD", stage=-1)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        scripts = archive.read(name).decode()
    assert re.search(rf"^{entry[0]} *= *ecgedge\.cli:main$", scripts, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", *entry, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "research use only" in done.stdout.lower()


def test_it_runs_as_nobody_special_and_writes_into_one_volume(image):
    final = image.stages[-1]
    (user,) = image.values("USER", stage=-1)
    uid = user[0].split(":")[0]
    assert int(uid) > 0
    assert any(f"--uid {uid}" in text for (text,) in image.values("RUN", stage=-1))
    assert image.values("VOLUME", stage=-1) == [("/var/lib/ecgedge",)]
    names = [command.cmd for command in final]
    assert names.index("USER") > max(k for k, name in enumerate(names) if name in ("RUN", "COPY"))


def test_the_health_check_calls_what_was_copied(image):
    (check,) = image.values("HEALTHCHECK", stage=-1)
    copied = {value[-1] for value in image.values("COPY", stage=-1)}
    assert check[2] in copied
    assert check[3:] == image.values("VOLUME", stage=-1)[0]


def test_the_images_differ_in_nothing_but_their_bases():
    def shared(name):
        image = read_image(name)
        kept = [c for stage in image.stages for c in stage if c.cmd not in ("FROM", "ARG")]
        texts = [(c.cmd, c.flags, tuple(" ".join(v.split()) for v in c.value)) for c in kept]
        return [t for t in texts if "apt-get" not in t[2][0]]

    x86, jetpack6, jetpack7 = (shared(name) for name in NAMES)
    assert jetpack6 == jetpack7
    plain = [(c, f, tuple(word.replace(" --system-site-packages", "") for word in v)) for c, f, v in jetpack6]
    assert plain == x86


def test_simulated_or_not_every_image_says_research_use_only(image):
    (label,) = image.values("LABEL", stage=-1)
    assert "Research use only" in " ".join(label)
