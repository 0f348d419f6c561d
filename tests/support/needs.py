"""Packages and programs that some tests need: there, or the test is skipped and says what brings them."""

import os
import shutil
import warnings

import pytest


def wfdb():
    """Return PhysioNet's own reader, whose import warns under pandas 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("wfdb", reason="WFDB records need the extra 'records'")


def vitaldb():
    """Return VitalDB's own reader and writer, which imports wfdb."""
    wfdb()
    return pytest.importorskip("vitaldb", reason="needs the development group: make dev")


def tensorrt_rtx():
    """Return the bindings of TensorRT-RTX."""
    return pytest.importorskip(
        "tensorrt_rtx_bindings", reason="needs the extra rtx: pip install 'ecgedge[rtx]'"
    )


def nats():
    """Return NATS' own client."""
    return pytest.importorskip("nats", reason="needs the extra cluster: pip install 'ecgedge[cluster]'")


def ray():
    """Return Ray, which must not report to anyone from here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ray", reason="needs the extra cluster: pip install 'ecgedge[cluster]'")


def programs(*names, package):
    """Skip unless these programs are installed; `package` is Debian's name of what brings them."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install {package}")


def program(name):
    """Return where a program of the system is; the Debian packages are in the Makefile's `make system-deps`."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs the program {name}")
    return found
