"""Targets: the readers of recordings. Any bytes are a recording or a RecordError."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import seeds
from target import Target


def _file(reader: str, name: str) -> Callable[[Path], Callable[[bytes], None]]:
    """Return a target's opening: the input is a file of that name, read by `ecgedge.records.FORMATS[reader]`."""

    def open_(folder: Path) -> Callable[[bytes], None]:
        from ecgedge.errors import RecordError
        from ecgedge.records import FORMATS

        path, read = folder / name, FORMATS[reader]

        def once(data: bytes) -> None:
            path.write_bytes(data)
            with suppress(RecordError):
                read(path)

        return once

    return open_


def _wfdb(folder: Path) -> Callable[[bytes], None]:
    """Try header and samples, which are two files."""
    once, samples = _file("wfdb", "r.hea")(folder), folder / "r.dat"

    def split(data: bytes) -> None:
        header, _, stored = data.partition(seeds.BETWEEN)
        samples.write_bytes(stored)
        once(header)

    return split


def _vital(folder: Path) -> Callable[[bytes], None]:
    """Try what is inside the gzip; what is no gzip has tests of its own."""
    once = _file("vital", "r.vital")(folder)
    return lambda data: once(gzip.compress(data, 0))


def _npz(folder: Path) -> Callable[[bytes], None]:
    """Try members, packed as a whole zip."""
    from ecgedge.errors import RecordError
    from ecgedge.records import FORMATS

    path = folder / "r.npz"

    def once(data: bytes) -> None:
        path.write_bytes(seeds.packed(data))
        with suppress(RecordError):
            FORMATS["npz"](path)

    return once


def _xli(folder: Path) -> Callable[[bytes], None]:
    del folder
    from ecgedge.errors import RecordError
    from ecgedge.records._xli import decode_xli

    def once(data: bytes) -> None:
        with suppress(RecordError):
            decode_xli(data, n_leads=2, n_samples=200, source="fuzz")

    return once


def _xli_seeds(data: Path | None) -> list[bytes]:
    del data
    import numpy as np

    chunk = seeds.of_tests("records/test_sierra.py")._chunk
    return [chunk(np.zeros(200, np.int64)) + chunk(np.arange(200, dtype=np.int64))]


def _document(name: str, real: str) -> Callable[[Path | None], list[bytes]]:
    def found(data: Path | None) -> list[bytes]:
        own = seeds.of_tests(name)._document()
        return [own.encode("latin-1"), *seeds.real_xml(data, real)]

    return found


def _schiller_seeds(data: Path | None) -> list[bytes]:
    row = ",".join(map(str, range(40)))
    told = "<name>II</name><datastype>COMMASEPARATE</datastype><samplecount>40</samplecount>"
    channel = f"<channel>{told}<data>{row},</data>"
    rate = "<samplerate><value>500</value><exponent>1</exponent></samplerate>"
    scale = "<yres><unitperbit>5</unitperbit><units>UV</units></yres>"
    wave = f"<type>ECG_RHYTHMS</type><resolution>{rate}{scale}</resolution>{channel}</channel>"
    root = "com.xiriuz.sema.xml.schillerEDI.SchillerEDI"
    own = f"<{root}><eventdata><event><wavedata>{wave}</wavedata></event></eventdata></{root}>"
    real = seeds.real_xml(data, "format_samples/schiller_xml/*.xml")
    return [own.encode(), *(text.replace(b">5000</samplecount>", b">60</samplecount>") for text in real)]


def _aecg_seeds(data: Path | None) -> list[bytes]:
    def sequence(code: str, value: str) -> str:
        return f'<component><sequence><code code="{code}"/><value>{value}</value></sequence></component>'

    time = sequence("TIME_ABSOLUTE", '<increment value="0.002" unit="s"/>')
    lead = sequence(
        "MDC_ECG_LEAD_II", '<origin value="0" unit="uV"/><scale value="5" unit="uV"/><digits>1 2 3 4</digits>'
    )
    series = f'<series><code code="RHYTHM"/><component><sequenceSet>{time}{lead}</sequenceSet></component></series>'
    own = f'<AnnotatedECG xmlns="urn:hl7-org:v3"><component>{series}</component></AnnotatedECG>'
    return [own.encode(), *seeds.real_xml(data, "format_samples/hl7_aecg/*.xml")]


TARGETS = {
    "wfdb": Target(_wfdb, seeds.wfdb),
    "dicom": Target(_file("dicom", "r.dcm"), seeds.dicom),
    "edf": Target(_file("edf", "r.edf"), seeds.edf),
    "vital": Target(_vital, seeds.vital),
    "aecg": Target(_file("aecg", "r.xml"), _aecg_seeds),
    "schiller": Target(_file("schiller", "r.xml"), _schiller_seeds),
    "muse": Target(_file("muse", "r.xml"), _document("records/test_muse.py", "no/*.xml")),
    "sierra": Target(
        _file("sierra", "r.xml"), _document("records/test_sierra.py", "*/philips_sierra_xml/1.03_1*.xml")
    ),
    "xli": Target(_xli, _xli_seeds),
    "npz": Target(_npz, seeds.npz),
}
