"""What a new user meets: a bare `ecgedge`, and completion in the shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecgedge.cli import app


def test_a_bare_call_says_what_to_do_first(cli):
    done = cli()
    first, *steps = done.stdout.splitlines()
    assert "research use only" in first.lower()
    assert [step.split("  ")[1] for step in steps] == ["ecgedge demo", "ecgedge doctor", "ecgedge --help"]


def test_what_it_names_exists():
    runner = CliRunner()
    said = runner.invoke(app, []).stdout
    for command in ("demo", "doctor"):
        assert f"ecgedge {command}" in said
        assert runner.invoke(app, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("shell", "words"),
    [("bash", ["complete -o default -F", "COMP_CWORD"]), ("zsh", ["#compdef ecgedge", "compdef"])],
)
def test_a_completion_script_comes_out(cli, monkeypatch, shell, words):
    monkeypatch.setenv("_ECGEDGE_COMPLETE", f"source_{shell}")
    script = cli().stdout
    assert all(word in script for word in words)


def test_bash_completes_with_it(cli, monkeypatch):
    monkeypatch.setenv("_ECGEDGE_COMPLETE", "source_bash")
    script = cli().stdout
    monkeypatch.delenv("_ECGEDGE_COMPLETE")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    asked = (
        'COMP_WORDS=(ecgedge bundle ver); COMP_CWORD=2; _ecgedge_completion ecgedge; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["verify"]


def test_a_recording_is_drawn(cli, gappy_recording):
    done = cli("records", "show", gappy_recording, "--png", "ecg.png", "--start", "10")
    assert "ecg.png: research use only" in done.stdout
    assert (cli.folder / "ecg.png").read_bytes().startswith(b"\x89PNG")


def test_a_sheet_without_matplotlib_names_its_extra(cli, recording):
    done = cli.without(["matplotlib"], "records", "show", recording, "--png", "ecg.png")
    assert "pip install 'ecgedge[plot]'" in done.stderr
