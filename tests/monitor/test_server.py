"""The page's server as browsers and programs use it: what it shows, who may come in, and what they may do."""

import asyncio
import json
import ssl

import aiohttp
import pytest
from mosquitto import certificates
from page_parts import chunk
from page_server import WORDS, ask_raw, browser, log_in, make_users, next_of, served
from sink_events import alarm, estimate

from ecgedge.control import Acknowledge, PauseAudio
from ecgedge.errors import UsageError
from ecgedge.monitor.answers import CONTENT_POLICY
from ecgedge.monitor.frames import decode
from ecgedge.monitor.users import UsersFile, load_users, write_users

ACK = {"do": "ack", "id": 7, "bed": "a", "condition": "LEAD_OFF", "user": "Nurse Typed"}


def test_a_bed_is_seen_and_acknowledged_on_this_machine(run):
    async def main():
        async with served() as page, browser() as session, session.ws_connect(f"{page.url}/ws") as ws:
            hello = await ws.receive_json()
            assert hello["type"] == "hello"
            assert (hello["user"], hello["role"], hello["ward"], hello["beds"]) == (
                None,
                "acknowledge",
                False,
                ["a"],
            )
            assert "Research use only" in hello["notice"]
            assert hello["simulated"] is True
            assert hello["limits"]["elevated_mmhg"] == 18.0
            await ws.send_json({"do": "watch", "bed": "a"})
            await next_of(ws, "history")
            page.page.hub.take_samples("a", chunk())
            assert decode((await ws.receive()).data).samples_mv.shape == (2, 10)
            page.page.hub.take_event("a", alarm())
            assert (await next_of(ws, "alarm"))["condition"] == "MPCWP_ELEVATED"
            await ws.send_json(ACK)
            assert await next_of(ws, "answer") == {"type": "answer", "id": 7, "ok": True, "error": None}
            assert page.obeyed == [("a", Acknowledge("LEAD_OFF", "Nurse Typed"))]
            assert "typed name" in page.said[1]

    run(main())


def test_a_refusal_is_answered_in_words_without_secrets(run):
    async def main():
        async with served() as page, browser() as session, session.ws_connect(f"{page.url}/ws") as ws:
            page.refusal = "bed a has heard nothing: tcp://me:pw@10.0.0.7?token=x: cannot connect"
            await ws.send_json(ACK)
            answer = await next_of(ws, "answer")
            assert not answer["ok"]
            assert answer["error"] == "bed a has heard nothing: tcp://10.0.0.7: cannot connect"
            await ws.send_json({**ACK, "condition": "NONE"})
            assert "unknown condition" in (await next_of(ws, "answer"))["error"]
            await ws.send_json({"do": "watch", "bed": "none"})
            assert (await next_of(ws, "gone"))["bed"] == "none"
            assert page.page.counts() == {"refused": 1, "bad_command": 1, "unknown_bed": 1}

    run(main())


def test_every_answer_has_its_headers_and_no_path_leads_out(run):
    async def main():
        async with served() as page, browser() as session:
            for path, status in (
                ("/", 200),
                ("/bed/a", 200),
                ("/static/index.html", 200),
                ("/healthz", 200),
                ("/card?bed=a", 200),
                ("/api/events?bed=a", 200),
                ("/whoami", 200),
                ("/login", 404),
                ("/api/events?bed=b", 404),
                ("/none", 404),
            ):
                async with session.get(page.url + path) as answer:
                    assert answer.status == status, path
                    assert answer.headers["Content-Security-Policy"] == CONTENT_POLICY
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["X-Frame-Options"] == "DENY"
                    assert answer.headers["Server"] == "ecgedge"
                    assert answer.headers["Cache-Control"] in ("no-store", "no-cache")
            async with session.delete(page.url + "/", headers=page.origin) as answer:
                assert answer.status == 405

    run(main())


def test_the_event_log_can_be_kept(run):
    async def main():
        async with served() as page, browser() as session:
            page.page.hub.take_event("a", alarm(text="=1+1"))
            page.page.hub.take_event("a", estimate())
            async with session.get(f"{page.url}/api/events?bed=a&format=jsonl") as answer:
                (event,) = [json.loads(line) for line in (await answer.text()).splitlines()]
                assert event["type"] == "alarm"
                assert "attachment" in answer.headers["Content-Disposition"]
            async with session.get(f"{page.url}/api/events?bed=a&format=csv") as answer:
                head, row = (await answer.text()).splitlines()
            assert head.startswith("wall_ms,t_s,bed,type,condition")
            assert "'=1+1" in row, "no spreadsheet runs it"

    run(main())


def test_the_ward_is_seen_in_tiles(run):
    async def main():
        async with (
            served(ward=True, beds=("a", "b")) as page,
            browser() as session,
            session.ws_connect(f"{page.url}/ws") as ws,
        ):
            await ws.send_json({"do": "watch_ward"})
            assert {(await next_of(ws, "tile"))["bed"] for _ in range(2)} == {"a", "b"}
            health = await next_of(ws, "health")
            assert set(health["beds"]) == {"a", "b"}
            assert health["memory_mb"] > 1.0
            assert health["viewers"] == 1

    run(main())


@pytest.mark.parametrize(
    ("user", "session_h", "lasts_h"),
    [
        ("Nurse Seven", 12, 12),
        ("Visitor", 12, 12),
        ("Nurse Seven", 100, 12),
        ("Visitor", 100, 100),
        ("Visitor", 1, 1),
    ],
)
def test_a_session_ends_when_it_is_told_to_and_who_acknowledges_after_a_shift(
    run, tmp_path, user, session_h, lasts_h
):
    async def main():
        make_users(tmp_path / "u.toml")
        async with (
            served(users=tmp_path / "u.toml", session_h=session_h) as page,
            browser() as session,
        ):
            await log_in(session, page, user=user)
            for hours, status in ((lasts_h - 0.1, 200), (0.2, 401)):
                page.age_sessions(hours)
                async with session.get(page.url + "/whoami") as answer:
                    assert answer.status == status

    run(main())


def test_with_users_nobody_comes_in_without(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            async with session.get(page.url + "/bed/a", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/login?next=%2Fbed%2Fa")
            for path in ("/ws", "/card?bed=a", "/api/events?bed=a", "/whoami"):
                async with session.get(page.url + path) as answer:
                    assert answer.status == 401, path
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"{page.url}/ws")
            assert page.page.counts()["no_login"] == 6

    run(main())


def test_a_nurse_logs_in_acts_in_her_name_and_logs_out(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            answer = await log_in(session, page, next_page="/bed/a")
            assert (answer.status, answer.headers["Location"]) == (303, "/bed/a")
            cookie = next(c for c in answer.headers.getall("Set-Cookie") if "-form" not in c)
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            async with session.ws_connect(f"{page.url}/ws", headers=page.origin) as ws:
                hello = await ws.receive_json()
                assert (hello["user"], hello["role"]) == ("Nurse Seven", "acknowledge")
                await ws.send_json(ACK)
                assert (await next_of(ws, "answer"))["ok"]
                assert page.obeyed == [("a", Acknowledge("LEAD_OFF", "Nurse Seven"))]
                async with session.post(
                    f"{page.url}/logout", headers=page.origin, allow_redirects=False
                ) as out:
                    assert (out.status, out.headers["Location"]) == (303, "/login")
                while not (await asyncio.wait_for(ws.receive(), 60.0)).type.name.startswith("CLOS"):
                    pass
            async with session.get(page.url + "/whoami") as answer:
                assert answer.status == 401

    run(main())


def test_a_viewer_may_look_and_do_nothing(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            await log_in(session, page, user="Visitor")
            async with session.ws_connect(f"{page.url}/ws", headers=page.origin) as ws:
                for message in (
                    ACK,
                    {"do": "pause", "id": 1, "bed": "a", "duration_s": 9},
                    {**ACK, "do": "resume"},
                ):
                    await ws.send_json(message)
                    answer = await next_of(ws, "answer")
                    assert "your role is view" in answer["error"]
            async with session.get(page.url + "/api/status") as answer:
                assert answer.status == 403
            assert page.obeyed == []
            assert page.page.counts()["refused_by_role"] == 4

    run(main())


def test_a_program_comes_in_by_its_token_until_it_ends(run, tmp_path):
    async def main():
        token = make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            bearer = {"Authorization": f"Bearer {token}"}
            async with session.get(page.url + "/whoami", headers=bearer) as answer:
                assert await answer.json() == {"user": "prog", "role": "admin", "login": True}
            async with session.get(page.url + "/api/status", headers=bearer) as answer:
                assert await answer.json() == {"refused": {}, "viewers": 0}
            async with session.ws_connect(f"{page.url}/ws", headers=bearer) as ws:
                await ws.send_json({"do": "pause", "id": 1, "bed": "a", "duration_s": 30})
                assert (await next_of(ws, "answer"))["ok"]
                assert page.obeyed == [("a", PauseAudio(30.0, "prog"))]
                left = [u for u in load_users(tmp_path / "u.toml").user if u.name != "prog"]
                write_users(tmp_path / "u.toml", UsersFile(tuple(left)))
                while not (await asyncio.wait_for(ws.receive(), 60.0)).type.name.startswith("CLOS"):
                    pass
            assert page.page.counts()["session_ended"] == 1
            for bad in (bearer, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
                async with session.get(page.url + "/whoami", headers=bad) as answer:
                    assert answer.status == 401
            assert page.page.counts()["wrong_token"] == 2

    run(main())


def test_a_token_that_has_ended_is_told_so(run, tmp_path):
    async def main():
        token = make_users(tmp_path / "u.toml", expires="2020-01-01T00:00:00Z")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            async with session.get(
                page.url + "/whoami", headers={"Authorization": f"Bearer {token}"}
            ) as answer:
                assert (answer.status, await answer.text()) == (401, "the token has expired\n")
            assert page.page.counts() == {"expired_token": 1}

    run(main())


def test_over_tls_cookies_are_secure_and_plain_http_finds_nothing(run, tmp_path):
    certificates(tmp_path)
    make_users(tmp_path / "u.toml")

    async def main():
        tls = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        files = {"cert": tmp_path / "server.pem", "key": tmp_path / "server.key"}
        async with served(users=tmp_path / "u.toml", **files) as page, browser(tls=tls) as session:
            assert page.url.startswith("https://")
            answer = await log_in(session, page)
            assert answer.status == 303
            cookie = next(c for c in answer.headers.getall("Set-Cookie") if "-form" not in c)
            assert cookie.startswith("__Host-ecgedge-")
            assert "Secure" in cookie
            async with session.ws_connect(f"{page.url}/ws", headers=page.origin) as ws:
                assert (await ws.receive_json())["user"] == "Nurse Seven"
            assert b"HTTP" not in await ask_raw(page.port, b"GET / HTTP/1.0\r\n\r\n")
            old = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            async with browser(tls=old) as other, other.get(page.url + "/healthz") as answer:
                assert answer.status == 200
            assert page.page.counts()["no_tls"] == 1

    run(main())


def test_a_page_for_other_machines_opens_with_tls_and_users_alone(run, tmp_path):
    certificates(tmp_path)
    make_users(tmp_path / "u.toml")
    files = {"cert": tmp_path / "server.pem", "key": tmp_path / "server.key", "users": tmp_path / "u.toml"}

    async def main():
        async with served(address="[::]:0", **files) as page:
            assert page.said[0].startswith("page: https://")
            assert len(page.said) == 1, "no word of typed names"
        with pytest.raises(UsageError, match="needs TLS and users"):
            async with served(address="[::]:0"):
                pass

    run(main())


def test_a_port_that_is_taken_is_told(run):
    async def main():
        async with served() as page:
            with pytest.raises(UsageError, match="cannot listen"):
                async with served(address=str(page.port)):
                    pass

    run(main())


def test_a_password_is_never_in_what_is_said(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            await log_in(session, page, words="wrong horse battery")
            await log_in(session, page)
            async with session.get(page.url + "/login?next=//evil.example/") as answer:
                assert 'name="next" value="/"' in await answer.text(), "it leads to no other place"
            async with session.get(page.url + "/login?next=%22%3E%3Cput-in%3E") as answer:
                assert "<put-in" not in await answer.text()
            assert not [line for line in page.said if WORDS in line or "wrong horse" in line]

    run(main())
