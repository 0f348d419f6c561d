"""The ONNX Runtime runner and the self-test, on hand-made models whose answers are known."""

import builtins
import contextlib
import io
import sys

import numpy as np
import onnxruntime
import pytest
from hand_made import COUNTS, T, make_bundle, mean_model, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime import OrtRunner, open_runner, self_test
from ecgedge.runtime.selftest import Expected, SelfTest, read_self_test, write_self_test

RNG = np.random.default_rng(0)


def test_run():
    with OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner:
        assert runner.name == "I,II/fp32"
        assert runner.leads == ("I", "II")
        assert runner.precision == "fp32"
        assert runner.window_samples == T
        assert runner.output_names == ("p_gt_18", "embedding")
        ecg = RNG.normal(size=(5, 2, T)).astype(np.float32)
        outputs = runner.run(ecg)
        assert list(outputs) == ["p_gt_18", "embedding"]
        np.testing.assert_allclose(outputs["p_gt_18"], ecg.mean(axis=(1, 2)), atol=1e-6)
        np.testing.assert_allclose(outputs["embedding"], ecg.mean(axis=2), atol=1e-6)
        np.testing.assert_array_equal(runner.run(ecg[:, :, None])["embedding"], outputs["embedding"])


def test_twelve_leads_are_called_12():
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    with OrtRunner(mean_model(12), leads=leads, precision="int8") as runner:
        assert runner.name == "12/int8"


def test_a_slice_of_a_larger_array():
    """Rows picked out of a bed's buffer are not contiguous."""
    ecg = RNG.normal(size=(1, 12, T)).astype(np.float32)
    with OrtRunner(mean_model(), leads=("I", "V6"), precision="fp32") as runner:
        picked = ecg[:, ::11]
        np.testing.assert_allclose(runner.run(picked)["embedding"], picked.mean(axis=2), atol=1e-6)


@pytest.mark.parametrize(
    ("ecg", "message"),
    [
        (np.zeros((1, 2, T)), "float64"),
        (np.zeros((1, 3, T), np.float32), r"shape \(1, 3, 40\)"),
        (np.zeros((1, 2, T + 1), np.float32), r"give \(batch, 2, 40\)"),
        (np.zeros((2, T), np.float32), "shape"),
        (np.zeros((0, 2, T), np.float32), "shape"),
        (np.zeros((1, 2, 2, T), np.float32), "shape"),
    ],
)
def test_wrong_input(ecg, message):
    with (
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner,
        pytest.raises(EngineError, match=message),
    ):
        runner.run(ecg)


def test_not_a_number_does_not_pass():
    ecg = np.zeros((2, 2, T), np.float32)
    ecg[1, 0, 3] = np.nan
    with (
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner,
        pytest.raises(EngineError, match="output p_gt_18 holds 1 values that are not finite"),
    ):
        runner.run(ecg)


def test_closed():
    runner = OrtRunner(mean_model(), leads=("I", "II"), precision="fp32")
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.run(np.zeros((1, 2, T), np.float32))


def test_what_onnx_runtime_raises_while_running_is_an_engine_error():
    with OrtRunner(mean_model(), leads=("I", "II"), precision="fp32") as runner:
        runner._output_names = ("p_gt_18", "nothing")
        with pytest.raises(EngineError, match=r"could not run a batch of 3: .*ecgedge bundle verify"):
            runner.run(np.zeros((3, 2, T), np.float32))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no model", "ONNX Runtime .* refuses the model"),
        (mean_model(3), r"expected one input 'ecg_mv', float32, \(batch, 2, 1, samples\)"),
        (mean_model(2, name="x"), "takes x float32"),
        (mean_model(2, rank=3), "expected one input"),
    ],
    ids=["bytes", "leads", "name", "rank"],
)
def test_wrong_model(model, message):
    with pytest.raises(EngineError, match=message):
        OrtRunner(model, leads=("I", "II"), precision="fp32")


def test_missing_package(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'ecgedge\[ort\]'"):
        OrtRunner(mean_model(), leads=("I", "II"), precision="fp32")


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


def test_self_test_finds_another_function(tmp_path):
    """The hashes of this bundle agree: only running it tells that it computes something else."""
    bundle, variant = make_bundle(tmp_path / "b.ecgb", scale=1.01)
    with pytest.raises(EngineError, match=r"self-test of I,II/fp32: p_gt_18 differs from its reference by"):
        open_runner(bundle, variant)


def test_self_test_checks_every_output(tmp_path):
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


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 cut",
        b"\x80\x04K\x01.",
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
    ids=["empty", "cut", "pickle", "no counts", "float counts", "one window", "no window", "no tolerance", "scalar"],
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
