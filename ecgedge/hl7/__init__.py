"""HL7 v2 without I/O: frames and messages, waveforms in, estimates and alarms out.

Bytes go in, values come out; sockets, clocks and queues belong to whoever calls. Modelled on IHE's Patient Care Device
profiles; research use only.

    decoder = MllpDecoder()
    for data in decoder.push(received):
        message = parse(data)                       # Hl7Error: drop it and count it
        try:
            waveforms = read_waveforms(message)
            answer = acknowledge(message, envelope)
        except Hl7Error as error:
            answer = acknowledge(message, envelope, "AE", str(error))
        send(frame(answer))

`write_estimate` and `write_alarm` make what a sink sends, `read_acknowledgement` reads what it is answered.
"""

from __future__ import annotations

from ecgedge.hl7.acks import Acknowledgement, acknowledge, read_acknowledgement
from ecgedge.hl7.header import Envelope
from ecgedge.hl7.message import Message, Segment, parse, split_messages
from ecgedge.hl7.mllp import MllpCounters, MllpDecoder, frame
from ecgedge.hl7.results import event_phase, write_alarm, write_estimate
from ecgedge.hl7.waveforms import Waveforms, read_waveforms, write_waveforms

__all__ = [
    "Acknowledgement",
    "Envelope",
    "Message",
    "MllpCounters",
    "MllpDecoder",
    "Segment",
    "Waveforms",
    "acknowledge",
    "event_phase",
    "frame",
    "parse",
    "read_acknowledgement",
    "read_waveforms",
    "split_messages",
    "write_alarm",
    "write_estimate",
    "write_waveforms",
]
