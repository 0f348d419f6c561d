"""The look that all reports share."""

import re
from html.parser import HTMLParser

from ecgedge.bundle import RESEARCH_USE_ONLY
from ecgedge.report_page import SHORT_TABLE, STYLE, folded_table, page


class Read(HTMLParser):
    """Tags that stay open, and the words."""

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(text):
    found = Read()
    found.feed(text)
    assert found.open == []
    return " ".join(found.words)


def test_a_page_is_whole_and_says_what_it_is():
    text = page("a <b> & c", ["<p>body</p>"], simulated="all <of> it")
    words = read(text)
    for part in ("a <b> & c", RESEARCH_USE_ONLY, "SIMULATED DATA: all <of> it", "body"):
        assert part in words
    assert "SIMULATED" not in page("t", [], simulated=None)


def test_the_look_follows_the_screen_and_prints():
    assert "prefers-color-scheme:dark" in STYLE
    assert "@media print" in STYLE
    assert not re.search(r"https?:|url\(|@import", STYLE)
    # What is named is defined, in the light and in the dark.
    used = set(re.findall(r"var\((--[\w-]+)\)", STYLE))
    for block in re.findall(r":root\{([^}]*)\}", STYLE):
        assert used <= set(re.findall(r"(--[\w-]+):", block))


def _contrast(one, other):
    """Relative luminances as WCAG 2.1 defines them."""

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_can_be_read_on_its_ground():
    for block in re.findall(r":root\{([^}]*)\}", STYLE):
        colours = dict(re.findall(r"(--[\w-]+):(#\w+)", block))
        for ink, ground in (("ink", "paper"), ("ink", "panel"), ("faint", "paper"), ("on-alarm", "alarm")):
            assert _contrast(colours[f"--{ink}"], colours[f"--{ground}"]) >= 4.5, (ink, ground)


def test_long_tables_start_folded():
    short = "".join(folded_table("t & u", ("a<b",), [("1",)] * SHORT_TABLE))
    long = "".join(folded_table("t", ("a",), [("1",)] * (SHORT_TABLE + 1)))
    assert "t & u" in read(short)
    assert "a<b" in read(short)
    assert "<details open>" in short
    assert "<details>" in long
