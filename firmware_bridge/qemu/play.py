"""Plays a recording through the firmware under QEMU, for a person with two terminals. Research use only.

    python firmware_bridge/qemu/play.py [RECORDING] [--dropped 0.0001] [--electrode V3 --off-s 10 --on-s 20] ...

RECORDING is any that ecgedge reads and that has the leads I, II, V1 to V6; without one a SIMULATED patient is played.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from qemu_device import LEADS, LineFaults, QemuDevice, Scenario, build, electrode_off

from ecgedge.leads import STANDARD_LEADS
from ecgedge.records import read
from ecgedge.signal.resample import Resampler
from ecgedge.sim import Simulator

RATE_HZ = 500
LSB_PV = 47_684
"""One count of an ADS1298 with a gain of 6 and 2.4 V: 2.4 V / 6 / 2**23."""


def main(
    recording: Annotated[Path | None, typer.Argument(help="A file that ecgedge reads.")] = None,
    seconds: Annotated[int, typer.Option(help="How long to play; a recording begins again at its end.")] = 60,
    dropped: Annotated[float, typer.Option(help="Share of the bytes to the host that are lost.")] = 0.0,
    flipped: Annotated[float, typer.Option(help="Share of them in which a bit is changed.")] = 0.0,
    reset_s: Annotated[float | None, typer.Option(help="When the chip resets.")] = None,
    drift_ppm: Annotated[int, typer.Option(help="By how much the device's clock is too fast.")] = 0,
    electrode: Annotated[str | None, typer.Option(help="Which one is off: RA, LA, LL, V1 to V6.")] = None,
    off_s: Annotated[float, typer.Option(help="From when on it is off.")] = 10.0,
    on_s: Annotated[float, typer.Option(help="When it is on again.")] = 20.0,
    button_ms: Annotated[
        int | None, typer.Option(help="After an alarm, when a user presses the button.")
    ] = None,
    terminal: Annotated[bool, typer.Option(help="A pseudo-terminal instead of a TCP port.")] = False,
    seed: Annotated[int, typer.Option(help="Of what happens by chance.")] = 1,
) -> None:
    """Start the device, say how to listen to it, and print its report when it is done."""
    scenario = Scenario(
        counts=simulated(seconds) if recording is None else recorded(recording),
        play_samples=seconds * RATE_HZ,
        lsb_pv=LSB_PV,
        seed=seed,
        sent=LineFaults(dropped=dropped, flipped=flipped),
        reset_at=None if reset_s is None else round(reset_s * RATE_HZ),
        reset_gap=RATE_HZ // 2,
        drift_ppm=drift_ppm,
        lead_off=0 if electrode is None else electrode_off(electrode),
        lead_off_from=round(off_s * RATE_HZ),
        lead_off_to=round(on_s * RATE_HZ),
        ack_after_ms=button_ms,
        linger_ms=1000,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with QemuDevice(build(folder / "build"), scenario, folder=folder, terminal=terminal) as device:
            power = "now" if terminal else "from the moment somebody connects"
            typer.echo(f"The device has power {power} (research use only):")
            scheme = "serial:" if terminal else "tcp://"
            typer.echo(f'  ecgedge stream --feed "{scheme}{device.address}?mode=demo" --sink bridge')
            typer.echo(json.dumps(device.report(timeout_s=None), indent=1))


def simulated(seconds: int) -> NDArray[np.int32]:
    """Return a simulated patient as counts (samples, 8)."""
    samples_mv = Simulator("stable", seed=1, rate_hz=float(RATE_HZ)).read(seconds * RATE_HZ)
    return to_counts(samples_mv[[STANDARD_LEADS.index(lead) for lead in LEADS]])


def recorded(path: Path) -> NDArray[np.int32]:
    """Return a recording as counts (samples, 8) at 500 Hz.

    Raises
    ------
    typer.BadParameter
        When a lead is missing or has holes.
    """
    recording = read(path)
    if missing := [lead for lead in LEADS if lead not in recording.leads]:
        raise typer.BadParameter(
            f"{path} has no lead {', '.join(missing)}; the device sends {', '.join(LEADS)}"
        )
    samples_mv = recording.samples_mv[[recording.leads.index(lead) for lead in LEADS]]
    if not np.isfinite(samples_mv).all():
        raise typer.BadParameter(f"{path} has holes; the device has no way to play them")
    rate_hz = recording.rate_hz
    resampler = Resampler(
        n_leads=len(LEADS), rate_in_hz=rate_hz, rate_out_hz=RATE_HZ, pass_hz=0.3 * min(rate_hz, RATE_HZ)
    )
    return to_counts(resampler.push(samples_mv)[0])


def to_counts(samples_mv: NDArray[np.floating]) -> NDArray[np.int32]:
    """Return (8, samples) millivolts as counts (samples, 8)."""
    counts: NDArray[np.int32] = np.round(samples_mv.T / (LSB_PV * 1e-9)).astype(np.int32)
    return counts


if __name__ == "__main__":
    typer.run(main)
