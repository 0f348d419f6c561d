"""What NumPy raises for bytes that are no array or archive of arrays."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from typing import Final

DAMAGED: Final = (
    *(ValueError, OSError, EOFError, LookupError, MemoryError, RuntimeError, NotImplementedError),
    *(SyntaxError, tokenize.TokenError, TypeError, AttributeError, ArithmeticError),
    *(zipfile.BadZipFile, zlib.error),
)
"""Of `np.load` with `allow_pickle=False`. ValueError also covers an object array, which would need unpickling;
RuntimeError an encrypted archive; SyntaxError and what follows it a header, which NumPy reads as Python."""
