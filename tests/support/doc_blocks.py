"""Fenced blocks of the documentation, and how they are run: as a user would, in an empty folder, by bash.

A comment right above a block of commands says what becomes of it in the tests:

- `<!-- run -->`: run in each run of the suite;
- `<!-- run slowly -->`: run with what takes minutes;
- `<!-- not run: REASON -->`: not run.

`<!-- file: NAME -->` above any block: the reader saves it under that name, and so does the test.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[2]
COMMANDS = ("sh", "bash", "console")
"""Languages of blocks that a reader types into a shell."""
_BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"<!--\s*((?:(?!-->).)*?)\s*-->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block, and the comment right above it ("" without one)."""

    language: str
    text: str
    comment: str
    line: int

    @property
    def file(self) -> str | None:
        """The name under which the reader saves it."""
        return self.comment.removeprefix("file: ") if self.comment.startswith("file: ") else None

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.comment.removeprefix("not run: ") if self.comment.startswith("not run: ") else None


def blocks_of(page: str) -> list[Block]:
    """Return a page's fenced blocks in order."""
    found = []
    for match in _BLOCK.finditer(page):
        above = page[: match.start()]
        told = _COMMENT.search(above)
        line = above.count("\n") + 1
        found.append(
            Block(match["language"].strip(), match["text"], " ".join(told[1].split()) if told else "", line)
        )
    return found


def run_block(block: Block, folder: Path, *, timeout_s: float, **settings: str) -> str:
    """Run a block in `folder` with the `ecgedge` of this environment; return what it said, or fail with it."""
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.text],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"line {block.line}, exit code {done.returncode}:\n{block.text}\n{said}"
    assert "Traceback" not in said, said
    return said


def commands_in(text: str) -> list[str]:
    """Return a shell block's commands, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
