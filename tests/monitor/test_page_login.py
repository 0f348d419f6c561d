"""The way in, in Chromium, through the product's own server: users, wrong passwords, a session that ends."""

import pytest
from browser import chromium, evaluate_module, opened
from page_server import WORDS, make_users, serving

NURSE = "Nurse Seven"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def server(tmp_path):
    make_users(tmp_path / "users.toml")
    with serving(users=tmp_path / "users.toml", beds=("a", "b")) as started:
        yield started


def fill_in(page, *, user=NURSE, words=WORDS):
    page.fill("input[name=user]", user)
    page.fill("input[name=password]", words)
    page.click("button[type=submit]")


def test_who_has_a_password_comes_to_the_bed_that_was_asked_for_and_acknowledges_by_that_name(
    browser, server
):
    with opened(browser, f"{server.url}/bed/b") as page:
        assert page.url.endswith("/login?next=%2Fbed%2Fb")
        fill_in(page, words="wrong horse battery")
        page.locator("#failed", has_text="User or password is wrong.").wait_for()
        fill_in(page, user="Nobody")
        page.locator("#failed", has_text="User or password is wrong.").wait_for()
        fill_in(page)
        page.locator("#health", has_text="Heartbeat").wait_for()
        assert page.url == f"{server.url}/bed/b"
        page.locator("#logout button", has_text=f"Log out {NURSE}").wait_for()
        page.click("#pause")
        assert page.locator("#ack-user").input_value() == NURSE
        assert not page.locator("#ack-user").is_editable()
        page.click("#ack-dialog button.main")
        page.locator("#ack-dialog").wait_for(state="hidden")
        ((bed, command),) = server.obeyed
        assert (bed, command.user) == ("b", NURSE)
        assert server.page.counts()["wrong_password"] == 2


def test_a_session_that_has_ended_leads_to_the_door_and_back_to_the_same_bed(browser, server):
    with opened(browser, f"{server.url}/bed/b") as page:
        fill_in(page)
        page.locator("#health", has_text="Heartbeat").wait_for()
        server.age_sessions(12.01)
        page.wait_for_url(f"{server.url}/login?next=%2Fbed%2Fb")
        fill_in(page)
        page.locator("#health", has_text="Heartbeat").wait_for()
        assert page.url == f"{server.url}/bed/b"
        assert evaluate_module(page, "main.js", "m.page.bed") == "b"


@pytest.mark.slow
def test_who_logs_out_is_out_and_who_may_view_is_offered_nothing(browser, server):
    with opened(browser, f"{server.url}/bed/a") as page:
        fill_in(page, user="Visitor")
        page.locator("#health", has_text="Heartbeat").wait_for()
        assert page.locator("#pause").is_hidden()
        page.click("#logout button")
        page.locator("input[name=password]").wait_for()
        page.goto(f"{server.url}/bed/a")
        assert "/login" in page.url
