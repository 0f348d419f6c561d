"""The page of one bed in Chromium, against a server that says what each test wants."""

import time
from contextlib import contextmanager

import pytest
from browser import chromium, evaluate_module, opened
from page_rig import LEADS, PageRig, placed, real_ecg
from page_scenes import INVALID, WITHOUT_LA, alarm, estimate, feed, past_events, technical, trend_of

NURSE = "Nurse Seven"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def ecg(ecg_data):
    return real_ecg(ecg_data)


@pytest.fixture
def rig(ecg):
    served = PageRig(ecg).start()
    yield served
    served.stop()


@contextmanager
def live(browser, rig, **view):
    """A page that watches the bed already: what is said from here on arrives."""
    with opened(browser, rig.url, **view) as shown:
        shown.locator(".lead-labels > span").nth(len(rig.leads) - 1).wait_for()
        yield shown


@pytest.fixture
def page(browser, rig):
    with live(browser, rig) as shown:
        yield shown


def text(page, selector, wanted):
    """Wait until an element has this text."""
    page.locator(selector, has_text=wanted).wait_for()
    return page.locator(selector).inner_text()


def stats(page):
    return evaluate_module(page, "main.js", "m.page.sweep.stats")


def until(page, is_so):
    """Wait for what no selector tells."""
    end_s = time.monotonic() + 60.0
    while not is_so():
        assert time.monotonic() < end_s, "what was waited for has not come"
        page.wait_for_timeout(20)


def marks(page):
    """How many points of each lead's cell are drawn."""
    return evaluate_module(
        page,
        "main.js",
        """m.page.sweep.plan.layout.cells.map(({x, y, width, height}) => {
          const trace = document.querySelector('canvas.trace'), r = devicePixelRatio;
          const seen = Object.assign(document.createElement('canvas'), {width: trace.width, height: trace.height});
          seen.getContext('2d').drawImage(trace, 0, 0);
          const data = seen.getContext('2d').getImageData(x * r, y * r, width * r, height * r).data;
          return data.filter((v, i) => i % 4 === 3 && v > 100).length;
        })""",
    )


def test_twelve_leads_run_and_every_one_of_them_is_drawn(page):
    until(page, lambda: stats(page)["blocks"] > 60)
    until(page, lambda: min(marks(page)) > 200)
    assert len(marks(page)) == len(LEADS)
    assert stats(page)["holes"] == 0


@pytest.mark.slow
def test_a_minute_of_twelve_leads_is_drawn_without_a_hole_fluently_and_at_little_cost(page):
    page.wait_for_timeout(2000)
    evaluate_module(page, "main.js", "void (m.page.sweep.stats.latencyMs.length = 0)")
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "timeTicks"})
    before, busy_s, began_s = stats(page), task_s(metrics), time.monotonic()
    page.wait_for_timeout(60_000)
    after, took_s = stats(page), time.monotonic() - began_s
    assert after["holes"] == before["holes"] == 0
    assert after["blocks"] - before["blocks"] > 2900
    assert (after["frames"] - before["frames"]) / took_s >= 55
    assert (task_s(metrics) - busy_s) / took_s <= 0.10, (
        "the share of the main thread, waiting for a core included"
    )
    assert sorted(after["latencyMs"])[int(0.99 * len(after["latencyMs"]))] <= 100
    assert page.locator("#stage.quiet").count() == 0


def task_s(metrics):
    """How long the page's main thread has been at work."""
    found = metrics.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in found if metric["name"] == "TaskDuration")


def test_an_estimate_is_shown_with_its_interval_probability_and_age(page, rig):
    rig.say(estimate(mpcwp_mmhg=17.3, interval_mmhg=[12.1, 22.6], p_gt_18=0.44))
    assert text(page, "#mpcwp", "17") == "17"
    assert page.locator("#interval").inner_text() == "12 to 23 mmHg"
    assert page.locator("#probability").inner_text() == "44 %"
    assert page.locator("#age").inner_text().endswith(" s")
    assert page.locator("#number .chip").inner_text() == "estimate"
    assert "12 leads" in page.locator("#variant").inner_text()


def test_no_valid_estimate_blanks_the_number_and_says_why(page, rig):
    rig.say(estimate())
    text(page, "#mpcwp", "14")
    rig.say(INVALID)
    assert text(page, "#reason", "flat: V1,V2") == INVALID["reason"]
    assert page.locator("#mpcwp").inner_text() == "--"
    assert page.locator("#interval").inner_text() == ""


def test_an_expired_estimate_is_blanked(page, rig):
    rig.say(estimate())
    text(page, "#mpcwp", "14")
    rig.say({"type": "expired", "t_s": 1300.0, "since_s": 700.0, "reason": "no estimate for 600 s"})
    text(page, "#reason", "no estimate for 600 s")
    assert page.locator("#mpcwp").inner_text() == "--"


def test_a_lead_that_is_off_names_its_electrode_and_a_variant_says_why(page, rig):
    for lead in WITHOUT_LA:
        rig.say(feed("lead_off", lead))
    rig.say(technical("LEAD_OFF", f"leads off: {','.join(WITHOUT_LA)} (electrode LA)"))
    rig.say(estimate(leads=["II"], variant="1/int8"))
    text(page, ".lead-labels > span:nth-child(1)", "LEAD OFF: LA")
    assert page.locator(".lead-labels b").count() == 11
    assert text(page, "#variant", "1/int8").endswith(f"as {', '.join(WITHOUT_LA)} off")
    rig.say(feed("lead_on", "I"))
    page.locator(".lead-labels b").nth(10).wait_for(state="detached")


def test_an_alarm_is_told_in_words_symbol_and_colour_and_acknowledged_by_a_user(page, rig):
    rig.on_command = lambda said: [alarm(signal="acknowledged", user=said["user"])]
    rig.say(alarm(priority="medium"))
    told = text(page, "#alarm-top[role=alert]", "mPCWP elevated")
    assert "** mPCWP elevated (medium priority)" in told
    assert "◆" in told
    assert page.locator("#alarm").get_attribute("data-priority") == "medium"
    page.click("#ack")
    page.fill("#ack-user", NURSE)
    page.keyboard.press("Enter")
    text(page, "#alarm-words", f"acknowledged by {NURSE}")
    said = rig.heard[-1]
    assert (said["do"], said["bed"], said["condition"], said["user"]) == (
        "ack",
        "bed1",
        "MPCWP_ELEVATED",
        NURSE,
    )
    assert page.locator("#ack").is_hidden()


def test_a_refused_acknowledgement_says_so_and_changes_nothing(page, rig):
    rig.answer_error = "the journal cannot be written"
    rig.say(alarm())
    page.click("#ack")
    page.fill("#ack-user", NURSE)
    page.click("#ack-dialog button.main")
    text(page, "#ack-error", "the journal cannot be written")
    assert page.locator("#ack-dialog").is_visible()
    assert page.locator("#alarm").get_attribute("data-signal") == "on"


def test_an_acknowledgement_that_is_lost_with_the_server_is_not_said_to_be_done_or_not(page, rig):
    rig.mute = True
    rig.say(alarm())
    page.click("#ack")
    page.fill("#ack-user", NURSE)
    page.keyboard.press("Enter")
    until(page, lambda: [said["do"] for said in rig.heard][-1] == "ack")
    assert page.locator("#ack-dialog").is_visible()
    rig.stop()
    text(page, "#ack-error", "look whether this was done")
    rig.alarms = [alarm(signal="acknowledged", user=NURSE)]
    again = rig.restarted()
    text(page, "#alarm-words", f"acknowledged by {NURSE}")
    again.stop()


def test_the_most_urgent_alarm_stands_first_and_the_others_are_counted(page, rig):
    rig.say(technical("CLOCK_UNSYNC", "no time server"))
    rig.say(alarm(priority="low", t_s=500.0))
    rig.say(
        technical("FEED_LOST", "no samples for 2 s", priority="medium", signal="acknowledged", user=NURSE)
    )
    text(page, "#more", "+2 others (◆ medium)")
    text(page, "#alarm-words", "mPCWP elevated")
    page.click("#more")
    listed = page.locator("#alarm-list li").all_inner_texts()
    assert ["Clock unsync" in listed[0], "Feed lost" in listed[1]] == [True, True]


def test_a_pause_is_asked_for_counted_down_and_ended(page, rig):
    rig.on_command = lambda said: [
        {
            "type": "audio",
            "t_s": 10.0,
            "state": "paused",
            "ends_s": 130.0,
            "text": "paused",
            "user": said["user"],
        }
        if said["do"] == "pause"
        else {"type": "audio", "t_s": 12.0, "state": "on", "ends_s": None, "text": "on", "user": said["user"]}
    ]
    page.click("#pause")
    page.fill("#ack-user", NURSE)
    page.keyboard.press("Enter")
    text(page, "#pause-left", "Sound paused 1:5")
    assert (rig.heard[-1]["do"], rig.heard[-1]["duration_s"], rig.heard[-1]["user"]) == ("pause", 120, NURSE)
    page.click("#pause")
    page.click("#ack-dialog button.main")
    text(page, "#pause", "Pause sound")
    assert rig.heard[-1]["do"] == "resume"


def test_a_feed_that_is_lost_is_told_on_the_trace_itself(page, rig):
    until(page, lambda: stats(page)["blocks"] > 0)
    rig.playing = False
    text(page, "#sweep-note", "No samples for")
    rig.playing = True
    page.locator("#stage:not(.quiet)").wait_for()


def test_a_trace_that_is_no_longer_drawn_does_not_look_live(page):
    until(page, lambda: stats(page)["blocks"] > 0)
    page.locator("#stage:not(.quiet)").wait_for()
    evaluate_module(page, "main.js", "m.page.sweep.pen.terminate()")
    text(page, "#sweep-note", "The trace stands still")
    page.locator("#stage.quiet").wait_for()


def test_a_killed_server_is_covered_and_the_page_comes_back_by_itself(page, rig):
    rig.say(estimate())
    text(page, "#mpcwp", "14")
    rig.stop()
    text(page, "#dead", "No connection")
    assert page.locator("#mpcwp").is_hidden()
    assert page.locator("#mpcwp").text_content() == "--"
    again = rig.restarted()
    try:
        page.locator("body:not(.dead)").wait_for()
        assert {"do": "watch", "bed": "bed1"} in again.heard
        again.say(estimate(mpcwp_mmhg=11.0))
        text(page, "#mpcwp", "11")
    finally:
        again.stop()


def test_a_server_that_only_greets_is_dead(page, rig):
    rig.beating = False
    text(page, "#dead", "silent")
    watched = [said["do"] for said in rig.heard].count("watch")
    # It has been reached again, has greeted, and was found silent again.
    until(page, lambda: [said["do"] for said in rig.heard].count("watch") > watched + 1)
    assert page.locator("#dead").is_visible()
    rig.beating = True
    page.locator("body:not(.dead)").wait_for()


def test_what_others_wrote_is_text_and_never_markup(browser, ecg):
    evil = "<img src=x onerror=alert(1)>"
    rig = PageRig(ecg[:1], leads=(evil,)).start()
    with live(browser, rig) as page:
        rig.say(alarm(text=evil, signal="acknowledged", user=evil))
        rig.say(estimate(validity="invalid", reason=evil, leads=[evil], variant=evil))
        text(page, "#reason", "<img")
        text(page, "#log-rows", "<img")
        assert page.locator("main img").count() == 0
    rig.stop()


@pytest.mark.parametrize(
    ("past", "reason"),
    [
        ([], "No estimate yet"),
        ([estimate(), INVALID], INVALID["reason"]),
        (
            [{"type": "expired", "t_s": 1300.0, "since_s": 700.0, "reason": "none for 600 s"}],
            "none for 600 s",
        ),
    ],
)
def test_a_number_that_no_longer_stands_does_not_come_back_with_the_trend(browser, ecg, past, reason):
    rig = PageRig(ecg)
    rig.trend, rig.past = trend_of(), [placed(event) for event in past]
    rig.start()
    with live(browser, rig) as page:
        text(page, "#reason", reason)
        assert page.locator("#mpcwp").inner_text() == "--"
    rig.stop()


def test_a_pause_that_a_new_server_does_not_know_is_not_shown(browser, rig):
    with live(browser, rig) as page:
        rig.say({"type": "audio", "t_s": 10.0, "state": "paused", "ends_s": 130.0, "text": "", "user": NURSE})
        text(page, "#pause-left", "Sound paused")
        rig.stop()
        text(page, "#dead", "No connection")
        again = rig.restarted()
        page.locator("body:not(.dead)").wait_for()
        page.locator("#pause", has_text="Pause sound").wait_for()
        assert page.locator("#pause-left").inner_text() == ""
        again.stop()


def test_an_alarm_that_calls_is_not_hidden_behind_a_higher_one_that_was_seen(page, rig):
    rig.say(alarm(priority="high", signal="acknowledged", user=NURSE))
    text(page, "#alarm-words", f"acknowledged by {NURSE}")
    rig.say(technical("LEAD_OFF", "leads off: V1"))
    text(page, "#alarm-words", "Lead off")
    assert page.locator("#more").inner_text() == "+1 other (▲ high)"
    assert page.locator("#ack").is_visible()


def test_a_bed_that_is_taken_away_is_covered_until_it_is_back(page, rig):
    rig.tell({"type": "beds", "beds": []})
    text(page, "#dead", "No bed bed1 is served")
    rig.tell({"type": "beds", "beds": ["bed1"]})
    page.locator("body:not(.dead)").wait_for()


def test_who_may_only_view_is_offered_nothing_to_do(browser, ecg):
    rig = PageRig(ecg, hello={"role": "view"}).start()
    with live(browser, rig) as page:
        rig.say(alarm())
        text(page, "#alarm-words", "mPCWP elevated")
        assert page.locator("#ack").is_hidden()
        assert page.locator("#pause").is_hidden()
    rig.stop()


def test_what_is_not_a_patients_is_marked_over_the_whole_page(browser, ecg):
    rig = PageRig(ecg, hello={"mode": "demo", "simulated": True}).start()
    with live(browser, rig) as page:
        assert text(page, "#mode", "DEMO") == "DEMO"
        mark = "getComputedStyle(document.querySelector('#watermark'), '::before').content"
        assert page.evaluate(mark) == '"DEMO"'
        assert "Research use only" in page.locator("#notice").inner_text()
    rig.stop()


def test_history_fills_the_trend_the_log_and_the_last_number(browser, ecg):
    rig = PageRig(ecg)
    rig.trend, rig.past, rig.alarms = (
        trend_of(),
        [*past_events(), placed(estimate())],
        [alarm(signal="latched")],
    )
    rig.off = {"V2"}
    rig.start()
    with live(browser, rig) as page:
        text(page, "#alarm-words", "has gone, not yet seen")
        text(page, ".lead-labels > span:nth-child(8)", "LEAD OFF")
        assert page.locator("#mpcwp").inner_text() == "14"
        assert page.locator("#log-rows tr").count() == 4
        page.click("[data-hours='24']")
        assert "over 24 h: last" in page.locator("#plot").get_attribute("aria-label")
        page.select_option("#log-filter", "user")
        assert page.locator("#log-rows tr").count() == 1
        page.fill("#log-find", "nothing of the kind")
        assert page.locator("#log-rows tr").count() == 0
        assert page.locator("#log-csv").get_attribute("href") == "/api/events?bed=bed1&format=csv"
    rig.stop()


def escape(page, dialog):
    page.keyboard.press("Escape")
    page.locator(dialog).wait_for(state="hidden")


def test_keys_open_what_the_help_lists_and_can_be_turned_off(page, rig):
    rig.say(alarm())
    text(page, "#alarm-words", "mPCWP")
    page.keyboard.press("a")
    page.locator("#ack-dialog").wait_for()
    escape(page, "#ack-dialog")
    page.keyboard.press("m")
    text(page, "#card-text", "Simulated patients only.")
    escape(page, "#card")
    page.keyboard.press("?")
    page.locator("#help").wait_for()
    assert page.locator("#key-list kbd").count() >= 8
    page.uncheck("#keys-on")
    escape(page, "#help")
    page.keyboard.press("a")
    assert page.locator("#ack-dialog").is_hidden()


def test_the_theme_is_the_systems_until_the_user_chooses(browser, rig):
    with live(browser, rig, scheme="light") as page:
        root = page.locator("html")
        assert root.get_attribute("data-theme") == "light"
        page.click("#theme")
        assert root.get_attribute("data-theme") == "dark"
        page.reload()
        assert page.locator("html").get_attribute("data-theme") == "dark"
