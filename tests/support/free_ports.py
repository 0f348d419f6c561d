"""Ports of this machine for servers of tests.

A port that the kernel names for a socket of nobody's in particular can be another's a moment later, before the server
that is told of it listens: any connection of any process takes one of those. These lie below all that the kernel
gives by itself, each worker of the tests has its own, and none is given twice in a process.
"""

import itertools
import os
import socket
from contextlib import closing

_FIRST, _PER_WORKER, _WORKERS = 12_000, 1_200, 16
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
# From another place in each process: tests that run twice on one machine at once seldom meet.
_next = itertools.count(os.getpid() * 97)


def free_port():
    """Return a port on which nobody listens."""
    for k in _next:
        port = _FIRST + _worker * _PER_WORKER + k % _PER_WORKER
        with closing(socket.socket()) as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("unreachable")
