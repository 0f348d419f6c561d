"""The sink mllp://: PyPI hl7's own server is the receiver; what it may do wrong comes from a server of the test's."""

import asyncio
import contextlib

import hl7
import pytest
from hl7.mllp import start_hl7_server
from sink_events import alarm, authorities, estimate, expired, first_delivery, outbox, until

from ecgedge.errors import UsageError
from ecgedge.hl7 import MllpDecoder, frame, parse
from ecgedge.sinks.hl7 import open_hl7_sink


@contextlib.asynccontextmanager
async def peer(*, code="AA", tls=None):
    """The server of PyPI's hl7, which acknowledges; messages it understood."""
    took, tasks = [], set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                message = await reader.readmessage()
                took.append(message)
                writer.writemessage(message.create_ack(code))
                await writer.drain()
        writer.close()

    async with await start_hl7_server(serve, host="127.0.0.1", port=0, encoding="utf-8", ssl=tls) as server:
        yield server.sockets[0].getsockname()[1], took
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def receiver(*answers):
    """A server that answers a message with what a function makes of it, one after the other, the last for ever."""
    took, waiting = [], list(answers)

    async def serve(reader, writer):
        decoder = MllpDecoder()
        with contextlib.suppress(ConnectionError):
            while received := await reader.read(65536):
                for data in decoder.push(received):
                    message = parse(data)
                    took.append(message)
                    answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                    if (found := answer(message)) is None:
                        writer.close()
                        return
                    writer.write(found)
                    await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], took


def ack(code, *, of=None, text=""):
    def answer(message):
        lines = f"MSH|^~\\&|||||20261128||ACK|1|P|2.6\rMSA|{code}|{of or message.control_id}|{text}\r"
        return frame(lines.encode())

    return answer


def test_a_peer_reads_estimates_and_alarms(run):
    async def main():
        async with peer() as (port, took):
            uri = f"mllp://127.0.0.1:{port}?facility=ICU&to_application=HIS&patients=bed7:4711"
            async with outbox(open_hl7_sink(uri)) as box:
                box.put("bed7", "demo", estimate(30.0, 17.25))
                box.put("bed7", "demo", alarm(31.0))
                box.put("bed7", "demo", expired())  # has no message
                box.put("bed7", "demo", alarm(32.0, priority="high"))
                box.put("bed7", "demo", alarm(33.0, presence="off"))
                box.put("bed7", "demo", alarm(34.0))
                box.put("bed8", "real", estimate(30.0, None))
                await until(lambda: box.delivered == 6)
                assert box.trouble is None
            return took

    took = run(main())
    first = took[0]
    assert str(first.segment("MSH")[9]) == "ORU^R01^ORU_R01"
    assert str(first.segment("MSH")[11]) == "D"
    assert (str(first.segment("MSH")[4]), str(first.segment("MSH")[5])) == ("ICU", "HIS")
    assert str(first.segment("PID")[3]) == "4711"
    value = first.segments("OBX")[0]
    assert (str(value[5]), str(value[6][0][1]), str(value[11])) == ("17.250", "MDC_DIM_MMHG", "R")
    assert "Simulated data" in str(first.segment("NTE")[3])
    phases = [_facet(m, "MDC_ATTR_EVENT_PHASE") for m in took[1:5]]
    assert phases == ["start", "escalate", "end", "start"]
    alerts = [str(m.segment("OBR")[3]) for m in took[1:5]]
    assert alerts[0] == alerts[1] == alerts[2] != alerts[3]
    assert str(took[5].segments("OBX")[0][5]) == ""
    assert str(took[5].segment("PID")[3]) == '""'
    ids = [str(m.segment("MSH")[10]) for m in took]
    assert len(set(ids)) == 6
    assert max(map(len, ids)) <= 20


def _facet(message, name):
    return next(str(row[5]) for row in message.segments("OBX") if name in str(row[3]))


def test_not_now_is_sent_again_and_wrong_is_not(run):
    async def main():
        answers = [ack("AR", text="busy"), ack("AA"), ack("AE", text="no such patient"), ack("AA")]
        async with (
            receiver(*answers) as (port, took),
            outbox(open_hl7_sink(f"mllp://127.0.0.1:{port}")) as box,
        ):
            for t_s in (1.0, 2.0, 3.0):
                box.put("a", "real", alarm(t_s))
            await until(lambda: box.n_waiting == 0)
            assert box.refused == {"alarm": 1}
            assert "AE: no such patient" in box.trouble
            return [message.control_id for message in took]

    first, again, refused, last = run(main())
    assert first == again
    assert len({again, refused, last}) == 3


def test_an_alarm_that_was_refused_has_not_begun(run):
    async def main():
        async with (
            receiver(ack("AE"), ack("AA")) as (port, took),
            outbox(open_hl7_sink(f"mllp://127.0.0.1:{port}")) as box,
        ):
            box.put("a", "real", alarm(1.0))
            box.put("a", "real", alarm(2.0, priority="high"))
            await until(lambda: box.n_waiting == 0)
            return took

    rows = [(row.field(3, 2), row.field(5)) for row in run(main())[1].segments("OBX")]
    assert ("MDC_ATTR_EVENT_PHASE", "start") in rows


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: None, "closed the connection without"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", "no answer within"),
        (lambda _: frame(b"what?"), "no acknowledgement"),
        (ack("AA", of="another"), "no answer within"),
    ],
)
def test_what_is_no_answer_is_a_trouble_and_is_sent_again(run, answer, said):
    async def main():
        async with (
            receiver(answer, answer, ack("AA")) as (port, took),
            outbox(open_hl7_sink(f"mllp://127.0.0.1:{port}"), attempt_s=0.4) as box,
        ):
            box.put("a", "real", alarm())
            await until(lambda: said in (box._failure or ""))
            await until(lambda: box.n_waiting == 0)
            assert box.trouble is None
            return {message.control_id for message in took}

    assert len(run(main())) == 1


def test_tls_and_a_wrong_authority(run, tmp_path):
    context, ours, other = authorities(tmp_path)

    async def main(ca):
        async with (
            peer(tls=context) as (port, _),
            outbox(open_hl7_sink(f"mllps://127.0.0.1:{port}?ca={ca}")) as box,
        ):
            return await first_delivery(box)

    assert run(main(ours)) == (1, None)
    delivered, trouble = run(main(other))
    assert delivered == 0
    assert "certificate" in trouble.lower()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mllp://host", "expected mllp://HOST:PORT"),
        ("mllp://host:2575?colour=red", "colour is unknown"),
        ("mllp://host:2575?ca=x", "mllps://HOST:PORT"),
        ("mllps://host:2575?ca=/no/file", "Expected mllp"),
        ("mllp://host:2575?patients=bed7", "expected BED:ID"),
    ],
)
def test_a_wrong_uri_is_named(uri, said):
    with pytest.raises(UsageError, match=said):
        open_hl7_sink(uri)


def test_the_peer_is_the_real_one():
    assert hl7.__version__ >= "0.4.5"
