"""A ward's bed whose front end shows what the bed says, over a real connection."""

import asyncio
from dataclasses import replace

import pytest
from ward_lines import has, until

from ecgedge.sim import Simulator
from ecgedge.wards.config import BedConfig
from ecgedge_bridge import (
    Ack,
    Alert,
    Data,
    Decoder,
    Info,
    Mode,
    Result,
    SampleFormat,
    SignalPresence,
    Validity,
    to_wire,
)
from ecgedge_bridge.control import CONDITION_IDS

RATE_HZ, FRAME, AHEAD_S = 250, 25, 4.0
LEAD_OFF = CONDITION_IDS["LEAD_OFF"]
VALIDITY = {"valid": Validity.VLD, "questionable": Validity.QST, "invalid": Validity.INV}
INFO = Info(
    seq=0, rate_num=RATE_HZ, rate_den=1, lsb_pv=1_000_000, gain_centi=100, leads=(1, 2), serial="SN-9",
    firmware=(1, 0, 0), mode=Mode.DEMO, simulated=True,
)  # fmt: skip


class Device:
    """Listens; sends simulated samples faster than time, with lead I off; keeps what it hears."""

    def __init__(self):
        ecg_mv = Simulator("stable", seed=1, rate_hz=float(RATE_HZ)).read(60 * RATE_HZ)[:2]
        self._counts = (ecg_mv * 1000).round().astype(int).T
        self.heard, self.connections, self._seq, self._index = [], 0, 0, 0
        self._writer, self.open = None, 0

    def of(self, kind):
        return [frame for frame in self.heard if isinstance(frame, kind)]

    def send(self, frame):
        self._writer.write(to_wire(replace(frame, seq=self._seq)))
        self._seq += 1

    def play(self, seconds, *, lead_off=0):
        for _ in range(seconds * RATE_HZ // FRAME):
            block = self._counts[self._index : self._index + FRAME]
            self.send(
                Data(
                    seq=0, sample_index=self._index, t_us=self._index * 4000, n_channels=2,
                    counts=tuple(block.ravel().tolist()), fmt=SampleFormat.I24, lead_off=lead_off, simulated=True,
                )
            )  # fmt: skip
            self._index += FRAME

    async def play_to(self, service, seconds, **how):
        """Play to bed a, never so far ahead of it that what waits would be too much and go."""
        for _ in range(seconds):
            self.play(1, **how)
            await until(lambda: self.ahead_s(service) < AHEAD_S)

    def ahead_s(self, service):
        return self._index / RATE_HZ - (service.status()["beds"]["a"].get("t_s") or 0.0)

    async def serve(self, reader, writer):
        self.connections += 1
        self._writer, decoder = writer, Decoder()
        self.send(INFO)
        self.open += 1
        while received := await reader.read(4096):
            self.heard += decoder.push(received)
        writer.close()
        self.open -= 1

    def hang_up(self):
        self.heard.clear()
        self._writer.close()


def test_estimates_and_alarms_reach_it_and_its_button_acknowledges(ward, memory):
    device = Device()

    async def test(service, lines):
        server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        service.add(BedConfig("a", f"tcp://127.0.0.1:{port}", answers=True))
        await until(lambda: device.connections == 1)
        await device.play_to(service, 16)
        await until(lambda: len(device.of(Result)) >= 1)
        result = device.of(Result)[-1]
        [found] = [
            x for x in lines if x["type"] == "estimate" and x["t_s"] * RATE_HZ - 1 == result.sample_index
        ]
        assert result.validity is VALIDITY[found["validity"]]
        assert f"{result.model_id:08x}" == service.status()["bundle"][:8]
        await device.play_to(service, 4, lead_off=1)
        await until(lambda: any(a.condition == LEAD_OFF for a in device.of(Alert)))
        device.send(Ack(seq=0, sample_index=0, condition=LEAD_OFF, user_id=7))
        await until(lambda: has(lines, condition="LEAD_OFF", signal="acknowledged"))
        device.hang_up()
        await until(lambda: device.connections == 2)
        await until(lambda: any(a.condition == LEAD_OFF for a in device.of(Alert)))
        told = next(a for a in device.of(Alert) if a.condition == LEAD_OFF)
        assert (told.present, told.signal) == (True, SignalPresence.ACKNOWLEDGED)
        server.close()
        await service.remove("a")
        await until(lambda: device.open == 0)

    ward(test, speed=1.0, true_time=True)


def test_a_bed_that_does_not_answer_sends_nothing(ward, memory):
    device = Device()

    async def test(service, lines):
        server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
        service.add(BedConfig("a", f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        await until(lambda: device.connections == 1)
        await device.play_to(service, 16)
        await until(lambda: has(lines, type="estimate"))
        assert device.of(Result) == device.of(Alert) == []
        server.close()
        await service.remove("a")
        await until(lambda: device.open == 0)

    ward(test, speed=1.0, true_time=True)


@pytest.mark.parametrize("feed", ["sim:stable", "mqtt://h/a", "file:a.npz"])
def test_what_is_no_front_end_takes_no_answers(feed):
    with pytest.raises(ValueError, match=r"answers is true, but a \w+: feed takes none"):
        BedConfig("a", feed, answers=True)
