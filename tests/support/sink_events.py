"""Events to send, outboxes that are quick to despair, and real servers that take what the sinks send."""

import asyncio
import contextlib
import ssl
import time

from aiohttp import web
from mosquitto import certificates

from ecgedge.events import Alarm, Estimate, Expired, SelfCheck
from ecgedge.sinks.outbox import Outbox


def estimate(t_s=30.0, mmhg=17.25, **more):
    valid = mmhg is not None
    facts = {
        "t_s": t_s,
        "mpcwp_mmhg": mmhg,
        "interval_mmhg": (mmhg - 6.0, mmhg + 6.0) if valid else None,
        "p_gt_15": 0.7 if valid else None,
        "p_gt_18": 0.4 if valid else None,
        "validity": "valid" if valid else "invalid",
        "reason": None if valid else "lead_off",
        "sqi": 0.93,
        "leads": ("I", "II"),
        "variant": "limb",
        "mode": "demo",
    }
    return Estimate(**{**facts, **more})


def alarm(t_s=31.0, condition="MPCWP_ELEVATED", presence="on", **more):
    facts = {
        "t_s": t_s,
        "condition": condition,
        "kind": "physiological",
        "priority": "medium",
        "presence": presence,
        "signal": "on" if presence == "on" else "off",
        "text": "mPCWP estimate above 18 mmHg",
    }
    return Alarm(**{**facts, **more})


def expired(t_s=700.0):
    return Expired(t_s=t_s, since_s=30.0, reason="no estimate for 600 s")


def self_check(t_s=60.0):
    return SelfCheck(t_s=t_s, count=2, period_s=30.0, audio_pause_left_s=None)


async def until(condition, *, within_s=50.0):
    """Wait until a condition holds; fail if it never does."""
    deadline_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "it never came about"
        await asyncio.sleep(0.01)
    return found


def authorities(folder):
    """Return a server's TLS with a certificate of one authority, that authority's file, and another's."""
    ours, other = folder / "ours", folder / "other"
    for one in (ours, other):
        one.mkdir()
        certificates(one)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ours / "server.pem", ours / "server.key")
    return context, ours / "ca.pem", other / "ca.pem"


async def first_delivery(box):
    """Put an alarm into an outbox; return (delivered, trouble) once there is either."""
    box.put("a", "real", alarm())
    await until(lambda: box.delivered or box.trouble)
    return box.delivered, box.trouble


@contextlib.asynccontextmanager
async def outbox(receiver, *, said=None, **more):
    """An outbox that tries again at once, and calls late what has waited for 0.3 s."""
    settings = {"late_s": 0.3, "again_s": (0.02, 0.05), "attempt_s": 2.0, **more}
    made = Outbox(receiver, say=(said if said is not None else []).append, **settings)
    try:
        yield made
    finally:
        await made.close(wait_s=2.0)


class HttpServer:
    """Takes requests, and answers what `answers` says: statuses one after the other, the last for ever."""

    def __init__(self):
        self.answers, self.requests = [200], []

    async def take(self, request):
        self.requests.append((request.path, dict(request.headers), await request.read()))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, text="as told")


@contextlib.asynccontextmanager
async def http_server(*, tls=None, port=0):
    server = HttpServer()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", server.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
