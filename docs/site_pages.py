"""What mkdocs is told beyond docs/: pages that live beside the code they describe, and links that lead to them.

A page stays where its room is, so that it reads in a checkout as well. Links are written for the checkout; here
they are made to lead within the site. A link to a file that is no page becomes its name. Where no test runs a block of
commands, the reason is shown above it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPO = Path(__file__).resolve().parents[1]
PAGES = {
    "export.md": "export/README.md",
    "protocol.md": "firmware_bridge/PROTOCOL.md",
    "firmware-library.md": "firmware_bridge/README.md",
    "deployment.md": "deploy/README.md",
    "training-room.md": "train/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Page of the site, and where it lies in the checkout."""
_AT = {source: page for page, source in PAGES.items()} | {"README.md": "index.md"}
_RESULTS = "benchmarks/results"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_UNTRIED = re.compile(r"^<!-- not run: (.*?) -->$", re.MULTILINE)
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and the results that pages link to."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(REPO / source)))
    for result in sorted((REPO / _RESULTS).glob("*.json")):
        files.append(File.generated(config, f"results/{result.name}", abs_src_path=str(result)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with its links leading within the site."""
    del config, files
    source = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return _UNTRIED.sub(r"<small>Not run by a test: \1.</small>\n", site_links(markdown, source=source))


def site_links(markdown: str, *, source: str) -> str:
    """Return a page's text with links of the checkout made links of the site; blocks of code stay as they are.

    Parameters
    ----------
    markdown
        The page.
    source
        Its path in the checkout.
    """
    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda m: _led(m, source), part) for part in parts
    )


def _led(link: re.Match[str], source: str) -> str:
    text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    at = os.path.normpath(os.path.join(os.path.dirname(source), path))
    if at in _AT:
        return f"[{text}]({_AT[at]}{hash_}{anchor})"
    if at.startswith("docs/"):
        return f"[{text}]({at.removeprefix('docs/')}{hash_}{anchor})"
    if at.startswith(f"{_RESULTS}/"):
        return f"[{text}](results/{Path(at).name})"
    if not (REPO / at).exists():
        return link[0]  # strict tells of it
    return text if text.startswith("`") else f"{text} (`{at}`)"
