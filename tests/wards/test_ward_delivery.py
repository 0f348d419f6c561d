"""Delivery that a receiver confirms, over the ward's socket: late, gone, back, dismissed, and garbage."""

import asyncio
import json
import socket
import threading
from contextlib import suppress

import numpy as np
import pytest
from ward_lines import chunks, has, of, until

from ecgedge.errors import EcgedgeError, UsageError
from ecgedge.journal import read_journal
from ecgedge.wards import delivery as module
from ecgedge.wards.config import BedConfig
from ecgedge.wards.control import WardControl, ask, open_socket
from ecgedge.wards.delivery import Deliveries
from ecgedge.wards.listen import listen as listen_to

OFF = np.zeros((12, 1250), np.float32)
OFF[0] = np.nan
NO_LEAD_I = [*chunks(OFF), 3600.0]


class Station:
    """The other end of a connection that listens; it confirms only when it is told to."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.lines = reader, writer, []
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        with suppress(ConnectionError):
            async for line in self.reader:
                self.lines.append(json.loads(line))

    def send(self, **asked):
        self.writer.write(json.dumps(asked).encode() + b"\n")

    @property
    def numbers(self):
        return [x["delivery"] for x in self.lines if "delivery" in x]

    def confirm(self, *numbers):
        for number in numbers:
            self.send(do="confirm", delivery=number)

    def told(self, condition):
        return [(x["bed"], x["presence"]) for x in self.lines if x.get("condition") == condition]

    async def hang_up(self):
        self.writer.close()
        await self.task


@pytest.fixture
def served(ward, memory, tmp_path):
    """Run a test's coroutine beside a ward of beds a and b, in which lead I is off, with its socket."""

    def run(test, *, beds="ab", steps=NO_LEAD_I, **chosen):
        async def serve(service, lines):
            path, all_stations = tmp_path / "w.sock", []
            server = await open_socket(path, WardControl(service, open_bundle=None))
            for name in beds:
                service.add(BedConfig(name, memory.add(name, steps)))
            await until(lambda: all(has(lines, name, condition="LEAD_OFF") for name in beds))

            async def listen(station="desk-3"):
                connected = Station(*await asyncio.open_unix_connection(path))
                all_stations.append(connected)
                connected.send(do="listen", station=station)
                await until(lambda: connected.lines)
                return connected

            try:
                await test(path, listen, lines)
            finally:
                server.close()
                for connected in all_stations:
                    await connected.hang_up()

        return ward(serve, **{"delivery_s": 1.0, "journals": tmp_path, **chosen})

    return run


def failed(lines, bed):
    return [
        (x["presence"], x["priority"]) for x in of(lines, bed, "alarm") if x["condition"] == "DELIVERY_FAILED"
    ]


def trouble_of(lines, bed):
    """What the last DELIVERY_FAILED of a bed says."""
    return [x["text"] for x in of(lines, bed, "alarm") if x["condition"] == "DELIVERY_FAILED"][-1]


async def stations(path):
    return (await ask(path, {"do": "status"}))["channels"]["stations"]


def test_a_new_listener_is_told_what_is_on_and_confirms_it(served):
    async def test(path, listen, lines):
        desk = await listen()
        await until(lambda: len(desk.lines) == 3)
        assert desk.lines[0] == {"ok": True, "station": "desk-3", "delivery_s": 1.0}
        assert [(x["bed"], x["delivery"], x["condition"]) for x in desk.lines[1:]] == [
            ("a", 1, "LEAD_OFF"),
            ("b", 2, "LEAD_OFF"),
        ]
        expected = {k: v for k, v in of(lines, "a", "alarm")[0].items() if k != "bed"}
        assert {k: v for k, v in desk.lines[1].items() if k not in ("bed", "delivery")} == expected
        desk.confirm(1, 2)
        await asyncio.sleep(1.6)
        assert await stations(path) == {
            "desk-3": {"delivery": "confirmed", "confirmed": 2, "unconfirmed": 0, "dropped_lines": {}}
        }

    lines, _ = served(test)
    assert failed(lines, "a") == failed(lines, "b") == []


def test_what_is_not_confirmed_in_time_is_an_alarm_of_its_bed_until_it_is(served, tmp_path):
    async def test(path, listen, lines):
        desk = await listen()
        await until(lambda: desk.numbers == [1, 2])
        desk.confirm(2)
        await until(lambda: failed(lines, "a"))
        assert trouble_of(lines, "a") == "station desk-3 has not confirmed an alarm in 1 s"
        assert (await stations(path))["desk-3"]["delivery"] == "not confirmed"
        await until(lambda: desk.told("DELIVERY_FAILED"))
        desk.confirm(1, *desk.numbers[2:])
        await until(lambda: len(failed(lines, "a")) == 2)
        await until(lambda: len(desk.told("DELIVERY_FAILED")) == 2)
        desk.confirm(desk.numbers[-1])

    lines, _ = served(test)
    assert failed(lines, "a") == [("on", "low"), ("off", "low")]
    assert failed(lines, "b") == []
    inputs = [e.event for e in read_journal(tmp_path / "a.jsonl") if e.event["type"] == "input"]
    assert [(x["call"], "why" in x) for x in inputs] == [
        ("delivery", True),
        ("delivery", False),
        ("end", False),
    ]


def test_a_station_that_has_gone_is_an_alarm_of_all_beds_until_it_has_caught_up(served):
    async def test(path, listen, lines):
        desk = await listen()
        desk.confirm(1, 2)
        await desk.hang_up()
        await until(lambda: failed(lines, "a") and failed(lines, "b"))
        assert await stations(path) == {"desk-3": {"delivery": "gone"}}
        assert trouble_of(lines, "b") == "station desk-3 does not listen any more"
        again = await listen()
        await until(lambda: len(again.numbers) == 4)  # LEAD_OFF and DELIVERY_FAILED of both
        await asyncio.sleep(0.6)
        assert failed(lines, "a") == [("on", "low")], "it listens, and has not confirmed what is on"
        again.confirm(*again.numbers)
        await until(lambda: len(failed(lines, "a")) == len(failed(lines, "b")) == 2)

    _, said = served(test)
    assert "station desk-3 has gone: nobody there hears of alarms" in said


def test_a_user_dismisses_a_station_that_has_gone(served):
    async def test(path, listen, lines):
        desk = await listen()
        desk.confirm(1, 2)
        await desk.hang_up()
        await until(lambda: failed(lines, "a"))
        assert (await ask(path, {"do": "dismiss", "station": "desk-4", "user": "Nurse Seven"}))["ok"] is False
        assert (await ask(path, {"do": "dismiss", "station": "desk-3", "user": " "}))["ok"] is False
        assert await ask(path, {"do": "dismiss", "station": "desk-3", "user": "Nurse Seven"}) == {"ok": True}
        await until(lambda: len(failed(lines, "a")) == 2)
        assert trouble_of(lines, "a") == "the receiver was dismissed by Nurse Seven"
        assert await stations(path) == {}

    served(test)


def test_another_of_the_same_name_takes_its_place_and_has_its_own_time(served):
    async def test(path, listen, lines):
        first = await listen()
        await asyncio.sleep(0.6)
        second = await listen()
        await first.task
        await asyncio.sleep(0.6)
        second.confirm(1, 2)
        await asyncio.sleep(1.0)

    lines, said = served(test)
    assert failed(lines, "a") == []
    assert "station desk-3 listens on another connection; the one before has ended" in said


def test_another_does_not_end_the_trouble_of_the_one_before_until_it_has_caught_up(served):
    async def test(path, listen, lines):
        await listen()
        await until(lambda: failed(lines, "a"))
        second = await listen()
        await until(lambda: len(second.numbers) >= 4)
        await asyncio.sleep(0.6)
        assert failed(lines, "a") == [("on", "low")]
        second.confirm(*second.numbers)
        await until(lambda: len(failed(lines, "a")) == 2)

    served(test)


def test_one_of_two_is_enough_to_fail_and_each_has_its_own_numbers(served):
    async def test(path, listen, lines):
        good, bad = await listen("good"), await listen("bad")
        await until(lambda: good.numbers == bad.numbers == [1, 2])
        good.confirm(1, 2)
        bad.confirm(2)
        await until(lambda: failed(lines, "a"))
        assert trouble_of(lines, "a").startswith("station bad ")
        assert {k: v["delivery"] for k, v in (await stations(path)).items()} == {
            "good": "confirmed",
            "bad": "not confirmed",
        }

    served(test)


# --- a restart ---


def again(path, test, ward, memory, tmp_path):
    """Serve bed a again from what was left."""

    async def serve(service, lines):
        server = await open_socket(path, WardControl(service, open_bundle=None))
        service.add(BedConfig("a", memory.add("a", [3600.0])))
        try:
            await test(service, lines)
        finally:
            server.close()

    return ward(serve, state=tmp_path, delivery_s=1.0)[0]


@pytest.fixture
def left(served, tmp_path):
    """A ward that has ended while desk-3 listened."""

    async def test(path, listen, lines):
        desk = await listen()
        desk.confirm(1)
        await until(lambda: desk.numbers)

    lines, _ = served(test, beds="a", state=tmp_path)
    assert failed(lines, "a") == []
    return tmp_path / "w.sock"


def test_after_a_restart_a_station_that_does_not_come_back_is_missed(left, ward, memory, tmp_path):
    async def test(service, lines):
        await asyncio.sleep(0.6)
        assert failed(lines, "a") == [], "it has its time to come back"
        await until(lambda: failed(lines, "a"))
        service.deliveries.dismiss("desk-3", "Nurse Seven")
        await until(lambda: len(failed(lines, "a")) == 2)

    again(left, test, ward, memory, tmp_path)
    assert json.loads((tmp_path / "stations.json").read_text()) == []


def test_after_a_restart_a_station_that_comes_back_in_time_is_not(left, ward, memory, tmp_path):
    async def test(service, lines):
        await until(lambda: has(lines, condition="LEAD_OFF"))
        desk = Station(*await asyncio.open_unix_connection(left))
        desk.send(do="listen", station="desk-3")
        await until(lambda: desk.numbers)
        await asyncio.sleep(0.5)
        desk.confirm(*desk.numbers)
        await asyncio.sleep(1.5)
        assert service.deliveries.status()["desk-3"]["delivery"] == "confirmed"
        await desk.hang_up()

    lines = again(left, test, ward, memory, tmp_path)
    assert failed(lines, "a") == []


def test_a_failure_that_was_on_goes_on_over_a_restart_without_an_end_between(served, ward, memory, tmp_path):
    async def goes(path, listen, lines):
        desk = await listen()
        await desk.hang_up()
        await until(lambda: failed(lines, "a"))

    served(goes, beds="a", state=tmp_path)

    async def test(service, lines):
        await until(lambda: failed(lines, "a"))
        await asyncio.sleep(1.8)  # beyond the time to come back

    lines = again(tmp_path / "w.sock", test, ward, memory, tmp_path)
    assert failed(lines, "a") == [("on", "low")]


@pytest.mark.parametrize("content", [b"", b"{", b"7", b'["../x"]', b"[1]", b"\xff"])
def test_a_file_of_stations_that_is_damaged_is_said_and_harms_nobody(tmp_path, content):
    path, said = tmp_path / "stations.json", []
    path.write_bytes(content)
    made = Deliveries(delivery_s=1.0, remembered=path, say=said.append)
    assert made.status() == {}
    assert "cannot be read" in said[0]


# --- one who is slow ---


def test_one_who_reads_nothing_loses_what_is_no_alarm_and_then_the_connection(served, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 20)
    monkeypatch.setattr(module, "MOST_UNCONFIRMED", 30)

    async def test(path, listen, lines):
        _, writer = await asyncio.open_unix_connection(path)
        writer.transport.pause_reading()
        writer.write(b'{"do":"listen","station":"slow"}\n')
        await until(lambda: asks_status())
        for _ in range(3000):  # each brings an audio event, which is to be confirmed, or an answer
            made.put("a", json.dumps({"type": "estimate", "pad": "x" * 2000}), "estimate", urgent=False)
            await asyncio.sleep(0)
        fared = (await stations(path))["slow"]
        assert fared["dropped_lines"]["estimate"] > 1000
        assert len(made._stations["slow"].listener.lines) <= 21
        for _ in range(31):
            made.put("a", json.dumps({"type": "alarm"}), "alarm", urgent=True)
        assert (await stations(path))["slow"] == {"delivery": "gone"}
        writer.close()

    made = None

    def asks_status():
        return made is not None and made.is_heard

    keep = Deliveries.__init__

    def kept(self, **options):
        nonlocal made
        keep(self, **options)
        made = self

    monkeypatch.setattr(Deliveries, "__init__", kept)
    _, said = served(test)
    assert "station slow owes 30 confirmations and is cut off" in said


def test_there_is_an_end_to_stations(served, monkeypatch):
    monkeypatch.setattr(module, "MOST_STATIONS", 1)

    async def test(path, listen, lines):
        await listen("one")
        two = await listen("two")
        assert two.lines[0]["ok"] is False
        assert "there are 1 stations already" in two.lines[0]["error"]

    served(test)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"do": "confirm", "delivery": 99}, "delivery 99 does not wait"),
        ({"do": "confirm", "delivery": "1"}, "expected the number"),
        ({"do": "confirm", "delivery": True}, "expected the number"),
        ({"do": "confirm", "delivery": 1, "user": "x"}, "unknown key 'user'"),
        ({"do": "listen", "station": "b"}, "does not listen yet"),
        ({"do": "listen"}, "station is None"),
    ],
)
def test_what_a_listener_may_not_say_is_answered_in_order(served, asked, why):
    async def test(path, listen, lines):
        desk = await listen()
        await until(lambda: desk.numbers == [1, 2])
        desk.send(**asked)
        await until(lambda: desk.lines[-1].get("ok") is False)
        assert why in desk.lines[-1]["error"]

    served(test)


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (b"", EcgedgeError, "does not send any more"),
        (b'{"ok":true}\n', EcgedgeError, "does not send any more"),
        (b'{"ok":false,"error":"full"}\n', UsageError, "the ward refuses: full"),
        (b"HTTP/1.1 400\n", EcgedgeError, "does not speak as a ward does"),
        (b'{"ok":true}\n\xff\n', EcgedgeError, "does not speak as a ward does"),
        (b'{"ok":true}\n[7]\n', EcgedgeError, "does not speak as a ward does"),
        (b'{"ok":true}\n{"bed":"a","delivery":1}\n', EcgedgeError, "does not send any more"),
    ],
)
def test_what_a_listener_hears_from_one_who_hangs_up_or_is_no_ward(tmp_path, said, error, words):
    path, taken = tmp_path / "s", []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer():
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(error, match=words):
            listen_to(path, "desk-3", take=taken.append, say=lambda _: None)
        thread.join()
    assert taken == [line for line in said.splitlines(keepends=True) if b'"bed"' in line]


def test_who_does_not_listen_cannot_confirm(served):
    async def test(path, listen, lines):
        said = await ask(path, {"do": "confirm", "delivery": 1})
        assert said == {"ok": False, "error": "confirm is for a connection that listens"}

    served(test)
