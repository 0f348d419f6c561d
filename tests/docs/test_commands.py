"""Every command of the documentation is run as a reader would run it, or says why not."""

import re
from functools import partial
from pathlib import Path

import pytest
from doc_blocks import COMMANDS, REPO, blocks_of, run_block
from user_files import make_hospital, make_recording, make_run

PAGES = {
    page.relative_to(REPO).as_posix(): blocks_of(page.read_text("utf-8"))
    for page in (
        *sorted((REPO / "docs").glob("*.md")),
        *(REPO / folder / "README.md" for folder in (".", "deploy", "export", "firmware_bridge", "train")),
        REPO / "firmware_bridge" / "PROTOCOL.md",
        REPO / "CONTRIBUTING.md",
    )
}
USERS_FILES = {
    "docs/index.md": [make_hospital],
    "docs/train-on-my-data.md": [make_hospital],
    "docs/compress.md": [make_hospital, make_run],
    "docs/jetson.md": [make_hospital, make_run],
    "docs/command-line.md": [make_recording],
}
"""What a page's reader already has."""
SETTINGS = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
_COMMAND = re.compile(
    r"^\s*(\$ )?(ecgedge (?!evaluation:)|pip |make |docker |torchrun |python3? |nats |ray |systemctl |sudo )",
    re.MULTILINE,
)


def _pages_with(comment):
    return [name for name, blocks in PAGES.items() if any(block.comment == comment for block in blocks)]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_is_run_or_says_why_not(page):
    for block in PAGES[page]:
        assert block.language, f"{page}, line {block.line}: the fence names no language"
        if block.language in COMMANDS:
            assert block.comment in ("run", "run slowly") or (block.reason or "").strip(), (page, block.line)
        else:
            assert not _COMMAND.search(block.text) or block.file, (page, block.line, block.text)


@pytest.mark.parametrize("page", _pages_with("run"))
def test_commands_run(page, tmp_path, request):
    _run_page(page, ("run",), tmp_path, request)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in _pages_with("run slowly") if p != "docs/index.md"])
def test_long_commands_run(page, tmp_path, request):
    """The whole page in order; that of the first steps has a test of its own (test_newcomer.py)."""
    _run_page(page, ("run", "run slowly"), tmp_path, request)


def _run_page(page, comments, folder: Path, request):
    for make in USERS_FILES.get(page, ()):
        make(folder, partial(request.getfixturevalue, "ecg_data"))
    for block in PAGES[page]:
        if block.file:
            (folder / block.file).write_text(block.text, "utf-8")
        elif block.comment in comments:
            run_block(block, folder, timeout_s=1200, **SETTINGS)


def test_a_forgotten_block_is_found():
    page = "text\n\n<!-- run -->\n```sh\ntrue\n```\n\n```sh\nfalse\n```\n\n<!-- not run: no -->\n\n```sh\nx\n```\n"
    assert [(block.comment, block.reason, block.line) for block in blocks_of(page)] == [
        ("run", None, 4),
        ("", None, 8),
        ("not run: no", "no", 14),
    ]


def test_a_block_that_fails_fails(tmp_path):
    (block,) = blocks_of("```sh\ntrue\nfalse | cat\ntrue\n```\n")
    with pytest.raises(AssertionError, match="exit code 1"):
        run_block(block, tmp_path, timeout_s=60)
