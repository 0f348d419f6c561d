"""What the table of faults stands on: devices in processes of their own, a broker, and a proxy that cuts and delays."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def lsl_on_this_machine(folder: Path) -> None:
    """Keep Lab Streaming Layer here, in this process and its children: by default it asks the whole network segment."""
    file = folder / "lsl_api.cfg"
    file.write_text(
        "[multicast]\nResolveScope=machine\n[lab]\nKnownPeers={127.0.0.1}\n[ports]\nIPv6=disable\n[log]\nlevel=-3\n"
    )
    os.environ["LSLAPICFG"] = str(file)


class Device:
    """`ecgedge feed send` in a process of its own; started anew by `start`."""

    def __init__(self, source: str, to: str, *more: str) -> None:
        self._words = [sys.executable, "-m", "ecgedge", "feed", "send", "--from", source, "--to", to, *more]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, without waiting for anything."""
        self._process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """As power that goes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Broker:
    """Debian's mosquitto, killed and started again on the same port; with `tls`, a folder of certificates."""

    def __init__(self, folder: Path, *, tls: Path | None = None) -> None:
        self.port = free_port()
        lines = [f"user {getpass.getuser()}", "allow_anonymous true", f"listener {self.port} 127.0.0.1"]
        if tls is not None:
            lines += [f"certfile {tls / 'server.pem'}", f"keyfile {tls / 'server.key'}"]
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def program() -> str | None:
        """Return where mosquitto is; Debian puts it where only root's PATH looks."""
        return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")

    def start(self) -> None:
        """Begin, and wait until it answers."""
        command = [self.program() or "mosquitto", "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("mosquitto does not answer")

    def kill(self) -> None:
        """Without a word to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def certificates(folder: Path) -> Path:
    """Make an authority and a certificate by it for 127.0.0.1: ca.pem, server.pem, server.key."""
    folder.mkdir()
    program = shutil.which("openssl")
    if program is None:
        raise RuntimeError("needs openssl")
    new = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2"]
    for words in (
        [
            "req",
            "-x509",
            *new,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
        ],
        ["req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"],
        ["x509", "-req", "-in", "server.csr", *by_ca, "-out", "server.pem"],
    ):
        subprocess.run([program, *words], check=True, capture_output=True, cwd=folder)
    return folder


class Proxy:
    """Stands between two sides of TCP connections.

    Attributes
    ----------
    cut
        Nothing passes, in either direction, and nobody is told: a cable that was pulled.
    delay_s
        What the far side says comes later by so much, and in order.
    """

    def __init__(self, far_port: int) -> None:
        self._far_port = far_port
        self.cut, self.delay_s, self.port = False, 0.0, 0
        self._dead: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def forget(self) -> None:
        """Let nothing pass any more on the connections that there are, and tell nobody: half-open TCP."""
        self._dead |= self._writers

    async def close(self) -> None:
        """End all."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            self._writers.add(writer)  # nobody answers
            self._dead.add(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far_port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(
            self._carry(reader, far_writer, slow=False), self._carry(far_reader, writer, slow=True)
        )

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        pushing = asyncio.create_task(self._push(waiting, writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                waiting.put_nowait((time.monotonic() + (self.delay_s if slow else 0.0), data))
        waiting.put_nowait((0.0, b""))
        await pushing

    async def _push(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, data = await waiting.get()
            if not data or writer.is_closing():
                if writer not in self._dead:
                    writer.close()
                return
            if writer in self._dead:
                continue
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            while self.cut:
                await asyncio.sleep(0.05)
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
