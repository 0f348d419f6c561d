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
        own_id = plain.pop("id")
        expected_id, expected = encode_with_id(plain)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"{place} cannot be read ({error}); copy the bundle again") from error
    if own_id != expected_id or data != expected:
        raise BundleError(f"{place} was altered (it does not match its id); copy the bundle again")
    return expected_id, plain


def _canonical(plain: object) -> bytes:
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()
