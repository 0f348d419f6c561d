"""A NATS server with JetStream of a test's own, on a free port of this machine."""

import shutil
import socket
import subprocess
import time
from contextlib import closing, contextmanager

import pytest
from free_ports import free_port


def answers(port):
    with closing(socket.socket()) as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


class NatsServer:
    """Can be stopped and started again on the same port, with what it has on its disk."""

    def __init__(self, program, folder):
        self._program, self._folder, self.port = program, folder, free_port()
        self._process = None

    @property
    def uri(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        where = ["-a", "127.0.0.1", "-p", str(self.port)]
        command = [self._program, *where, "--jetstream", "--store_dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 60.0
        while not answers(self.port):
            assert self._process.poll() is None, "nats-server ended at once"
            assert time.monotonic() < deadline_s, "nats-server does not answer"
            time.sleep(0.02)

    def stop(self):
        self._process.terminate()
        self._process.wait(60.0)


def nats_program():
    """Debian puts it where only root's PATH looks."""
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
    if program is None:
        pytest.skip("needs nats-server: apt-get install nats-server")
    return program


@contextmanager
def nats_server(folder):
    server = NatsServer(nats_program(), folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
