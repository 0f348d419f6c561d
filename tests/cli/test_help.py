"""Help: every command shows an example that runs the way it stands there, and no word is swallowed."""

import re

import pytest

import ecgedge

COMMANDS = [
    "demo",
    "doctor",
    "stream",
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
    "bundle sign",
    "bundle keygen",
    "bundle unpack",
    "bundle pack",
    "journal verify",
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


@pytest.mark.parametrize(("group", "commands"), [("data", 2), ("records", 1), ("bundle", 6), ("journal", 1)])
def test_a_bare_group_lists_its_commands(cli, group, commands):
    done = cli(group, exits=2)
    text = _flat(done.stdout + done.stderr)
    named = [command.split()[1] for command in COMMANDS if command.startswith(f"{group} ")]
    assert len(named) == commands
    for name in named:
        assert name in text


def test_the_list_of_commands_is_complete(cli):
    text = cli("--help").stdout
    listed = re.findall(r"│ ([a-z]+) {2,}\S", text.partition("Commands")[2])
    assert sorted(listed) == sorted({command.split()[0] for command in COMMANDS})
    assert "research use only" in text.lower()


def test_an_extra_stands_whole_in_the_message(cli):
    # Rich markup swallows the brackets of 'ecgedge[train]'.
    done = cli.without(["pyarrow"], "data", "info", "nowhere")
    assert "pip install 'ecgedge[train]'" in done.stderr


def test_version(cli):
    assert cli("--version").stdout == f"ecgedge {ecgedge.__version__}\n"
