"""The documentation's site: it builds strictly, is read without a network, and holds every page."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPO, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Fetched(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video") and given.get("src"):
            self.addresses.append(given["src"])
        if tag == "link" and given.get("rel") != "canonical":
            self.addresses.append(given["href"])


def test_nothing_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        seen = Fetched()
        seen.feed(page.read_text("utf-8"))
        for address in seen.addresses:
            assert not re.match(r"(https?:)?//", address), (page.name, address)
            if page.name != "404.html":
                assert (page.parent / address.split("?")[0].split("#")[0]).exists(), (page.name, address)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet.name


def test_pages_of_other_rooms_are_in_it(site):
    for page, text in (
        ("protocol.html", "frames between an ECG front end and a host"),
        ("export.html", "from a run to a bundle"),
        ("deployment.html", "A bed on a device"),
        ("changelog.html", "unreleased"),
    ):
        assert text.lower() in (site / page).read_text("utf-8").lower(), page


def test_links_of_the_checkout_lead_within_the_site(site):
    feeds = (site / "feeds.html").read_text("utf-8")
    assert 'href="protocol.html"' in feeds
    assert 'href="results/one_point.json"' in (site / "calibration.html").read_text("utf-8")
    assert (site / "results" / "one_point.json").is_file()


def test_why_commands_are_not_run_is_shown(site):
    assert "Not run by a test: needs a Jetson." in (site / "jetson.html").read_text("utf-8")


def test_every_page_says_what_it_is_for(site):
    for page in site.glob("*.html"):
        assert "Research use only" in page.read_text("utf-8"), page.name
