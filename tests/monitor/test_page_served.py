"""The page in Chromium against `ecgedge stream --page` and `ecgedge ward` in processes of their own."""

import re
import subprocess
import sys

import pytest
from browser import chromium, evaluate_module, opened

NURSE = "Nurse Seven"


def address_of(process):
    """Where the page of a process is, which says so on standard error."""
    for line in process.stderr:
        if found := re.search(r"page: (http://\S+)", line):
            return found.group(1)
    raise AssertionError("it never said where its page is")


@pytest.fixture
def stream(tmp_path):
    """A stream of a simulated patient whose electrode comes off: its process and its page."""
    command = [sys.executable, "-m", "ecgedge", "stream", "--feed", "sim:lead-off", "--speed", "20"]
    options = ["--page", "0", "--journal", str(tmp_path / "journal.jsonl"), "--format", "jsonl"]
    said = (tmp_path / "said").open("w")
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, stdout=said, text=True) as process:
        yield process, address_of(process)
        process.kill()
    said.close()


def test_an_alarm_of_the_stream_is_acknowledged_into_its_journal_and_a_kill_is_noticed(stream, tmp_path):
    process, url = stream
    with chromium() as browser, opened(browser, url) as page:
        page.locator(".lead-labels b", has_text="LEAD OFF").first.wait_for(timeout=60_000)
        page.locator("#alarm", has_text="Lead off").first.wait_for()
        assert page.locator("#mode").inner_text() == "DEMO"
        seen = evaluate_module(page, "main.js", "m.page.sweep.stats")
        assert min(seen["blocks"], seen["frames"]) > 0, "the worker draws under the server's own rules, too"
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


@pytest.fixture
def ward(tmp_path):
    """A ward of 64 simulated patients, electrodes of four of them coming off: its page."""
    beds = [
        f'[[bed]]\nname = "bed{n}"\nfeed = "sim:{"lead-off" if n in OFF else "stable"}?seed={n}&rate_hz=250"\n'
        for n in range(1, 65)
    ]
    (tmp_path / "beds.toml").write_text('[ward]\npage = "0"\n' + "".join(beds))
    command = [sys.executable, "-m", "ecgedge", "ward", "--beds", str(tmp_path / "beds.toml"), "--speed", "5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        yield address_of(process)
        process.kill()


OFF = (6, 22, 38, 54)
FRAMES = """new Promise((done) => {
  const at = [];
  const next = (ms) => { at.push(ms); ms - at[0] < 5000 ? requestAnimationFrame(next) : done(at); };
  requestAnimationFrame(next);
})"""


@pytest.mark.slow
def test_a_ward_of_64_beds_is_drawn_fluently_and_beds_with_an_alarm_stand_first(ward):
    with chromium() as browser, opened(browser, ward) as page:
        page.locator(".tile").nth(63).wait_for()
        page.locator(".tile[data-signal=on]", has_text="Lead off").nth(3).wait_for(timeout=60_000)
        page.wait_for_timeout(200)  # tiles that change together are sorted together
        # All may have an alarm: that no time server holds the clock.
        names = page.locator(".tile .bed").all_inner_texts()
        assert sorted(names[:4]) == sorted(f"bed{n}" for n in OFF)
        assert page.locator("#mode").inner_text() == "DEMO"
        at_ms = page.evaluate(FRAMES)
        assert len(at_ms) / (at_ms[-1] - at_ms[0]) >= 0.030
        page.locator(".tile", has=page.get_by_text("bed6", exact=True)).click()
        # Which electrode is off by now depends on the machine, and for moments none is.
        page.locator(".lead-labels b", has_text="LEAD OFF").first.wait_for(timeout=180_000)
        page.click("#home")
        page.locator(".tile").nth(63).wait_for()
