"""The header: what the firmware has to know, all of it from the program."""

from __future__ import annotations

from ecgedge.bundle import RESEARCH_USE_ONLY
from ecgedge_export.mcu.arena import ArenaPlan, plan_arena
from ecgedge_export.mcu.emit import constant_bytes, identifier, number_type
from ecgedge_export.mcu.program import NumberOutput, Program, VectorOutput


def emit_header(program: Program, prefix: str, *, notes: tuple[str, ...] = ()) -> str:
    """Return the header; `notes` are lines for its head."""
    plan, guard = plan_arena(program), f"{prefix.upper()}_H"
    parts = [
        _head(program, prefix, plan, notes),
        f"#ifndef {guard}\n#define {guard}",
        "#include <stdint.h>",
        '#ifdef __cplusplus\nextern "C" {\n#endif',
        _defines(program, prefix.upper(), plan),
        _arena(program, prefix, plan),
        _outputs(program, prefix),
        _function(prefix),
        "#ifdef __cplusplus\n}\n#endif",
        f"#endif /* {guard} */",
    ]
    return "\n\n".join(parts) + "\n"


def _head(program: Program, prefix: str, plan: ArenaPlan, notes: tuple[str, ...]) -> str:
    lines = [
        f"{prefix}: an ECG network in integers; made by ecgedge, not by hand. {RESEARCH_USE_ONLY}",
        *notes,
        "",
        f"Input: {program.counts.samples} samples of {', '.join(program.leads)}, sample by sample,",
        f"at {program.rate_hz:g} Hz, as int16 counts of {program.lsb_mv!r} mV behind the front end",
        "(resampling, filters and clipping are the caller's).",
        f"RAM: {plan.ram_bytes} bytes of arena, {2 * program.counts.samples * len(program.leads)} of counts. Flash: "
        f"{constant_bytes(program)} bytes of constants, and the code.",
        f"Work: {program.macs} multiplications a window.",
    ]
    return "/* " + "\n".join(f" * {line}".rstrip() for line in lines).removeprefix(" * ") + "\n */"


def _defines(program: Program, upper: str, plan: ArenaPlan) -> str:
    lines = [
        ("SAMPLES", f"{program.counts.samples}u", "per lead in a window"),
        ("LEADS", f"{len(program.leads)}u", ", ".join(program.leads)),
        ("RATE_MHZ", f"{round(program.rate_hz * 1000)}u", "samples per second and lead, in thousandths"),
        ("COUNTS_PER_MV", f"{1 / program.lsb_mv:g}", ""),
        ("ARENA_BYTES", f"{plan.tensor_bytes}u", "planned by liveness, without strip and sums"),
        ("CONSTANT_BYTES", f"{constant_bytes(program)}u", "weights, biases, scales, tables"),
        ("MACS", f"{program.macs}u", "multiplications a window"),
    ]
    for output in program.outputs:
        name = identifier(output.name).upper()
        if isinstance(output, VectorOutput):
            affine = output.tensor.affine
            lines += [
                (f"{name}_SIZE", f"{output.tensor.size}u", "numbers"),
                (f"{name}_SCALE", f"{affine.scale!r}", "value = scale * (q - zero point)"),
                (f"{name}_ZERO_POINT", f"({affine.zero_point})", ""),
            ]
        else:
            lines.append((f"{name}_PER_UNIT", f"{output.per_unit}u", "value = q / this"))
    return "\n".join(
        f"#define {upper}_{key} {value}" + (f" /* {why} */" if why else "") for key, value, why in lines
    )


def _arena(program: Program, prefix: str, plan: ArenaPlan) -> str:
    return (
        "/* Memory of a run; the caller owns it and may use it for something else between two runs. */\n"
        f"typedef struct {{\n    int32_t sums[{max(1, plan.n_sums)}];\n"
        f"    int16_t strip[{max(2, plan.strip_numbers)}];\n"
        f"    {number_type(program)} tensors[{plan.size}];\n}} {prefix}_arena;"
    )


def _outputs(program: Program, prefix: str) -> str:
    lines = []
    for output in program.outputs:
        name = identifier(output.name)
        if isinstance(output, VectorOutput):
            lines.append(f"    {number_type(program)} {name}[{output.tensor.size}];")
        else:
            lines.append(_number(output, name))
    return "/* What a window gives. */\ntypedef struct {\n" + "\n".join(lines) + f"\n}} {prefix}_outputs;"


def _number(output: NumberOutput, name: str) -> str:
    if output.sigmoid:
        return f"    uint16_t {name}; /* 65,535ths, within 3e-5 of the sigmoid */"
    return f"    int32_t {name}; /* in {output.per_unit}ths of its unit */"


def _function(prefix: str) -> str:
    return (
        "/* Run the network on one window. Any counts are allowed: what is out of the network's range is clamped. It\n"
        " * keeps nothing from one run to the next and cannot fail; what it takes hardly depends on the counts. */\n"
        f"void {prefix}_run(const int16_t *counts, {prefix}_arena *arena, {prefix}_outputs *outputs);"
    )
