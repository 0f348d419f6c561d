"""The Dockerfiles in deploy/ as Docker's own parser reads them."""

from dataclasses import dataclass
from pathlib import Path

import dockerfile

REPO = Path(__file__).parents[2]
DEPLOY = REPO / "deploy"
NAMES = ("Dockerfile.x86", "Dockerfile.jetpack6", "Dockerfile.jetpack7")


@dataclass(frozen=True)
class Image:
    """Instructions of one Dockerfile, stage by stage; arguments are filled in where a test asks for them."""

    name: str
    arguments: dict[str, str]
    stages: tuple[tuple[dockerfile.Command, ...], ...]

    def values(self, instruction, *, stage):
        """Return the values of every such instruction in a stage (0 builds, -1 is what runs)."""
        return [command.value for command in self.stages[stage] if command.cmd == instruction]

    def filled(self, text):
        """Put the build arguments' defaults into a text, as Docker does before the shell sees it."""
        for key, value in self.arguments.items():
            text = text.replace(f"${{{key}}}", value)
        return text


def read_image(name):
    commands = dockerfile.parse_file(str(DEPLOY / name))
    starts = [k for k, command in enumerate(commands) if command.cmd == "FROM"]
    stages = [commands[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    defaults = [command.value[0].partition("=") for command in commands if command.cmd == "ARG"]
    return Image(name, {key: value for key, equals, value in defaults if equals}, tuple(stages))
