"""Shared fixtures: where the real recordings and the reference numbers are."""

import os
import sys
import zlib
from pathlib import Path

import pytest
from foreign_wheels import build_wheel
from hypothesis import HealthCheck, settings

from ecgedge.signal import COMPILED

# A busy machine is slow, not wrong: no test here is judged by the clock.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

REPO = Path(__file__).parents[1]
# The last: npm's registry is not always within reach, where pip's and Debian's are.
_MAY_SKIP_IN_CI = ("no real recordings at", "no reference numbers at", "needs the npm package")


# Folders whose files take longest. A worker takes a file at a time: the short ones, at the end, leave none idle.
_LONG = (
    "cli",
    "export",
    "train",
    "monitor",
    "cluster",
    "feeds",
    "benchmarks",
    "packaging",
    "deploy",
    "bridge",
)


def pytest_collection_modifyitems(items):
    """Long files come first."""
    place = {name: rank for rank, name in enumerate(_LONG)}

    def rank(item):
        folder = item.path.relative_to(REPO / "tests").parts[0]
        return place.get(folder, len(_LONG))

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI everything that can be installed is: there a skip is a missing install step, and fails."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr)
        if not any(text in reason for text in _MAY_SKIP_IN_CI):
            report.outcome, report.longrepr = "failed", f"skipped in CI: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Two cores are shared by all tests; torch is there where a module of tests has imported it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """What a fixture of many tests draws depends on its name alone, and nobody's numbers depend on who asks first."""
    torch = sys.modules.get("torch")
    if torch is None or fixturedef.scope == "function":
        return (yield)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(fixturedef.argname.encode()))
        return (yield)


@pytest.fixture(autouse=True)
def _same_numbers():
    """What a test draws unseeded does not depend on the tests before it: workers take files as they come."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _patience():
    """A disk that all tests share may be slow; it is not one that hangs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecgedge.patience.PATIENCE_S", 60.0)
        yield


@pytest.fixture(autouse=True)
def _whole_arrays():
    """What a test has switched on is not the next one's."""
    yield
    COMPILED.off()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """This checkout's wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def ecg_data() -> Path:
    """Folder of real recordings (environment variable ECGEDGE_DATA)."""
    folder = Path(os.environ.get("ECGEDGE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no real recordings at {folder}; set ECGEDGE_DATA to a folder laid out as docs/data.md says"
        )
    return folder


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Folder of numbers made by running the reference code (environment variable ECGEDGE_ORACLES)."""
    folder = Path(os.environ.get("ECGEDGE_ORACLES", REPO.parent / "shared" / "oracles"))
    if not folder.is_dir():
        pytest.skip(f"no reference numbers at {folder}; set ECGEDGE_ORACLES")
    return folder


@pytest.fixture(scope="session")
def firmware(tmp_path_factory):
    """The example firmware, built for QEMU."""
    import qemu_firmware

    qemu_firmware.require_programs()
    return qemu_firmware.Firmware(tmp_path_factory.mktemp("firmware"))


@pytest.fixture(scope="module")
def bundle():
    """The embedded bundle."""
    from ecgedge.bundle import load_bundle

    return load_bundle("embedded")


@pytest.fixture(scope="module")
def variants(bundle):
    """Its variants, opened once for a file."""
    from ecgedge.stream import Variants

    with Variants(bundle) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def formula_bundle(tmp_path_factory):
    """A bundle whose model is a formula, so that every number a bed says can be computed by hand."""
    import hand_made

    from ecgedge.leads import STANDARD_LEADS

    lead_sets = (STANDARD_LEADS, ("I", "II"), ("II",))
    return hand_made.make_formula_bundle(tmp_path_factory.mktemp("bundle") / "formula.ecgb", lead_sets)
