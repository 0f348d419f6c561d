"""A device in a process of its own: `python eeb_device.py PLAN.json`.

Listens on a free port of 127.0.0.1, prints it, waits for one host, sends the real counts of an array file as EEB
frames, with the faults that the plan names, and prints each RESULT that comes back. PLAN: counts (an .npy of
integers, samples x channels), rate_hz, samples_per_frame, fmt, lead_off, first_index, drop / flip (frame numbers),
end ("close" or "reset"), results (how many to wait for).
"""

import json
import socket
import struct
import sys
from pathlib import Path

import numpy as np

from ecgedge_bridge import Decoder, SampleFormat, encode_stream


def wire(plan):
    counts = np.load(plan["counts"])
    frames = encode_stream(
        counts.tolist(),
        rate_hz=plan["rate_hz"],
        samples_per_frame=plan["samples_per_frame"],
        fmt=SampleFormat[plan.get("fmt", "I16")],
        lead_off=plan.get("lead_off", 0),
        first_index=plan.get("first_index", 0),
        simulated=plan.get("simulated", False),
    )
    for number, frame in enumerate(frames):
        if number in plan.get("flip", ()):
            yield frame[:20] + bytes([frame[20] ^ 0x04 or 0x04]) + frame[21:]
        elif number not in plan.get("drop", ()):
            yield frame


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def serve(plan, peer):
    peer.sendall(b"".join(wire(plan)))
    decoder, n_results = Decoder(), 0
    while n_results < plan.get("results", 0):
        for result in decoder.push(peer.recv(4096)):
            say(result.sample_index, result.mpcwp_mmhg, result.validity.name)
            n_results += 1
    if plan.get("end") == "reset":
        # Linger 0 makes close() send RST instead of FIN: the cable is out, the firmware crashed.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def main():
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        say(server.getsockname()[1])
        serve(plan, server.accept()[0])


if __name__ == "__main__":
    main()
