"""ecgedge: ECG encoders from unlabelled recordings to the bedside. Research use only.

The whole public surface for notebooks and other programs:

>>> import ecgedge
>>> bundle = ecgedge.load_bundle("embedded")
>>> recording = ecgedge.read("record.hea")                           # doctest: +SKIP
>>> table = ecgedge.predict(bundle, [recording])                     # doctest: +SKIP
>>> bed = ecgedge.Bed(bundle, leads=("I", "II"), rate_hz=500.0)

Everything else is private and may change. Names are loaded when first used: `import ecgedge` alone is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecgedge.bundle import load_bundle as load_bundle
    from ecgedge.ecg import Recording as Recording
    from ecgedge.prediction import predict as predict
    from ecgedge.records import read as read
    from ecgedge.stream import Bed as Bed

__version__ = "0.1.0"

_HOMES = {
    "Bed": "ecgedge.stream",
    "Recording": "ecgedge.ecg",
    "load_bundle": "ecgedge.bundle",
    "predict": "ecgedge.prediction",
    "read": "ecgedge.records",
}
__all__ = ["Bed", "Recording", "load_bundle", "predict", "read"]


def __getattr__(name: str) -> object:
    """Load a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ecgedge' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
