"""Targets: what comes over a wire. Any bytes give values, are counted, or raise what the parser says."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import seeds
from target import Target

DECLARED = {"leads": ["I", "-", "II"], "rate_hz": 500, "lsb_nv": 1000, "mode": "test", "band_hz": [0.05, 150]}
URIS = (
    "sim:stable?seed=1&rate_hz=500&leads=I,II",
    "file:a.hea?loop=1&gaps=keep&chunk_ms=20",
    "tcp://h:1?leads=I,II&rate_hz=500&lsb_nv=1000&band_hz=0.05,150",
    "mllp://127.0.0.1:2575?patient=7",
    "mqtt://u@h:1883/ward/bed?qos=1",
    "ws://h:1/bed?x=1",
    "lsl:bed1?type=ECG&source_id=7",
    "sdc://127.0.0.1:80/x",
    "sdc://127.0.0.1?epr=urn:uuid:cc013678-79f6-403c-998f-3cc0cc050230",
)
SINKS = (
    "mqtt://u@h:1883/ward?lifetime_s=60&discovery=homeassistant",
    "mllp://h:2575?facility=ICU&patients=bed1:4711,bed2:4712",
    "webhook:https://h/take?x=1#secret=/no/file",
    "prometheus://127.0.0.1:9464/metrics",
    "sdc://127.0.0.1?limit_mmhg=18&lifetime_s=600&facility=A",
)


SHORT = 4_000
"""Bytes: a message is short, and many are tried."""


class WrongError(Exception):
    """A parser that did not raise, and did not keep its word either."""


def _messages(folder: Path) -> Callable[[bytes], None]:
    """MQTT and WebSocket: JSON or a frame whose checksum is put right, then the order of packets."""
    del folder
    from ecgedge.errors import FeedError
    from ecgedge.feeds.declared import from_object
    from ecgedge.feeds.dejitter import Dejitter
    from ecgedge.feeds.eeb import MODULUS
    from ecgedge.feeds.messages import MessageReader
    from ecgedge_bridge.crc import crc32c

    declared = from_object(DECLARED)

    def once(data: bytes) -> None:
        reader, order = (
            MessageReader(declared, uri="fuzz"),
            Dejitter(rate_hz=500.0, wait_s=0.1, modulus=MODULUS),
        )
        with suppress(FeedError):
            for part in data.split(seeds.BETWEEN):
                sealed = part[:-4] + struct.pack("<I", crc32c(part[:-4]))
                packet = reader.json(part) if part.startswith(b"{") else reader.binary(sealed)
                before = sum(reader.dropped.values())
                if packet is not None:
                    order.push(packet)
                elif not before:
                    raise WrongError("neither a packet nor counted")
            order.flush()

    return once


def _messages_seeds(data: Path | None) -> list[bytes]:
    del data
    import numpy as np

    from ecgedge.feeds.messages import write_json

    samples_mv = np.linspace(-1, 1, 30, dtype=np.float32).reshape(3, 10)
    texts = [write_json(samples_mv, index=index) for index in (0, 20, 10, 2**32 - 5)]
    return [seeds.BETWEEN.join(texts), seeds.BETWEEN.join(_frames()), *_frames()]


def _frames() -> list[bytes]:
    from ecgedge_bridge import Data, SampleFormat, make_result, pack

    def one(k: int, form: SampleFormat) -> bytes:
        counts = tuple(range(30))
        return pack(Data(seq=k, sample_index=10 * k, t_us=20_000 * k, n_channels=3, counts=counts, fmt=form))

    del make_result
    return [one(0, SampleFormat.I16), one(1, SampleFormat.I24), one(3, SampleFormat.I16)]


def _declared(folder: Path) -> Callable[[bytes], None]:
    del folder
    from ecgedge.errors import FeedError
    from ecgedge.feeds.messages import read_declared

    def once(data: bytes) -> None:
        with suppress(FeedError):
            read_declared(data, uri="fuzz").info("fuzz")

    return once


def _declared_seeds(data: Path | None) -> list[bytes]:
    del data
    return [
        json.dumps({**DECLARED, "calibrated": True, "chunk_ms": 40}).encode(),
        json.dumps(DECLARED).encode(),
        b"[" * 3000,
    ]


def _uris(folder: Path) -> Callable[[bytes], None]:
    """Every feed's URI."""
    del folder
    from ecgedge.errors import FeedError
    from ecgedge.feeds.file import parse_file_uri
    from ecgedge.feeds.lsl import parse_lsl_uri
    from ecgedge.feeds.mllp import parse_mllp_uri
    from ecgedge.feeds.mqtt import parse_mqtt_uri
    from ecgedge.feeds.sdc import parse_sdc_uri
    from ecgedge.feeds.serial import parse_serial_uri
    from ecgedge.feeds.sim import parse_sim_uri
    from ecgedge.feeds.tcp import parse_tcp_uri
    from ecgedge.feeds.ws import parse_ws_uri
    from ecgedge.rig.address import parse_address

    readers = (
        parse_file_uri,
        parse_lsl_uri,
        parse_mllp_uri,
        parse_mqtt_uri,
        parse_sdc_uri,
        parse_serial_uri,
        parse_sim_uri,
        parse_tcp_uri,
        parse_ws_uri,
    )

    def once(data: bytes) -> None:
        uri = data.decode("utf-8", "replace")
        for parse in readers:
            with suppress(FeedError):
                parse(uri)
        with suppress(FeedError):
            parse_address(uri, options=("format",), form="fuzz")

    return once


def _sinks(folder: Path) -> Callable[[bytes], None]:
    """Every sink's URI."""
    del folder
    from ecgedge.errors import UsageError
    from ecgedge.sinks.fhir import open_fhir
    from ecgedge.sinks.hl7 import parse_mllp_sink
    from ecgedge.sinks.mqtt import open_mqtt_sink
    from ecgedge.sinks.prometheus import parse_prometheus
    from ecgedge.sinks.sdc import parse_sdc_sink
    from ecgedge.sinks.webhook import open_webhook

    readers = (open_mqtt_sink, parse_mllp_sink, parse_prometheus, parse_sdc_sink, open_webhook)

    def once(data: bytes) -> None:
        uri = data.decode("utf-8", "replace")
        for parse in readers:
            with suppress(UsageError):
                parse(uri)
        with suppress(UsageError):
            open_fhir(f"fhir:https://host/{uri}")

    return once


def _sdc(folder: Path) -> Callable[[bytes], None]:
    """Read a provider's description, and a report of waveforms: XML that the library would hand over."""
    del folder
    from collections import Counter

    from lxml import etree

    from ecgedge.errors import FeedError
    from ecgedge.sdc.reading import Waveform, read_stretches, read_waveforms

    leads = [Waveform("ecg.I", "I", 500.0, 1.0, None, None)]

    def once(data: bytes) -> None:
        try:
            root = etree.fromstring(data)
        except etree.XMLSyntaxError:
            return
        with suppress(FeedError):
            read_waveforms(root, source="fuzz")
        for stretch in read_stretches(root, leads, Counter()):
            assert stretch.samples_mv.size

    return once


def _sdc_seeds(data: Path | None) -> list[bytes]:
    del data
    from ecgedge.feeds import FeedInfo
    from ecgedge.rig.sdc import waveform_mds
    from ecgedge.sdc.provider import description
    from ecgedge.sdc.reading import MSG, PM

    info = FeedInfo(uri="x", leads=("I", "II"), rate_hz=500.0, mode="demo", chunk_s=0.1)
    report = (
        f'<m:WaveformStream xmlns:m="{MSG}" xmlns:p="{PM}"><m:State DescriptorHandle="ecg.I">'
        '<p:MetricValue DeterminationTime="1000" Samples="0.1 0.2"><p:MetricQuality Validity="Vld" Mode="Demo"/>'
        "</p:MetricValue></m:State></m:WaveformStream>"
    )
    return [description(waveform_mds(info, resolution_mv=1e-3, report_s=0.1)), report.encode()]


def _recorder(folder: Path) -> Callable[[bytes], None]:
    """Feed what a Vital Recorder sends, packed by us, and as it is."""
    del folder
    import gzip

    from ecgedge.feeds.vital_hl7 import BedMessages, Selection

    def once(data: bytes) -> None:
        for payload in (gzip.compress(data, 1), data):
            messages = BedMessages(Selection(vr="OR1", leads={"ECG1": "V1"}, unit="mV"))
            for _ in range(2):
                for packet in messages.take(payload, arrived_s=0.0):
                    assert packet.n

    return once


def _recorder_seeds(data: Path | None) -> list[bytes]:
    del data
    values = "^".join(f"{k / 100:.3f}" for k in range(100))
    lines = [
        "MSH|^~\\&|VR|OR1|||20261128120001||ORU^R01|1|P|2.6",
        "PID|1||",
        "PV1|1||BED-1",
        "OBR|1||||||20261128120000|20261128120001",
        f"OBX|1|NA|ECG_WAV^Monitor/ECG_II@100||{values}|mV",
        f"OBX|2|NA|^Monitor/ECG1@100||{values}|mV",
    ]
    return ["\r".join(lines).encode() + b"\r"]


def _stamps(folder: Path) -> Callable[[bytes], None]:
    """LSL's stamps, in pieces: every sample gets one number, and they go up."""
    del folder
    import numpy as np

    from ecgedge.errors import FeedError
    from ecgedge.feeds.stamps import StampGrid

    def once(data: bytes) -> None:
        grid, n, last = StampGrid(rate_hz=500.0), 0, None
        with suppress(FeedError):
            for part in data.split(seeds.BETWEEN):
                stamps_s = np.frombuffer(part[: len(part) // 8 * 8], "<f8")
                n += len(stamps_s)
                for number in grid.push(stamps_s).tolist():
                    if last is not None and number <= last:
                        raise WrongError("numbers go back")
                    n, last = n - 1, number
            if n != grid.n_waiting or len(grid.flush()) != n:
                raise WrongError("samples are lost")

    return once


def _stamps_seeds(data: Path | None) -> list[bytes]:
    del data
    import numpy as np

    stamps_s = 5.0 + np.arange(300) / 500.0
    holed = np.concatenate([stamps_s[:100], stamps_s[120:]])
    return [holed[:50].tobytes() + seeds.BETWEEN + holed[50:].tobytes(), stamps_s.tobytes()]


def _mllp(folder: Path) -> Callable[[bytes], None]:
    """Frames: cut into bytes they give what they give whole."""
    del folder
    from ecgedge.hl7 import MllpDecoder

    def once(data: bytes) -> None:
        whole, cut = MllpDecoder(max_bytes=500), MllpDecoder(max_bytes=500)
        pieces = [message for k in range(0, len(data), 3) for message in cut.push(data[k : k + 3])]
        if whole.push(data) != pieces or whole.counters != cut.counters:
            raise WrongError("pieces matter")

    return once


def _mllp_seeds(data: Path | None) -> list[bytes]:
    from ecgedge.hl7 import frame

    return [b"".join(frame(message[:300]) for message in seeds.hl7(data))]


def _hl7(folder: Path) -> Callable[[bytes], None]:
    """Try a message: waveforms, acknowledgement, and what we answer."""
    del folder
    from datetime import datetime, timezone

    from ecgedge.errors import Hl7Error
    from ecgedge.hl7 import Envelope, acknowledge, parse, read_acknowledgement, read_waveforms, split_messages

    envelope = Envelope(datetime(2026, 1, 1, tzinfo=timezone.utc), "1")

    def once(data: bytes) -> None:
        split_messages(data)
        with suppress(Hl7Error):
            read_acknowledgement(data)
        with suppress(Hl7Error):
            message = parse(data)
            with suppress(Hl7Error):
                read_waveforms(message)
            acknowledge(message, envelope, "AE", "wrong")

    return once


def _bridge(folder: Path) -> Callable[[bytes], None]:
    """Try the decoder of a byte stream, whole and in pieces; and a frame whose checksum is put right."""
    del folder
    from ecgedge_bridge import Decoder, RejectedError, unpack
    from ecgedge_bridge.crc import crc32c

    def once(data: bytes) -> None:
        whole, cut = Decoder(), Decoder()
        pieces = [frame for k in range(0, len(data), 3) for frame in cut.push(data[k : k + 3])]
        if whole.push(data) != pieces or whole.counters != cut.counters:
            raise WrongError("pieces matter")
        with suppress(RejectedError):
            unpack(data[:-4] + struct.pack("<I", crc32c(data[:-4])))

    return once


def _bridge_seeds(data: Path | None) -> list[bytes]:
    """Return every vector of the bridge: streams as they come, and frames of each type without their stuffing."""
    del data
    wires = [
        bytes.fromhex(vector["wire_hex"])
        for name in ("frames", "streams")
        for vector in seeds.bridge_vectors(name)
    ]
    decoded = [bytes.fromhex(vector["decoded_hex"]) for vector in seeds.bridge_vectors("frames")]
    return [b"".join(wires), *filter(None, wires), *decoded]


def _cluster(folder: Path) -> Callable[[bytes], None]:
    """Try a message of the bus, as it comes and with its checksum put right: what is taken, is written the same."""
    del folder
    from ecgedge.cluster.message import decode_chunk, encode_chunk

    def once(data: bytes) -> None:
        head, body = data[:CRC_AT], data[CRC_AT + 4 :]
        for message in (data, head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body):
            chunk = decode_chunk(message)
            if not isinstance(chunk, str) and encode_chunk(chunk) != message:
                raise WrongError("what was read is not what is written")

    return once


CRC_AT = 36
"""Where the checksum of a bus message stands (ecgedge/cluster/message.py)."""


def _cluster_seeds(data: Path | None) -> list[bytes]:
    del data
    import numpy as np

    from ecgedge.cluster import message

    if message._CRC_AT != CRC_AT:
        raise WrongError(f"the checksum stands at {message._CRC_AT}")
    samples_mv = np.zeros((2, 20), np.float32)
    samples_mv[1, 3] = np.nan
    chunks = [
        message.BedChunk(("I", "II"), 500.0, "test", 1.5, 3, samples_mv, live) for live in (False, True)
    ]
    return [message.encode_chunk(chunk) for chunk in chunks]


def _commands(folder: Path) -> Callable[[bytes], None]:
    """Try a bed's commands: cut into bytes they say what they say whole."""
    del folder
    from ecgedge.control import CommandReader
    from ecgedge.policy import AlarmPolicy

    def once(data: bytes) -> None:
        whole, cut = CommandReader(AlarmPolicy()), CommandReader(AlarmPolicy())
        pieces = [item for k in range(0, len(data), 3) for item in cut.push(data[k : k + 3])]
        if [*whole.push(data), *whole.close()] != [*pieces, *cut.close()] or whole.dropped != cut.dropped:
            raise WrongError("pieces matter")

    return once


def _commands_seeds(data: Path | None) -> list[bytes]:
    del data
    return [b"ack MPCWP_HIGH nurse\npause 60 nurse\nresume nurse\ncalibrate 14.5 nurse\nuncalibrate nurse\n"]


def _ward_control(folder: Path) -> Callable[[bytes], None]:
    """Try the lines of a ward's control socket: each is answered, whatever stands in it."""
    import asyncio

    from ecgedge.bundle import Bundle, load_bundle
    from ecgedge.errors import BundleError
    from ecgedge.stream import Variants
    from ecgedge.wards.config import WardSettings
    from ecgedge.wards.control import WardControl
    from ecgedge.wards.serve import WardService

    async def no_bundle(path: str) -> tuple[Bundle, Variants]:
        raise BundleError(f"{path}: no bundle")

    bundle = load_bundle("embedded")
    variants = Variants(bundle)

    async def answer(line: bytes) -> None:
        settings = WardSettings(most_beds=3, state=str(folder))
        service = WardService(bundle, variants, settings, say=lambda _: None, read_clock=lambda: None)
        control = WardControl(service, open_bundle=no_bundle)
        for part in line.splitlines():
            if "ok" not in (await control.answer(part) or {"ok": True}):
                raise WrongError("a line without an answer")

    return lambda data: asyncio.run(answer(data))


def _ward_control_seeds(data: Path | None) -> list[bytes]:
    del data
    bed = {"name": "1", "user": "n"}
    asked = [
        {"do": "add", "name": "1", "feed": "sim:stable"},
        {"do": "status"},
        {"do": "acknowledge", "condition": "LEAD_OFF", **bed},
        {"do": "pause_audio", "duration_s": 60, **bed},
        {"do": "resume_audio", **bed},
        {"do": "calibrate", "mpcwp_mmhg": 14.5, "sd_mmhg": 1.0, **bed},
        {"do": "uncalibrate", **bed},
        {"do": "swap", "bundle": "b"},
        {"do": "dismiss", "station": "s", "user": "n"},
        {"do": "listen", "station": "s"},
        {"do": "confirm", "delivery": 1},
        {"do": "remove", "name": "1"},
        {"do": "drain"},
    ]
    lines = [json.dumps(one).encode() for one in asked]
    return [b"\n".join(lines), *lines, b"[" * 3000]


TARGETS = {
    "messages": Target(_messages, _messages_seeds, SHORT),
    "declared": Target(_declared, _declared_seeds, SHORT),
    "uris": Target(_uris, lambda _: [uri.encode() for uri in URIS], SHORT),
    "sinks": Target(_sinks, lambda _: [uri.encode() for uri in SINKS], SHORT),
    "sdc": Target(_sdc, _sdc_seeds, SHORT),
    "recorder": Target(_recorder, _recorder_seeds, SHORT),
    "stamps": Target(_stamps, _stamps_seeds, SHORT),
    "mllp": Target(_mllp, _mllp_seeds, SHORT),
    "hl7": Target(_hl7, seeds.hl7, SHORT),
    "bridge": Target(_bridge, _bridge_seeds, SHORT),
    "cluster": Target(_cluster, _cluster_seeds, SHORT),
    "commands": Target(_commands, _commands_seeds, SHORT),
    "ward_control": Target(_ward_control, _ward_control_seeds, SHORT),
}
