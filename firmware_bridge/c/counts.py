"""Instructions a frame takes on a Cortex-M4: counts.c under QEMU. Standard library, arm-none-eabi-gcc, qemu-system-arm.

QEMU's mps2-an386 with `-icount shift=5` takes 32 ns for every instruction and its SysTick counts at 25 MHz, so that the
ticks are instructions, the same at every run on any machine. They are no cycles: a real core waits for memory and for
its own pipeline. Frames are DATA of 8 channels x 10 samples of 24 bits, and RESULT.

    python counts.py
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-std=c99", "-mcpu=cortex-m4", "-mthumb", "-nostartfiles")
MACHINE = (
    *("-M", "mps2-an386", "-icount", "shift=5", "-semihosting"),
    *("-nographic", "-monitor", "none", "-serial", "none"),
)
INSTRUCTION_NS = 32
TICK_NS = 40
OPTIMIZATIONS = ("-Os", "-O2")


def run_image(*words: str) -> dict[str, int]:
    """Build an image from a compiler's words, run it, and return instructions a frame by what was done."""
    with tempfile.TemporaryDirectory() as folder:
        image = str(Path(folder) / "counts.elf")
        subprocess.run(
            ["arm-none-eabi-gcc", *FLAGS, f"-I{HERE}", f"-T{HERE / 'counts.ld'}", *words, "-o", image],
            check=True,
        )
        done = subprocess.run(
            ["qemu-system-arm", *MACHINE, "-kernel", image],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"the image ended with {done.returncode}: {done.stdout}{done.stderr}")
    rows = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    return {name: round(int(ticks) * TICK_NS / INSTRUCTION_NS / int(frames)) for name, ticks, frames in rows}


def count(optimization: str) -> dict[str, int]:
    """Return what the library takes."""
    sources = [str(HERE / name) for name in ("counts.c", "eeb.c")]
    return run_image(
        optimization, "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", *sources, "-lgcc"
    )


def main() -> None:
    """Count and print."""
    for optimization in OPTIMIZATIONS:
        for name, value in count(optimization).items():
            print(f"{optimization} {name:14} {value:6} instructions a frame")


if __name__ == "__main__":
    main()
