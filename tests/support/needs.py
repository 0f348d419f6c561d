"""Packages that some tests need: imported, or the test is skipped with the extra that brings them."""

import warnings

import pytest


def wfdb():
    """Return PhysioNet's own reader, whose import warns under pandas 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("wfdb", reason="WFDB records need the extra 'records'")


def tensorrt_rtx():
    """Return the bindings of TensorRT-RTX."""
    return pytest.importorskip(
        "tensorrt_rtx_bindings", reason="needs the extra rtx: pip install 'ecgedge[rtx]'"
    )
