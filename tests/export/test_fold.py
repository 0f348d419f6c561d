"""Folding is exact: the K-lead network gives what the masked 12-lead network gives."""

import numpy as np
import pytest
import torch

from ecgedge.errors import EngineError
from ecgedge.leads import STANDARD_LEADS, parse_lead_set
from ecgedge_export.fold import fold_lead_set, fold_stem, masked_outputs, output_names
from ecgedge_train.encoders import RhcNet
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.model import build_model
from ecgedge_train.recipe import recipe_from_plain
from ecgedge_train.run import load_run

from .helpers import CALIBRATION

LEAD_SETS = ("12", "limb", "I,II,V1", "I,II", "I,V2", "I", "II", "V5")


def folded_outputs(network, ecg_mv, leads):
    rows = [STANDARD_LEADS.index(lead) for lead in leads]
    with torch.no_grad():
        values = network(torch.from_numpy(ecg_mv[:, rows][:, :, None]))
    return {name: value.numpy() for name, value in zip(network.output_names, values, strict=True)}


def random_probe(size):
    rng = np.random.default_rng(1)
    return LinearProbe(
        ("NORM", "MI"),
        mean=rng.normal(size=size).astype(np.float32),
        scale=rng.uniform(0.5, 2, size).astype(np.float32),
        weight=rng.normal(size=(2, size)).astype(np.float32),
        bias=rng.normal(size=2).astype(np.float32),
        strength=1.0,
    )


def assert_same(found, expected, relative=1e-5):
    assert list(found) == list(expected)
    for name, reference in expected.items():
        assert found[name].shape == reference.shape, name
        limit = relative * max(1.0, float(np.abs(reference).max()))
        assert float(np.abs(found[name] - reference).max()) <= limit, name


@pytest.mark.parametrize("lead_set", LEAD_SETS)
def test_random_weights(hemodynamic_model, ecg_mv, lead_set):
    leads = parse_lead_set(lead_set)
    network = fold_lead_set(hemodynamic_model, leads, CALIBRATION)
    expected = masked_outputs(hemodynamic_model, ecg_mv[:8], leads, CALIBRATION)
    assert list(expected) == ["p_gt_15", "p_gt_18", "mpcwp_mmhg", "embedding"]
    assert_same(folded_outputs(network, ecg_mv[:8], leads), expected)


@pytest.mark.parametrize("lead_set", LEAD_SETS)
def test_trained(run_dir, ecg_mv, lead_set):
    model = load_run(run_dir).model
    leads = parse_lead_set(lead_set)
    expected = masked_outputs(model, ecg_mv, leads, None)
    assert list(expected) == ["p_NORM", "p_MI", "p_STTC", "p_CD", "p_HYP", "embedding"]
    assert_same(folded_outputs(fold_lead_set(model, leads, None), ecg_mv, leads), expected)


@pytest.mark.parametrize("lead_set", ["12", "I,II", "II"])
def test_resnet18(resnet_model, ecg_mv, lead_set):
    leads = parse_lead_set(lead_set)
    expected = masked_outputs(resnet_model, ecg_mv[:3], leads, CALIBRATION)
    assert_same(folded_outputs(fold_lead_set(resnet_model, leads, CALIBRATION), ecg_mv[:3], leads), expected)


@pytest.mark.parametrize("variant", ["12", "I", "II", "C3PO"])
@pytest.mark.parametrize("lead_set", ["12", "I,II", "II"])
def test_pclr(ecg_mv, lead_set, variant):
    plain = {
        "name": "x",
        "data": {"source": "sim"},
        "encoder": {"name": "pclr_resnet", "variant": variant, "resample_samples": 4096},
        "objective": {"name": "hemodynamics"},
        "schedule": {"steps": 1},
    }
    model = build_model(recipe_from_plain(plain)).eval()
    leads = parse_lead_set(lead_set)
    expected = masked_outputs(model, ecg_mv[:2], leads, CALIBRATION)
    assert_same(folded_outputs(fold_lead_set(model, leads, CALIBRATION), ecg_mv[:2], leads), expected)


def test_platt_is_applied(hemodynamic_model, ecg_mv):
    """p = sigmoid(a * logit + b), worked out here from the model's own logits."""
    with torch.no_grad():
        logit = (
            hemodynamic_model(torch.from_numpy(ecg_mv[:4]), torch.ones(4, 12)).outputs["logit_gt_18"].numpy()
        )
    network = fold_lead_set(hemodynamic_model, STANDARD_LEADS, CALIBRATION)
    p = folded_outputs(network, ecg_mv[:4], STANDARD_LEADS)["p_gt_18"]
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-(0.6 * logit + 0.9))), atol=1e-6)


def test_probe_is_folded(hemodynamic_model, ecg_mv):
    probe = random_probe(32)
    network = fold_lead_set(hemodynamic_model, ("I", "II"), CALIBRATION, probe=probe)
    found = folded_outputs(network, ecg_mv[:8], ("I", "II"))
    np.testing.assert_allclose(found["p_MI"], probe.predict(found["embedding"])[:, 1], atol=1e-5)
    assert_same(found, masked_outputs(hemodynamic_model, ecg_mv[:8], ("I", "II"), CALIBRATION, probe=probe))


def test_probe_with_a_name_that_is_taken(run_dir):
    model = load_run(run_dir).model
    with pytest.raises(EngineError, match="two outputs are called p_MI, p_NORM"):
        output_names(model, random_probe(32))


def test_stem_by_hand(hemodynamic_model):
    """Lead II alone: its own kernel, and the presence column of II; aVF = II - I/2 is not known."""
    encoder = hemodynamic_model.encoder
    stem = fold_stem(encoder, ("II",))
    assert torch.allclose(stem.weight[:, 0], encoder.stem.weight[:, 1])
    assert torch.allclose(stem.bias, encoder.presence.weight[:, 1] + encoder.presence.bias)


def test_stem_by_hand_derived(hemodynamic_model):
    """Of I and II: lead I carries -1 III, -1/2 aVR, +1 aVL, -1/2 aVF (Einthoven, Goldberger)."""
    weight = hemodynamic_model.encoder.stem.weight
    stem = fold_stem(hemodynamic_model.encoder, ("I", "II"))
    expected = weight[:, 0] - weight[:, 2] - 0.5 * weight[:, 3] + weight[:, 4] - 0.5 * weight[:, 5]
    assert torch.allclose(stem.weight[:, 0], expected, atol=1e-6)


def test_model_is_left_alone(hemodynamic_model):
    before = {name: tensor.clone() for name, tensor in hemodynamic_model.state_dict().items()}
    network = fold_lead_set(hemodynamic_model, ("I",), CALIBRATION)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], t) for name, t in hemodynamic_model.state_dict().items())


def test_unknown_encoder(hemodynamic_model):
    model = type(hemodynamic_model)(RhcNet(), dict(hemodynamic_model.heads))
    with pytest.raises(EngineError, match="RhcNet cannot be folded; export knows EdgeNet, ResNet18"):
        fold_lead_set(model, ("I",), CALIBRATION)
