"""The sink sdc://: who subscribes is a consumer in plain sdc11073, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mosquitto import certificates
from sink_events import alarm, estimate, expired, outbox, self_check, until

from ecgedge.errors import UsageError
from ecgedge.sdc.library import import_sdc
from ecgedge.sinks.sdc import open_sdc_sink, parse_sdc_sink

pytest.importorskip("sdc11073", reason="needs the extra sdc: pip install 'ecgedge[sdc]'")

CONSUMER = Path(__file__).parents[1] / "support" / "sdc_consumer.py"


class Consumer:
    """Lines of what it hears; it is told what to acknowledge."""

    def __init__(self, *words):
        self._process = subprocess.Popen(
            [sys.executable, str(CONSUMER), *map(str, words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def hear(self):
        line = self._process.stdout.readline()
        assert line, "the consumer has ended"
        return json.loads(line)

    def until(self, condition):
        while not condition(found := self.hear()):
            pass
        return found

    def ask(self, word):
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def end(self):
        self._process.kill()
        self._process.communicate()


async def _subscribed(box, receiver, *more, bed="bed7"):
    import asyncio

    box.put(bed, "demo", self_check())
    await until(lambda: box.delivered == 1, within_s=30.0)
    consumer = await asyncio.to_thread(Consumer, receiver.url(bed), *more)
    return consumer, await asyncio.to_thread(consumer.hear)


@pytest.mark.parametrize("tls", [False, True])
def test_a_consumer_hears_estimates_and_alarms_and_acknowledges(run, tmp_path, tls):
    import asyncio

    asked = []

    async def acknowledge(bed, condition, user):
        if condition != "MPCWP_ELEVATED":
            raise UsageError(f"{condition} is not on")
        asked.append((bed, condition, user))

    uri, words = "sdc://127.0.0.1", ()
    if tls:
        certificates(tmp_path)
        words = [tmp_path / name for name in ("server.pem", "server.key", "ca.pem")]
        uri = "sdcs://127.0.0.1?cert={}&key={}&ca={}".format(*words)

    async def main():
        receiver = open_sdc_sink(uri, acknowledge=acknowledge, say=[].append)
        async with outbox(receiver, attempt_s=30.0, late_s=30.0) as box:
            consumer, first = await _subscribed(box, receiver, *words)
            heard = [first]
            try:
                box.put("bed7", "demo", estimate(30.0, 17.256))
                heard.append(await asyncio.to_thread(consumer.until, lambda e: "mpcwp" in e))
                box.put("bed7", "demo", alarm(31.0))
                heard.append(await asyncio.to_thread(consumer.until, lambda e: "MPCWP_ELEVATED" in e))
                consumer.ask("MPCWP_ELEVATED")
                heard.append(await asyncio.to_thread(consumer.until, lambda e: "answer" in e))
                box.put("bed7", "demo", alarm(32.0, signal="acknowledged"))
                heard.append(await asyncio.to_thread(consumer.until, lambda e: "signal.MPCWP_ELEVATED" in e))
                consumer.ask("FEED_LOST")
                heard.append(await asyncio.to_thread(consumer.until, lambda e: "answer" in e))
                box.put("bed7", "demo", estimate(40.0, None))
                heard.append(await asyncio.to_thread(consumer.until, lambda e: "mpcwp" in e))
                box.put("bed7", "demo", expired())
                heard.append(await asyncio.to_thread(consumer.until, lambda e: "mpcwp" in e))
            finally:
                consumer.end()
            return heard

    first, number, onset, answer, shown, refused, invalid, gone = run(main())
    assert first["category"] == {
        "mpcwp": "Clc",
        "mpcwp.high": "Clc",
        "mpcwp.low": "Clc",
        "p15": "Clc",
        "p18": "Clc",
    }
    assert "Research use only" in first["text"]
    assert first["lifetime_s"] == 600.0
    assert first["bed"] == "bed7"
    assert first["limit"] == 18.0
    assert number["mpcwp"] == {"value": 17.26, "validity": "Vld", "qi": 0.93, "mode": "Demo"}
    assert number["mpcwp.low"]["value"] == 11.26
    assert number["p18"]["value"] == 0.4
    assert onset["MPCWP_ELEVATED"] == {"presence": True, "priority": "Me"}
    assert onset["signal.MPCWP_ELEVATED"]["presence"] == "On"
    assert answer["answer"] == "Fin"
    assert asked == [("bed7", "MPCWP_ELEVATED", "SDC consumer")]
    assert shown["signal.MPCWP_ELEVATED"]["presence"] == "Ack"
    assert refused["answer"] == "Fail"
    assert "FEED_LOST is not on" in refused["why"]
    assert invalid["mpcwp"] == {"value": None, "validity": "Inv", "qi": 0.93, "mode": "Demo"}
    assert gone["mpcwp"]["validity"] == "NA"
    assert gone["mpcwp"]["value"] is None


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sdc://", "expected sdc://ADDRESS"),
        ("sdc://[", "Invalid IPv6"),
        ("sdc://127.0.0.1/bed", "expected sdc://ADDRESS"),
        ("sdc://127.0.0.1?limit_mmhg=high", "limit_mmhg is 'high'"),
        ("sdc://127.0.0.1?colour=red", "colour is unknown"),
        ("sdcs://127.0.0.1?cert=a&key=b", "ca is missing"),
    ],
)
def test_a_wrong_uri_is_named(uri, said):
    with pytest.raises(UsageError, match=said):
        parse_sdc_sink(uri)


def test_an_adapter_that_is_not_ours_is_a_trouble(run):
    async def main():
        async with outbox(open_sdc_sink("sdc://192.0.2.1", acknowledge=None, say=[].append)) as box:
            box.put("a", "real", estimate())
            await until(lambda: box.trouble is not None)
            return box.trouble

    assert "must be an address of this machine" in run(main())
    assert import_sdc().definitions is not None
