"""A device in a process of its own: `python eeb_device.py PLAN.json`.

Listens on a free port of 127.0.0.1, prints it, waits for one host, sends the real counts of an array file as EEB
frames, with the faults that the plan names, and prints each RESULT (and with "alerts" each ALERT) that comes back.
PLAN: counts (an .npy of integers, samples x channels), rate_hz, samples_per_frame, fmt, lead_off, first_index, info
(fields of INFO, which is sent first), drop / flip (frame numbers), pause_s (before each frame), restart (the frame
number from which everything counts from 0 again) and away_s, end ("close" or "reset"), results (how many to wait for),
alerts (print them), ack (a condition that is acknowledged as soon as its ALERT says on; the device waits until it is
told that it is acknowledged).
"""

import json
import select
import socket
import struct
import sys
import time
from pathlib import Path

import numpy as np

from ecgedge_bridge import (
    Ack,
    Alert,
    Data,
    Decoder,
    Info,
    Mode,
    Ping,
    Pong,
    Result,
    SampleFormat,
    SignalPresence,
    to_wire,
)


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Device:
    def __init__(self, plan, peer):
        self.plan, self.peer = plan, peer
        self.decoder = Decoder()
        self.began_s, self.seq, self.index = time.monotonic(), 0, plan.get("first_index", 0)
        self.n_results = 0
        self.acked = self.heeded = False

    def send(self, make, **fields):
        self.peer.sendall(to_wire(make(seq=self.seq % 2**16, **fields)))
        self.seq += 1

    def info(self):
        said = dict(self.plan["info"])
        said["mode"] = Mode[said.get("mode", "REAL")]
        said = {"rate_den": 1, "gain_centi": 100, "serial": "SN-1", "firmware": (1, 0, 0), **said}
        self.send(Info, **{**said, "leads": tuple(said["leads"]), "simulated": said["mode"] is not Mode.REAL})

    def data(self, block, number):
        plan = self.plan
        data = Data(
            seq=self.seq % 2**16,
            sample_index=self.index % 2**32,
            t_us=round(self.index * 1e6 / plan["rate_hz"]),
            n_channels=block.shape[1],
            counts=tuple(block.ravel().tolist()),
            fmt=SampleFormat[plan.get("fmt", "I16")],
            lead_off=plan.get("lead_off", 0),
            simulated=plan.get("simulated", False),
        )
        self.seq += 1
        self.index += len(block)
        wire = to_wire(data)
        if number in plan.get("flip", ()):
            wire = wire[:20] + bytes([wire[20] ^ 0x04 or 0x04]) + wire[21:]
        if number not in plan.get("drop", ()):
            self.peer.sendall(wire)

    def restart(self):
        time.sleep(self.plan.get("away_s", 0.0))
        self.began_s, self.seq, self.index = time.monotonic(), 0, 0
        if "info" in self.plan:
            self.info()

    def listen(self, wait_s):
        """Heed what the host says; for at most so long where nothing comes."""
        if not select.select([self.peer], [], [], wait_s)[0]:
            return
        for frame in self.decoder.push(self.peer.recv(4096)):
            if isinstance(frame, Result):
                self.n_results += 1
                say(frame.sample_index, frame.mpcwp_mmhg, frame.validity.name)
            elif isinstance(frame, Ping):
                now_us = round((time.monotonic() - self.began_s) * 1e6)
                self.send(Pong, ping_id=frame.ping_id, t1_us=frame.t1_us, t2_us=now_us, t3_us=now_us)
            elif isinstance(frame, Alert):
                self.heed_alert(frame)

    def heed_alert(self, alert):
        if self.plan.get("alerts"):
            say("alert", alert.condition, alert.signal.name, alert.sample_index)
        if alert.condition == self.plan.get("ack") and alert.signal is SignalPresence.ON and not self.acked:
            self.acked = True
            # The same again: twice changes nothing.
            self.send(Ack, sample_index=self.index % 2**32, condition=alert.condition, user_id=7)
            self.send(Ack, sample_index=self.index % 2**32, condition=alert.condition, user_id=7)

        if alert.condition == self.plan.get("ack") and alert.signal is SignalPresence.ACKNOWLEDGED:
            self.heeded = True

    def serve(self):
        plan = self.plan
        if "info" in plan:
            self.info()
        counts, step = np.load(plan["counts"]), plan["samples_per_frame"]
        for number, at in enumerate(range(0, len(counts), step)):
            if number == plan.get("restart"):
                self.restart()
            self.data(counts[at : at + step], number)
            self.listen(plan.get("pause_s", 0.0))
        while self.n_results < plan.get("results", 0) or ("ack" in plan and not self.heeded):
            self.listen(1.0)


def main():
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        say(server.getsockname()[1])
        peer = server.accept()[0]
    Device(plan, peer).serve()
    if plan.get("end") == "reset":
        # Linger 0 makes close() send RST instead of FIN: the cable is out, the firmware crashed.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        # What came and was not read would make a reset of a close.
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass
    peer.close()


if __name__ == "__main__":
    main()
