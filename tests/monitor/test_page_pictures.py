"""Each state of the page as a person has looked at it: pictures/ holds what was seen, `make pictures` renews it."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import chromium, evaluate_module, opened
from page_pictures import BOXES, difference, faults, keep, moved, read_boxes, reduced, write_boxes
from page_scenes import HELLO_OF, SCENES, past_events, tiles, trend_of
from page_still import AT, AT_MS, STAND_STILL, StillRig, made_up_ecg, stopped_clock
from PIL import Image

KEPT = Path(__file__).parent / "pictures"
BOXES_FILE = KEPT / "boxes.json"
RENEW = os.environ.get("PICTURES") == "renew"
SIZES = {390: (390, 844), 1280: (1280, 800), 2560: (2560, 1440)}
BEDS = [f"bed{number}" for number in range(1, 65)]
LIGHT = {"gap", "invalid", "medium", "technical", "latched", "dead"}
"""States that are looked at in light; the rest in dark."""

FONT_OPTIONS = ("--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb")
OTHER_FONT_OPTIONS = ("--font-render-hinting=full", "--enable-lcd-text")
RUNNING = "#dead span, #sweep-note"
"""What counts seconds by itself: its place is compared, not its text."""

FAST = [("live", "dark", 1280), ("high", "dark", 1280), ("ward", "dark", 1280), ("login", "light", 1280)]
SLOW = [
    *(
        (scene, "light" if scene in LIGHT else "dark", 1280)
        for scene in SCENES
        if scene not in ("live", "high")
    ),
    *(
        ("live", theme, width)
        for theme, width in (("light", 1280), ("dark", 390), ("light", 390), ("dark", 2560))
    ),
    *(("high", "light", width) for width in (390, 1280, 2560)),
    *(("ward", theme, width) for theme, width in (("light", 1280), ("light", 390), ("dark", 2560))),
    *(("login", "dark", width) for width in (390, 1280, 2560)),
]


@pytest.fixture(scope="module")
def browser():
    with chromium(*FONT_OPTIONS, FONTCONFIG_FILE=str(KEPT / "fonts.conf")) as started:
        yield started


@pytest.fixture(autouse=True)
def _still():
    with stopped_clock():
        yield


@contextmanager
def shown(browser, scene, theme, width):
    """The page in a state, standing still."""
    ward = scene == "ward"
    rig = StillRig(made_up_ecg(), hello={"ward": True, "beds": BEDS} if ward else HELLO_OF.get(scene))
    rig.trend, rig.past, rig.tiles = trend_of(points=900, end_ms=AT_MS), past_events(), tiles(BEDS)
    rig.start()
    wide, high = SIZES[width]
    view = {"width": wide, "height": high, "scheme": theme, "at": AT, "reduced_motion": "reduce"}
    address = f"{rig.url}/static/login.html" if scene == "login" else rig.url
    with opened(browser, address, **view, timezone_id="UTC", locale="en-GB") as page:
        if scene == "login":
            page.locator("html[data-theme]").wait_for()
            page.evaluate("document.querySelector('#failed').textContent = 'User or password is wrong.'")
        elif ward:
            page.locator("#count", has_text="64 beds, 8 with").wait_for()
        else:
            _play(page, rig, scene)
        yield page
    rig.stop()


def _play(page, rig, scene):
    page.locator(".lead-labels > span").nth(11).wait_for()
    SCENES[scene](rig)
    rig.play_on()
    evaluate_module(page, "main.js", STAND_STILL)
    page.locator(WAITED_FOR[scene]).first.wait_for()
    page.locator("#lead-list", has_text="waiting").wait_for(state="detached")
    if scene != "dead":
        page.locator("#health", has_text="To screen p99 12 ms").wait_for()
    evaluate_module(page, "main.js", "m.page.trend.redraw()")  # else it waits for more to come
    page.wait_for_timeout(150)  # frames


WAITED_FOR = dict.fromkeys(("live", "gap", "lead_off", "latched", "demo"), "#mpcwp:text('14')")
WAITED_FOR |= dict.fromkeys(("low", "medium", "high"), "#mpcwp:text('27')")
WAITED_FOR |= {
    "invalid": "#reason:text('flat')",
    "technical": "#lead-list :text('no data')",
    "acknowledged": "#alarm[data-signal=acknowledged]",
    "paused": "#pause-left:text('Sound paused')",
    "expired": "#number[data-state=expired]",
    "dead": "body.dead #dead strong",
}


def picture_of(page):
    """The page as it is seen, and where its parts are."""
    page.mouse.move(0, 0)
    running = [page.locator(each) for each in RUNNING.split(", ")]
    png = page.screenshot(animations="disabled", caret="hide", mask=running, mask_color="#ff00ff")
    return png, page.evaluate(BOXES)


def compare(name, png, boxes, folder):
    """Hold what is seen against what is kept, or keep it."""
    seen, path = reduced(png), KEPT / f"{name}.png"
    kept_boxes = read_boxes(BOXES_FILE)
    if RENEW:
        keep(seen, path)
        write_boxes(BOXES_FILE, {**kept_boxes, name: boxes})
        return
    found = [*faults(seen, Image.open(path)), *moved(boxes, kept_boxes[name])]
    (folder / "seen.png").write_bytes(png)
    assert found == [], f"{folder / 'seen.png'} is not {path}; `make pictures` keeps what is right"


@pytest.mark.parametrize(
    ("scene", "theme", "width"), [*FAST, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)]
)
def test_a_state_looks_as_it_did(browser, scene, theme, width, tmp_path):
    with shown(browser, scene, theme, width) as page:
        compare(f"{scene}-{theme}-{width}", *picture_of(page), tmp_path)


@pytest.mark.parametrize(
    ("selector", "style", "told"),
    [
        pytest.param("#mpcwp", {"transform": "translateX(14px)"}, "mpcwp is at", marks=pytest.mark.slow),
        ("#ack", {"background": "#1f55b5"}, "pixels differ"),
        pytest.param("#interval", {"marginTop": "16px"}, "interval is at", marks=pytest.mark.slow),
        pytest.param("#alarm", {"background": "#a01030"}, "pixels differ", marks=pytest.mark.slow),
        pytest.param(
            "#stage .trace", {"filter": "hue-rotate(120deg)"}, "pixels differ", marks=pytest.mark.slow
        ),
        pytest.param("#notice", {"display": "none"}, "notice is gone", marks=pytest.mark.slow),
    ],
)
def test_what_has_moved_or_has_another_colour_is_found(browser, selector, style, told):
    with shown(browser, "high", "dark", 1280) as page:
        page.locator(selector).evaluate("(node, style) => Object.assign(node.style, style)", style)
        png, boxes = picture_of(page)
    kept = Image.open(KEPT / "high-dark-1280.png")
    found = [*faults(reduced(png), kept), *moved(boxes, read_boxes(BOXES_FILE)["high-dark-1280"])]
    assert any(told in fault for fault in found), found


@pytest.mark.slow
@pytest.mark.parametrize("picture", ["high-dark-1280", "live-light-1280"])
def test_another_rasteriser_of_fonts_is_no_difference(browser, picture):
    scene, theme, width = picture.split("-")
    other = browser.browser_type.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox", *OTHER_FONT_OPTIONS]
    )
    with shown(other, scene, theme, int(width)) as page:
        png, boxes = picture_of(page)
    other.close()
    kept, seen = Image.open(KEPT / f"{picture}.png"), reduced(png)
    assert difference(seen, kept, step=8)[0] > 0.01, "it draws otherwise"
    assert [*faults(seen, kept), *moved(boxes, read_boxes(BOXES_FILE)[picture])] == []
