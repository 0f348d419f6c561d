"""An INT8 QDQ file of the flavour "mcu" or "mcu16" as steps in integers.

Every operator becomes exactly one kind of step, or the export ends with its name: nothing is guessed.
"""

from __future__ import annotations

import onnx
from onnx import helper

from ecgedge.errors import EngineError
from ecgedge_export.mcu.operators import OPERATORS
from ecgedge_export.mcu.program import Program, Tensor
from ecgedge_export.mcu.walk import Walk


def lower(model: onnx.ModelProto, *, lsb_mv: float) -> Program:
    """Return a file as a program.

    Parameters
    ----------
    model
        INT8 QDQ of the flavour "mcu" or "mcu16", with the metadata of a variant.
    lsb_mv
        What a front-end count is worth.

    Raises
    ------
    EngineError
        If an operator, or its form, is not known here; if a tensor stays in float; if some tensors have 8 bits and
        others 16; if a sum could pass 32 bits.
    """
    walk = Walk.of(model, lsb_mv)
    for node in model.graph.node:
        _take(walk, node)
    if len({step.out.integers for step in walk.steps if isinstance(step.out, Tensor)}) > 1:
        raise EngineError("some tensors have 8 bits and others 16; no C for that: quantize with one flavour")
    metadata = {item.key: item.value for item in model.metadata_props}
    return Program(
        counts=walk.counts,
        steps=tuple(walk.steps),
        outputs=tuple(walk.output(value.name) for value in model.graph.output),
        leads=tuple(metadata["leads"].split(",")),
        rate_hz=float(metadata["rate_hz"]),
        lsb_mv=lsb_mv,
    )


def _take(walk: Walk, node: onnx.NodeProto) -> None:
    """Add a node's steps."""
    if node.op_type not in OPERATORS:
        raise EngineError(
            f"no C for the operator {node.op_type} ({node.name or node.output[0]}); known are "
            f"{', '.join(sorted(OPERATORS))}"
        )
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    walk.values[node.output[0]] = OPERATORS[node.op_type](walk, node, attributes)
