"""`ecgedge cluster serve` and `publish`, each in a process of its own, over a real bus."""

import asyncio
import signal

import needs
import pytest
from bus_lines import Told
from nats_server import nats_server

from ecgedge.cluster.bus import open_bus

SIM = "sim:lead-off?seed=1&rate_hz=250&leads=I,II,V3&duration_s=60"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    needs.nats()
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def serve(cli, server):
    """Start a ward on the bus; killed at the end, whatever happens."""
    started = []

    def start(*options):
        started.append(cli.start("cluster", "serve", "--bus", server.uri, *options))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def read(server, is_so):
    """What is on the bus, once it is so."""

    async def main():
        bus = await open_bus(server.uri)
        told = await Told.follow(bus)
        await told.until(lambda told: is_so(told.lines))
        await bus.close()
        return [line for _, line in told.lines]

    return asyncio.run(main())


def reached(lines, bed, t_s):
    return any(line["bed"] == bed and line["type"] == "estimate" and line["t_s"] >= t_s for _, line in lines)


def test_a_ward_that_is_killed_reads_on(cli, server, serve, tmp_path):
    (tmp_path / "beds.toml").write_text(
        '[[bed]]\nname = "b.1"\nfeed = "sim:stable"\n[[bed]]\nname = "b2"\nfeed = "sim:stable"\n'
    )
    first = serve("--beds", "beds.toml", "--state-s", "1")
    for bed in ("b.1", "b2"):
        done = cli("cluster", "publish", "--bus", server.uri, "--bed", bed, "--from", SIM, "--speed", "20")
        assert done.stdout == f"242 messages of {bed} are on the bus\n"
    first.kill()
    serve("--beds", "b.1,b2")
    lines = read(server, lambda lines: all(reached(lines, bed, 60.0) for bed in ("b.1", "b2")))
    for bed in ("b.1", "b2"):
        times_s = {line["t_s"] for line in lines if line["bed"] == bed and line["type"] == "estimate"}
        assert times_s >= {float(t_s) for t_s in range(10, 61, 5)}


def test_a_ward_is_drained_by_a_signal(cli, server, serve):
    cli("cluster", "publish", "--bus", server.uri, "--bed", "c", "--from", SIM, "--speed", "max")
    process = serve("--beds", "c")
    read(server, lambda lines: reached(lines, "c", 60.0))
    process.send_signal(signal.SIGTERM)
    done = cli.finish(process)
    assert "ecgedge: 1 of 1 beds are served" in done.stderr
    assert "research use only" in done.stderr.lower()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--beds", "a,a"], "two beds are called a"),
        (["--beds", "a/b"], "name is 'a/b'"),
        (["--beds", "a", "--bus", "http://x"], "expected nats://HOST:4222"),
        (["--beds", "a", "--state-s", "0"], "--state-s is 0"),
        (
            ["--beds", "a", "--journal-patience-s", "3"],
            "--journal-patience-s is 3; it must be 0, or from 15 to",
        ),
        (["--beds", "a", "--journal-patience-s", "nan"], "--journal-patience-s is nan"),
        (["--beds", "a", "--replicas", "2"], "a NATS cluster keeps 1, 3 or 5"),
        (["--beds", "a", "--resource", "ward"], "--resource without --ray"),
    ],
)
def test_what_cannot_be_served(cli, options, why):
    done = cli("cluster", "serve", "--bus", "nats://127.0.0.1:1", *options, exits=2)
    assert why in done.stderr


def test_what_cannot_be_published(cli):
    done = cli("cluster", "publish", "--bus", "nats://127.0.0.1:1", "--bed", "a b", "--from", SIM, exits=2)
    assert "--bed: name is 'a b'" in done.stderr


def test_a_bus_that_is_not_there(cli):
    needs.nats()
    done = cli("cluster", "serve", "--bus", "nats://127.0.0.1:1", "--beds", "a", exits=3)
    assert "cannot reach the bus nats://127.0.0.1:1" in done.stderr
    assert "nats-server --jetstream" in done.stderr


def test_the_missing_extra_is_named(cli):
    publish = ["cluster", "publish", "--bus", "nats://127.0.0.1:1", "--bed", "a", "--from", SIM]
    assert "pip install 'ecgedge[cluster]'" in cli.without(["nats"], *publish).stderr


def test_the_missing_ray_is_named(cli, server):
    command = ["cluster", "serve", "--bus", server.uri, "--beds", "a", "--ray", "local"]
    assert "needs the package 'ray'" in cli.without(["ray"], *command).stderr
