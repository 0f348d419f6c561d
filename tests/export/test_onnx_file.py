"""The ONNX file: what ONNX Runtime computes is what torch computes, and nothing of this machine is in it."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ecgedge.errors import EngineError
from ecgedge.leads import STANDARD_LEADS, parse_lead_set
from ecgedge.runtime import OrtRunner
from ecgedge_export.compare import compare, require_exact
from ecgedge_export.fold import fold_lead_set, masked_outputs
from ecgedge_export.onnx_file import check_onnx, export_onnx, graph_cost
from ecgedge_export.opset import OPSET

from .helpers import CALIBRATION


def export(model, leads, calibration=CALIBRATION):
    network = fold_lead_set(model, leads, calibration)
    return export_onnx(
        network,
        n_leads=len(leads),
        window_samples=2500,
        output_names=network.output_names,
        metadata={"leads": ",".join(leads), "precision": "fp32", "rate_hz": "250"},
    )


@pytest.fixture(scope="module")
def exported(hemodynamic_model):
    return export(hemodynamic_model, ("I", "II"))


def test_form(exported):
    assert [(o.domain, o.version) for o in exported.opset_import] == [("", OPSET)]
    [ecg] = exported.graph.input
    assert ecg.name == "ecg_mv"
    dims = ecg.type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert [d.dim_value for d in dims[1:]] == [2, 1, 2500]
    assert [o.name for o in exported.graph.output] == ["p_gt_15", "p_gt_18", "mpcwp_mmhg", "embedding"]
    assert {item.key: item.value for item in exported.metadata_props} == {
        "leads": "I,II",
        "precision": "fp32",
        "rate_hz": "250",
    }


def test_graph_is_plain(exported):
    """Batch norms are folded, nothing is reshaped between rank 3 and rank 4."""
    operators = {node.op_type for node in exported.graph.node}
    assert not operators & {
        "BatchNormalization",
        "Unsqueeze",
        "Reshape",
        "Transpose",
        "Identity",
        "Shape",
        "Pad",
    }
    weights = {tensor.name: tensor for tensor in exported.graph.initializer}
    ranks = {len(weights[node.input[1]].dims) for node in exported.graph.node if node.op_type == "Conv"}
    assert ranks == {4}


def test_pooling_is_pooling(exported):
    """A reduction would be copied out of the blocked layout first, and has no 8-bit form."""
    operators = [node.op_type for node in exported.graph.node]
    assert not set(operators) & {"ReduceMean", "ReduceMax"}
    [mean] = [node for node in exported.graph.node if node.op_type == "GlobalAveragePool"]
    [largest] = [node for node in exported.graph.node if node.op_type == "MaxPool"]
    assert mean.input[0] == largest.input[0]
    assert list(largest.attribute[0].ints) == [1, 79]
    assert operators.count("Flatten") == 1


@pytest.mark.parametrize("axis", [1, -1])
def test_poolings_are_joined_as_written(axis, ecg_mv):
    """Joined before they are flattened only along the channels; the last axis is another one by then."""

    class Pooled(torch.nn.Module):
        def forward(self, x):
            return (torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=axis),)

    model = export_onnx(Pooled(), n_leads=2, window_samples=2500, output_names=["embedding"], metadata={})
    with OrtRunner(model.SerializeToString(), leads=("I", "II"), precision="fp32") as runner:
        found = runner.run(ecg_mv[:3, :2])["embedding"]
    expected = np.concatenate([ecg_mv[:3, :2].mean(axis=2), ecg_mv[:3, :2].max(axis=2)], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nothing_of_the_machine(exported):
    """Neither paths nor module names: only the producer's own name and version."""
    clean = onnx.ModelProto()
    clean.CopyFrom(exported)
    assert clean.producer_name == "pytorch"
    clean.producer_name = ""
    del clean.graph.initializer[:]  # random weights may spell anything
    text = str(clean)
    assert "ecg_mv" in text
    assert not [word for word in ("/", ".py", "torch", "site-packages") if word in text]


def test_same_file_twice(hemodynamic_model, exported):
    again = export(hemodynamic_model, ("I", "II"))
    assert again.SerializeToString(deterministic=True) == exported.SerializeToString(deterministic=True)


@pytest.mark.parametrize("lead_set", ["12", "I,II", "II"])
def test_onnxruntime_agrees_with_torch(hemodynamic_model, ecg_mv, lead_set):
    leads = parse_lead_set(lead_set)
    rows = [STANDARD_LEADS.index(lead) for lead in leads]
    model = export(hemodynamic_model, leads)
    with OrtRunner(model.SerializeToString(), leads=leads, precision="fp32") as runner:
        for batch in (1, 2, 7):
            reference = masked_outputs(hemodynamic_model, ecg_mv[:batch], leads, CALIBRATION)
            require_exact(compare(reference, runner.run(ecg_mv[:batch, rows])), variant=lead_set)


def test_resnet18(resnet_model, ecg_mv):
    model = export(resnet_model, ("I", "II"))
    with OrtRunner(model.SerializeToString(), leads=("I", "II"), precision="fp32") as runner:
        comparison = compare(
            masked_outputs(resnet_model, ecg_mv[:2], ("I", "II"), CALIBRATION), runner.run(ecg_mv[:2, :2])
        )
    require_exact(comparison, variant="resnet18")
    # Published: 989 M MACs with 12 leads; 10 leads fewer in the stem are 64 channels x 10 x 15 taps x 1250 less.
    assert graph_cost(model).macs == pytest.approx(989e6 - 64 * 10 * 15 * 1250, rel=2e-3)


def test_causal_resnet18(causal_resnet, ecg_mv):
    """Its pooling is padded by an operator of its own."""
    model = export(causal_resnet, ("I", "II"))
    assert "Pad" in {node.op_type for node in model.graph.node}
    reference = masked_outputs(causal_resnet, ecg_mv[:2], ("I", "II"), CALIBRATION)
    with OrtRunner(model.SerializeToString(), leads=("I", "II"), precision="fp32") as runner:
        require_exact(compare(reference, runner.run(ecg_mv[:2, :2])), variant="causal resnet18")


def test_cost_by_hand():
    """A stem of 2 leads, 3 channels, kernel 5, stride 2 over 100 samples, and a linear layer 3 -> 4."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, (1, 5), stride=(1, 2), padding=(0, 2))
            self.fc = nn.Linear(3, 4)

        def forward(self, x):
            return (self.fc(self.conv(x).mean(dim=(2, 3))),)

    model = export_onnx(Small(), n_leads=2, window_samples=100, output_names=["embedding"], metadata={})
    cost = graph_cost(model)
    assert cost.macs == 50 * 3 * 2 * 5 + 3 * 4
    assert cost.parameters == (3 * 2 * 5 + 3) + (3 * 4 + 4)


def test_rank_3_is_refused():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 5)

        def forward(self, x):
            return (self.conv(x.squeeze(2)),)

    with pytest.raises(EngineError, match=r"weight of shape \[3, 2, 5\]; write the encoder"):
        export_onnx(Flat(), n_leads=2, window_samples=50, output_names=["y"], metadata={})


def test_an_unfolded_batch_norm_is_refused(exported):
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    first = model.graph.node[0]
    names = [f"bn_{part}" for part in ("scale", "bias", "mean", "var")]
    for name in names:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(16, np.float32), name))
    old, first.output[0] = first.output[0], "raw"
    node = onnx.helper.make_node("BatchNormalization", ["raw", *names], [old], name="bn")
    model.graph.node.insert(1, node)
    with pytest.raises(EngineError, match="bn stands behind a Conv and was not folded"):
        check_onnx(model)


def test_a_broken_graph_is_refused(exported):
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    model.graph.node[3].input[0] = "nowhere"
    with pytest.raises(EngineError, match="not valid"):
        check_onnx(model)


def test_dropout_is_off(hemodynamic_model):
    network = fold_lead_set(hemodynamic_model, ("I",), CALIBRATION).train()
    model = export_onnx(
        network, n_leads=1, window_samples=2500, output_names=network.output_names, metadata={}
    )
    assert "Dropout" not in {node.op_type for node in model.graph.node}
    assert not torch.is_grad_enabled() or not network.training
