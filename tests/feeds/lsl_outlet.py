"""A plain outlet of Lab Streaming Layer, written with pylsl alone: what another vendor's program does.

Run as `python lsl_outlet.py PLAN`, a JSON object: the stream's name, rate_hz, labels, units, format, steps. A step is
["push", first, n] (samples `first`.. in one chunk, sample k being k + channel, stamped k/rate and
AHEAD_S after the last "wait"),
["one", first, n] (the same sample by sample, with stamps that tremble), ["old", first, n, age_s], ["sleep", seconds],
["wait"] (until somebody listens) or ["value", v, n].
"""

import json
import sys
import time

import numpy as np
import pylsl

AHEAD_S = 5.0
"""Samples of `push` are stamped ahead of the clock: however busy the machine, they are not old when they are read."""


def describe(plan):
    info = pylsl.StreamInfo(
        plan["name"],
        plan.get("type", "ECG"),
        len(plan["labels"]),
        plan["rate_hz"],
        plan.get("format", "float32"),
        plan["name"],
    )
    channels = info.desc().append_child("channels")
    for label, unit in zip(plan["labels"], plan["units"], strict=True):
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", unit)
    if "mode" in plan:
        info.desc().append_child("ecgedge").append_child_value("mode", plan["mode"])
    return info


class Outlet:
    """One method a step."""

    def __init__(self, plan):
        self._outlet = pylsl.StreamOutlet(describe(plan))
        self._rate_hz, self._channels = plan["rate_hz"], len(plan["labels"])
        self._begin_s = pylsl.local_clock()

    def _ramp(self, first, n):
        return np.arange(first, first + n)[:, np.newaxis] + np.arange(self._channels)

    def wait(self):
        while not self._outlet.have_consumers():
            time.sleep(0.02)
        self._begin_s = pylsl.local_clock() + AHEAD_S

    def sleep(self, seconds):
        time.sleep(seconds)

    def push(self, first, n):
        self._outlet.push_chunk(self._ramp(first, n), self._begin_s + (first + n - 1) / self._rate_hz)

    def old(self, first, n, age_s):
        self._outlet.push_chunk(self._ramp(first, n), pylsl.local_clock() - age_s)

    def value(self, value, n):
        self._outlet.push_chunk(np.full((n, self._channels), value), self._begin_s + n / self._rate_hz)

    def one(self, first, n):
        # As of a program that stamps each sample when it comes to it, but never later for this machine being busy.
        late_s = np.random.default_rng(first).exponential(0.0005, n)
        stamps_s = self._begin_s + np.maximum.accumulate(np.arange(first, first + n) / self._rate_hz + late_s)
        for row, stamp_s in zip(self._ramp(first, n), stamps_s, strict=True):
            self._outlet.push_sample(row, stamp_s)


def run(plan):
    outlet = Outlet(plan)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for step, *words in plan["steps"]:
        getattr(outlet, step)(*words)
    sys.stdin.read()


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
