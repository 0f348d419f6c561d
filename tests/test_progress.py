"""A bar is drawn on a terminal, on standard error, and nowhere else."""

import os
import pty
import subprocess
import sys

import pytest

from ecgedge.progress import progress, tracked

SCRIPT = """
from ecgedge.progress import tracked
print(sum(tracked("adding [up]", [1, 2, 3])))
"""


def test_nothing_is_drawn_where_nobody_looks(capfd):
    assert list(tracked("adding", ["a", "b"])) == ["a", "b"]
    with progress("adding") as tell:
        tell(1, 2)
    assert capfd.readouterr() == ("", "")


def test_an_error_goes_through():
    with pytest.raises(ValueError, match="here"), progress("adding"):
        raise ValueError("here")


def test_a_bar_is_drawn_on_a_terminal():
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(theirs)
        drawn = b""
        # The terminal's other end is gone when the process is: that reads as an error.
        try:
            while part := os.read(ours, 4096):
                drawn += part
        except OSError:
            pass
        out, _ = process.communicate()
    os.close(ours)
    assert out == b"6\n"
    assert b"adding [up]" in drawn
    assert b"3/3" in drawn
