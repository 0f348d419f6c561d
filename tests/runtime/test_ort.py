"""What is ONNX Runtime's own, and the self-test."""

import contextlib
import io
import sys
import zipfile

import numpy as np
import onnxruntime
import pytest
from hand_made import COUNTS, T, make_bundle, mean_model, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime import OrtRunner, open_runner, self_test
from ecgedge.runtime.selftest import Expected, SelfTest, read_self_test, write_self_test


def test_what_onnx_runtime_raises_while_running_is_an_engine_error():
    with OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner:
        runner._output_names = ("p_gt_18", "nothing")
        with pytest.raises(EngineError, match=r"could not run a batch of 3: .*ecgedge bundle verify"):
            runner.run(np.zeros((3, 2, T), np.float32))


@pytest.mark.parametrize(
    ("provider", "missing"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_a_provider_that_is_not_built_in(provider, missing):
    if missing in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {missing}: nothing to refuse")
    with pytest.raises(
        UsageError, match=rf"has no {missing} \(it has .*CPUExecutionProvider.*onnxruntime-gpu"
    ):
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32", provider=provider)


def test_a_provider_that_does_not_start(monkeypatch):
    """A GPU build without its libraries: ONNX Runtime itself goes on with the CPU and only logs it."""
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(
            EngineError, match="CUDAExecutionProvider did not start, CPUExecutionProvider would serve"
        ),
    ):
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32", provider="cuda")


def test_the_bytes_of_the_file_are_let_go():
    """A session keeps them, for a fall back that we do not want: a second copy of every model."""
    file = mean_model()
    before = sys.getrefcount(file)
    with OrtRunner(file, leads=("I", "II"), precision="fp32"):
        assert sys.getrefcount(file) == before


def test_self_test_passes(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb")
    with open_runner(bundle, variant) as runner:
        assert self_test(runner, bundle) is None


def test_an_output_without_a_reference_is_not_compared(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb", scale=1.01, drop=("p_gt_18",))
    open_runner(bundle, variant).close()


def test_self_test_without_reference(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb", known=False)
    with pytest.raises(EngineError, match="no reference for I,II/fp32"):
        open_runner(bundle, variant)


def test_self_test_with_an_output_that_is_missing(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb")

    class Silent(OrtRunner):
        def run(self, ecg_mv):
            return {"embedding": super().run(ecg_mv)["embedding"]}

    with pytest.raises(EngineError, match="p_gt_18 is missing"):
        self_test(Silent.from_variant(bundle, variant), bundle)


def test_self_test_file_round_trip():
    test = SelfTest(COUNTS, {"I,II/fp32": Expected(reference([0, 1]), {"p_gt_18": 1e-5, "embedding": 2e-4})})
    data = write_self_test(test)
    assert data == write_self_test(test)
    back = read_self_test(data)
    np.testing.assert_array_equal(back.counts, COUNTS)
    assert back.variants["I,II/fp32"].tolerance == {"p_gt_18": 1e-5, "embedding": 2e-4}
    np.testing.assert_array_equal(
        back.variants["I,II/fp32"].reference["embedding"], reference([0, 1])["embedding"]
    )


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _zip(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 cut",
        b"\x80\x04K\x01.",
        _zip("counts", b"no array"),
        _zip("counts.npy", b"\x93NUMPY\x01\x00\x02\x00{("),
        _npz(),
        _npz(counts=COUNTS.astype(np.float32)),
        _npz(counts=COUNTS[0]),
        _npz(counts=COUNTS[:0]),
        _npz(counts=COUNTS, **{"reference/I/fp32/p": np.zeros(3, np.float32)}),
        _npz(
            counts=COUNTS,
            **{"reference/I/fp32/p": np.zeros(3, np.float32), "tolerance/I/fp32/p": np.float64(1.0)},
        ),
    ],
    ids=["empty", "cut", "pickle", "bytes", "header", "no counts", "float counts", "one window", "no window",
         "no tolerance", "scalar"],
)  # fmt: skip
def test_self_test_file_damaged(data):
    with pytest.raises(EngineError, match=r"selftest\.npz cannot be read"):
        read_self_test(data)


@settings(max_examples=300)
@given(place=st.floats(0.0, 1.0, exclude_max=True), byte=st.integers(0, 255))
def test_no_byte_of_a_self_test_file_makes_it_more_than_an_engine_error(place, byte):
    data = bytearray(
        write_self_test(SelfTest(COUNTS, {"I/fp32": Expected({"p": COUNTS[:, 0, 0] / 9}, {"p": 1.0})}))
    )
    data[int(place * len(data))] = byte
    with contextlib.suppress(EngineError):
        read_self_test(bytes(data))
