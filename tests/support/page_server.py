"""A page in this process, behind real sockets, for tests that speak to it as browsers, programs and attackers do."""

import asyncio
import contextlib
import functools
import socket
import threading

import aiohttp
import page_parts

from ecgedge.bundle import load_bundle
from ecgedge.errors import UsageError
from ecgedge.monitor.gate import Limits
from ecgedge.monitor.page import Page, Serving
from ecgedge.monitor.settings import PageSettings
from ecgedge.monitor.users import Passwords, User, UsersFile, new_token, write_users

WORDS = "correct horse battery"


class Served:
    """A page and what a test asks of it."""

    def __init__(self, page):
        self.page, self.obeyed, self.said = page, [], []
        self.refusal = None

    @property
    def url(self):
        return self.page.url.rstrip("/")

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def origin(self):
        return {"Origin": self.url}

    def age_sessions(self, hours):
        """Have all sessions begun so much earlier than they did, and used just now."""
        for session in self.page._server._access.sessions._sessions.values():
            session.began_s -= 3600.0 * hours

    async def obey(self, bed, command):
        if self.refusal is not None:
            raise UsageError(self.refusal)
        self.obeyed.append((bed, command))


@functools.cache
def _bundle():
    return load_bundle("embedded")


@contextlib.asynccontextmanager
async def served(
    *,
    users=None,
    limits=None,
    cert=None,
    key=None,
    address="0",
    hosts=(),
    ward=False,
    beds=("a",),
    session_h=12.0,
):
    """Open a page over beds of which nothing is known but their feeds."""
    bundle = _bundle()
    found = Served(None)
    settings = PageSettings(
        address, users and str(users), cert and str(cert), key and str(key), hosts, session_h
    )
    serving = Serving(bundle, bundle.manifest.alarm_policy, "demo")
    options = {} if limits is None else {"limits": Limits(**limits)}
    found.page = Page(settings, serving, obey=found.obey, ward=ward, say=found.said.append, **options)
    for name in beds:
        found.page.hub.add(name)
        found.page.hub.describe(name, page_parts.facts())
    await found.page.open()
    try:
        yield found
    finally:
        await found.page.close()
        await found.page.close()


@contextlib.contextmanager
def serving(**options):
    """`served` in a thread of its own, for a browser that this thread drives."""
    opened, ended, found = threading.Event(), asyncio.Event(), []

    async def main():
        async with served(**options) as page:
            found.extend((page, asyncio.get_running_loop()))
            opened.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert opened.wait(20.0)
    page, loop = found
    yield page
    loop.call_soon_threadsafe(ended.set)
    thread.join(20.0)


def make_users(path, *, viewer=True, expires=None):
    """Write a file with a nurse who acknowledges, a viewer and a program; return the program's token."""
    kept = Passwords().hash(WORDS)
    token, digest = new_token()
    users = [
        User("Nurse Seven", "acknowledge", kept),
        User("prog", "admin", None, digest, expires or "2999-01-01T00:00:00+00:00"),
    ]
    if viewer:
        users.append(User("Visitor", "view", kept))
    write_users(path, UsersFile(tuple(users)))
    return token


@contextlib.asynccontextmanager
async def browser(*, tls=None):
    """A client that keeps cookies, also of an address, as a browser does."""
    connector = aiohttp.TCPConnector(ssl=tls) if tls is not None else None
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as session:
        yield session


async def log_in(session, served, *, user="Nurse Seven", words=WORDS, next_page="/", **changes):
    """Fill in the form as a browser does; return the answer, not followed."""
    async with session.get(f"{served.url}/login", params={"next": next_page}) as answer:
        text = await answer.text()
    csrf = text.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"user": user, "password": words, "csrf": csrf, "next": next_page, **changes}
    async with session.post(
        f"{served.url}/login", data=form, headers=served.origin, allow_redirects=False
    ) as answer:
        await answer.read()
        return answer


async def next_of(socket_, kind):
    """Return the next message of a type."""
    while True:
        message = await asyncio.wait_for(socket_.receive(), 20.0)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type == aiohttp.WSMsgType.TEXT and (found := message.json())["type"] == kind:
            return found


async def ask_raw(port, request, *, within_s=10.0):
    """Send bytes as they are, and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), within_s)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def connect(port, n, held):
    """Open so many connections; those that are not refused stay open as long as `held`."""
    for _ in range(n):
        with contextlib.suppress(ConnectionError):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5.0))


def is_refused(port):
    """Whether a connection is closed before a byte is asked for."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False
