"""XML that attacks, and XML that is none: refused before anything is expanded, fetched or built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ecgedge import records
from ecgedge.errors import RecordError, UsageError
from ecgedge.records import _xml

ROOTS = ["AnnotatedECG", "RestingECG", "com.xiriuz.sema.xml.schillerEDI.SchillerEDI", "restingecgdata"]
_BOMB = (
    '<!DOCTYPE {root} [<!ENTITY a "ha ha ha ha ha ha ha ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><{root}>&i;</{root}>"
)


def _put(folder: Path, text: str | bytes) -> Path:
    path = folder / "r.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("root", ROOTS)
def test_a_bomb_is_refused(tmp_path: Path, root: str) -> None:
    with pytest.raises(RecordError, match=r"declares entities.*XML bomb.*not read"):
        records.read(_put(tmp_path, _BOMB.replace("{root}", root)))


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize(
    "declared", ['<!ENTITY x SYSTEM "{secret}">', '<!ENTITY % x SYSTEM "{secret}"> %x;', "<!ELEMENT a ANY>"]
)
def test_another_file_is_never_read(tmp_path: Path, root: str, declared: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    document = f"<!DOCTYPE {root} [{declared.replace('{secret}', secret.as_uri())}]><{root}>&x;</{root}>"
    with pytest.raises(RecordError, match="external entity") as caught:
        records.read(_put(tmp_path, document))
    assert "SECRET" not in str(caught.value)


def test_a_document_type_is_not_looked_up(tmp_path: Path) -> None:
    """GE MUSE names one in every file; an entity that it might declare is unknown."""
    (tmp_path / "ecg.dtd").write_text('<!ENTITY x "found">')
    uri = (tmp_path / "ecg.dtd").as_uri()
    document = f'<!DOCTYPE a SYSTEM "{uri}"><a>&x;</a>'
    with pytest.raises(RecordError, match=r"not readable XML \(ParseError: undefined entity"):
        _xml.parse_xml(_put(tmp_path, document))
    assert _xml.parse_xml(_put(tmp_path, document.replace("&x;", "y"))).text == "y"


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="or 100 levels is no ECG"):
        records.read(_put(tmp_path, "<AnnotatedECG>" + "<a>" * 500_000))


def test_too_many_elements_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="more than 200000 elements"):
        records.read(_put(tmp_path, "<AnnotatedECG>" + "<a/>" * 300_000 + "</AnnotatedECG>"))


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = _put(tmp_path, "<AnnotatedECG>")
    with path.open("r+b") as file:
        file.truncate(_xml.MAX_BYTES + 1)
    with pytest.raises(RecordError, match=r"33554433 bytes; at most 33554432"):
        records.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no XML in spite of its name; ecgedge reads"),
        ("Dear colleague", "no XML in spite of its name; ecgedge reads"),
        ("<", "not readable XML"),
        ("<AnnotatedECG", "not readable XML"),
        ("<AnnotatedECG><a></AnnotatedECG>", "not readable XML.*mismatched tag"),
        ("<AnnotatedECG>\x00</AnnotatedECG>", "not readable XML"),
        ('<?xml version="1.0" encoding="klingon"?><AnnotatedECG/>', "not readable XML"),
        ('<?xml version="1.0" encoding="utf-16"?><AnnotatedECG/>', "not readable XML"),
        ("<!-- only this -->", "not readable XML"),
        ("<svg/>", r"XML that begins with <svg> is not read; ecgedge reads.*HL7 aECG"),
        (b"\xff\xfe<\x00a\x00/\x00>\x00", "begins with <a>"),
        (b"\xef\xbb\xbf<a/>", "begins with <a>"),
    ],
)
def test_other_text_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        records.read(_put(tmp_path, text))


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "defusedxml.ElementTree", None)
    with pytest.raises(UsageError, match=r"ecgedge\[records\]"):
        records.read(_put(tmp_path, "<AnnotatedECG/>"))
