"""The Dockerfiles in deploy/ as Docker's own parser reads them."""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

REPO = Path(__file__).parents[2]
DEPLOY = REPO / "deploy"
# The parser is in Go, whose runtime takes over a process's signals: beside OpenVINO's threads it has crashed pytest.
PARSE = "import dockerfile, json, sys; print(json.dumps([c._asdict() for c in dockerfile.parse_file(sys.argv[1])]))"
NAMES = ("Dockerfile.x86", "Dockerfile.jetpack6", "Dockerfile.jetpack7")


@dataclass(frozen=True)
class Image:
    """Instructions of one Dockerfile, stage by stage; arguments are filled in where a test asks for them."""

    name: str
    arguments: dict[str, str]
    stages: tuple[tuple[SimpleNamespace, ...], ...]

    def values(self, instruction, *, stage):
        """Return the values of every such instruction in a stage (0 builds, -1 is what runs)."""
        return [command.value for command in self.stages[stage] if command.cmd == instruction]

    def filled(self, text):
        """Put the build arguments' defaults into a text, as Docker does before the shell sees it."""
        for key, value in self.arguments.items():
            text = text.replace(f"${{{key}}}", value)
        return text


@lru_cache
def read_image(name):
    done = subprocess.run(
        [sys.executable, "-c", PARSE, DEPLOY / name], capture_output=True, text=True, check=True
    )
    commands = [
        SimpleNamespace(**{k: tuple(v) if isinstance(v, list) else v for k, v in found.items()})
        for found in json.loads(done.stdout)
    ]
    starts = [k for k, command in enumerate(commands) if command.cmd == "FROM"]
    stages = [tuple(commands[a:b]) for a, b in zip(starts, [*starts[1:], None], strict=True)]
    defaults = [command.value[0].partition("=") for command in commands if command.cmd == "ARG"]
    return Image(name, {key: value for key, equals, value in defaults if equals}, tuple(stages))
