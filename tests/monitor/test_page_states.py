"""Every state of the page at three widths, in dark and light: nothing cut or overlapping, nothing that axe finds."""

from contextlib import contextmanager

import pytest
from browser import axe_violations, chromium, lasting_layout_faults, layout_faults, opened
from page_rig import PageRig, real_ecg
from page_scenes import HELLO_OF, SCENES, past_events, tiles, trend_of

SIZES = ((390, 844), (1280, 800), (2560, 1440))
BEDS = [f"bed{number}" for number in range(1, 65)]
SEEN = {
    "live": "#mpcwp:text('14')",
    "gap": "#reason:text('Questionable')",
    "lead_off": ".lead-labels b:text('LEAD OFF: LA')",
    "invalid": "#reason:text('flat')",
    "low": "#alarm[data-priority=low]",
    "medium": "#alarm[data-priority=medium]",
    "high": "#alarm[data-priority=high]",
    "technical": "#sweep-note:text('No samples')",
    "acknowledged": "#alarm[data-signal=acknowledged]",
    "latched": "#alarm[data-signal=latched]",
    "paused": "#pause-left:text('Sound paused')",
    "expired": "#number[data-state=expired]",
    "dead": "body.dead #dead strong",
    "demo": "#mode:text('DEMO')",
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def ecg(ecg_data):
    return real_ecg(ecg_data)


def faults_at_each_size(page):
    found = {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        found[width] = lasting_layout_faults(page)
    return found


def violations_in_each_theme(page):
    found = {}
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        page.locator(f"html[data-theme={theme}]").wait_for()
        found[theme] = axe_violations(page)
    return found


LIGHT_FIRST = {"gap", "invalid", "high", "technical", "expired"}


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_cut_or_overlaps_and_axe_finds_no_violation(scene, browser, ecg):
    with shown(browser, ecg, scene, "light" if scene in LIGHT_FIRST else "dark") as page:
        assert faults_at_each_size(page) == {width: [] for width, _ in SIZES}
        assert axe_violations(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_axe_finds_no_violation_in_the_other_theme_either(scene, browser, ecg):
    with shown(browser, ecg, scene, "dark" if scene in LIGHT_FIRST else "light") as page:
        assert axe_violations(page) == []


@contextmanager
def shown(browser, ecg, scene, theme):
    """The page in this state."""
    rig = PageRig(ecg, hello=HELLO_OF.get(scene))
    rig.trend, rig.past = trend_of(points=500), past_events()
    rig.start()
    with opened(browser, rig.url, scheme=theme, reduced_motion="reduce") as page:
        page.locator(".lead-labels > span").nth(11).wait_for()
        SCENES[scene](rig)
        page.locator(SEEN[scene]).first.wait_for()
        yield page
    rig.stop()


def test_the_ward_of_64_beds_and_its_help(browser, ecg):
    rig = PageRig(ecg, hello={"ward": True, "beds": BEDS})
    rig.tiles = tiles(BEDS)
    rig.start()
    with opened(browser, rig.url, reduced_motion="reduce") as page:
        page.locator(".tile").nth(63).wait_for()
        assert faults_at_each_size(page) == {width: [] for width, _ in SIZES}
        page.click("#open-help")
        assert violations_in_each_theme(page) == {"dark": [], "light": []}
    rig.stop()


@pytest.mark.parametrize("dialog", ["#ack-dialog", "#card", "#help"])
def test_dialogs_fit_a_phone_and_have_no_violation(dialog, browser, ecg):
    rig = PageRig(ecg).start()
    with opened(browser, rig.url, width=390, height=844, reduced_motion="reduce") as page:
        page.locator(".lead-labels > span").nth(11).wait_for()
        SCENES["medium"](rig)
        page.locator("#ack").wait_for()
        page.click({"#ack-dialog": "#ack", "#card": "#open-card", "#help": "#open-help"}[dialog])
        box = page.locator(dialog).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert violations_in_each_theme(page) == {"dark": [], "light": []}
    rig.stop()


def test_the_login_page(browser, ecg):
    rig = PageRig(ecg).start()
    with opened(browser, f"{rig.url}/static/login.html") as page:
        page.locator("#failed", has_text="__ERROR__").wait_for()
        assert faults_at_each_size(page) == {width: [] for width, _ in SIZES}
        assert violations_in_each_theme(page) == {"dark": [], "light": []}
    rig.stop()


def test_the_checks_themselves_find_what_is_wrong(browser, ecg):
    rig = PageRig(ecg).start()
    with opened(browser, rig.url, reduced_motion="reduce") as page:
        page.evaluate(
            "() => {"
            " document.querySelector('#sweep-title').textContent = 'much too long '.repeat(99);"
            " document.querySelector('#sweep-title').style.whiteSpace = 'nowrap';"
            " document.querySelector('#alarm-words').style.marginTop = '3rem';"
            " document.querySelector('#notice').style.color = '#444'; }"
        )
        faults = layout_faults(page)
        assert any("sweep" in fault for fault in faults)
        assert any("overlap" in fault or "overflows" in fault for fault in faults)
        assert "color-contrast" in {rule for rule, *_ in axe_violations(page)}
    rig.stop()
