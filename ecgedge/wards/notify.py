"""Word to systemd: ready, alive, stopping (sd_notify(3), which is one datagram)."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send a state such as "READY=1" to the service manager; without one, or if it does not listen, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address)
    except OSError:
        return  # a manager that went away must not end the watch over patients


def watchdog_s() -> float | None:
    """Return how often systemd wants to hear "WATCHDOG=1" at least, in seconds; None if it does not."""
    wanted = os.environ.get("WATCHDOG_USEC", "")
    return int(wanted) / 1e6 if wanted.isdigit() and int(wanted) > 0 else None
