"""The page of a ward in Chromium: which tile stands where, what it says, where it leads."""

import pytest
from browser import chromium, opened
from page_rig import PageRig, now_ms, real_ecg
from page_scenes import INVALID, alarm, estimate, technical

BEDS = ["bed1", "bed2", "bed10", "bed11", "bed12"]


def tile(bed, *, worst=None, feed="connected", shown=None, active=None):
    shown = estimate() if shown is None else shown
    count = int(worst is not None) if active is None else active
    last = {**shown, "wall_ms": now_ms()}
    return {
        "type": "tile",
        "bed": bed,
        "estimate": last,
        "worst": worst,
        "active": count,
        "feed": feed,
        "leads_off": [],
    }


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def rig(ecg_data):
    served = PageRig(real_ecg(ecg_data), hello={"ward": True, "beds": BEDS})
    served.tiles = [tile(bed) for bed in BEDS]
    served.start()
    yield served
    served.stop()


@pytest.fixture
def page(browser, rig):
    with opened(browser, rig.url) as shown:
        shown.locator(".tile").nth(len(BEDS) - 1).wait_for()
        yield shown


def order(page):
    return page.locator(".tile .bed").all_inner_texts()


def test_calm_beds_stand_by_number_and_urgent_ones_before_them(page, rig):
    assert order(page) == BEDS
    rig.say(tile("bed12", worst=technical("LEAD_OFF", "leads off: V1", signal="acknowledged")))
    rig.say(tile("bed11", worst=alarm(priority="medium"), active=3))
    rig.say(tile("bed10", shown=INVALID))
    rig.say(tile("bed2", worst=alarm()))
    page.locator(".tile", has_text="bed11").locator(
        ".what", has_text="◆ medium** mPCWP elevated (+2)"
    ).wait_for()
    page.locator(".tile", has_text="bed2").locator(".what", has_text="● low* mPCWP elevated").wait_for()
    page.locator("#count", has_text="5 beds, 2 with an alarm").wait_for()  # written once they are sorted
    assert order(page) == ["bed11", "bed2", "bed12", "bed10", "bed1"]


def test_a_bed_without_feed_says_so_and_its_number_is_not_shown_as_live(page, rig):
    rig.say(tile("bed2", feed="lost"))
    first = page.locator("#tiles > li:first-child .tile[data-state=old]", has_text="bed2")
    first.wait_for()
    assert "feed lost" in first.inner_text()


def test_a_tile_leads_to_its_bed(page):
    page.locator(".tile", has_text="bed10").click()
    page.locator(".lead-labels > span").nth(11).wait_for()
    assert page.locator("#bed-name").inner_text() == "bed10"
    assert page.locator("#home").inner_text() == "← ward"


def test_a_dead_server_leaves_no_tile(page, rig):
    rig.stop()
    page.locator("#dead strong").wait_for()
    assert page.locator(".tile").count() == 0
