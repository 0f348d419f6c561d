"""Instructions that the example firmware takes a second of ECG, on an emulated Cortex-M4.

All that firmware_bridge/qemu does while it sends 8 channels of 24 bits at 500 Hz, 10 samples a frame: its interrupts,
the frames, the line (of the C library alone: benchmarks/firmware_size.py). QEMU lets each instruction take the same
time, so the numbers are the same on any machine with the same compiler. They are no cycles: a real core waits for its
memory. The patient is SIMULATED.

    python benchmarks/firmware_qemu.py [--out benchmarks/results/firmware_qemu.json]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import common
import numpy as np
import typer

from ecgedge.leads import STANDARD_LEADS
from ecgedge.sim import Simulator

QEMU = Path(__file__).parents[1] / "firmware_bridge" / "qemu"
SECONDS = 6
RATE_HZ = 500
LSB_NV = 500.0
INSTRUCTION_NS, TICK_NS = 32, 40
"""Of `-icount shift=5`, and of the board's 25 MHz."""


def main(out: Annotated[Path | None, typer.Option(help="Write the result here as JSON.")] = None) -> None:
    """Count, print and write."""
    counted = count()
    print(
        f"{counted['instructions_a_second'] / 1e6:.3f} million instructions a second, "
        f"{counted['instructions_a_frame']:.0f} a frame"
    )
    if out is not None:
        versions = {name: version(name) for name in ("arm-none-eabi-gcc", "qemu-system-arm")}
        common.write_json(
            out, {"benchmark": "firmware_qemu", **common.machine("numpy"), **versions, "counted": counted}
        )


def count() -> dict[str, Any]:
    """Run the firmware with nobody at the line."""
    sys.path.append(str(QEMU))
    from qemu_device import LEADS, Scenario, build, run_alone

    rows = [STANDARD_LEADS.index(lead) for lead in LEADS]
    samples_mv = Simulator("stable", seed=1, rate_hz=float(RATE_HZ)).read(SECONDS * RATE_HZ)[rows]
    record = np.round(samples_mv.T / (LSB_NV * 1e-6)).astype(np.int32)
    with tempfile.TemporaryDirectory() as name:
        report = run_alone(build(Path(name) / "build"), Scenario(counts=record), folder=Path(name))
    instructions = report["clock"]["awake_ticks"] * TICK_NS / INSTRUCTION_NS
    return {
        "seconds": SECONDS,
        "frames": report["sent"]["data"],
        "instructions_a_second": instructions / SECONDS,
        "instructions_a_frame": instructions / report["sent"]["data"],
    }


def version(program: str) -> str:
    """Return what a program says of itself first."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0]


if __name__ == "__main__":
    typer.run(main)
