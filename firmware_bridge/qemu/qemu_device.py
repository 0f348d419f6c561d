"""Builds the firmware, gives it a record and faults, and runs it in QEMU with its UART on a TCP port.

Research use only. Needs qemu-system-arm, arm-none-eabi-gcc, newlib's headers and make.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HERE: Final = Path(__file__).parent
PROGRAMS: Final = ("qemu-system-arm", "arm-none-eabi-gcc", "make")
LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""Channels of the device, as they stand on the wire; III, aVR, aVL and aVF follow from I and II."""

LEAD_CODES: Final = {"I": 1, "II": 2, "V1": 7, "V2": 8, "V3": 9, "V4": 10, "V5": 11, "V6": 12}
MAGIC: Final = 0x31424545
ADDRESS: Final = 0x21000000
MAX_SAMPLES_PER_FRAME: Final = 25
TERMINAL_S: Final = 10.0
NEVER: Final = 0xFFFFFFFF
COUNTED_TIME: Final = ("-icount", "shift=5,sleep=off")
"""Each instruction takes 32 ns, and time jumps while the core sleeps: as fast as the host can, and the same each time.
Without it the device's clock is the host's."""

_STEPPED: Final = 1
_HEAD: Final = struct.Struct("<15Ii7I8s")


@dataclass(frozen=True, kw_only=True)
class LineFaults:
    """Faults of one direction of the line, each a probability a byte.

    Attributes
    ----------
    dropped
        That it is lost.
    flipped
        That one of its bits is another one.
    """

    dropped: float = 0.0
    flipped: float = 0.0


def electrode_off(electrode: str) -> int:
    """Return `lead_off` as in DATA when an electrode is off: RA, LA, LL or V1 to V6.

    I is LA less RA, II is LL less RA, each V is against the mean of the three, as in an ADS1298; its lead-off
    comparators say nothing about the mean, so a limb electrode shows in I and II only.
    """
    positive, negative = {"RA": ("", "I II"), "LA": ("I", ""), "LL": ("II", "")}.get(
        electrode, (electrode, "")
    )
    bits = [1 << LEADS.index(lead) for lead in positive.split()]
    bits += [1 << 16 + LEADS.index(lead) for lead in negative.split()]
    return sum(bits)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a run plays and which faults it has; scenario.h says the same.

    Attributes
    ----------
    counts
        The record, (samples, 8), in the order of `LEADS`; within 24 bits. It begins again after its last sample.
    play_samples
        Samples of the record that pass in all; None: once through.
    lsb_pv
        Worth of a count in picovolts.
    stepped
        The line paces the samples, not the clock: QEMU runs as fast as it can, and nothing has to be dropped.
    reset_at, reset_gap
        Sample of the record at which the chip resets, and the samples that pass until it is back.
    drift_ppm
        How much too fast the device's clock is.
    lead_off, lead_off_from, lead_off_to
        As in DATA (`electrode_off`), and the samples of the record while it is so.
    ack_after_ms
        A user presses the button that long after an alarm's signal.
    wait_results, linger_ms
        After its last sample the device listens until so many results have come, and then for that long. It waits for
        ever for results that were lost, or never made because its last samples were.
    """

    counts: NDArray[np.int32]
    play_samples: int | None = None
    rate_hz: int = 500
    samples_per_frame: int = 10
    lsb_pv: int = 500_000
    gain: float = 6.0
    seed: int = 1
    stepped: bool = False
    sent: LineFaults = field(default_factory=LineFaults)
    received: LineFaults = field(default_factory=LineFaults)
    reset_at: int | None = None
    reset_gap: int = 0
    drift_ppm: int = 0
    lead_off: int = 0
    lead_off_from: int = 0
    lead_off_to: int = 0
    ack_after_ms: int | None = None
    ping_every_ms: int | None = None
    wait_results: int = 0
    linger_ms: int = 0

    def pack(self) -> bytes:
        """Return what QEMU's loader puts into the device's RAM.

        Raises
        ------
        ValueError
            When the record is no (samples, 8) array, a count does not fit 24 bits, or a frame is too long.
        """
        counts = np.asarray(self.counts)
        if counts.ndim != 2 or counts.shape[1] != len(LEADS) or not len(counts):
            raise ValueError(f"the record has the shape {counts.shape}; expected (samples, {len(LEADS)})")
        if counts.min() < -(1 << 23) or counts.max() >= 1 << 23:
            raise ValueError("the record has counts beyond 24 bits; use a larger lsb_pv")
        if not 1 <= self.samples_per_frame <= MAX_SAMPLES_PER_FRAME:
            raise ValueError(
                f"{self.samples_per_frame} samples a frame; expected 1 to {MAX_SAMPLES_PER_FRAME}"
            )
        play = len(counts) if self.play_samples is None else self.play_samples
        faults = [
            round(p * 1e6)
            for line in (self.sent, self.received)
            for p in (line.dropped, line.flipped)
        ]  # fmt: skip
        head = _HEAD.pack(
            MAGIC, _STEPPED if self.stepped else 0, len(counts), play, self.rate_hz, self.samples_per_frame,
            self.lsb_pv, round(self.gain * 100), self.seed, *faults, _or_never(self.reset_at), self.reset_gap,
            self.drift_ppm, self.lead_off, self.lead_off_from, self.lead_off_to, _or_never(self.ack_after_ms),
            _or_never(self.ping_every_ms), self.wait_results, self.linger_ms, bytes(LEAD_CODES[lead] for lead in LEADS),
        )  # fmt: skip
        return head + counts.astype("<i4").tobytes()


def build(folder: Path) -> Path:
    """Build the image into a folder and return its file.

    Raises
    ------
    RuntimeError
        With what the compiler said.
    """
    command = ["make", "-C", str(HERE), f"BUILD={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return folder / "firmware.elf"


def run_alone(image: Path, scenario: Scenario, *, folder: Path) -> dict[str, Any]:
    """Run to the end with nobody at the line, in counted time: the same report each time, on any machine.

    Raises
    ------
    RuntimeError
        When it ended with a fault, with what QEMU said.
    """
    loaded, report = folder / "scenario.bin", folder / "report.json"
    loaded.write_bytes(scenario.pack())
    command = [*_machine(image, loaded, report), *COUNTED_TIME, "-serial", "null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300.0)
    return _read_report(done.returncode, report, done.stdout + done.stderr)


class QemuDevice:
    """A running device: a context manager, which ends QEMU when it is left.

    Attributes
    ----------
    port
        TCP port of 127.0.0.1 on which the UART listens; 0 where it is a terminal. The device has power from the moment
        somebody connects.
    terminal
        The UART as a pseudo-terminal, where that was asked for, else None. The device has power at once; what it sends
        before somebody opens the terminal is lost.
    """

    def __init__(self, image: Path, scenario: Scenario, *, folder: Path, terminal: bool = False) -> None:
        """Start QEMU; `folder` takes the scenario and the report."""
        loaded = folder / "scenario.bin"
        loaded.write_bytes(scenario.pack())
        self._report = folder / "report.json"
        self._log = (folder / "qemu.log").open("w+b")
        self.port = 0
        self.terminal: str | None = None
        command = [*_machine(image, loaded, self._report), *(COUNTED_TIME if scenario.stepped else ())]
        if terminal:
            self._start([*command, "-chardev", "pty,id=uart", "-serial", "chardev:uart"])
            self.terminal = self._find_terminal()
            return
        # A socket that listens already: no port to guess, and who connects early waits.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            # QEMU writes byte by byte: in real time each goes at once, as on a UART; else TCP may gather them.
            at_once = "off" if scenario.stepped else "on"
            line = f"socket,id=uart,fd={listening.fileno()},server=on,wait=on,nodelay={at_once}"
            self._start([*command, "-chardev", line, "-serial", "chardev:uart"], listening.fileno())

    def _start(self, command: list[str], *kept: int) -> None:
        self._process = subprocess.Popen(
            command, pass_fds=kept, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )

    def _find_terminal(self) -> str:
        end_s = time.monotonic() + TERMINAL_S
        while time.monotonic() < end_s:
            self._log.seek(0)
            found = re.search(rb"redirected to (\S+)", self._log.read())
            if found:
                return found[1].decode()
            time.sleep(0.02)
        self.close()
        raise RuntimeError(f"QEMU has opened no terminal within {TERMINAL_S:g} s")

    @property
    def address(self) -> str:
        """What stands between `tcp://` (or `serial:`) and `?` in a feed's URI."""
        return self.terminal or f"127.0.0.1:{self.port}"

    def report(self, *, timeout_s: float | None = 30.0) -> dict[str, Any]:
        """Wait until the device is done, and return what it says of itself.

        Raises
        ------
        RuntimeError
            When it ended with a fault, with what QEMU said.
        """
        code = self._process.wait(timeout_s)
        self._log.seek(0)
        return _read_report(code, self._report, self._log.read().decode(errors="replace"))

    def close(self) -> None:
        """End QEMU; safe to call twice."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()

    def __enter__(self) -> QemuDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _machine(image: Path, loaded: Path, report: Path) -> list[str]:
    return [
        "qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-nodefaults", "-net", "none",
        "-kernel", os.fspath(image),
        "-device", f"loader,file={loaded},addr={ADDRESS:#x},force-raw=on",
        "-chardev", f"file,id=console,path={report}",
        "-semihosting-config", "enable=on,target=native,chardev=console",
    ]  # fmt: skip


def _read_report(code: int, path: Path, said: str) -> dict[str, Any]:
    text = path.read_text("utf-8") if path.exists() else ""
    if code:
        raise RuntimeError(f"the firmware ended with code {code}; QEMU said: {said + text or 'nothing'}")
    report: dict[str, Any] = json.loads(text)
    return report


def _or_never(value: int | None) -> int:
    return NEVER if value is None else value
