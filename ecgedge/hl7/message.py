"""Messages of HL7 v2: segments, fields, components by the separators that MSH declares, read as they are asked for.

Source: HL7 v2.6, chapter 2 (2.5 message construction, 2.7 formatting codes, 2.15.9 MSH); table 0211 for character sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from ecgedge.errors import Hl7Error

NULL: Final = b'""'
"""A field that holds it is empty on purpose: what stood there before is to be deleted."""

_CODECS: Final = {
    "": "utf-8",
    "ASCII": "utf-8",
    "UNICODE UTF-8": "utf-8",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "ISO IR6": "utf-8",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}
"""Table 0211 to Python's codecs. ASCII is taken as its superset UTF-8, since senders are not strict about it."""

_START: Final = re.compile(rb"(?:^|(?<=[\r\n]))(?=MSH[^\w\s])")
_SHORT: Final = 64
_TYPICAL: Final = b"^~\\&"
_NO_SEPARATOR: Final = frozenset(b" \t\r\n.+-_\"'")


@dataclass(frozen=True)
class Separators:
    """The bytes that MSH-1 and MSH-2 declare."""

    field: bytes = b"|"
    component: bytes = b"^"
    repetition: bytes = b"~"
    escape: bytes = b"\\"
    subcomponent: bytes = b"&"


STANDARD: Final = Separators()
"""The separators of nearly every message, and of all that we write."""


class Segment(NamedTuple):  # Made three times as fast as a dataclass, and a message has dozens.
    """One segment. Numbers of fields, components and repetitions begin at 1, as in the standard.

    Attributes
    ----------
    name
        Its three letters.
    number
        1 for the first segment of that name.
    fields
        The fields as they stand, [n] being field n and [0] the name; of MSH, [1] is the field separator. UTF-8, unless
        a byte is wrong.
    """

    name: str
    number: int
    fields: tuple[bytes, ...]
    separators: Separators
    codec: str

    def raw_field(self, number: int) -> bytes:
        """Return a field as it stands, all its repetitions; b"" if it is absent or null."""
        try:
            field = self.fields[number]
        except IndexError:
            return b""
        return b"" if field == NULL else field

    def is_null(self, number: int) -> bool:
        """Whether a field holds the null, two quotation marks: what stood there before is to be deleted."""
        return number < len(self.fields) and self.fields[number] == NULL

    def field(
        self, number: int, component: int = 1, *, repetition: int = 1, subcomponent: int | None = None
    ) -> str:
        r"""Return the text of a component, unescaped; "" if it is absent or null.

        Without `subcomponent`, subcomponents are left in one text with the separators between them.

        Raises
        ------
        Hl7Error
            If its bytes are none of the message's character set, or an escape \X..\ is broken.
        """
        raw = self.raw_field(number)
        if not raw:
            return ""
        part = _part(raw, self.separators.repetition, repetition)
        part = _part(part, self.separators.component, component)
        if subcomponent is not None:
            part = _part(part, self.separators.subcomponent, subcomponent)
        return "" if part in (b"", NULL) else self._text(part, number)

    def components(self, number: int) -> tuple[str, ...]:
        """Return the texts of all components of a field's first repetition, unescaped; "" where one is null.

        Raises
        ------
        Hl7Error
            As `field` does.
        """
        marks = self.separators
        first = self.raw_field(number).partition(marks.repetition)[0]
        if len(first) <= _SHORT and marks.escape not in first and first.isascii():
            return _short_components(first, marks.component)
        if marks.escape not in first and NULL not in first:
            return tuple(self._text(first, number).split(marks.component.decode()))
        return tuple(
            "" if part == NULL else self._text(part, number) for part in first.split(marks.component)
        )

    def repetitions(self, number: int) -> int:
        """Return how often a field stands there, 0 if it is absent or null."""
        raw = self.raw_field(number)
        return raw.count(self.separators.repetition) + 1 if raw else 0

    def place(self, number: int) -> str:
        """Name a field as error messages do: "OBX[3]-5"."""
        return f"{self.name}[{self.number}]-{number}"

    def error(self, number: int, text: str) -> Hl7Error:
        """Build the error that says what is wrong with a field."""
        return Hl7Error(text, place=self.place(number))

    def _text(self, part: bytes, number: int) -> str:
        try:
            text = part.decode()
            return unescape(text, self.separators, self.codec) if self.separators.escape in part else text
        except ValueError as error:
            raise self.error(
                number, f"bytes that are no {self.codec} ({error}); set MSH-18 to the sender's character set"
            ) from error


@dataclass(frozen=True)
class Message:
    """A message, split into segments and no further."""

    separators: Separators
    codec: str
    lines: tuple[bytes, ...]

    def segments(self, *names: str) -> Iterator[Segment]:
        """Give all segments of these names, in the message's order; each name counts its own."""
        numbers = dict.fromkeys(names, 0)
        known = {name.encode(): name for name in names}
        for line in self.lines:
            name = known.get(line[:3])
            if name is not None and line[3:4] in (self.separators.field, b""):
                numbers[name] += 1
                yield Segment(
                    name, numbers[name], _fields(line, self.separators), self.separators, self.codec
                )

    def segment(self, name: str) -> Segment:
        """Return the first segment of a name.

        Raises
        ------
        Hl7Error
            If there is none.
        """
        for found in self.segments(name):
            return found
        raise Hl7Error("the segment is missing", place=name)

    def field(self, name: str, number: int, component: int = 1, *, repetition: int = 1) -> str:
        """Return the text of a component of the first segment of a name; "" if anything of that is absent or null."""
        found = next(self.segments(name), None)
        return "" if found is None else found.field(number, component, repetition=repetition)

    @property
    def control_id(self) -> str:
        """MSH-10, by which an acknowledgement names the message."""
        return self.field("MSH", 10)

    @property
    def kind(self) -> str:
        """MSH-9 as "ORU^R01"."""
        return f"{self.field('MSH', 9)}^{self.field('MSH', 9, 2)}"


def parse(data: bytes) -> Message:
    """Read a message: its separators and character set; segments end with CR, LF or both.

    Raises
    ------
    Hl7Error
        If it does not begin with MSH, declares separators that cannot be, or another character set than its bytes are.
    """
    separators = _separators(data)
    lines = _lines(data)
    header = Segment("MSH", 1, _fields(lines[0], separators), separators, "utf-8")
    codec = _codec(header)
    if codec != "utf-8":
        # From here on UTF-8: in the sets of East Asia a byte that looks like a separator can be half of a character.
        try:
            lines = _lines(data.decode(codec).encode())
        except ValueError as error:
            raise header.error(18, f"the message's bytes are no {codec} ({error})") from error
    return Message(separators, codec, lines)


def split_messages(data: bytes) -> list[bytes]:
    """Cut bytes that hold several messages in a row before each MSH; what stands before the first one goes with it."""
    starts = [match.start() for match in _START.finditer(data)][1:]
    return [data[a:b] for a, b in zip([0, *starts], [*starts, len(data)], strict=True)]


def unescape(text: str, separators: Separators = STANDARD, codec: str = "utf-8") -> str:
    r"""Resolve \F\ \S\ \T\ \R\ \E\ \Xhh..\ and \.br\; highlighting goes, and what is unknown stays as it stands.

    Raises
    ------
    ValueError
        If \X..\ holds no whole bytes, or bytes that are none of the character set.
    """
    mark = re.escape(separators.escape.decode())
    known = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
        ".br": b"\n",
        "H": b"",
        "N": b"",
    }

    def resolve(match: re.Match[str]) -> str:
        code = match.group(1)
        if code in known:
            return known[code].decode()
        if code.startswith("X"):
            return bytes.fromhex(code[1:]).decode(codec)
        return match.group(0)

    return re.sub(f"{mark}([^{mark}]*){mark}", resolve, text)


def escape(text: str) -> str:
    r"""Escape the standard separators in a text, and line ends as \.br\, so that it can stand in a field."""
    out = text.replace("\\", "\\E\\")
    for plain, code in (("|", "F"), ("^", "S"), ("&", "T"), ("~", "R")):
        out = out.replace(plain, f"\\{code}\\")
    out = out.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\\.br\\")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\X{ord(match.group()):02X}\\", out)


def write_segment(name: str, *fields: str) -> bytes:
    """Write a segment and its CR; fields are escaped already, and empty ones at the end are left out."""
    return ("|".join((name, *fields)).rstrip("|") + "\r").encode()


@lru_cache(maxsize=512)
def _short_components(field: bytes, component: bytes) -> tuple[str, ...]:
    """Components of the codes and units that come again with every message."""
    return tuple("" if part == NULL else part.decode("ascii") for part in field.split(component))


def _part(raw: bytes, separator: bytes, number: int) -> bytes:
    if number == 1:
        return raw.partition(separator)[0]
    parts = raw.split(separator)
    return parts[number - 1] if number <= len(parts) else b""


def _fields(line: bytes, separators: Separators) -> tuple[bytes, ...]:
    parts = line.split(separators.field)
    if parts[0] == b"MSH":
        parts.insert(1, separators.field)
    return tuple(parts)


def _lines(data: bytes) -> tuple[bytes, ...]:
    lines = data.replace(b"\n", b"\r").split(b"\r")
    return tuple(line for line in lines if line)


def _separators(data: bytes) -> Separators:
    if data[:3] != b"MSH" or len(data) < 5:
        raise Hl7Error(
            f"begins with {data[:8]!r}; expected a message that begins with MSH|^~\\&", place="MSH[1]"
        )
    field = data[3:4]
    declared = re.split(rb"[\r\n]", data[4:20].split(field)[0])[0][:4]
    marks = field + declared + _TYPICAL[len(declared) :]
    if not declared or len(set(marks)) < len(marks) or any(_cannot_separate(byte) for byte in marks):
        raise Hl7Error(f"declares the separators {marks!r}; expected |^~\\& or the like", place="MSH[1]-2")
    return Separators(*(marks[i : i + 1] for i in range(5)))


def _cannot_separate(byte: int) -> bool:
    return byte >= 0x7F or byte < 0x20 or chr(byte).isalnum() or byte in _NO_SEPARATOR


def _codec(header: Segment) -> str:
    name = header.raw_field(18).split(header.separators.repetition)[0].decode("ascii", "replace").strip()
    if name.upper() not in _CODECS:
        known = ", ".join(name for name in _CODECS if name)
        raise header.error(18, f"the character set {name!r} is not known; known are {known}")
    return _CODECS[name.upper()]
