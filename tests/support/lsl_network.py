"""Lab Streaming Layer that stays on this machine, and names that no other test's stream has."""

import os
import uuid

import pytest

CONFIGURATION = """\
[multicast]
ResolveScope=machine
[lab]
KnownPeers={127.0.0.1}
[ports]
IPv6=disable
[log]
level=-3
[tuning]
TimeProbeInterval=0.01
"""
"""Clocks are compared by eight probes, which need not be half a second apart where there is one clock."""


def on_this_machine(folder):
    """Return pylsl, set to this machine alone: by default LSL asks the whole network segment."""
    file = folder / "lsl_api.cfg"
    file.write_text(CONFIGURATION)
    os.environ["LSLAPICFG"] = str(file)  # read once, at LSL's first use in a process; children have it, too
    return pytest.importorskip("pylsl", reason="needs the extra lsl: pip install 'ecgedge[lsl]'")


def a_name():
    """Return a stream's name."""
    return f"bed-{uuid.uuid4().hex[:12]}"
