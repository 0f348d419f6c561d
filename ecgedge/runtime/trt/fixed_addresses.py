"""Runs `python ARGUMENTS` without address-space randomisation: `python fixed_addresses.py -m MODULE ...`.

The TensorRT-RTX builder walks sets that are ordered by memory address and numbers its internal names on the way;
with addresses that are the same each time, the same file gives the same engine, bit by bit. Where the kernel does not
allow it (some container profiles), the build goes on without. Standard library only: nothing is imported twice.
"""

import ctypes
import os
import sys

ADDR_NO_RANDOMIZE = 0x0040000  # <linux/personality.h>
ASK = 0xFFFFFFFF


def main() -> None:
    """Set the personality of this process, which the program that replaces it inherits."""
    libc = ctypes.CDLL(None)
    current = libc.personality(ASK)
    if current >= 0:
        libc.personality(current | ADDR_NO_RANDOMIZE)
    # The library's own helper threads allocate too: on one core they take turns in the same order.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - ourselves again


if __name__ == "__main__":
    main()
