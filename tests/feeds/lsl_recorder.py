"""LabRecorder, the recorder of Lab Streaming Layer: `python lsl_recorder.py STREAM FILE.xdf`, until the stream ends."""

import sys
import time

import labrecorder
import pylsl

name, file = sys.argv[1:]
found = pylsl.resolve_byprop("name", name, 1, 10.0)
with labrecorder.Recording(file, found):
    while pylsl.resolve_byprop("name", name, 1, 1.0):
        time.sleep(0.1)
