"""`ecgedge stream --page`, a ward's page and `ecgedge page`, each in a process of its own, as users run them."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import time

import aiohttp
import pytest
from page_server import WORDS, browser, log_in, next_of
from typer.testing import CliRunner

from ecgedge.cli import app

GARBAGE = (
    b"GET /static/../../x HTTP/1.1\r\nHost: evil\r\n\r\n",
    b"GET / HTTP/1.1\r\nX-a: " + b"b" * 20_000,
    b"\x16\x03\x01\x00",
    b"",
)
URL = re.compile(r"page: (https?://\S+)/$")
ACK = {"do": "ack", "id": 1, "bed": "bed1", "condition": "LEAD_OFF", "user": "Nurse Typed"}


class Seen:
    """A page in another process, by its address."""

    def __init__(self, url, said):
        self.url, self.said = url, said
        self.port = int(url.rpartition(":")[2])
        self.origin = {"Origin": url}


def where(process):
    """Return the page of a process, which says on standard error where it is."""
    for line in process.stderr:
        if found := URL.search(line.strip()):
            said = [] if "users" in str(process.args) else [next(process.stderr)]
            return Seen(found.group(1), said)
    raise AssertionError("it never said where the page is")


@pytest.fixture
def start(cli):
    """Start a command; killed at the end, whatever happens."""
    started = []

    def start(*arguments):
        started.append(cli.start(*arguments))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run a command that is refused in this process: nothing is opened, so nothing is left."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments, typed=None, exits=2):
        done = CliRunner().invoke(app, arguments, input=typed)
        assert done.exit_code == exits, done.output
        return done.output

    return invoke


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60.0))


def journal_of(path):
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def test_a_bed_is_watched_and_acknowledged_from_another_process(cli, start, tmp_path):
    process = start("stream", "--feed", "sim:lead-off?seed=1", "--page", "0", "--journal", "j.jsonl")
    page = where(process)

    async def look():
        async with browser() as session, session.ws_connect(f"{page.url}/ws", headers=page.origin) as ws:
            hello = await ws.receive_json()
            assert (hello["mode"], hello["role"], hello["beds"]) == ("demo", "acknowledge", ["bed1"])
            await ws.send_json({"do": "watch", "bed": "bed1"})
            bed = await next_of(ws, "bed")
            assert (bed["rate_hz"], len(bed["leads"])) == (500, 12)
            await ws.send_json(ACK)
            n = 0
            while n < 25:
                n += (await asyncio.wait_for(ws.receive(), 60.0)).type == aiohttp.WSMsgType.BINARY
            async with session.get(f"{page.url}/card?bed=bed1") as card:
                assert "SIMULATED" in await card.text()

    run(look())
    assert "typed name" in page.said[0]
    process.send_signal(signal.SIGINT)
    cli.finish(process)
    (asked,) = [e for e in journal_of(tmp_path / "j.jsonl") if e.get("call") == "acknowledge"]
    assert (asked["condition"], asked["user"]) == ("LEAD_OFF", "Nurse Typed")


def test_who_has_logged_in_stands_in_the_journal(cli, start, tmp_path):
    cli("page", "add", "users.toml", "Nurse Seven", "--role", "acknowledge", typed=WORDS + "\n")
    options = ("--page-users", "users.toml", "--journal", "j.jsonl")
    process = start("stream", "--feed", "sim:stable", "--page", "0", *options)
    page = where(process)

    async def act():
        async with browser() as session:
            assert (await log_in(session, page)).status == 303
            async with session.ws_connect(f"{page.url}/ws", headers=page.origin) as ws:
                await ws.send_json(
                    {"do": "pause", "id": 1, "bed": "bed1", "duration_s": 30, "user": "Somebody Else"}
                )

                assert (await next_of(ws, "answer"))["ok"]

    run(act())
    process.send_signal(signal.SIGINT)
    cli.finish(process)
    (paused,) = [
        e for e in journal_of(tmp_path / "j.jsonl") if e["type"] == "audio" and e["state"] == "paused"
    ]
    assert paused["user"] == "Nurse Seven"


def without_times(lines):
    """Return events without what depends on how busy the machine is."""
    events = [json.loads(line) for line in lines.splitlines()]
    return [{k: v for k, v in event.items() if k != "latency_ms"} for event in events]


def harm(page):
    """Do what an attacker does, as fast as it goes, until the stream has ended."""
    while True:
        with contextlib.ExitStack() as held:
            for k in range(100):
                try:
                    connection = held.enter_context(socket.create_connection(("127.0.0.1", page.port), 5.0))
                except ConnectionRefusedError:
                    return
                except OSError:
                    continue
                with contextlib.suppress(OSError):
                    connection.sendall(GARBAGE[k % len(GARBAGE)])


def watch_without_reading(page):
    """Look at the bed, and never read a byte of it."""
    deaf = socket.create_connection(("127.0.0.1", page.port), 10.0)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert deaf.recv(12) == b"HTTP/1.1 101"
    watch = json.dumps({"do": "watch", "bed": "bed1"}).encode()
    deaf.sendall(bytes([0x81, 0x80 | len(watch)]) + bytes(4) + watch)
    return deaf


def test_a_stream_under_attack_says_what_it_says_alone(cli, start, recording):
    stream = (
        "stream",
        "--feed",
        f"file:{recording}?loop=1",
        "--speed",
        "max",
        "--duration",
        "200",
        "--format",
        "jsonl",
    )
    alone = without_times(cli(*stream).stdout)
    process = start(*stream, "--page", "0")
    page = where(process)

    with watch_without_reading(page):
        harm(page)
    assert without_times(cli.finish(process).stdout) == alone
    assert len(alone) > 30


def test_a_wards_beds_are_on_one_page(cli, start, tmp_path):
    (tmp_path / "beds.toml").write_text(
        '[ward]\npage = "0"\ncontrol = "w.sock"\njournals = "j"\n'
        + "".join(f'[[bed]]\nname = "{n}"\nfeed = "sim:stable?seed=1&rate_hz=250"\n' for n in "ab")
        + '[[bed]]\nname = "c"\nfeed = "tcp://me:pw@127.0.0.1:9?leads=I&rate_hz=500&lsb_nv=1000"\n'
    )
    process = start("ward", "--beds", "beds.toml")
    page = where(process)

    async def look():
        async with browser() as session, session.ws_connect(f"{page.url}/ws") as ws:
            hello = await ws.receive_json()
            assert (hello["ward"], hello["beds"]) == (True, ["a", "b", "c"])
            await ws.send_json({"do": "watch_ward"})
            await next_of(ws, "tile")
            health = await next_of(ws, "health")
            while "trouble" not in health["beds"]["c"]["feed"] or health["beds"]["a"]["queue"] == 0:
                health = await next_of(ws, "health")
            assert "me:pw" not in health["beds"]["c"]["feed"]["trouble"]
            await ws.send_json({**ACK, "bed": "b"})
            assert (await next_of(ws, "answer"))["ok"]
            await ws.send_json({**ACK, "bed": "c"})
            refusal = (await next_of(ws, "answer"))["error"]
            assert "heard nothing of its feed" in refusal
            assert "me:pw" not in refusal
            await ws.send_json({"do": "watch", "bed": "a"})
            while (await asyncio.wait_for(ws.receive(), 60.0)).type != aiohttp.WSMsgType.BINARY:
                pass
            await asyncio.to_thread(cli, "tell", "w.sock", "remove", "name=a")
            assert (await next_of(ws, "beds"))["beds"] == ["b", "c"]

    run(look())
    assert json.loads(cli("tell", "w.sock", "status").stdout)["page"]["refused"] == 1
    process.send_signal(signal.SIGTERM)
    cli.finish(process)
    (asked,) = [e for e in journal_of(tmp_path / "j" / "b.jsonl") if e.get("call") == "acknowledge"]
    assert asked["user"] == "Nurse Typed"


def test_users_are_added_listed_and_removed(cli, tmp_path):
    said = cli("page", "add", "users.toml", "Nurse Seven", "--role", "acknowledge", typed=WORDS + "\n")
    assert said.stdout == ""
    token = cli("page", "add", "users.toml", "wall", "--token", "--days", "30").stdout.strip()
    assert token.startswith("ecgedge_")
    text = (tmp_path / "users.toml").read_text()
    assert WORDS not in text
    assert token not in text
    listed = cli("page", "list", "users.toml").stdout.splitlines()
    assert listed[0].split() == ["acknowledge", "password", "Nurse", "Seven"]
    assert listed[1].split()[:4] == ["view", "token", "wall", "until"]
    cli("page", "remove", "users.toml", "wall")
    assert len(cli("page", "list", "users.toml").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "typed", "says"),
    [
        (("add", "u.toml", "a"), "short\n", "10 to 256 characters"),
        (("add", "u.toml", "a"), "", "10 to 256 characters"),
        (("add", "u.toml", "a", "--role", "boss"), WORDS, "view, acknowledge, admin"),
        (("add", "u.toml", " "), WORDS, "printable"),
        (("add", "u.toml", "a", "--days", "0"), WORDS, "--days is 0"),
        (("add", "none/u.toml", "a", "--token"), None, "cannot write"),
    ],
)
def test_users_that_cannot_be(invoke, arguments, typed, says, tmp_path):
    assert says in invoke("page", *arguments, typed=typed)
    assert not (tmp_path / "u.toml").exists()


def test_a_name_twice_or_unknown_is_refused(invoke):
    invoke("page", "add", "u.toml", "a", "--token", exits=0)
    assert "already" in invoke("page", "add", "u.toml", "a", "--token")
    assert "it has 'a'" in invoke("page", "remove", "u.toml", "b")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--page", "0.0.0.0:0"), "needs TLS and users"),
        (("--page", "x"), "expected PORT or HOST:PORT"),
        (("--page-users", "u.toml"), "of no use without --page"),
        (("--page", "0", "--page-cert", "c.pem"), "go together"),
        (("--page", "0", "--page-host", "ward.example"), "needs a file of users"),
        (("--page-session", "8"), "of no use without --page"),
        (("--page", "0", "--page-session", "8"), "without --page-users"),
        (("--page", "0", "--page-users", "u.toml", "--page-session", "1000"), "it may last 0.25 to 720"),
    ],
)
def test_a_page_that_cannot_be_is_refused_before_anything_is_opened(invoke, options, says):
    assert says in invoke("stream", "--feed", "sim:stable", *options)


def test_a_ward_that_would_be_open_to_all_is_refused(invoke, tmp_path):
    (tmp_path / "beds.toml").write_text('[ward]\npage = "[::]:0"\n')
    assert "page_cert" in invoke("ward", "--beds", "beds.toml")
    (tmp_path / "beds.toml").write_text('[ward]\npage = "x"\n')
    assert "expected PORT or HOST:PORT" in invoke("ward", "--beds", "beds.toml", exits=1)


def test_without_the_extra_users_are_named_as_what_needs_it(cli):
    assert "ecgedge[page]" in cli.without(["argon2"], "page", "add", "u.toml", "a").stderr


def test_the_page_ends_with_the_stream(start):
    process = start("stream", "--feed", "sim:stable", "--page", "0")
    page = where(process)

    async def look():
        async with browser() as session, session.ws_connect(f"{page.url}/ws") as ws:
            await ws.send_json({"do": "watch", "bed": "bed1"})
            while (await asyncio.wait_for(ws.receive(), 60.0)).type != aiohttp.WSMsgType.BINARY:
                pass
            begin_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            while not (await asyncio.wait_for(ws.receive(), 60.0)).type.name.startswith(("CLOS", "ERR")):
                pass
            return time.monotonic() - begin_s

    assert run(look()) < 30.0  # not the minute that a page would wait for who looks at it
    assert process.wait(60.0) == 0
