"""Who means harm is refused or bounded, counted by name, and those who look go on looking."""

import asyncio
import contextlib
import os
import sys

import aiohttp
import pytest
from page_parts import chunk
from page_server import WORDS, ask_raw, browser, connect, is_refused, log_in, make_users, next_of, served
from sink_events import alarm, until

from ecgedge.monitor import login
from ecgedge.monitor.gate import Limits
from ecgedge.monitor.login import OF_ADDRESS

UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
GET = "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def looking(page):
    """A viewer who looks at bed a, and at the end still gets samples and alarms."""
    async with browser() as session, session.ws_connect(f"{page.url}/ws") as ws:
        await ws.send_json({"do": "watch", "bed": "a"})
        await next_of(ws, "history")
        yield
        page.page.hub.take_samples("a", chunk())
        page.page.hub.take_event("a", alarm())
        kinds = set()
        while "alarm" not in kinds:
            message = await asyncio.wait_for(ws.receive(), 60.0)
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
            kinds.add("samples" if message.type == aiohttp.WSMsgType.BINARY else message.json()["type"])
        assert "samples" in kinds


def upgrade(host="127.0.0.1", **headers):
    return UPGRADE.format(host=host, more="".join(f"{k}: {v}\r\n" for k, v in headers.items())).encode()


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "", "x"]
)
def test_a_socket_from_another_page_is_refused(run, origin):
    async def main():
        async with served() as page, looking(page):
            answer = await ask_raw(
                page.port, upgrade(f"127.0.0.1:{page.port}", Origin=origin, Connection="close")
            )
            assert answer.startswith(b"HTTP/1.1 403")
            assert page.page.counts() == {"wrong_origin": 1}

    run(main())


def test_a_form_from_another_page_is_refused(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            await log_in(session, page)
            for headers in ({"Origin": "http://evil.example"}, {}):
                async with session.post(page.url + "/logout", headers=headers) as answer:
                    assert answer.status == 403
            async with session.get(page.url + "/whoami") as answer:
                assert answer.status == 200, "still in"
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(f"{page.url}/ws", headers={"Origin": "http://evil.example"})
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(f"{page.url}/ws")  # a cookie without Origin: no browser does so
            assert page.page.counts()["wrong_origin"] == 4
            assert (await log_in(session, page, csrf="0" * 64)).status == 403
            assert page.page.counts()["wrong_form"] == 1

    run(main())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.7", "[::1", "@"]
)
def test_a_name_that_is_not_ours_is_refused(run, host):
    async def main():
        async with served() as page, looking(page):
            for request in (
                f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(),
                upgrade(host),
            ):
                answer = await ask_raw(
                    page.port, request.replace(b"Connection: Upgrade", b"Connection: close")
                )
                assert answer.startswith((b"HTTP/1.1 421", b"HTTP/1.1 400"))
                assert b"hello" not in answer

    run(main())


def test_names_of_ours_are_taken(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml", hosts=("Ward.example",)) as page:
            for host in ("localhost", "LOCALHOST:9", "[::1]:80", "127.0.0.1", "ward.example:443"):
                request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                assert (await ask_raw(page.port, request.encode())).startswith(b"HTTP/1.1 200"), host

    run(main())


@pytest.mark.parametrize(
    "path",
    [
        "/static/../hub.py",
        "/static/../../bundle.py",
        "/static/%2e%2e/hub.py",
        "/static/..%2fhub.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static//etc/passwd",
        "/static/..\\hub.py",
        "/static/index.html%00.js",
        "/static/.",
        "/static/__init__.py",
        "/bed/../static/../../x",
        "/api/events?bed=../../etc/passwd",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out(run, path):
    async def main():
        async with served() as page:
            answer = await ask_raw(page.port, GET.format(path=path).encode())
            assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer[:80]
            assert b"import" not in answer
            assert b"root:" not in answer

    run(main())


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_an_oversized_message_ends_its_own_socket_alone(run, kind):
    async def main():
        async with served() as page, looking(page), browser() as session:
            ws = await session.ws_connect(f"{page.url}/ws")
            await (ws.send_str("x" * 5000) if kind == "text" else ws.send_bytes(bytes(5000)))
            while not (message := await asyncio.wait_for(ws.receive(), 60.0)).type.name.startswith("CLOS"):
                pass
            assert message.data == 1009
            await until(lambda: page.page.counts())
            assert page.page.counts() == {"too_long": 1}

    run(main())


def test_a_frame_that_claims_gigabytes_takes_no_memory(run):
    async def main():
        async with served() as page, looking(page):
            frame = b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4)
            answer = await ask_raw(page.port, upgrade() + frame)
            assert b"\x03\xf1" in answer, "closed with 1009"

    run(main())


def test_too_many_messages_end_the_socket(run):
    async def main():
        async with served() as page, looking(page), browser() as session:
            ws = await session.ws_connect(f"{page.url}/ws")
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    await ws.send_str("{}")
            while not (await asyncio.wait_for(ws.receive(), 60.0)).type.name.startswith("CLOS"):
                pass
            counts = page.page.counts()
            assert counts["too_many_messages"] == 1
            assert counts["unknown_command"] <= 60

    run(main())


def test_who_asks_slowly_is_cut_off(run):
    async def main():
        limits = {"request_s": 0.3, "connection_s": 1.0}
        async with served(limits=limits) as page, looking(page):
            _, writer = await asyncio.open_connection("127.0.0.1", page.port)
            reader, slow = await asyncio.open_connection("127.0.0.1", page.port)
            slow.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            begin_s = asyncio.get_running_loop().time()
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    slow.write(b"X-a: b\r\n")  # a header at a time, as slowloris does
                    await slow.drain()
                    await asyncio.sleep(0.02)
            assert 0.2 < asyncio.get_running_loop().time() - begin_s < 30.0
            assert page.page.counts()["slow_request"] == 2, "also who says nothing at all"
            for one in (slow, writer):
                one.close()

    run(main())


def test_a_form_that_never_ends_is_cut_off(run, tmp_path, monkeypatch):
    monkeypatch.setattr(login, "BODY_S", 0.3)

    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml", limits={"request_s": 0.3}) as page:
            head = "POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
            kind = "Content-Type: application/x-www-form-urlencoded\r\n\r\nuser="
            assert b"HTTP/1.1 408" in await ask_raw(page.port, (head + kind).encode())
            large = head.replace(": 9", ": 99999") + kind + "x" * 99_994
            assert b"HTTP/1.1 413" in await ask_raw(page.port, large.encode())

    run(main())


def test_a_plain_connection_does_not_last_however_busy(run):
    async def main():
        async with served(limits={"connection_s": 0.4}) as page, looking(page), browser() as session:
            async with session.get(page.url + "/healthz") as answer:
                assert answer.status == 200
            await until(lambda: page.page.counts() == {"long_connection": 1})

    run(main())


def test_connections_are_limited_in_all_and_of_one_address(run):
    async def main():
        limits = {"most": 6, "most_of_address": 4}
        async with served(limits=limits) as page, looking(page):
            with contextlib.ExitStack() as held:
                await asyncio.to_thread(connect, page.port, 3, held)
                assert await asyncio.to_thread(is_refused, page.port)
                assert page.page.counts() == {"too_many_of_address": 1}
            await asyncio.sleep(0.1)
            assert not await asyncio.to_thread(is_refused, page.port), "there is room again"

    run(main())


THOUSAND = """
import resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096) if most > 0 else 4096, most))
held = []
for _ in range(1000):
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10.0))
    except ConnectionError:
        pass
print("held", flush=True)
sys.stdin.read()
"""


def test_a_thousand_connections_leave_no_socket_behind(run):
    async def main():
        async with served() as page, looking(page):
            before = len(os.listdir("/proc/self/fd"))
            arguments = (sys.executable, "-c", THOUSAND, str(page.port))
            pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
            attacker = await asyncio.create_subprocess_exec(*arguments, **pipes)
            assert await attacker.stdout.readline() == b"held\n"
            most = Limits().most_of_address
            # All but those that one address may have, of which one looks.
            await until(lambda: page.page.counts() == {"too_many_of_address": 1000 - (most - 1)})
            assert len(os.listdir("/proc/self/fd")) <= before + most + 2
            await attacker.communicate(b"")
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(main())


def test_requests_of_one_address_are_limited(run):
    async def main():
        async with served() as page, looking(page), browser() as session:
            statuses = []
            for _ in range(260):
                async with session.get(page.url + "/healthz") as answer:
                    statuses.append(answer.status)
            assert set(statuses) == {200, 429}
            assert statuses[:150] == [200] * 150

    run(main())


@pytest.mark.parametrize("name", ["Nurse Seven", "nobody", "prog", "x" * 5000])
def test_a_wrong_password_lets_nobody_in(run, tmp_path, name):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            words = WORDS if name != "Nurse Seven" else WORDS + "x"
            answer = await log_in(session, page, user=name, words=words)
            assert answer.status == 401
            async with session.get(page.url + "/whoami") as answer:
                assert answer.status == 401

    run(main())


def test_guessing_is_slowed_down(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            found = [(await log_in(session, page, words=f"guess number {k}")).status for k in range(10)]
            assert found == [401] * int(OF_ADDRESS[0]) + [429] * 2
            assert (await log_in(session, page)).status == 429, "the right one is not told from the others"
            assert page.page.counts() == {"wrong_password": 8, "too_many_logins": 3}

    run(main())


def test_a_session_that_was_made_up_is_worth_nothing(run, tmp_path):
    async def main():
        make_users(tmp_path / "u.toml")
        async with served(users=tmp_path / "u.toml") as page, browser() as session:
            name = f"ecgedge-{page.port}"
            session.cookie_jar.update_cookies({name: "made-up"}, aiohttp.client.URL(page.url))
            answer = await log_in(session, page)
            cookies = [c for c in answer.headers.getall("Set-Cookie") if c.startswith(f"{name}=")]
            assert len(cookies) == 1
            assert "made-up" not in cookies[0], "a login gives a name of its own"

    run(main())


GARBAGE = [
    b"\x00" * 100,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X-a: b\r\n" * 1000 + b"\r\n",
    b"GET / HTTP/1.1\r\nX-a: " + b"b" * 50_000 + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_harms_nobody(run, garbage, caplog):
    async def main():
        limits = {"request_s": 0.3, "connection_s": 0.5}
        async with served(limits=limits) as page, looking(page):
            answer = await ask_raw(page.port, garbage)
            assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 5"))

            assert not caplog.text, "a log that fills a disk is an attack, too"
            assert not [line for line in page.said if "failed" in line]

    run(main())


@pytest.mark.parametrize(
    "value", [b"Bearer \xff\xfe", b"Bearer ", b"Bearer " + b"x" * 8000, b"Bearer a\xc3\x28"]
)
@pytest.mark.parametrize("name", [b"Authorization", b"Cookie"])
def test_no_header_is_too_odd(run, tmp_path, name, value):
    async def main():
        make_users(tmp_path / "u.toml", viewer=False)
        async with served(users=tmp_path / "u.toml") as page:
            cookie = b"ecgedge-%d=%s" % (page.port, value.removeprefix(b"Bearer "))
            sent = {b"Cookie": cookie, b"Authorization": value}[name]
            head = b"GET /whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n" + name + b": " + sent
            answer = await ask_raw(page.port, head + b"\r\nConnection: close\r\n\r\n")
            assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.0 400", b"HTTP/1.1 400"))
            assert "failed" not in page.page.counts()

    run(main())
