"""The streaming form equals the full-window network of the same weights, on 38 s of a real ECG."""

import platform
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import EngineError
from ecgedge.leads import STANDARD_LEADS, parse_lead_set
from ecgedge.signal import counts_to_mv
from ecgedge_export.onnx_file import export_step_onnx
from ecgedge_export.step_network import Past, _of_pool, _WindowPool, step_network
from ecgedge_export.streams import full_window_outputs, window_form_difference
from ecgedge_export.variants import Source
from ecgedge_train.encoders import RhcNet, W2vEncoder
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.masking import fixed_lead_set
from ecgedge_train.model import build_model
from ecgedge_train.recipe import load_recipe, recipe_from_plain

from .helpers import CALIBRATION

FRAMES = 79
"""Of a window of 2,500 samples: ceil(2500 / 32)."""


@pytest.fixture(scope="module")
def stream_mv(long_ecg):
    return counts_to_mv(long_ecg, FrontEndSpec())[:, : 37 * 256]


def stepped(network, stream_mv, leads, *, beds=1):
    """Answers of every step, (steps, beds, ...), by name; each bed gets the stream begun at another chunk."""
    rows = [STANDARD_LEADS.index(lead) for lead in leads]
    x = torch.from_numpy(stream_mv[rows])
    chunk, n_outputs = network.spec.chunk_samples, len(network.output_names)
    states = [torch.zeros(1, c, beds, n) for c, n in network.spec.state_shapes]
    answers = []
    with torch.inference_mode():
        for start in range(0, x.shape[1] - (beds - 1) * chunk, chunk):
            pieces = [x[:, start + b * chunk : start + (b + 1) * chunk] for b in range(beds)]
            said = network(torch.stack(pieces)[:, :, None], *states)
            answers.append(said[:n_outputs])
            states = list(said[n_outputs:])
    by_name = zip(network.output_names, zip(*answers, strict=True), strict=True)
    return {name: torch.stack(values).numpy() for name, values in by_name}


def full_window(model, stream_mv, leads, end):
    """The embedding of the 79 frames that end with sample `end`, each with all samples before it that there are."""
    encoder = model.encoder
    begin = (end - 1) % 32  # so that the last frame, of sample 32 j, is of the last sample
    x, presence = fixed_lead_set(torch.from_numpy(stream_mv[None, :, begin:end]), ",".join(leads))
    with torch.inference_mode():
        y = encoder.stem(x[:, :, None])
        if encoder.presence is not None:
            y = y + encoder.presence(presence)[:, :, None, None]
        return encoder.from_features(encoder.time_features(y)[..., -FRAMES:])[0].numpy()


def assert_exact(found, expected):
    assert list(found) == list(expected)
    for name, reference in expected.items():
        assert found[name].shape == reference.shape, name
        assert np.abs(found[name] - reference).max() <= 1e-5 * max(1.0, np.abs(reference).max()), name


@pytest.mark.parametrize("lead_set", ["12", "limb", "I,II,V1", "I,II", "II", "V5"])
def test_edgenet_step_equals_full_window(causal_model, stream_mv, lead_set):
    leads = parse_lead_set(lead_set)
    network = step_network(causal_model, leads, CALIBRATION, window_samples=2500)
    assert network.spec.exact_after_samples == 3072
    found = {name: values[11:, 0] for name, values in stepped(network, stream_mv, leads).items()}
    source = Source(causal_model, CALIBRATION, None, 250.0)
    assert_exact(found, full_window_outputs(source, leads, stream_mv, network.spec))
    for k in (0, 7, 25):
        reference = full_window(causal_model, stream_mv, leads, 3072 + 256 * k)
        np.testing.assert_allclose(found["embedding"][k], reference, atol=1e-5)


def test_resnet18_step_equals_full_window(causal_resnet, stream_mv):
    leads = ("I", "II")
    network = step_network(causal_resnet, leads, CALIBRATION, window_samples=2500)
    assert network.seen_samples == 1291  # as published for this network, 5.2 s
    assert network.spec.exact_after_samples == 3840  # 78 frames of 32 and 1,291, in chunks of 256
    found = {
        name: values[14:, 0] for name, values in stepped(network, stream_mv[:, : 256 * 20], leads).items()
    }
    source = Source(causal_resnet, CALIBRATION, None, 250.0)
    assert_exact(found, full_window_outputs(source, leads, stream_mv[:, : 256 * 20], network.spec))
    reference = full_window(causal_resnet, stream_mv, leads, 256 * 20)
    np.testing.assert_allclose(found["embedding"][-1], reference, atol=1e-5 * max(1, np.abs(reference).max()))


def test_before_enough_context_it_is_another_window(causal_model, stream_mv):
    """From a reset on the first frames see zeros: not the reference yet, so no chunk of the context is too much."""
    leads = ("I", "II")
    network = step_network(causal_model, leads, CALIBRATION, window_samples=2500)
    found = stepped(network, stream_mv[:, 256:], leads)["embedding"][:, 0]
    for k, end in ((10, 256 * 12), (11, 256 * 13)):
        reference = full_window(causal_model, stream_mv, leads, end)
        assert (np.abs(found[k] - reference).max() > 1e-4) == (k == 10)


def test_beds_do_not_meet(causal_model, stream_mv):
    """Three beds, each a chunk further on in the stream, in one batch or alone."""
    leads = ("I", "II", "V1")
    network = step_network(causal_model, leads, CALIBRATION, window_samples=2500)
    together = stepped(network, stream_mv, leads, beds=3)
    for bed in range(3):
        alone = stepped(network, stream_mv[:, 256 * bed :], leads)
        for name, values in together.items():
            np.testing.assert_allclose(values[:, bed], alone[name][: len(values), 0], atol=1e-5)


@pytest.mark.parametrize(("chunk", "window"), [(32, 2500), (64, 1000), (512, 2496), (256, 257), (256, 225)])
def test_other_lengths(causal_model, stream_mv, chunk, window):
    leads = ("II",)
    network = step_network(causal_model, leads, CALIBRATION, window_samples=window, chunk_samples=chunk)
    spec = network.spec
    stream = stream_mv[:, : (spec.exact_after_samples // chunk + 4) * chunk]
    first = spec.exact_after_samples // chunk - 1
    found = {name: values[first:, 0] for name, values in stepped(network, stream, leads).items()}
    source = Source(causal_model, CALIBRATION, None, 250.0)
    assert_exact(found, full_window_outputs(source, leads, stream, spec))


def test_the_probe_is_in_it(causal_model, stream_mv):
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 1, s).astype(np.float32) for s in (32, 32, (1, 32), 1)]
    probe = LinearProbe(("AF",), *arrays, strength=1.0)
    network = step_network(causal_model, ("II",), CALIBRATION, window_samples=2500, probe=probe)
    said = stepped(network, stream_mv[:, : 256 * 12], ("II",))
    assert network.output_names == ("p_gt_15", "p_gt_18", "mpcwp_mmhg", "p_AF", "embedding")
    np.testing.assert_allclose(said["p_AF"][:, 0], probe.predict(said["embedding"][:, 0])[:, 0], atol=1e-5)


def test_how_far_the_plain_window_form_is(causal_model, stream_mv):
    """It has zeros where the stream has the past: worked out here from one window, and told in the results."""
    leads = ("I", "II")
    source = Source(causal_model, CALIBRATION, None, 250.0)
    spec = step_network(causal_model, leads, CALIBRATION, window_samples=2500).spec
    stream = stream_mv[:, :3072]
    reference = full_window_outputs(source, leads, stream, spec)
    told = window_form_difference(source, leads, stream, reference, spec)
    begin = 3072 - (32 * 78 + 1)
    x, presence = fixed_lead_set(torch.from_numpy(stream_mv[None, :, begin : begin + 2500]), "I,II")
    with torch.inference_mode():
        plain = causal_model.encoder(x, presence).numpy()
    by_hand = np.abs(plain - reference["embedding"]).max()
    assert told["window_form_max_abs_difference_embedding"] == pytest.approx(by_hand, rel=1e-4)
    assert by_hand > 1e-3


@given(frames=st.integers(1, 40), chunk=st.integers(1, 9), maximum=st.booleans(), seed=st.integers(0, 2**31))
@settings(max_examples=60)
def test_window_pool_is_mean_and_maximum_of_the_last_frames(frames, chunk, maximum, seed):
    frames = max(frames, chunk)
    x = torch.rand(1, 3, 2, chunk * 60, generator=torch.Generator().manual_seed(seed))
    pool, states = _WindowPool(frames=frames, chunk_frames=chunk, maximum=maximum), None
    same = torch.nn.Linear(6 if maximum else 3, 6 if maximum else 3, bias=False)
    torch.nn.init.eye_(same.weight)
    behind = _of_pool(same, pool)
    for end in range(chunk, x.shape[3] + 1, chunk):
        past = Past(states)
        found = behind(pool(x[..., end - chunk : end], past))
        states = past.next
        seen = x[0, :, :, max(0, end - frames) : end]
        expected = seen.sum(-1).T / frames
        if maximum:
            expected = torch.cat([expected, seen.amax(-1).T], dim=1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_only_a_causal_encoder_has_a_streaming_form(hemodynamic_model, resnet_model):
    for model in (hemodynamic_model, resnet_model):
        with pytest.raises(EngineError, match=r"train with encoder\.causal=true, or export the window form"):
            step_network(model, ("I",), CALIBRATION, window_samples=2500)
    others = [RhcNet(), W2vEncoder(size="tiny"), build_pclr()]
    for encoder in others:
        model = type(hemodynamic_model)(encoder, dict(hemodynamic_model.heads))
        with pytest.raises(EngineError, match=f"{type(encoder).__name__} looks ahead .* encoder.causal=true"):
            step_network(model, ("I",), CALIBRATION, window_samples=2500)


def build_pclr():
    plain = {
        "name": "x",
        "data": {"source": "sim"},
        "encoder": {"name": "pclr_resnet"},
        "objective": {"name": "hemodynamics"},
        "schedule": {"steps": 1},
    }
    return build_model(recipe_from_plain(plain)).encoder


def test_wrong_lengths(causal_model):
    with pytest.raises(EngineError, match="chunks of 250 samples; give a multiple of 32"):
        step_network(causal_model, ("I",), CALIBRATION, window_samples=2500, chunk_samples=250)
    with pytest.raises(EngineError, match="shorter than a chunk"):
        step_network(causal_model, ("I",), CALIBRATION, window_samples=128)


def test_the_model_is_left_alone():
    model = build_model(load_recipe("sim_mpcwp", ["encoder.causal=true"])).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = step_network(model, ("I",), CALIBRATION, window_samples=2500)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert model.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ONNX Runtime fuses otherwise on other processors")
def test_residual_sums_are_added_up_inside_the_convolutions(causal_model, tmp_path):
    network = step_network(causal_model, ("I", "II"), None, window_samples=2500)
    model = export_step_onnx(network, metadata={})
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert made["Conv"] == 13
    assert made["Add"] == 1, "that of the output in mmHg"
    assert not made["Reshape"]
