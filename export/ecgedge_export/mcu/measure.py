"""The C on a Cortex-M4 as QEMU has it: its answers, its instructions, its size. Nothing is timed.

With `-icount shift=5` QEMU lets 32 ns pass for every instruction, and SysTick counts the board's 25 MHz: a tick is
1.25 instructions. A loop of 2,000,000 instructions in the same image says whether that still holds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgedge.errors import EngineError
from ecgedge_export.mcu.source import McuSource

COMPILER = "arm-none-eabi-gcc"
EMULATOR = "qemu-system-arm"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion")
FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-O2")
INSTRUCTIONS_PER_TICK = 40 / 32
KNOWN_INSTRUCTIONS = 2_000_000
CLOCK_HZ = 100_000_000
"""Of the real-time factor that is computed out of the instructions."""
_TIMEOUT_S = 600


@dataclass(frozen=True)
class McuRun:
    """What the network did on the emulated processor.

    Attributes
    ----------
    outputs
        One structure a window, as `McuSource.output_type`.
    instructions
        One number a window.
    text_bytes
        Of the network's object file: code and constants.
    compiler, emulator
        Names with versions.
    """

    outputs: NDArray[np.void]
    instructions: tuple[int, ...]
    text_bytes: int
    compiler: str
    emulator: str

    def real_time_factor(self, window_s: float) -> float:
        """Return the share of a window's duration that a Cortex-M4 of 100 MHz computes, at one instruction a cycle."""
        return max(self.instructions) / CLOCK_HZ / window_s


def can_measure() -> bool:
    """Whether the compiler and the emulator are there."""
    return shutil.which(COMPILER) is not None and shutil.which(EMULATOR) is not None


def run_on_cortex_m4(source: McuSource, counts: NDArray[np.int16], *, flags: Sequence[str] = FLAGS) -> McuRun:
    """Compile a network and run it on (n, T, K) counts under QEMU.

    Raises
    ------
    EngineError
        If it does not compile or run, or the emulator does not count as expected.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text_bytes = _build(source, folder, flags)
        np.ascontiguousarray(counts, "<i2").tofile(folder / "windows.bin")
        _run(
            [EMULATOR, "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none",
             "-icount", "shift=5", "-semihosting-config", "enable=on,target=native", "-kernel", "image.elf"],
            folder,
        )  # fmt: skip
        known, *ticks = np.fromfile(folder / "ticks.bin", "<u8").tolist()
        outputs = np.fromfile(folder / "outputs.bin", source.output_type)
    if abs(known * INSTRUCTIONS_PER_TICK - KNOWN_INSTRUCTIONS) > 100 or len(ticks) != len(counts):
        raise EngineError(
            f"{EMULATOR} gave {known} ticks for {KNOWN_INSTRUCTIONS} instructions and {len(ticks)} of {len(counts)} "
            "windows; its counts cannot be used"
        )
    return McuRun(
        outputs=outputs,
        instructions=tuple(round(n * INSTRUCTIONS_PER_TICK) for n in ticks),
        text_bytes=text_bytes,
        compiler=_version(COMPILER),
        emulator=_version(EMULATOR),
    )


def _build(source: McuSource, folder: Path, flags: Sequence[str]) -> int:
    """Build the image; return the bytes of the network in flash."""
    prefix, firmware = source.prefix, files("ecgedge_export.mcu").joinpath("firmware")
    texts = {f"{prefix}.c": source.c, f"{prefix}.h": source.header, "run_windows.c": source.on_board()}
    texts |= {n: firmware.joinpath(n).read_text("utf-8") for n in ("board.c", "board.h", "mps2_an386.ld")}
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    compiled = [COMPILER, *flags, *WARNINGS]
    _run([*compiled, "-c", f"{prefix}.c", "-o", "network.o"], folder)
    link = ["-nostartfiles", "-specs=nosys.specs", "-T", "mps2_an386.ld"]
    _run([*compiled, *link, "network.o", "run_windows.c", "board.c", "-o", "image.elf"], folder)
    sizes = _run(["arm-none-eabi-size", "network.o"], folder).splitlines()[1].split()
    return int(sizes[0]) + int(sizes[1])


def _version(program: str) -> str:
    line = _run([program, "--version"], Path.cwd()).splitlines()[0]
    found = re.search(r"\d+\.\d+[\d.]*", line.split(")")[-1] if program == COMPILER else line)
    return f"{program} {found.group() if found else line}"


def _run(command: Sequence[str], folder: Path) -> str:
    """Return what a program of the toolchain prints."""
    try:
        done = subprocess.run(  # noqa: S603 - the system's own toolchain on files of ours, no shell
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{command[0]}: {error}; needs gcc-arm-none-eabi and qemu-system-arm") from error
    if done.returncode != 0:
        raise EngineError(
            f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        )
    return done.stdout
