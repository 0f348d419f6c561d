"""Which TensorRT is found, and that the names we use exist in the one that can be installed here."""

import sys
import types

import needs
import pytest

from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime.trt import api
from ecgedge.runtime.trt.api import Bindings, collecting_logger, find_tensorrt, version_tuple


@pytest.fixture
def rtx():
    needs.tensorrt_rtx()
    return find_tensorrt("tensorrt_rtx")


def test_rtx_is_found(rtx):
    import tensorrt_rtx_bindings

    assert (rtx.runtime, rtx.version) == ("tensorrt_rtx", tensorrt_rtx_bindings.__version__)
    assert rtx.is_rtx


def test_every_name_that_we_use_exists_in_rtx(rtx):
    """The stubs check the same for TensorRT 10 when types are checked."""
    names = [*Bindings.__annotations__, *(name for name in vars(Bindings) if not name.startswith("_"))]
    assert len(names) > 8
    assert [name for name in names if not hasattr(rtx.api, name)] == []


def test_the_flag_of_strong_typing_is_not_where_tensorrt_10_has_it(rtx):
    """1 in TensorRT 10 (after EXPLICIT_BATCH), 0 here: it must come out of the enumeration."""
    assert int(rtx.api.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0


def test_a_logger_keeps_what_the_library_says(rtx):
    logger = collecting_logger(rtx.api)
    severity = rtx.api.ILogger.Severity
    for level in (severity.VERBOSE, severity.WARNING, severity.INTERNAL_ERROR):
        logger.log(level, " text\n")
    assert logger.lines[0] == ("VERBOSE", "text")
    assert logger.complaints == ("WARNING: text", "INTERNAL_ERROR: text")


def test_an_engine_of_garbage_is_refused_by_the_real_runtime(rtx):
    logger = collecting_logger(rtx.api)
    assert rtx.api.Runtime(logger).deserialize_cuda_engine(b"no engine") is None
    assert logger.complaints


def test_nothing_installed(monkeypatch):
    for packages in api.PACKAGES.values():
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r"no tensorrt is installed.*JetPack"):
        find_tensorrt("tensorrt")
    with pytest.raises(UsageError, match=r"no tensorrt_rtx is installed.*pip install 'ecgedge\[rtx\]'"):
        find_tensorrt("tensorrt_rtx")
    with pytest.raises(UsageError, match="no tensorrt or tensorrt_rtx"):
        find_tensorrt()


def test_a_folder_of_stubs_is_not_tensorrt(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    with pytest.raises(UsageError, match="no tensorrt is installed"):
        find_tensorrt("tensorrt")


def test_too_old(monkeypatch):
    old = types.ModuleType("tensorrt")
    old.Builder = object
    old.__version__ = "8.6.1"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(UsageError, match=r"TensorRT 8\.6\.1 is installed; ecgedge needs 10\.3"):
        find_tensorrt("tensorrt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.3.0", (10, 3, 0)), ("11.4.1.106", (11, 4, 1, 106)), ("10.3rc1", (10,)), ("", ())],
)
def test_versions(text, expected):
    assert version_tuple(text) == expected


def test_unknown_capability(rtx):
    config = rtx.api.Builder(collecting_logger(rtx.api)).create_builder_config()
    with pytest.raises(EngineError, match=r"SM87: TensorRT-RTX .* knows .*SM86"):
        api.set_compute_capabilities(rtx, config, ["SM87"])
