"""HL7 v2 without I/O: frames and messages, waveforms in, estimates and alarms out.

Bytes go in, values come out; sockets, clocks and queues belong to whoever calls. Modelled on IHE's Patient Care Device
profiles; research use only.
"""
