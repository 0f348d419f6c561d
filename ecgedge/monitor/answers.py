"""What every answer of the page's server carries, and which answers there are beside the live ones."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from aiohttp import web

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Server": "ecgedge",
}

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

_COLUMNS: Final = ("wall_ms", "t_s", "bed", "type", "condition", "priority", "signal", "user", "text")


def load_static() -> dict[str, bytes]:
    """Read the page's files once: what is not among them has no address, whatever path is asked for."""
    folder = resources.files("ecgedge.monitor") / "static"
    return {item.name: item.read_bytes() for item in folder.iterdir() if _type_of(item.name) is not None}


def _type_of(name: str) -> str | None:
    return _TYPES.get(name.rpartition(".")[2])


def file_answer(name: str, content: bytes, *, status: int = 200) -> web.Response:
    """Return a file of the page."""
    return web.Response(body=content, status=status, content_type=_type_of(name), charset="utf-8")


def log_answer(bed: str, log: Sequence[dict[str, Any]], *, as_csv: bool) -> web.Response:
    """Return a bed's event log as a file to keep."""
    kind = "csv" if as_csv else "jsonl"
    text = _csv(log) if as_csv else "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in log)
    return web.Response(
        text=text,
        content_type="text/csv" if as_csv else "application/x-ndjson",
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="ecgedge-{bed}-events.{kind}"'},
    )


def _csv(log: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow([*_COLUMNS, "event"])
    for event in log:
        cells = [_cell(event.get(name)) for name in _COLUMNS]
        rows.writerow([*cells, json.dumps(event, separators=(",", ":"))])
    return out.getvalue()


def _cell(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in "=+-@\t\r" and not isinstance(value, (int, float)) else text
