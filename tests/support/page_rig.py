"""A server that speaks the page's protocol as a test tells it to: real ECG, and whatever events are wanted.

It is the other end for tests of the page alone. What the product's own server says is held to the same page elsewhere.
Run by itself it serves a bed or a ward: `python tests/support/page_rig.py DATA ward` (with the checkout on PYTHONPATH).
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from aiohttp import WSMsgType, web

STATIC = Path(__file__).parents[2] / "ecgedge" / "monitor" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
BEAT_S = 1.0
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RATE_HZ = 500
MESSAGE_SAMPLES = 10
LSB_NV = 1000
MISSING = -32768
HELLO = {
    "type": "hello",
    "version": 1,
    "ecgedge": "0.0",
    "role": "acknowledge",
    "user": None,
    "mode": "real",
    "simulated": False,
    "notice": "Research use only. An estimate, not a measurement.",
    "ward": False,
    "beds": ["bed1"],
    "bundle": {"id": "5e1f" * 16, "name": "embedded", "simulated": True, "trained_on": "simulated patients"},
    "limits": {"elevated_mmhg": 18.0, "recovery_mmhg": 15.0},
    "lifetime_s": 600.0,
    "pause_max_s": 120.0,
    "speed": 1.0,
}


def now_ms():
    return time.time() * 1000


def real_ecg(data):
    """Ten seconds of a real 12-lead ECG at 500 Hz: int16 counts [12][5000] of `LSB_NV`."""
    from ecgedge.records import read

    recording = read(next(iter(sorted((Path(data) / "ptbxl" / "records500").rglob("*.hea")))))
    mv = recording.samples_mv
    ramp = np.linspace(0.0, 1.0, mv.shape[1])
    joined = mv - (mv[:, -1:] - mv[:, :1]) * ramp  # its end meets its beginning
    return np.round(joined * 1e6 / LSB_NV).astype(np.int16)


def block(counts, *, t_s, seq):
    """A binary message of samples [leads][samples]."""
    head = struct.pack("<BBHIddII", 1, 1, *counts.shape, t_s, now_ms(), LSB_NV, seq)
    return head + np.ascontiguousarray(counts, "<i2").tobytes()


def placed(event):
    """An event as the server tells it of its only bed: where and when it was."""
    wall_ms = now_ms()
    return {"bed": "bed1", "wall_ms": wall_ms, "at_ms": event.get("wall_ms", wall_ms), **event}


class PageRig:
    """The server, in a thread of its own; its methods may be called from any other.

    Parameters
    ----------
    ecg
        Counts [leads][samples] that are played without end.
    hello
        What differs from `HELLO`.
    """

    def __init__(self, ecg, *, hello=None, leads=LEADS, port=0):
        self.ecg, self.leads, self.port = ecg, leads, port
        self.hello = {**HELLO, **(hello or {})}
        self.heard: list[dict] = []
        self.trend: dict | None = None
        self.past: list[dict] = []
        self.alarms: list[dict] = []
        self.tiles: list[dict] = []
        self.health = {
            "feed": {"alive": True, "age_s": 0.02},
            "latency_ms": {"p50": 12.0, "p99": 31.0},
            "queue": 0,
        }
        self.off: set[str] = set()
        self.playing = self.beating = True
        self.mute = False
        self.leap_samples = 0
        self.answer_error: str | None = None
        self.on_command = None
        self._sockets: set[web.WebSocketResponse] = set()
        self._sample = self._seq = self._beat = 0
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None

    # --- from a test ---

    def start(self):
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def stop(self):
        """End as a killed process does: the port closes, and every socket with it."""
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(10)

    def say(self, event):
        """Send an event of the bed to every page, as of now."""
        self.tell(placed(event))

    def tell(self, message):
        """Send a message to every page."""
        asyncio.run_coroutine_threadsafe(self._broadcast(message), self._loop).result(5)

    def restarted(self):
        """The same server again, on the same port."""
        other = PageRig(self.ecg, hello=self.hello, leads=self.leads, port=self.port)
        other.trend, other.alarms, other.tiles, other.past = self.trend, self.alarms, self.tiles, self.past
        return other.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    # --- the server ---

    def _run(self, ready):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(ready))
        self._loop.close()

    async def _serve(self, ready):
        self._ended = asyncio.Event()
        app = web.Application(middlewares=[_strict])
        app.router.add_get("/", self._page)
        app.router.add_get("/bed/{name}", self._page)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/whoami", self._whoami)
        app.router.add_get("/card", self._card)
        app.router.add_get("/api/events", self._download)
        app.router.add_static("/static", STATIC)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        ready.set()
        tasks = [asyncio.create_task(self._play()), asyncio.create_task(self._heartbeat())]
        await self._ended.wait()
        for task in tasks:
            task.cancel()
        for socket in list(self._sockets):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        await runner.cleanup()

    async def _page(self, request):
        name = "ward.html" if self.hello["ward"] and request.path == "/" else "index.html"
        return web.FileResponse(STATIC / name)

    async def _whoami(self, _):
        return web.json_response({"user": self.hello["user"], "role": self.hello["role"], "login": False})

    async def _card(self, _):
        return web.Response(
            text="# Model card\n\nSimulated patients only.\n\n| metric | value |\n|---|---|\n| MAE | 3.1 |\n"
        )

    async def _download(self, _):
        return web.Response(text="t_s,type\n", content_type="text/csv")

    async def _socket(self, request):
        socket = web.WebSocketResponse(max_msg_size=4096)
        await socket.prepare(request)
        self._sockets.add(socket)
        await socket.send_json({**self.hello, "server_ms": now_ms()})
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await self._take(socket, json.loads(message.data))
        except ConnectionResetError:  # the page has been closed
            pass
        finally:
            self._sockets.discard(socket)
        return socket

    async def _take(self, socket, said):
        self.heard.append(said)
        if said["do"] == "watch":
            bed = {"type": "bed", "bed": said["bed"], "leads": self.leads, "rate_hz": RATE_HZ}
            await socket.send_json({**bed, "feed": "sim:", "mode": self.hello["mode"]})
            await socket.send_json(
                {
                    "type": "history",
                    "bed": said["bed"],
                    "trend": self.trend or _no_trend(),
                    "events": self.past,
                    "alarms": self.alarms,
                    "leads_off": sorted(self.off),
                }
            )
        elif said["do"] == "watch_ward":
            for tile in self.tiles:
                await socket.send_json(tile)
        elif not self.mute:
            error = self.answer_error
            await socket.send_json({"type": "answer", "id": said["id"], "ok": error is None, "error": error})
            if error is None and self.on_command is not None:
                for event in self.on_command(said):
                    await self._broadcast(placed(event))

    async def _broadcast(self, message):
        for socket in list(self._sockets):
            if socket.closed:
                continue
            with suppress(ConnectionResetError):  # the page has been closed
                send = socket.send_bytes if isinstance(message, bytes) else socket.send_json
                await send(message)

    async def _play(self):
        due = self._loop.time()
        while True:
            due += MESSAGE_SAMPLES / RATE_HZ
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            at = np.arange(self._sample, self._sample + MESSAGE_SAMPLES) % self.ecg.shape[1]
            counts = self.ecg[:, at]
            for i, name in enumerate(self.leads):
                if name in self.off:
                    counts[i] = MISSING
            if self.playing:
                await self._broadcast(block(counts, t_s=self._sample / RATE_HZ, seq=self._seq))
                self._seq += 1
            self._sample += MESSAGE_SAMPLES + self.leap_samples
            self.leap_samples = 0

    async def _heartbeat(self):
        while True:
            self._beat += 1
            if self.beating:
                beds = dict.fromkeys(self.hello["beds"], self.health)
                await self._broadcast(
                    {
                        "type": "health",
                        "heartbeat": self._beat,
                        "server_ms": now_ms(),
                        "beds": beds,
                        "cpu_percent": 7.0,
                        "memory_mb": 140.0,
                        "disk_free_gb": 51.3,
                        "clock_synchronised": True,
                        "viewers": len(self._sockets),
                    }
                )
            await asyncio.sleep(BEAT_S)


@web.middleware
async def _strict(request, handler):
    response = await handler(request)
    if not isinstance(response, web.WebSocketResponse):
        response.headers["Content-Security-Policy"] = CSP
        response.headers["Cache-Control"] = "no-store"
    return response


def _no_trend():
    return {key: [] for key in ("t_ms", "mpcwp_mmhg", "low", "high", "p_gt_18", "validity", "reason")}


def serve_alone(data, scene):
    """Serve one bed, or a ward whose 64 tiles each change once a second, until standard input ends."""
    from page_scenes import estimate, tiles

    beds = [f"bed{number}" for number in range(1, 65)] if scene == "ward" else ["bed1"]
    rig = PageRig(real_ecg(data), hello={"ward": scene == "ward", "beds": beds})
    rig.tiles = tiles(beds) if scene == "ward" else []
    rig.start()
    print(rig.url, flush=True)  # noqa: T201  (whoever started it reads this)
    stopped = threading.Event()

    def change():
        while not stopped.wait(1.0):
            for tile in tiles(beds) if scene == "ward" else [estimate()]:
                rig.say(tile)
                time.sleep(0.9 / len(beds))

    threading.Thread(target=change, daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "silent":
            rig.beating = False
    stopped.set()
    rig.stop()


if __name__ == "__main__":
    serve_alone(*sys.argv[1:3])
