"""Debian's mosquitto for a test's own use: a real broker on a free port of this machine, with TLS if wanted."""

import getpass
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest
from free_ports import free_port
from nats_server import answers


def program(name):
    """Debian puts the broker where only root's PATH looks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"needs {name}: apt-get install mosquitto mosquitto-clients")
    return found


class Broker:
    """Can be killed and started again on the same port."""

    def __init__(self, folder, *, tls=None):
        self._program, self.port = program("mosquitto"), free_port()
        lines = [f"user {getpass.getuser()}", "allow_anonymous true", f"listener {self.port} 127.0.0.1"]
        lines += ["log_dest stderr", "log_type subscribe", "log_timestamp false"]
        if tls is not None:
            lines += [f"certfile {tls / 'server.pem'}", f"keyfile {tls / 'server.key'}"]
        self._config, self._log = folder / "mosquitto.conf", folder / "mosquitto.log"
        self._config.write_text("\n".join(lines) + "\n")
        self._process = None

    def start(self):
        command = [self._program, "-c", str(self._config)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        deadline_s = time.monotonic() + 60.0
        while not answers(self.port):
            assert self._process.poll() is None, "mosquitto ended at once"
            assert time.monotonic() < deadline_s, "mosquitto does not answer"
            time.sleep(0.02)

    def subscribed(self, topic):
        """How often a topic has been subscribed to since the start, as the broker's log says."""
        return sum(line.endswith(f" {topic}") for line in self._log.read_text().splitlines())

    def kill(self):
        self._process.kill()
        self._process.wait(60.0)


@contextmanager
def broker(folder, *, tls=None):
    running = Broker(folder, tls=tls)
    running.start()
    try:
        yield running
    finally:
        running.kill()


def publish(running, topic, message, *more):
    """Publish one message with Debian's own client."""
    base = [program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(running.port)]
    subprocess.run([*base, "-t", topic, "-m", message, *more], check=True)


def subscriber(running, topic, *more):
    """Start mosquitto_sub; who wants to know when it has subscribed takes `ready_subscriber`."""
    command = [program("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(running.port), "-V", "5", "-q", "1"]
    return subprocess.Popen([*command, "-t", topic, *more], stdout=subprocess.PIPE, text=True)


def ready_subscriber(running, topic, *more):
    """Start mosquitto_sub and wait until it has subscribed to a topic of which nothing is retained.

    It subscribes to another one after it; the broker sends what is retained of that when it has taken both.
    """
    publish(running, "subscribed", "yes", "-r", "-q", "1")
    process = subscriber(running, topic, "-t", "subscribed", *more)
    assert "yes" in process.stdout.readline()
    return process


def retained_lines(running, topic, *more):
    """Return the lines of mosquitto_sub on all that is retained of a topic now, which must match ward/nothing too.

    The first message that is not retained ends it: that comes after all that are.
    """
    with subscriber(running, topic, "--retained-only", "-W", "60", *more) as process:
        while process.poll() is None:
            publish(running, "ward/nothing", "that is all")
        return process.stdout.read().splitlines()


def certificates(folder):
    """Make an authority, and a server's certificate by it for 127.0.0.1; ca.pem, server.pem, server.key."""
    openssl = program("openssl")

    def run(*words):
        subprocess.run([openssl, *words], check=True, capture_output=True, cwd=folder)

    new = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    run(
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
    )
    run("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2"]
    run("x509", "-req", "-in", "server.csr", *by_ca, "-out", "server.pem")
    return folder
