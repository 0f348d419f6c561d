"""fp16 files: the same input and outputs, 16 bits inside, nearly the same numbers."""

import numpy as np
import onnx
import pytest

from ecgedge.errors import EngineError
from ecgedge.runtime import OrtRunner
from ecgedge_export.compare import FP16_MIN_COSINE, Int8Gate, compare, require_close
from ecgedge_export.half import to_fp16
from ecgedge_export.onnx_file import graph_cost

from .helpers import TWO_LEADS as LEADS
from .helpers import float_file


@pytest.fixture(scope="module")
def exact(run_dir):
    return float_file(run_dir)


@pytest.fixture(scope="module")
def half(exact):
    return to_fp16(exact)


def test_form(exact, half):
    onnx.checker.check_model(half, full_check=True)
    assert half.graph.input == exact.graph.input
    assert [o.name for o in half.graph.output] == [o.name for o in exact.graph.output]
    assert {o.type.tensor_type.elem_type for o in half.graph.output} == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT not in {t.data_type for t in half.graph.initializer}
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == 1 + len(half.graph.output), "nothing is cast inside"
    assert graph_cost(half) == graph_cost(exact)
    assert {item.key: item.value for item in half.metadata_props} == {"leads": "I,II", "precision": "fp16"}
    assert len(half.SerializeToString()) < 0.55 * len(exact.SerializeToString())


def test_the_device_takes_it_as_it_is(exact, half, ecg_mv):
    with (
        OrtRunner(exact.SerializeToString(), leads=LEADS, precision="fp32") as reference,
        OrtRunner(half.SerializeToString(), leads=LEADS, precision="fp16") as runner,
    ):
        comparison = compare(reference.run(ecg_mv[:16, :2]), runner.run(ecg_mv[:16, :2]))
    require_close(comparison, variant="I,II/fp16", gate=Int8Gate(FP16_MIN_COSINE, FP16_MIN_COSINE))
    assert comparison.max_abs > 1e-5, "the file computes in fp32"


def test_a_weight_that_does_not_fit(exact):
    model = onnx.ModelProto()
    model.CopyFrom(exact)
    name = model.graph.initializer[0].name
    shape = tuple(model.graph.initializer[0].dims)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full(shape, 7e4, np.float32), name))
    with pytest.raises(EngineError, match=r"stem\.weight holds 70000, which fp16 cannot"):
        to_fp16(model)
