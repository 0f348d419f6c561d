"""Help: every command shows an example that runs the way it stands there, and no word is swallowed."""

import re

import pytest

import ecgedge

COMMANDS = [
    "demo",
    "doctor",
    "stream",
    "ward",
    "tell",
    "feed send",
    "listen",
    "predict",
    "bench",
    "train",
    "import",
    "evaluate",
    "compress",
    "export",
    "sensitivity",
    "data build",
    "data info",
    "records show",
    "bundle show",
    "bundle verify",
    "bundle build",
    "bundle sign",
    "bundle keygen",
    "bundle unpack",
    "bundle pack",
    "journal verify",
    "journal replay",
    "journal fhir",
    "page add",
    "page list",
    "page remove",
    "alarms replay",
    "cluster serve",
    "cluster publish",
    "cluster tell",
    "cluster journal",
    "cluster deliver",
    "vital-filter",
]


def _flat(text):
    """Join what the box of the help broke over lines."""
    return re.sub(r"[\s│]+", " ", text)


@pytest.fixture(scope="module")
def helps(cli_in, tmp_path_factory):
    """Help text by command; made once, since each is a process."""
    cli = cli_in(tmp_path_factory.mktemp("help"))
    return {command: _flat(cli(*command.split(), "--help").stdout) for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example_of_itself(helps, command):
    assert f"Example: ecgedge {command}" in helps[command]


def _options_of(text):
    return set(re.findall(r"(?<!\S)--[a-z0-9-]+", text))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_the_example_exist(helps, command):
    example, _, rest = helps[command].partition("Example:")[2].partition("╭")
    assert _options_of(example) <= _options_of(rest)


def _listed(text):
    return sorted(re.findall(r"│ ([a-z-]+) {2,}\S", text.partition("Commands")[2]))


@pytest.mark.parametrize("group", ["data", "records", "bundle", "journal", "alarms", "cluster", "page"])
def test_a_bare_group_lists_its_commands(cli, group):
    done = cli(group, exits=2)
    named = [command.split()[1] for command in COMMANDS if command.startswith(f"{group} ")]
    assert _listed(done.stdout + done.stderr) == sorted(named)


def test_the_list_of_commands_is_complete(cli):
    text = cli("--help").stdout
    assert _listed(text) == sorted({command.split()[0] for command in COMMANDS})
    assert "research use only" in text.lower()


def test_an_extra_stands_whole_in_the_message(cli):
    # Rich markup swallows the brackets of 'ecgedge[train]'.
    done = cli.without(["pyarrow"], "data", "info", "nowhere")
    assert "pip install 'ecgedge[train]'" in done.stderr


def test_version(cli):
    assert cli("--version").stdout == f"ecgedge {ecgedge.__version__}\n"
