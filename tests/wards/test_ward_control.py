"""The control socket: every command, and all kinds of garbage, answered and counted."""

import asyncio
import json
import os
import socket
import stat
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgedge.errors import BundleError, EcgedgeError, UsageError
from ecgedge.feeds import Chunk, open_feed
from ecgedge.leads import STANDARD_LEADS
from ecgedge.rig import Faults, FaultyLine, open_sender, play
from ecgedge.wards import control as module
from ecgedge.wards.config import BedConfig, WardSettings
from ecgedge.wards.control import LONGEST_LINE, WardControl, ask, open_socket
from ecgedge.wards.serve import WardService

OFF = np.zeros((12, 1250), np.float32)
OFF[0] = np.nan
NO_LEAD_I = [Chunk(5.0 * k, OFF, k) for k in range(2)]
DOS = [
    *("status", "add", "remove", "acknowledge", "pause_audio", "resume_audio"),
    *("calibrate", "uncalibrate", "swap", "drain"),
]
DOS += ["listen", "confirm", "dismiss"]


async def no_bundle(path):
    raise BundleError(f"{path}: no bundle (nothing there)")


@pytest.fixture
def served(formula_bundle, new_variants, new_lines, memory, tmp_path):
    """Run a test's coroutine beside a ward of one bed, whose lead I is off, and give it the control and the lines."""

    def run(test, **chosen):
        async def main():
            lines = new_lines()
            chosen.setdefault("state", str(tmp_path))
            service = WardService(
                formula_bundle,
                new_variants(),
                WardSettings(**chosen),
                outlet=lines,
                say=said.append,
                read_clock=lambda: None,
            )
            control = WardControl(service, open_bundle=no_bundle)
            service.add(BedConfig("a", memory.add("a", [*NO_LEAD_I, 3600.0])))
            serving = asyncio.create_task(service.run())
            while not any(line.get("condition") == "LEAD_OFF" for line in lines.lines):
                await asyncio.sleep(0.01)
            try:
                await asyncio.wait_for(test(control, lines.lines), 60.0)
            finally:
                service.stop()
                await serving

        said = []
        asyncio.run(main())
        return said

    return run


async def tell(control, **asked):
    return await control.answer(json.dumps(asked).encode())


def test_status_says_how_each_bed_fares(served, formula_bundle):
    async def test(control, lines):
        said = await tell(control, do="status")
        bed = said["beds"].pop("a")
        assert bed.pop("latency_ms").keys() == {"p50", "p99"}
        health = bed.pop("health")
        assert health.pop("alive") in (True, False)  # a busy machine takes its time
        assert health.pop("age_s") >= 0.0
        assert health == {"rate_ok": None, "dropped": {}}  # nobody can know the rate so soon
        assert 0.0 <= said.pop("busy") <= 1.0
        assert bed.pop("t_s") + bed.pop("waiting_samples") / 250.0 == 10.0
        assert said == {
            "ok": True,
            "bundle": formula_bundle.id,
            "simulated": formula_bundle.simulated,
            "beds": {},
            "compiled_loops": False,
            "clock_synchronised": None,
            "channels": {"events": {"delivery": "information only"}, "stations": {}, "sinks": {}},
            "dropped_lines": {},
            "events_trouble": None,
            "research_use_only": True,
            "refused_commands": {},
        }
        assert bed == {
            "feed": "memory:a",
            "connected": True,
            "leads": list(STANDARD_LEADS),
            "alarms": ["LEAD_OFF"],
        }

    served(test)


def test_status_says_what_a_front_end_says_of_itself(served):
    async def test(control, lines):
        told = asyncio.Queue()
        source = await open_feed("sim:stable?leads=I,II")
        opening = asyncio.create_task(open_sender("tcp://127.0.0.1:0", source.info, say=told.put_nowait))
        uri = (await told.get()).split()[-1]
        await tell(control, do="add", name="b", feed=uri)
        sender = await opening
        playing = asyncio.create_task(play(source, sender, FaultyLine(Faults(), source.info.leads)))
        device = {}
        while not device.get("clock"):
            await asyncio.sleep(0.05)
            bed = (await tell(control, do="status"))["beds"]["b"]
            device = bed.get("health", {}).get("device", {})
        assert (bed["leads"], device["serial"], device["firmware"]) == (["I", "II"], "ECGEDGE-RIG", "0.1.0")
        assert device["clock"]["exchanges"] >= 1
        playing.cancel()
        await tell(control, do="remove", name="b")
        await sender.close()

    assert any("the device is ECGEDGE-RIG, firmware 0.1.0, mode demo" in text for text in served(test))


def test_an_alarm_is_acknowledged_in_the_users_name(served):
    async def test(control, lines):
        asked = {"name": "a", "condition": "LEAD_OFF", "user": "Nurse Seven"}
        assert await tell(control, do="acknowledge", **asked) == {"ok": True}
        last = lines[-1]
        assert (last["bed"], last["condition"], last["signal"], last["user"]) == (
            *("a", "LEAD_OFF", "acknowledged", "Nurse Seven"),
        )

    served(test)


def test_the_sound_is_paused_and_on_again(served):
    async def test(control, lines):
        paused = {"name": "a", "duration_s": 60, "user": "Nurse Seven"}
        assert await tell(control, do="pause_audio", **paused) == {"ok": True}
        assert (lines[-1]["type"], lines[-1]["state"], lines[-1]["user"]) == (
            "audio",
            "paused",
            "Nurse Seven",
        )
        assert await tell(control, do="resume_audio", name="a", user="Nurse Six") == {"ok": True}
        assert (lines[-1]["type"], lines[-1]["state"], lines[-1]["user"]) == ("audio", "on", "Nurse Six")

    served(test)


def test_beds_come_and_go(served, memory, tmp_path):
    async def test(control, lines):
        assert await tell(control, do="add", name="b", feed=memory.add("b", [*NO_LEAD_I, 3600.0])) == {
            "ok": True
        }
        while not any(line["bed"] == "b" for line in lines):
            await asyncio.sleep(0.01)
        again = await tell(control, do="add", name="b", feed="sim:stable")
        assert not again["ok"]
        assert "there is a bed b already" in again["error"]
        full = await tell(control, do="add", name="c", feed="sim:stable")
        assert "the ward is full: it takes 2 beds" in full["error"]
        assert await tell(control, do="remove", name="b") == {"ok": True}
        assert (lines[-1]["bed"], lines[-1]["type"]) == ("b", "summary")
        assert not (tmp_path / "b.bed").exists()
        assert "there is no bed b; there are a" in (await tell(control, do="remove", name="b"))["error"]
        assert control.refused == {"refused": 3}

    served(test, most_beds=2)


def test_two_who_remove_the_same_bed_at_once_both_get_an_answer(served):
    async def test(control, lines):
        answers = await asyncio.gather(*(tell(control, do="remove", name="a") for _ in range(3)))
        assert all(isinstance(answer["ok"], bool) for answer in answers)
        assert answers[0] == {"ok": True}
        assert sum(line["type"] == "summary" for line in lines) == 1
        assert (await tell(control, do="status"))["beds"] == {}

    served(test)


def test_drain_ends_the_ward_and_every_bed_says_its_summary(served):
    async def test(control, lines):
        assert await tell(control, do="drain") == {"ok": True}
        while lines[-1]["type"] != "summary":
            await asyncio.sleep(0.01)

    served(test)


NURSE = {"name": "a", "user": "Nurse"}


def test_a_calibration_without_estimates_is_refused(served):
    async def test(control, lines):
        said = await tell(control, do="calibrate", **NURSE, mpcwp_mmhg=14, sd_mmhg=1.5)
        assert said["ok"] is False
        assert "there are 0 valid estimates in the last 120 s" in said["error"]
        assert not [line for line in lines if line["type"] == "calibration"]
        assert await tell(control, do="uncalibrate", **NURSE) == {"ok": True}  # of nothing, which is no fault

    served(test)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"do": "acknowledge", **NURSE, "condition": "FEVER"}, ["FEVER"]),
        ({"do": "acknowledge", **NURSE}, ["condition is None; expected a text"]),
        ({"do": "acknowledge", "name": "a", "condition": "LEAD_OFF", "user": ""}, ["user"]),
        ({"do": "acknowledge", "name": "a", "condition": "LEAD_OFF", "user": "a\nb"}, ["user"]),
        ({"do": "acknowledge", **NURSE, "condition": "LEAD_OFF", "why": "x"}, ["unknown key 'why'"]),
        ({"do": "acknowledge", **NURSE, "name": "b", "condition": "LEAD_OFF"}, ["there is no bed b"]),
        ({"do": "pause_audio", **NURSE}, ["duration_s is None; expected seconds"]),
        ({"do": "pause_audio", **NURSE, "duration_s": True}, ["duration_s is True"]),
        ({"do": "pause_audio", **NURSE, "duration_s": "60"}, ["duration_s is '60'"]),
        ({"do": "pause_audio", **NURSE, "duration_s": 0}, ["above 0"]),
        ({"do": "pause_audio", **NURSE, "duration_s": 121}, ["120"]),
        ({"do": "pause_audio", **NURSE, "duration_s": float("nan")}, ["nan"]),
        ({"do": "pause_audio", **NURSE, "duration_s": 10**400}, ["expected seconds"]),
        ({"do": "resume_audio", "name": "a"}, ["user is None"]),
        ({"do": "calibrate", **NURSE}, ["mpcwp_mmhg is None; expected mmHg"]),
        ({"do": "calibrate", **NURSE, "mpcwp_mmhg": "14"}, ["mpcwp_mmhg is '14'"]),
        ({"do": "calibrate", **NURSE, "mpcwp_mmhg": 140}, ["mpcwp_mmhg is 140; a catheter value is above 0"]),
        ({"do": "calibrate", **NURSE, "mpcwp_mmhg": 14, "sd_mmhg": 0}, ["sd_mmhg is 0"]),
        ({"do": "calibrate", "name": "a", "mpcwp_mmhg": 14}, ["user is None"]),
        ({"do": "uncalibrate", "name": "a", "user": " "}, ["who ends the calibration?"]),
        ({"do": "add", "name": "b"}, ["missing key 'feed'"]),
        ({"do": "add", "name": "b", "feed": "sim:stable", "polcy": "x"}, ["'polcy'", "'policy'"]),
        ({"do": "add", "name": "../b", "feed": "sim:stable"}, ["'../b'"]),
        ({"do": "add", "name": "b", "feed": "sim:stable", "policy": "/none.toml"}, ["/none.toml"]),
        ({"do": "add", "name": "b", "feed": "sim:stable", "policy": "\0"}, ["null"]),
        ({"do": "swap"}, ["bundle is None"]),
        ({"do": "swap", "bundle": "/none.ecgb"}, ["/none.ecgb: no bundle"]),
        ({"do": "status", "name": "a"}, ["unknown key 'name'; expected none"]),
        ({"do": "drain", "now": True}, ["unknown key 'now'"]),
    ],
)
def test_what_cannot_be_done_is_refused_and_harms_nobody(served, asked, words):
    async def test(control, lines):
        before = len(lines)
        said = await tell(control, **asked)
        assert said["ok"] is False
        for word in words:
            assert word in said["error"]
        assert control.refused == {"refused": 1}
        assert len(lines) == before
        assert list((await tell(control, do="status"))["beds"]) == ["a"]

    served(test)


def test_a_bed_that_has_heard_nothing_yet_says_so(served, memory):
    async def test(control, lines):
        await tell(control, do="add", name="b", feed="memory:none")
        await asyncio.sleep(0.05)
        said = await tell(control, do="pause_audio", name="b", duration_s=60, user="Nurse")
        assert said["error"] == "bed b has heard nothing of its feed yet: memory:none does not answer"
        status = (await tell(control, do="status"))["beds"]["b"]
        assert status == {"feed": "memory:none", "connected": False, "trouble": "memory:none does not answer"}

    assert served(test) == ["bed b: memory:none does not answer; trying again"]


def test_a_bed_whose_feed_has_ended_says_so(served, memory):
    async def test(control, lines):
        await tell(control, do="add", name="b", feed=memory.add("b", NO_LEAD_I, live=False))
        while lines[-1]["type"] != "summary":
            await asyncio.sleep(0.01)
        said = await tell(control, do="pause_audio", name="b", duration_s=60, user="Nurse")
        assert said["error"] == "bed b has ended: so did its feed"
        assert (await tell(control, do="status"))["beds"]["b"]["ended"] is True
        assert await tell(control, do="remove", name="b") == {"ok": True}

    served(test)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a", "sim:x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["name", "feed", "policy", "condition", "user", "duration_s", "bundle", "x"])
garbage = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda do, rest: json.dumps({**rest, "do": do}).encode(),
        st.sampled_from([*DOS[:-1], "sing"]),
        st.dictionaries(keys, json_values, max_size=4),
    )
    | st.integers(1, 20_000).map(lambda n: b"[" * n)
    | st.integers(1, 5000).map(
        lambda n: b'{"do":"pause_audio","name":"a","user":"u","duration_s":1' + b"0" * n + b"}"
    )
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(garbage, min_size=1, max_size=8))
def test_garbage_of_all_kinds_is_answered_and_counted(served, lines):
    async def test(control, said):
        for line in lines:
            answer = json.loads(json.dumps(await control.answer(line)))
            assert answer["ok"] is True or answer["error"]
            refused = sum(control.refused.values())
            assert (await tell(control, do="status"))["ok"] is True
            assert sum(control.refused.values()) == refused
        assert refused <= len(lines)
        assert "a" in control._service._places or b'"remove"' in b"".join(lines)

    served(test)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"null", b"7", b'"status"', b"{}", b'{"do":[]}', b'{"do":"sing"}', b"\xff", b"[[[["]
)
def test_what_is_no_command_is_told_the_commands(served, line):
    async def test(control, lines):
        said = await control.answer(line)
        assert said == {
            "ok": False,
            "error": f'expected a JSON object with "do" being one of {", ".join(DOS)}',
        }
        assert control.refused == {"unknown_command": 1}

    served(test)


# --- the socket ---


@pytest.fixture
def listening(served, tmp_path):
    """Run a test's coroutine with the path of a ward's socket."""

    def run(test):
        async def listen(control, lines):
            path = tmp_path / "ward.sock"
            server = await open_socket(path, control)
            try:
                await test(path, control)
            finally:
                server.close()

        return served(listen)

    return run


def test_only_this_user_may_open_it(listening):
    async def test(path, control):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        before = os.umask(0o022)
        os.umask(before)
        assert before != 0o177

    listening(test)


def test_questions_and_answers_go_line_by_line(listening):
    async def test(path, control):
        assert (await ask(path, {"do": "status"}))["research_use_only"] is True
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"do":"status"}\n\xff\n{"do":"sta')
        assert json.loads(await reader.readline())["ok"] is True
        assert json.loads(await reader.readline())["ok"] is False
        writer.write(b'tus"}\n')
        assert json.loads(await reader.readline())["ok"] is True
        writer.close()
        await writer.wait_closed()
        assert (await ask(path, {"do": "status"}))["ok"] is True

    listening(test)


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_that_is_too_long_is_told_so_and_the_connection_ends(listening, end):
    async def test(path, control):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * (LONGEST_LINE + 1) + end)
        said = json.loads(await reader.readline())
        assert said["ok"] is False
        assert f"{LONGEST_LINE} bytes" in said["error"]
        assert control.refused == {"too_long": 1}
        with suppress(ConnectionError):  # of what it had not read
            assert await reader.read() == b""
        writer.close()
        assert (await ask(path, {"do": "status"}))["refused_commands"] == {"too_long": 1}

    listening(test)


def test_one_who_hangs_up_or_says_nothing_is_in_nobodys_way(listening):
    async def test(path, control):
        idle = [await asyncio.open_unix_connection(path) for _ in range(20)]
        for k in range(20):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"do":"status"}\n' * k)
            writer.transport.abort()
        assert (await ask(path, {"do": "status"}))["ok"] is True
        for _, writer in idle:
            writer.close()

    listening(test)


def test_the_socket_of_a_killed_ward_is_replaced(listening, tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "ward.sock"))

    async def test(path, control):
        assert (await ask(path, {"do": "status"}))["ok"] is True

    listening(test)


def test_that_of_a_ward_that_lives_is_refused(listening):
    async def test(path, control):
        with pytest.raises(UsageError, match=f"another ward listens on {path}"):
            await open_socket(path, control)
        assert (await ask(path, {"do": "status"}))["ok"] is True

    listening(test)


def test_what_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "ward.sock"
    path.write_text("a letter")
    with pytest.raises(UsageError, match=f"{path} is no socket"):
        asyncio.run(open_socket(path, None))
    assert path.read_text() == "a letter"


@pytest.mark.parametrize(("name", "why"), [("no/such/folder", "No such file"), ("x" * 120, "too long")])
def test_a_place_where_no_socket_can_be_is_said(tmp_path, name, why):
    with pytest.raises(UsageError, match=f"cannot listen on .*{name}: .*{why}"):
        asyncio.run(open_socket(tmp_path / name, None))


def test_where_no_ward_listens_it_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"no ward listens on .*none\.sock: No such file"):
        asyncio.run(ask(tmp_path / "none.sock", {"do": "status"}))


@pytest.mark.parametrize(
    ("said", "why"),
    [(b"", "hung up without an answer"), (b"220 smtp ready\n", "does not answer as a ward does")],
)
def test_one_who_listens_and_is_no_ward_is_said(tmp_path, said, why):
    async def main():
        async def serve(reader, writer):
            await reader.readline()
            writer.write(said)
            writer.close()

        server = await asyncio.start_unix_server(serve, path=tmp_path / "s")
        try:
            await ask(tmp_path / "s", {"do": "status"})
        finally:
            server.close()

    with pytest.raises(EcgedgeError, match=why):
        asyncio.run(main())


def test_the_commands_are_those_of_the_modules_head():
    for do in DOS:
        assert f'{{"do":"{do}"' in module.__doc__
