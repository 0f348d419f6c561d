"""Plain data in canonical JSON that carries the SHA-256 of its own content as its id."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ecgedge.errors import BundleError


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def encode_with_id(plain: dict[str, Any]) -> tuple[str, bytes]:
    """Return the id of `plain`, and its bytes with the id in them."""
    own_id = sha256(_canonical(plain))
    return own_id, _canonical({"id": own_id, **plain})


def decode_with_id(data: bytes, *, place: str) -> tuple[str, dict[str, Any]]:
    """Read what `encode_with_id` wrote; return the id, and the content without it.

    Raises
    ------
    BundleError
        On any other bytes, even other white space.
    """
    try:
        plain = json.loads(data)
        expected = _canonical(plain)
        own_id = plain.pop("id")
        expected_id = sha256(_without_id(expected, own_id, plain))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"{place} cannot be read ({error}); copy the bundle again") from error
    if own_id != expected_id or data != expected:
        raise BundleError(f"{place} was altered (it does not match its id); copy the bundle again")
    return expected_id, plain


def _without_id(encoded: bytes, own_id: object, plain: dict[str, Any]) -> bytes:
    """Return what `_canonical(plain)` is, from what it is with the id.

    Its line is taken out: writing thousands of numbers a second time would be as long as all other checks. Only the
    lines of the outermost keys begin with one blank; behind the last of them stands no comma.
    """
    line = f'\n "id": {json.dumps(own_id)},\n'.encode()
    return encoded.replace(line, b"\n") if encoded.count(line) == 1 else _canonical(plain)


def _canonical(plain: object) -> bytes:
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()
