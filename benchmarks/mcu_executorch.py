"""The same student by another generator: ExecuTorch's Cortex-M backend, its file and the memory that it plans.

Beside `mcu_model.py`: the embedded bundle's student with lead I, up to the embedding, quantized by ExecuTorch's own
quantizer. Its runtime is C++ that must be built apart, so nothing of it runs here: there are no instructions, and its
file needs that runtime beside it. In an environment of its own, since it wants other versions than ours:

    pip install 'executorch==1.5.1' 'torch==2.13.0' onnx
    PYTHONPATH=.:train:export:firmware_bridge python benchmarks/mcu_executorch.py
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
import typer
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from ecgedge.bundle import load_bundle
from ecgedge.leads import parse_lead_set
from ecgedge_export.onnx_file import INPUT_NAME
from ecgedge_export.pooling import pool_by_operator
from ecgedge_export.torch_graph import _OPERATORS, _attributes

RESULTS = Path(__file__).parent / "results" / "mcu_executorch.json"
LEADS = "I"
UNTIL = "embedding"
CALIBRATION = 4
"""Windows of noise that set the ranges: sizes do not depend on them."""


class Graph(nn.Module):
    """An ONNX graph up to one tensor, as torch traces it; a dense layer is one operator, as quantizers look for it."""

    def __init__(self, model: onnx.ModelProto, until: str) -> None:
        super().__init__()
        self._nodes, self._until = list(model.graph.node), until
        self._names = {tensor.name: f"c{k}" for k, tensor in enumerate(model.graph.initializer)}
        for tensor in model.graph.initializer:
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            self.register_buffer(self._names[tensor.name], values)

    def forward(self, ecg_mv: Tensor) -> Tensor:
        """(1, K, 1, T) millivolts to (1, D)."""
        values = {name: getattr(self, own) for name, own in self._names.items()} | {INPUT_NAME: ecg_mv}
        for node in self._nodes:
            inputs, facts = [values[name] for name in node.input], _attributes(node)
            if node.op_type == "Gemm" and facts.get("transB"):
                values[node.output[0]] = functional.linear(*inputs)
            else:
                values[node.output[0]] = _OPERATORS[node.op_type](inputs, facts)
            if node.output[0] == self._until:
                break
        return values[self._until]


def lowered(network: nn.Module, example_mv: Tensor) -> Any:
    """Return ExecuTorch's program, quantized and lowered for Cortex-M."""
    from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
    from executorch.backends.cortex_m.quantizer.quantizer import CortexMQuantizer
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    traced = torch.export.export(network, (example_mv,)).module(check_guards=False)
    prepared = prepare_pt2e(traced, CortexMQuantizer())
    for _ in range(CALIBRATION):
        prepared(torch.randn_like(example_mv))
    program = torch.export.export(convert_pt2e(prepared), (example_mv,))
    edge = to_edge(program, compile_config=EdgeCompileConfig(_check_ir_validity=False))
    edge._edge_programs["forward"] = CortexMPassManager(  # noqa: SLF001 - ExecuTorch's own examples set it so
        edge.exported_program()
    ).transform()
    return edge.to_executorch(ExecutorchBackendConfig(extract_delegate_segments=False))


def main(out: Path = RESULTS) -> None:
    """Lower, and write what it takes."""
    torch.manual_seed(1)
    bundle = load_bundle("embedded")
    variant = next(v for v in bundle.manifest.variants if v.leads == parse_lead_set(LEADS))
    model = pool_by_operator(onnx.load_from_string(bundle.read_bytes(variant.file)))
    n_leads, _, n_samples = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])
    example_mv = torch.randn(1, n_leads, 1, n_samples).to(memory_format=torch.channels_last)
    done = lowered(Graph(model, UNTIL).eval(), example_mv)
    plan = done.executorch_program.execution_plan[0]
    names = Counter(
        plan.operators[call.instr_args.op_index].name for chain in plan.chains for call in chain.instructions
    )
    result = {
        "student": f"EdgeNet S of the embedded bundle, lead {LEADS}, up to the {UNTIL}",
        "generator": f"executorch {version('executorch')}, Cortex-M backend; torch {torch.__version__}",
        "file_bytes": len(done.buffer),
        "ram_planned_bytes": sum(int(size) for size in plan.non_const_buffer_sizes),
        "calls": dict(sorted(names.items())),
        "calls_in_float": sum(
            n for name, n in names.items() if name.startswith("aten::") and "cat" not in name
        ),
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
