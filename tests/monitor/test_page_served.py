"""The page in Chromium against `ecgedge stream --page` in a process of its own: seen, acknowledged, killed."""

import re
import subprocess
import sys

import pytest
from browser import chromium, evaluate_module, opened

NURSE = "Nurse Seven"


@pytest.fixture
def stream(tmp_path):
    """A stream of a simulated patient whose electrode comes off: its process and its page."""
    command = [sys.executable, "-m", "ecgedge", "stream", "--feed", "sim:lead-off", "--speed", "20"]
    options = ["--page", "0", "--journal", str(tmp_path / "journal.jsonl"), "--format", "jsonl"]
    said = (tmp_path / "said").open("w")
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, stdout=said, text=True) as process:
        for line in process.stderr:
            if found := re.search(r"page: (http://\S+)", line):
                break
        else:
            pytest.fail("the stream never said where its page is")
        yield process, found.group(1)
        process.kill()
    said.close()


def test_an_alarm_of_the_stream_is_acknowledged_into_its_journal_and_a_kill_is_noticed(stream, tmp_path):
    process, url = stream
    with chromium() as browser, opened(browser, url) as page:
        page.locator(".lead-labels b", has_text="LEAD OFF").first.wait_for(timeout=60_000)
        page.locator("#alarm", has_text="Lead off").first.wait_for()
        assert page.locator("#mode").inner_text() == "DEMO"
        assert evaluate_module(page, "main.js", "m.page.sweep.stats.blocks") > 0
        if "Lead off" not in page.locator("#alarm-words").inner_text():
            page.click("#more")
        page.locator("#ack").click()
        condition = page.locator("#ack-text").inner_text().partition(":")[0]
        page.fill("#ack-user", NURSE)
        page.keyboard.press("Enter")
        page.locator("#alarm", has_text=f"acknowledged by {NURSE}").wait_for()
        journal = "".join(path.read_text("utf-8") for path in tmp_path.glob("journal*"))
        name = condition.upper().replace(" ", "_")
        assert any(NURSE in line and name in line for line in journal.splitlines())
        process.kill()
        page.locator("#dead strong").wait_for()
        assert page.locator("#mpcwp").text_content() == "--"
