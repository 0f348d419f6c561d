"""The C file: the kernels that the program needs, its tables, and one call a step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatchmethod
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import RESEARCH_USE_ONLY
from ecgedge_export.mcu.arena import ArenaPlan, block_of, plan_arena
from ecgedge_export.mcu.packing import depthwise_weights, packed_weights, runs_of
from ecgedge_export.mcu.program import (
    INT16,
    Add,
    Convolution,
    Counts,
    MaxPool,
    MeanPool,
    Move,
    NumberOutput,
    Program,
    Quantize,
    Rescale,
    Step,
    Sums,
    Tensor,
    sources,
)
from ecgedge_export.mcu.reference import sigmoid_table

_WIDTH = 112
_KERNELS = ("common", "rescale", "quantize", "convolution", "depthwise", "add", "max_pool", "mean_pool", "move",
            "number", "sigmoid")  # fmt: skip
"""In the order in which C needs them."""
CHANNEL_BYTES = 12


@dataclass(frozen=True)
class Constants:
    """A table of the C file."""

    ctype: str
    name: str
    values: NDArray[np.int8] | NDArray[np.uint16]

    def text(self) -> str:
        """Return its definition."""
        lines = [
            f"static const {self.ctype} {self.name}[{self.values.size}] = {{",
            *wrapped([f"{value}," for value in self.values]),
        ]
        return "\n".join([*lines, "};"])


def emit_c(program: Program, prefix: str) -> str:
    """Return the C file of a program; `prefix` begins all its public names and is the header's."""
    emitter = _Emitter(prefix, plan_arena(program))
    for step in program.steps:
        emitter.take(step)
    kernels, tables = _needed_kernels(program), emitter.tables
    parts = [
        _head(program, prefix),
        f'#include "{prefix}.h"\n\n#include <stdbool.h>\n#include <stddef.h>\n#include <string.h>',
        _numbers(program),
        *(_kernel(name) for name in kernels if name != "sigmoid"),
    ]
    if "sigmoid" in kernels:
        table = Constants("uint16_t", "sigmoid_table", sigmoid_table())
        parts += [f"/* The sigmoid of 0, 1/32, ..., 12. */\n{table.text()}", _kernel("sigmoid")]
    parts += [*tables, _run_function(program, emitter)]
    return "\n\n".join(parts) + "\n"


def constant_bytes(program: Program) -> int:
    """Return how many bytes of constants the C has: weights, biases, scales, tables. Structures come with the code."""
    total = 0
    for step in program.steps:
        if isinstance(step, Convolution):
            weight = depthwise_weights(step) if step.depthwise else packed_weights(step)
            total += weight.size + CHANNEL_BYTES * step.bias.size
    sigmoid = any(isinstance(o, NumberOutput) and o.sigmoid for o in program.outputs)
    return total + (2 * sigmoid_table().size if sigmoid else 0)


def number_type(program: Program) -> str:
    """Return what C calls a tensor's number."""
    return f"{np.dtype(program.integers.dtype).name}_t"


def identifier(name: str) -> str:
    """Return a name as C takes it."""
    text = re.sub(r"\W+", "_", name).strip("_").lower()
    return f"x{text}" if text[:1].isdigit() else text


@dataclass(frozen=True)
class _Emitter:
    """Tables and calls, step by step."""

    prefix: str
    plan: ArenaPlan
    tables: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def take(self, step: Step) -> None:
        """Add a step."""
        self.calls.append(f"    /* {_title(step)} */\n    {self.call(step)}")

    @singledispatchmethod
    def call(self, step: Step) -> str:
        """Return the call of a step; its tables are added on the way."""
        raise TypeError(f"no C of {step}")

    @call.register
    def _(self, step: Quantize) -> str:
        zero, r = step.out.affine.zero_point, step.rescale
        return f"quantize(counts, {self.at(step.out)}, {step.out.size}u, {r.multiplier}, {r.shift}, {zero});"

    @call.register
    def _(self, step: Convolution) -> str:
        name = self.unique(step.name)
        weight = depthwise_weights(step) if step.depthwise else packed_weights(step)
        tables = [
            Constants("int8_t", f"{name}_weight", weight).text(),
            _channel_table(f"{name}_channels", step),
        ]
        fields = _depthwise_fields(step) if step.depthwise else _convolution_fields(step)
        kind = "depthwise" if step.depthwise else "convolution"
        pointers = {part: f"{name}_{part}" for part in ("weight", "channels")}
        self.tables.append(f"/* {_title(step)} */\n" + "\n".join(tables))
        self.structure(kind, name, {**pointers, **fields})
        y, sums = (
            (self.at(step.out), "NULL") if isinstance(step.out, Tensor) else ("NULL", self.sum_at(step.out))
        )
        if isinstance(step.source, Counts):
            return f"convolution(&{name}, counts, NULL, {y}, {sums}, arena->strip);"
        source = self.at(step.source)
        if step.depthwise:
            return f"depthwise(&{name}, {source}, {y});"
        arms = f"{source}, NULL" if step.source.integers is INT16 else f"NULL, {source}"
        return f"convolution(&{name}, {arms}, {y}, {sums}, arena->strip);"

    @call.register
    def _(self, step: Add) -> str:
        name = self.unique(f"add_{step.out.name}")
        fields = {
            "size": f"{step.out.size}u",
            "left_multiplier": step.multipliers[0],
            "right_multiplier": step.multipliers[1],
            "left_zero": step.left.affine.zero_point,
            "right_zero": step.right.affine.zero_point,
            "zero_out": step.out.affine.zero_point,
            "low": step.low,
            "shift": step.shift,
        }
        self.structure("add", name, fields)
        return f"add(&{name}, {self.at(step.left)}, {self.at(step.right)}, {self.at(step.out)});"

    @call.register
    def _(self, step: MaxPool) -> str:
        numbers = (
            step.source.samples,
            step.out.samples,
            step.out.channels,
            step.kernel,
            step.stride,
            step.pad,
        )
        return (
            f"max_pool({self.at(step.source)}, {self.at(step.out)}, {', '.join(f'{n}u' for n in numbers)});"
        )

    @call.register
    def _(self, step: MeanPool) -> str:
        name = self.unique(f"mean_{step.out.name}")
        fields = {
            "samples_out": f"{step.out.samples}u",
            "channels": f"{step.out.channels}u",
            "kernel": f"{step.kernel}u",
            "stride": f"{step.stride}u",
            "multiplier": step.rescale.multiplier,
            "zero_in": step.source.affine.zero_point,
            "zero_out": step.out.affine.zero_point,
            "low": step.low,
            "shift": step.rescale.shift,
        }
        self.structure("mean_pool", name, fields)
        return f"mean_pool(&{name}, {self.at(step.source)}, {self.at(step.out)});"

    @call.register
    def _(self, step: Move) -> str:
        name = self.unique(f"move_{step.source.name}_to_{step.out.name}")
        fields = {
            "samples": f"{step.source.samples}u",
            "channels": f"{step.source.channels}u",
            "channels_out": f"{step.out.channels}u",
            "multiplier": 0 if step.rescale is None else step.rescale.multiplier,
            "zero_in": step.source.affine.zero_point,
            "zero_out": step.out.affine.zero_point,
            "low": step.low,
            "shift": 0 if step.rescale is None else step.rescale.shift,
        }
        self.structure("move", name, fields)
        return f"move(&{name}, {self.at(step.source)}, {self.at(step.out)} + {step.channel});"

    def structure(self, kind: str, name: str, fields: Mapping[str, object]) -> None:
        """Add a layer's structure."""
        body = "\n".join(f"    .{key} = {value}," for key, value in fields.items())
        self.tables.append(f"static const {kind}_layer {name} = {{\n{body}\n}};")

    def at(self, tensor: Tensor | Sums) -> str:
        """Return where a tensor lies."""
        return f"arena->tensors + {self.plan.offsets[tensor.name]}"

    def sum_at(self, sums: Sums) -> str:
        """Return where sums lie."""
        return f"arena->sums + {self.plan.sums[sums.name]}"

    def unique(self, name: str) -> str:
        """Return a name of C that is not taken yet."""
        base = found = identifier(name)
        while found in self.names:
            found = f"{base}_{len(self.names)}"
        self.names.add(found)
        return found


def _channel_table(name: str, step: Convolution) -> str:
    """Return bias, multiplier and shift by channel; of sums there is the bias alone."""
    rescales = step.rescales or (Rescale(0, 0),) * len(step.bias)
    rows = [f"{{{b}, {r.multiplier}, {r.shift}}}," for b, r in zip(step.bias.tolist(), rescales, strict=True)]
    return "\n".join([f"static const channel_scale {name}[{len(rows)}] = {{", *wrapped(rows), "};"])


def _convolution_fields(step: Convolution) -> dict[str, object]:
    runs = runs_of(step)
    _, kernel, _ = step.weight.shape
    return {
        "samples_in": f"{step.source.samples}u",
        "samples_out": f"{step.samples_out}u",
        "channels_in": f"{step.source.channels}u",
        "channels_out": f"{step.out.channels}u",
        "groups": f"{step.groups}u",
        "stride": f"{step.stride}u",
        "pad": f"{step.pad}u",
        "reach": f"{(kernel - 1) * step.dilation + 1}u",
        "block": f"{block_of(step)}u",
        "runs": f"{runs.n}u",
        "fours": f"{runs.fours}u",
        "between": f"{runs.between}u",
        **_ends(step),
    }


def _depthwise_fields(step: Convolution) -> dict[str, object]:
    return {
        "samples_in": f"{step.source.samples}u",
        "samples_out": f"{step.samples_out}u",
        "channels_in": f"{step.source.channels}u",
        "channels_out": f"{step.out.channels}u",
        "kernel": f"{step.weight.shape[1]}u",
        "stride": f"{step.stride}u",
        "dilation": f"{step.dilation}u",
        "pad": f"{step.pad}u",
        **_ends(step),
    }


def _ends(step: Convolution) -> dict[str, object]:
    zero_out = step.out.affine.zero_point if isinstance(step.out, Tensor) else 0
    return {"zero_in": step.zero_in, "zero_out": zero_out, "low": step.low}


def _title(step: Step) -> str:
    name = f"{step.name}, convolution" if isinstance(step, Convolution) else type(step).__name__.lower()
    arms = [_shape(source) for source in sources(step)]
    return f"{name}: {' and '.join(arms)} -> {_shape(step.out)}"


def _shape(tensor: Tensor | Counts | Sums) -> str:
    if isinstance(tensor, Sums):
        return f"{tensor.name}, {tensor.channels} sums"
    return f"{tensor.name} {tensor.samples} x {tensor.channels}"


def _needed_kernels(program: Program) -> list[str]:
    numbers = [o for o in program.outputs if isinstance(o, NumberOutput)]
    needed = {"common", "rescale", *(_kernel_of(step) for step in program.steps)}
    needed |= {"number"} if numbers else set()
    needed |= {"sigmoid"} if any(o.sigmoid for o in numbers) else set()
    return [name for name in _KERNELS if name in needed]


def _kernel_of(step: Step) -> str:
    if isinstance(step, Convolution):
        return "depthwise" if step.depthwise else "convolution"
    return {Quantize: "quantize", Add: "add", MaxPool: "max_pool", MeanPool: "mean_pool", Move: "move"}[
        type(step)
    ]


def _kernel(name: str) -> str:
    return files("ecgedge_export.mcu").joinpath("kernels").joinpath(f"{name}.c").read_text("utf-8").strip()


def _head(program: Program, prefix: str) -> str:
    return (
        f"/* {prefix}: an ECG network in integers; made by ecgedge, not by hand. {RESEARCH_USE_ONLY}\n"
        f" *\n * Leads {', '.join(program.leads)}; {program.macs} multiplications a window. Weights are int8, tensors "
        f"{number_type(program)[:-2]}:\n * sample by sample (samples x channels), value = scale * (q - zero point).\n"
        " * A sum of 32 bits becomes one of their numbers by a multiplier and a shift, rounded half to even.\n"
        " * No division, no floating point, no allocation.\n */"
    )


def _numbers(program: Program) -> str:
    low, high = program.integers.low, program.integers.high
    return (
        f"/* A tensor's number, the smallest and the largest. */\ntypedef {number_type(program)} element;\n"
        f"#define ELEMENT_MIN ({low})\n#define ELEMENT_MAX {high}"
    )


def _run_function(program: Program, emitter: _Emitter) -> str:
    prefix = emitter.prefix
    lines = [
        f"void {prefix}_run(const int16_t *counts, {prefix}_arena *arena, {prefix}_outputs *outputs)",
        "{",
        "\n".join(emitter.calls),
    ]
    for output in program.outputs:
        name = identifier(output.name)
        if isinstance(output, NumberOutput):
            at = f"arena->sums[{emitter.plan.sums[output.sums.name] + output.index}]"
            call = f"number({at}, {output.multiplier}, {output.shift}, {output.offset})"
            lines.append(f"    outputs->{name} = {f'sigmoid({call})' if output.sigmoid else call};")
        else:
            lines.append(
                f"    (void)memcpy(outputs->{name}, {emitter.at(output.tensor)}, sizeof outputs->{name});"
            )
    return "\n".join([*lines, "}"])


def wrapped(values: Sequence[str]) -> Iterable[str]:
    """Yield words in lines of C."""
    line = "   "
    for value in values:
        if len(line) + len(value) + 1 > _WIDTH:
            yield line
            line = "   "
        line += f" {value}"
    yield line
