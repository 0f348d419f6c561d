"""A causal run becomes a bundle of streaming forms, alone or beside the window forms, and the device runs them."""

import json
import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from ecgedge.bundle import FrontEndSpec, VariantSpec, load_bundle
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.runtime import StepRunner, open_runner, open_step_runner, stream_self_test
from ecgedge.runtime.ort import open_session
from ecgedge.runtime.selftest import stream_outputs
from ecgedge.runtime.step import _Block
from ecgedge.signal import counts_to_mv
from ecgedge.sim import Simulator
from ecgedge.stream import Bed, Variants
from ecgedge_export.calibration import Calibration, tensor_ranges
from ecgedge_export.int8 import Int8Options
from ecgedge_export.onnx_file import export_step_onnx
from ecgedge_export.pack import export_run
from ecgedge_export.quant_plan import make_plan
from ecgedge_export.quantize import quantized_file
from ecgedge_export.step_network import step_network
from ecgedge_export.streams import full_window_outputs
from ecgedge_export.variants import Source

from .helpers import CALIBRATION, LENIENT, write_run
from .helpers import TWO_LEADS as LEADS


@pytest.fixture(scope="module")
def bundle(exported):
    return load_bundle(exported)


def variant(bundle, name):
    [found] = [v for v in bundle.manifest.variants if v.name == name]
    return found


def test_both_forms_are_in_one_bundle(bundle):
    assert [v.name for v in bundle.manifest.variants] == [
        "I,II/fp32", "I,II/int8", "I,II/fp32/stream", "I,II/int8/stream",
    ]  # fmt: skip
    files = {f"variants/I_II/{p}/model.onnx" for p in ("fp32", "int8", "fp32/stream", "int8/stream")}
    assert files < set(bundle.manifest.files)
    window, stream = variant(bundle, "I,II/fp32"), variant(bundle, "I,II/fp32/stream")
    assert window.stream is None
    assert stream.stream.chunk_samples == 256
    assert stream.stream.window_frames == 79
    assert stream.stream.ready_after_samples == 2560
    assert stream.stream.exact_after_samples == 3072
    assert stream.parameters == window.parameters
    assert 9 < window.macs / stream.macs < 10.1  # 79 frames against 8
    assert stream.interval_halfwidth_mmhg == window.interval_halfwidth_mmhg == 6.5
    assert stream.results["max_abs_difference_embedding"] < 1e-5 * 30
    assert 0 < stream.results["window_form_centred_cosine_median"] <= 1
    assert "| I,II | fp32, stream |" in bundle.read_bytes("card.md").decode()


def test_the_file(bundle):
    spec = variant(bundle, "I,II/fp32/stream").stream
    model = onnx.load_from_string(bundle.read_bytes("variants/I_II/fp32/stream/model.onnx"))
    assert [o.version for o in model.opset_import] == [17]
    inputs = {
        i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input
    }
    assert inputs.pop("ecg_mv") == ["batch", 2, 1, 256]
    assert inputs == {
        name: [1, channels, "batch", n]
        for name, (channels, n) in zip(spec.state_names, spec.state_shapes, strict=True)
    }
    assert list(inputs)[:2] == ["state_00", "state_01"]
    outputs = [o.name for o in model.graph.output]
    assert outputs[:4] == ["p_gt_15", "p_gt_18", "mpcwp_mmhg", "embedding"]
    assert outputs[4:] == [name.replace("state", "next") for name in spec.state_names]
    told = {item.key: item.value for item in model.metadata_props}
    assert told["leads"] == "I,II"
    assert told["rate_hz"] == "250"
    assert told["chunk_samples"] == "256"
    assert told["window_frames"] == "79"
    assert json.loads(told["states"]) == inputs
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {len(weights[node.input[1]].dims) for node in convolutions} == {4}
    assert not {"BatchNormalization", "Pad", "Shape"} & {node.op_type for node in model.graph.node}


def test_nothing_of_the_machine(bundle, causal_run, ptbxl):
    for name, content in bundle.contents.items():
        for path in (str(causal_run.parent), str(ptbxl.parent), os.getcwd(), os.path.expanduser("~") + "/"):
            assert path.encode() not in content, name
        assert b"site-packages" not in content, name


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_form_passes_its_self_test(bundle, precision):
    with open_step_runner(bundle, variant(bundle, f"I,II/{precision}/stream"), beds=6) as runner:
        assert runner.batch_sizes == (1, 4)
        assert runner.seen_samples(0) == 0


def test_a_swapped_pair_of_leads_fails_the_self_test(bundle):
    with StepRunner.from_variant(bundle, variant(bundle, "I,II/int8/stream"), beds=1) as runner:
        step = runner.step
        runner.step = lambda beds, chunk: step(beds, np.ascontiguousarray(chunk[:, ::-1]))
        with pytest.raises(EngineError, match=r"I,II/int8/stream: .* differs from its reference"):
            stream_self_test(runner, bundle)


def test_a_fault_in_one_batch_size_fails_the_self_test(bundle):
    with StepRunner.from_variant(bundle, variant(bundle, "I,II/fp32/stream"), beds=4) as runner:
        bucket = runner._buckets[4]
        bucket.states = _Block([state.shape for state in bucket.states.arrays])  # no longer what is bound
        with pytest.raises(EngineError, match="differs from its reference"):
            stream_self_test(runner, bundle)


def test_the_device_gives_what_the_full_window_gives(bundle, causal_model, long_ecg):
    stream_mv = counts_to_mv(long_ecg, FrontEndSpec())
    spec = variant(bundle, "I,II/fp32/stream")
    source = Source(causal_model, CALIBRATION, None, 250.0)
    expected = full_window_outputs(source, LEADS, stream_mv[:, : 37 * 256], spec.stream)
    with open_step_runner(bundle, spec, beds=2) as runner:
        chunks = [stream_mv[:2, 256 * k : 256 * (k + 1)] for k in range(37)]
        answers = [runner.step([1, 0], np.stack([chunk, -chunk])) for chunk in chunks]
    for name, reference in expected.items():
        found = np.stack([outputs[name][0] for outputs in answers[11:]])
        assert np.abs(found - reference).max() <= 1e-5 * max(1.0, np.abs(reference).max()), name


def integer_form(network, flavour, windows):
    exact = export_step_onnx(network, metadata={})
    ranges = tensor_ranges(exact, windows, leads=LEADS, stream=network.spec)
    plan = make_plan(exact, ranges, flavour=flavour)
    return plan, quantized_file(exact, plan)


def test_any_number_of_windows_calibrates_a_stream_by_any_method(causal_model, ecg_mv):
    network = step_network(causal_model, LEADS, None, window_samples=2500)
    exact = export_step_onnx(network, metadata={})
    extremes = tensor_ranges(exact, ecg_mv[:37], leads=LEADS, stream=network.spec)
    percentile = Calibration("percentile", percentile=99.9)
    most = tensor_ranges(exact, ecg_mv[:37], leads=LEADS, stream=network.spec, calibration=percentile)
    assert most.keys() == extremes.keys()
    assert all(extremes[name][1] >= high - 1e-6 for name, (_, high) in most.items())


@pytest.mark.parametrize("flavour", ["cpu", "rtx"])
@pytest.mark.parametrize("encoder", ["causal_model", "causal_resnet"])
def test_a_state_comes_back_as_the_integers_that_it_left_as(request, encoder, flavour, ecg_mv):
    """The past, the chunk and their joint have one scale, and what a step hands on lies on it exactly."""
    network = step_network(request.getfixturevalue(encoder), LEADS, None, window_samples=2500)
    plan, model = integer_form(network, flavour, ecg_mv[:16])
    graph, spec = model.graph, network.spec
    numbers = {n.input[0]: tuple(n.input[1:]) for n in graph.node if n.op_type == "QuantizeLinear"}
    readers = {name: node for node in graph.node for name in node.input}
    of_layers = [name for name in spec.state_names if name in numbers]
    for state in of_layers:
        joint = readers[f"{state}_dq"]
        assert joint.op_type == "Concat"
        past, chunk = joint.input
        assert numbers[past.removesuffix("_dq")] == numbers[chunk.removesuffix("_dq")]
        assert numbers[joint.output[0]] == numbers[past.removesuffix("_dq")]
    # What is left is what the pooling keeps of past chunks: the mean's two and, of an EdgeNet, the maximum's two.
    rest = [name for name in spec.state_names if name not in of_layers]
    assert len(rest) == (4 if encoder == "causal_model" else 2)
    assert rest == list(spec.state_names[-len(rest) :])
    session = open_session(model.SerializeToString(), threads=1, name="step")
    states = [np.zeros((1, c, 1, n), np.float32) for c, n in spec.state_shapes]
    for start in range(0, 2500 - 256, 256):
        chunk = np.ascontiguousarray(ecg_mv[20:21, :2, None, start : start + 256])
        fed = {"ecg_mv": chunk, **dict(zip(spec.state_names, states, strict=True))}
        states = session.run(list(spec.next_names), fed)
    by_name = dict(zip(spec.state_names, states, strict=True))
    for name in of_layers:
        numbers_of = plan.affine(name)
        integers = np.rint(by_name[name] / np.float32(numbers_of.scale))
        np.testing.assert_array_equal(integers * np.float32(numbers_of.scale), by_name[name])
        whole = integers + numbers_of.zero_point
        assert plan.integers.low <= whole.min() < whole.max() <= plan.integers.high
    types = {t.data_type for t in graph.initializer}
    assert (onnx.TensorProto.INT32 in types) == (flavour == "cpu"), "TensorRT takes no int32 bias"
    points = [numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith("_zero_point")]
    assert flavour == "cpu" or not any(point.any() for point in points), "TensorRT takes no zero point"
    assert [o.version for o in model.opset_import] == [17]


def test_int8_in_longer_chunks_is_the_same(causal_model, ecg_mv):
    """One plan, chunks of 256 and of 512: all that is quantized is in front of the pooling, so nothing may move."""
    short, long = (
        step_network(causal_model, LEADS, None, window_samples=2500, chunk_samples=n) for n in (256, 512)
    )
    plan, model = integer_form(short, "cpu", ecg_mv[:16])
    exact = export_step_onnx(long, metadata={})
    assert set(plan.activations) <= {
        name for node in exact.graph.node for name in (*node.input, *node.output)
    }
    stream_mv = np.concatenate(list(ecg_mv[20:24, :2]), axis=1)[:, : 512 * 19]
    said = []
    for network, file in ((short, model), (long, quantized_file(exact, plan))):
        variant = VariantSpec(LEADS, "int8", "", 0, 0, 0.0, stream=network.spec)
        with StepRunner(file.SerializeToString(), variant, beds=1) as runner:
            said.append(stream_outputs(runner, stream_mv, beds=[0])["embedding"])
    short_said, long_said = said[0][::-1][::2], said[1][::-1]
    n = min(map(len, (short_said, long_said)))
    assert n >= 12
    np.testing.assert_allclose(short_said[:n], long_said[:n], atol=1e-5 * np.abs(long_said).max())


def test_int8_stays_close_to_float(bundle, long_ecg):
    """Windows that the calibration has not seen; what follows the pooling stays float."""
    stream_mv = counts_to_mv(long_ecg, FrontEndSpec())[:2]
    said = {}
    for precision in ("fp32", "int8"):
        with open_step_runner(bundle, variant(bundle, f"I,II/{precision}/stream"), beds=1) as runner:
            chunks = [stream_mv[None, :, 256 * k : 256 * (k + 1)] for k in range(37)]
            answers = [runner.step([0], chunk)["embedding"][0] for chunk in chunks]
            said[precision] = np.stack(answers[11:])
    scale = np.abs(said["fp32"]).max()
    assert 0 < np.abs(said["int8"] - said["fp32"]).max() < 0.3 * scale
    model = onnx.load_from_string(bundle.read_bytes("variants/I_II/int8/stream/model.onnx"))
    produced = {name: node.op_type for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    fed = [node for node in convolutions if produced[node.input[0]] == "DequantizeLinear"]
    assert len(fed) == len(convolutions) == 13
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert gemms
    assert not any(produced.get(name) == "DequantizeLinear" for node in gemms for name in node.input)
    types = {i.name: i.type.tensor_type.elem_type for i in (*model.graph.input, *model.graph.output)}
    assert set(types.values()) == {onnx.TensorProto.FLOAT}
    assert {"precision": "int8"}.items() <= {item.key: item.value for item in model.metadata_props}.items()


def test_evidence_of_both_forms(bundle):
    """Streaming forms stand beside the window forms, on the same records; the card says how they were fed."""
    evidence = json.loads(bundle.read_bytes("evidence.json"))
    assert [(v["variant"], v["runner"]) for v in evidence["variants"]] == [
        *((f"I,II/{p}", runner) for p in ("fp32", "int8") for runner in ("ort", "openvino")),
        ("I,II/fp32/stream", "ort"),
        ("I,II/int8/stream", "ort"),
    ]
    exact, rounded = evidence["variants"][-2:]
    samples = 2500 * evidence["records"] // 256 * 256
    assert exact["windows"] == rounded["windows"] == (samples - 3072) // 256 + 1
    assert exact["max_abs"]["p_gt_18"] < 1e-5 < rounded["max_abs"]["p_gt_18"]
    assert exact["min_cosine"] > 0.999 > rounded["min_cosine"]
    assert exact["failed"] == rounded["failed"] == []
    assert exact["alarms"] is None
    assert evidence["left_out"] == {}
    card = bundle.read_bytes("card.md").decode()
    assert "| I,II/int8/stream | ort |" in card
    assert "A streaming form saw the records joined end to end" in card


def test_a_stream_that_misses_the_limits_is_not_packed(causal_run, ptbxl, tmp_path, monkeypatch):
    monkeypatch.setattr("ecgedge_export.pack.TUNE_SHARE", 2.0 / 1e-5)  # the tune split lets it pass
    strict = replace(LENIENT, max_abs=1e-5)
    options = {"data": ptbxl, "target": "cpu", "lead_sets": ("I,II",), "calibration_samples": 16,
               "gate_samples": 8, "evidence_records": 8, "form": "stream", "gates": strict}  # fmt: skip
    with pytest.raises(EngineError, match=r"not packed: I,II/int8/stream: .* allowed is 1e-05"):
        export_run(causal_run, out=tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()
    export_run(causal_run, out=tmp_path / "b", failing="leave_out", **options)
    bundle = load_bundle(tmp_path / "b")
    assert [v.name for v in bundle.manifest.variants] == ["I,II/fp32/stream"]
    # No window form was asked for, so none is missing.
    assert json.loads(bundle.read_bytes("evidence.json"))["left_out"] == {}


def test_what_a_stream_cannot_be(causal_run, ptbxl, tmp_path):
    options = {"data": ptbxl, "out": tmp_path / "b", "lead_sets": ("I,II",), "form": "both"}
    with pytest.raises(EngineError, match="mcu: the quantizer knows no streaming form for integer C"):
        export_run(causal_run, target="mcu", **options)
    with pytest.raises(UsageError, match="--float-layers stem: all layers of a streaming form are quantized"):
        export_run(causal_run, target="cpu", int8_options=Int8Options(float_layers=("stem",)), **options)
    assert not (tmp_path / "b").exists()


def test_a_bed_takes_the_window_form(bundle):
    with Variants(bundle) as variants:
        assert variants.lead_sets == (LEADS,)
        spec, runner = variants.choose(LEADS)
        assert spec.stream is None
        assert runner.name == spec.name == "I,II/int8"
        bed = Bed(bundle, leads=LEADS, rate_hz=250.0, variants=variants)
        estimates = [e for e in bed.push(np.zeros((2, 2600), np.float32), t_s=0.0) if e.type == "estimate"]
    assert [e.variant for e in estimates] == ["I,II/int8"]
    with pytest.raises(
        EngineError, match=r"I,II/fp32/stream is a streaming form, .* ecgedge\.runtime\.open_step_runner"
    ):
        open_runner(bundle, variant(bundle, "I,II/fp32/stream"))


def test_streams_alone_and_on_the_command_line(exported, causal_run, ptbxl, tmp_path):
    from ecgedge.cli import app

    cli, out = CliRunner(), tmp_path / "streams.ecgb"
    shown = cli.invoke(app, ["bundle", "show", str(exported)])
    assert "I,II/fp32/stream" in shown.output
    verified = cli.invoke(app, ["bundle", "verify", str(exported)])
    assert verified.exit_code == 0, verified.output
    assert "self-test passed on this machine for I,II/fp32; I,II/int8; I,II/fp32/stream" in verified.output
    made = cli.invoke(
        app,
        [
            *("export", str(causal_run), "--target", "cpu", "--data", str(ptbxl), "--out", str(out)),
            *("--lead-sets", "I,II", "--precision", "fp32", "--form", "stream"),
        ],
    )
    assert made.exit_code == 0, made.output
    alone = load_bundle(out)
    assert [v.name for v in alone.manifest.variants] == ["I,II/fp32/stream"]
    assert cli.invoke(app, ["bundle", "verify", str(out)]).exit_code == 0
    with pytest.raises(
        BundleError, match="holds streaming forms only; to serve the window form, export with --form both"
    ):
        Variants(alone)


def test_a_run_that_looks_ahead_is_refused(hemodynamic_model, dataset, ptbxl, tmp_path):
    run = write_run(tmp_path / "run", hemodynamic_model, dataset, causal=False)
    for form in ("stream", "both"):
        with pytest.raises(EngineError, match=r"train with encoder\.causal=true"):
            export_run(run, data=ptbxl, target="cpu", out=tmp_path / "b", lead_sets=("I,II",), form=form)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_hour_leaves_no_trace(bundle, precision):
    """A simulated hour: the state at several moments against one made afresh from the last samples."""
    ecg_mv = Simulator("stable", seed=1, rate_hz=250.0).read(3600 * 250)[:2].astype(np.float32)
    spec = variant(bundle, f"I,II/{precision}/stream")
    c, context = spec.stream.chunk_samples, spec.stream.exact_after_samples
    steps = ecg_mv.shape[1] // c
    moments = {steps // 60, steps // 7, steps // 2, steps - 1}
    with open_step_runner(bundle, spec, beds=2) as runner:
        for k in range(steps):
            said = runner.step([0], ecg_mv[None, :, k * c : (k + 1) * c])
            if k in moments:
                fresh = runner.prime(1, ecg_mv[:, (k + 1) * c - context : (k + 1) * c])
                for name, values in said.items():
                    assert np.abs(values - fresh[name]).max() <= 1e-5 * max(1.0, np.abs(values).max()), k
