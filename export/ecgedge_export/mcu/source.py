"""All C files of one variant: the network, its header, its self-test, an example with the bridge, and how to build."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import onnx
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge.leads import format_lead_set
from ecgedge_export.mcu.arena import plan_arena
from ecgedge_export.mcu.emit import constant_bytes, emit_c, identifier, wrapped
from ecgedge_export.mcu.header import emit_header
from ecgedge_export.mcu.lowering import lower
from ecgedge_export.mcu.program import NumberOutput, Program, VectorOutput
from ecgedge_export.mcu.reference import run

_NAME = re.compile(r"\bmodel(?=\.[ch]\b|_(?:arena|outputs|run|same|windows|expected|vectors|network)\b)")
_CONSTANT = re.compile(r"\bMODEL(?=_(?:SAMPLES|LEADS|VECTORS)\b)")
"""What the files in firmware/ call the network."""


@dataclass(frozen=True)
class McuSource:
    """A network in C.

    Attributes
    ----------
    prefix
        Begins its public names and its files: "ecg_i_ii".
    """

    prefix: str
    program: Program
    c: str
    header: str

    @classmethod
    def of(cls, model: onnx.ModelProto, *, lsb_mv: float, notes: tuple[str, ...] = ()) -> McuSource:
        """Return the C of an INT8 file; `notes` stand at the head of its header.

        Raises
        ------
        EngineError
            See `lowering.lower`.
        """
        program = lower(model, lsb_mv=lsb_mv)
        prefix = f"ecg_{identifier(format_lead_set(program.leads))}"
        return cls(prefix, program, emit_c(program, prefix), emit_header(program, prefix, notes=notes))

    @property
    def arena_bytes(self) -> int:
        """RAM of a run: tensors, strip and sums."""
        return plan_arena(self.program).ram_bytes

    @property
    def counts_bytes(self) -> int:
        """RAM of the window that the caller keeps."""
        return 2 * self.program.counts.samples * self.program.counts.channels

    @property
    def constant_bytes(self) -> int:
        """Flash of the constants."""
        return constant_bytes(self.program)

    @property
    def output_type(self) -> np.dtype[np.void]:
        """The C structure of the outputs, as numpy reads it."""
        fields = [(output.name, *_field(output)) for output in self.program.outputs]
        return np.dtype(fields, align=True)

    def expected(self, counts: NDArray[np.int16]) -> NDArray[np.void]:
        """Return what the reference gives for (n, T, K) counts, as `output_type`."""
        found = np.zeros(len(counts), self.output_type)
        for row, window in zip(found, counts, strict=True):
            for name, numbers in run(self.program, window).items():
                row[name] = numbers if row[name].shape else numbers[0]
        return found

    def files(self, counts: NDArray[np.int16]) -> dict[str, str]:
        """Return all files by name; the self-test holds the (n, T, K) counts given and the reference's answers."""
        return {
            f"{self.prefix}.c": self.c,
            f"{self.prefix}.h": self.header,
            f"{self.prefix}_vectors.h": self._vectors(counts),
            "selftest.c": self._filled("selftest.c"),
            "bridge_example.c": self._bridge_example(),
            "CMakeLists.txt": self._filled("CMakeLists.txt"),
        }

    def on_board(self) -> str:
        """Return the program that runs windows on QEMU's board."""
        return self._filled("run_windows.c")

    def _filled(self, name: str) -> str:
        """Return a file of the package, with this network's names."""
        text = files("ecgedge_export.mcu").joinpath("firmware").joinpath(name).read_text("utf-8")
        return _CONSTANT.sub(self.prefix.upper(), _NAME.sub(self.prefix, text))

    def _vectors(self, counts: NDArray[np.int16]) -> str:
        rows = "\n".join(_row(row) for row in self.expected(counts))
        numbers = "\n".join(wrapped([f"{value}," for value in counts.ravel()]))
        upper = self.prefix.upper()
        return (
            f"/* Windows and what {self.prefix}_run() must give for them, integer by integer. */\n"
            f'#include <string.h>\n\n#include "{self.prefix}.h"\n\n#define {upper}_VECTORS {len(counts)}u\n\n'
            f"static const int16_t {self.prefix}_windows[{counts.size}] = {{\n{numbers}\n}};\n\n"
            f"static const {self.prefix}_outputs {self.prefix}_expected[{len(counts)}] = {{\n{rows}\n}};\n\n"
            f"{self._comparison()}"
        )

    def _comparison(self) -> str:
        """Return a function that compares outputs; a structure as a whole has bytes that mean nothing."""
        same = [
            f"(a->{name} == b->{name})"
            if isinstance(output, NumberOutput)
            else f"(memcmp(a->{name}, b->{name}, sizeof a->{name}) == 0)"
            for output in self.program.outputs
            for name in [identifier(output.name)]
        ]
        return (
            f"static inline int {self.prefix}_same(const {self.prefix}_outputs *a, const {self.prefix}_outputs *b)\n"
            "{\n    return " + " &&\n           ".join(same) + ";\n}\n"
        )

    def _bridge_example(self) -> str:
        names = {output.name for output in self.program.outputs}
        lines = []
        if "mpcwp_mmhg" in names:
            lines.append("    result.mpcwp_cmmhg = within_int16(outputs->mpcwp_mmhg);")
        if "p_gt_18" in names:
            lines.append("    result.p_elevated = outputs->p_gt_18;")
        filled = self._filled("bridge_example.c")
        if not lines:
            filled = re.sub(r"/\* A pressure .*?\n}\n\n", "", filled, flags=re.DOTALL)
            lines.append("    (void)outputs; /* none of them has a place in a RESULT */")
        return filled.replace("    /* outputs */", "\n".join(lines))


def _field(
    output: VectorOutput | NumberOutput,
) -> tuple[type[np.generic], ...] | tuple[type[np.generic], int]:
    if isinstance(output, VectorOutput):
        return output.tensor.integers.dtype, output.tensor.size
    return (np.uint16,) if output.sigmoid else (np.int32,)


def _row(row: np.void) -> str:
    """Return a structure's initializer."""
    if row.dtype.names is None:
        raise EngineError(f"{row.dtype} is no structure")
    parts: list[str] = []
    for name in row.dtype.names:
        value = row[name]
        parts += [f"{{{', '.join(map(str, value))}}}," if value.shape else f"{value},"]
    return "\n".join(_broken(f"{{{' '.join(parts)}}},"))


def _broken(text: str) -> Iterator[str]:
    yield from wrapped(text.split(" "))
