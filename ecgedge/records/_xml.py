"""XML from strangers: parsed within limits, without entities, and without anything fetched.

Entities are how a kilobyte becomes gigabytes ("billion laughs") or another file's text. A document type without
declarations of its own is let pass, since every export of a GE MUSE names one; it is never looked up.
"""

from __future__ import annotations

import base64
import math
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import ParseError, TreeBuilder

import numpy as np

from ecgedge.errors import RecordError, missing_extra

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

MAX_BYTES: Final = 32 * 2**20
"""A resting ECG takes a quarter of a megabyte; parsed, XML takes many times its size."""
_MAX_ELEMENTS: Final = 200_000
_MAX_DEPTH: Final = 100
_CHUNK_BYTES: Final = 2**16
# What expat and defusedxml raise; an entity or a wrong encoding is a ValueError, an unknown one a LookupError
_DAMAGE: Final = (ParseError, ValueError, LookupError, OSError, MemoryError)


class _RootFoundError(Exception):
    """The root element has begun, which is all that was asked."""


class _Tree(TreeBuilder):
    """A tree builder that forgets namespaces and has limits."""

    def __init__(self, *, source: str, only_root: bool) -> None:
        super().__init__()
        self._source = source
        self._only_root = only_root
        self._elements = 0
        self._depth = 0

    def start(self, tag: Any, attrs: Any, /) -> Any:
        name = str(tag).rpartition("}")[2]
        if self._only_root:
            raise _RootFoundError(name)
        self._elements += 1
        self._depth += 1
        if self._elements > _MAX_ELEMENTS or self._depth > _MAX_DEPTH:
            raise RecordError(
                f"{self._source}: XML of more than {_MAX_ELEMENTS} elements or {_MAX_DEPTH} levels is no ECG; "
                "it is not read"
            )
        return super().start(name, attrs)

    def end(self, tag: Any, /) -> Element:
        self._depth -= 1
        return super().end(str(tag).rpartition("}")[2])


def parse_xml(path: Path) -> Element:
    """Return the root element, names without their namespaces.

    Raises
    ------
    RecordError
        If the file is no XML, too large, or declares entities.
    UsageError
        If the package defusedxml is not installed.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise RecordError(f"{path}: an XML file of {size} bytes; at most {MAX_BYTES} are read: cut it")
    root: Element = _parse(path, only_root=False)
    return root


def root_name(path: Path) -> str:
    """Return the name of the root element, with no more of the file read than that takes; raises as `parse_xml`."""
    try:
        _parse(path, only_root=True)
    except _RootFoundError as found:
        return str(found)
    raise RecordError(f"{path}: XML without an element")


def _parse(path: Path, *, only_root: bool) -> Any:
    source = str(path)
    parser = _parser(source, only_root=only_root)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                parser.feed(chunk)
        return parser.close()
    except _DAMAGE as error:
        raise RecordError(
            f"{source}: not readable XML ({type(error).__name__}: {error}); "
            "the file is damaged or incomplete: export it again"
        ) from error


def _parser(source: str, *, only_root: bool) -> Any:
    parser = _import_defusedxml().XMLParser(
        target=_Tree(source=source, only_root=only_root), forbid_dtd=False
    )

    def refuse(what: str) -> None:
        raise RecordError(
            f"{source}: {what}, as attacks do (XML bomb, external entity) and no ECG does; it is not read"
        )

    def start_doctype(_name: str, _system: str | None, _public: str | None, has_declarations: int) -> None:
        if has_declarations:
            refuse("the document type declares entities or elements of its own")

    # beside defusedxml's own, which refuse what an outer declaration might bring
    parser.parser.StartDoctypeDeclHandler = start_doctype
    return parser


def _import_defusedxml() -> ModuleType:
    try:
        import defusedxml.ElementTree
    except ImportError as error:
        raise missing_extra(extra="records", package="defusedxml", purpose="Reading XML ECGs") from error
    module: ModuleType = defusedxml.ElementTree
    return module


def text_at(element: Element, path: str, *, source: str) -> str:
    """Return the stripped text of the first element at `path` below `element`, refused where there is none."""
    text = (element.findtext(path) or "").strip()
    if not text:
        raise RecordError(f"{source}: <{element.tag}> has no {path}; export the file again, complete")
    return text


def attribute(element: Element | None, name: str, *, what: str, source: str) -> str:
    """Return an attribute of an element that must be there, as `what` in messages."""
    value = "" if element is None else element.get(name, "").strip()
    if not value:
        raise RecordError(f"{source}: {what} is missing; export the file again, complete")
    return value


def number(text: str, *, what: str, source: str) -> float:
    """Return a finite decimal."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordError(f"{source}: {what} is {text[:40]!r}; expected a number. Export the file again")
    return value


def count(text: str, *, what: str, source: str) -> int:
    """Return a whole number from 0 up."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RecordError(
            f"{source}: {what} is {text[:40]!r}; expected a whole number. Export the file again"
        )
    return int(text)


def numbers(tokens: list[str], *, what: str, source: str) -> NDArray[np.float64]:
    """Return the samples that a list of words spells."""
    try:
        values = np.array(tokens, np.float64)
    except ValueError as error:
        raise RecordError(
            f"{source}: the samples of {what} are not all numbers ({error}); export the file again"
        ) from error
    if not np.isfinite(values).all():
        raise RecordError(f"{source}: the samples of {what} are not all finite; export the file again")
    return values


def base64_bytes(text: str, *, what: str, source: str) -> bytes:
    """Return what base64 text holds; white space may stand anywhere in it."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise RecordError(
            f"{source}: the samples of {what} are not base64 ({error}); export the file again"
        ) from error
