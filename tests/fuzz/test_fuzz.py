"""Every target of fuzz/ takes its seeds and damaged ones, and a finding is told; the fuzzing itself is `make fuzz`."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
NAMES = (
    *("wfdb", "dicom", "edf", "vital", "aecg", "schiller", "muse", "sierra", "xli", "npz"),
    *(
        "messages",
        "declared",
        "uris",
        "sinks",
        "sdc",
        "recorder",
        "stamps",
        "mllp",
        "hl7",
        "bridge",
        "cluster",
        "commands",
        "ward_control",
        "eeb_host",
    ),
    *("policy", "ward", "bundle_zip", "manifest", "selftest", "snapshot", "checkpoint", "journal"),
)


@pytest.fixture(scope="module")
def targets():
    sys.path.insert(0, str(FUZZ))
    try:
        import targets

        return targets.TARGETS
    finally:
        sys.path.remove(str(FUZZ))


def test_every_parser_has_a_target(targets):
    from ecgedge.records import FORMATS

    assert tuple(targets) == NAMES
    assert set(FORMATS) <= set(targets)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")  # of damaged files: their own tests hold them to none
def test_own_seeds_and_damaged_ones_raise_nothing_else(targets, name, tmp_path):
    once, random = targets[name].open_(tmp_path), np.random.default_rng(0)
    seeds = targets[name].seeds(None)
    assert seeds
    for seed in seeds:
        once(seed)
        for _ in range(20):
            damaged = bytearray(seed)
            for place in random.integers(0, len(seed), 3).tolist():
                damaged[place] = int(random.integers(256))
            once(bytes(damaged)[: int(random.integers(1, len(seed) + 1))])


def run(folder, *words):
    return subprocess.run(
        [sys.executable, str(folder / "run.py"), "--seconds", "1", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def atheris():
    if sys.version_info < (3, 11):
        return None
    return pytest.importorskip("atheris", reason="needs the development group: make dev (Linux)")


def test_what_a_target_lets_through_is_found_kept_and_told(atheris, tmp_path):
    folder = tmp_path / "fuzz"
    shutil.copytree(FUZZ, folder, ignore=shutil.ignore_patterns("findings", "__pycache__"))
    (folder / "targets.py").write_text(
        "from target import Target\n"
        "def broken(folder):\n"
        "    def once(data):\n"
        "        if data[:2] == b'no':\n"
        "            raise KeyError('it was not caught')\n"
        "    return once\n"
        "TARGETS = {'sound': Target(lambda folder: lambda data: None, lambda data: [b'x']),\n"
        "           'broken': Target(broken, lambda data: [b'x', b'not'])}\n"
    )
    done = run(folder)
    if atheris is None:
        assert "Python 3.11" in done.stdout
        return
    assert done.returncode == 1
    assert [line.split()[0::3] for line in done.stdout.splitlines()[2:4]] == [
        ["sound", "ok"],
        ["broken", "FOUND"],
    ]
    assert "KeyError: 'it was not caught'" in done.stdout
    (kept,) = (folder / "findings" / "broken").iterdir()
    assert kept.read_bytes()[:2] == b"no"
    assert run(folder, "--only", "sound").returncode == 0
