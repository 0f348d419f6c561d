"""One target in a process of its own, which `run.py` starts.

python fuzz/one.py TARGET FOLDER [libFuzzer's flags] CORPUS-OR-INPUT
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import atheris
from targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer's own limits end it; an exception that the target lets through is a finding."""
    name, folder, *flags = sys.argv[1:]
    warnings.simplefilter("ignore")  # of a damaged file; what tests turn into errors is theirs
    with atheris.instrument_imports(include=["ecgedge", "ecgedge_bridge"]):
        once = TARGETS[name].open_(Path(folder))
    atheris.Setup([sys.argv[0], *flags], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
