"""The firmware under QEMU, for tests: what it needs, and the real record that it plays."""

import contextlib
import itertools
import socket
from pathlib import Path

import needs
import numpy as np
from qemu_device import LEADS, PROGRAMS, QemuDevice, Scenario, build
from scipy.io import loadmat

from ecgedge.signal.resample import Resampler
from ecgedge_bridge import Decoder, cobs, to_wire
from ecgedge_bridge.crc import crc32c

LSB_PV = 47_684
"""One count of an ADS1298 with a gain of 6 and 2.4 V: 2.4 V / 6 / 2**23."""

RATE_HZ = 500
_RECORD = Path("ptbdb_15lead") / "patient165_s0322lre.mat"
_ROWS = [0, 1, 6, 7, 8, 9, 10, 11]
"""I, II, V1 to V6 among I, II, III, aVR, aVL, aVF, V1 to V6, x, y, z."""


def require_programs():
    """Skip where there is no emulator or no compiler."""
    needs.programs(*PROGRAMS, package="qemu-system-arm gcc-arm-none-eabi libnewlib-arm-none-eabi make")


def real_counts(ecg_data, seconds):
    """Return the first seconds of a PTB record (1000 Hz, two minutes, 0.5 uV a count) at 500 Hz, as counts (n, 8)."""
    samples_mv = loadmat(ecg_data / _RECORD)["val"][_ROWS, : (seconds + 1) * 1000] / 2000.0
    halve = Resampler(n_leads=len(_ROWS), rate_in_hz=1000.0, rate_out_hz=RATE_HZ, pass_hz=150.0)
    halved_mv = halve.push(samples_mv)[0][:, RATE_HZ:]  # The first second: the filter's own beginning.
    return np.round(halved_mv.T / (LSB_PV * 1e-9)).astype(np.int32)


def uri(device, **more):
    """Return the feed's URI as a user would write it."""
    settings = {"leads": ",".join(LEADS), "rate_hz": RATE_HZ, "lsb_nv": LSB_PV / 1000, "mode": "demo", **more}
    scheme = "serial:" if device.terminal else "tcp://"
    return f"{scheme}{device.address}?" + "&".join(f"{key}={value}" for key, value in settings.items())


def with_version(wire, major):
    """Return a frame with another major version and the check value that goes with it."""
    changed = bytes([major]) + cobs.decode(wire[:-1])[1:-4]
    return cobs.encode(changed + crc32c(changed).to_bytes(4, "little")) + b"\x00"


def to_mv(counts):
    """Return counts (n, 8) as a feed gives them: (8, n) float32 millivolts."""
    return (counts.T * (LSB_PV / 1000 * 1e-6)).astype(np.float32)


class Host:
    """The other end of the line, frame by frame."""

    def __init__(self, device):
        self._socket = socket.create_connection(("127.0.0.1", device.port), 10.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder()
        self._came = []
        self._seq = itertools.count()

    def send(self, kind, /, **fields):
        """Send a frame with the next number."""
        self.send_bytes(to_wire(kind(seq=next(self._seq), **fields)))

    def send_bytes(self, data):
        """Send what may be no frame."""
        self._socket.sendall(data)

    def wait(self, kind, **fields):
        """Return the next frame of a type with these fields; those before it are passed over."""
        while True:
            while self._came:
                frame = self._came.pop(0)
                if isinstance(frame, kind) and all(getattr(frame, k) == v for k, v in fields.items()):
                    return frame
            received = self._socket.recv(4096)
            assert received, f"the device ended before a {kind.__name__} came"
            self._came += self._decoder.push(received)

    def rest(self):
        """Return all frames until the device ends; what we sent and it never read makes that end a reset."""
        with contextlib.suppress(ConnectionResetError):
            while received := self._socket.recv(65536):
                self._came += self._decoder.push(received)
        return self._came

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


class Firmware:
    """The built image, ready to be started with a scenario."""

    def __init__(self, folder):
        self.image = build(folder)

    def start(self, folder, counts, *, terminal=False, **faults):
        """Start it; by default at full speed, not in real time."""
        settings = {"rate_hz": RATE_HZ, "lsb_pv": LSB_PV, "stepped": True, **faults}
        return QemuDevice(self.image, Scenario(counts=counts, **settings), folder=folder, terminal=terminal)
