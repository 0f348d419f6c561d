"""Whether a bed is served: `python healthcheck.py FOLDER [SECONDS]`, exit code 0 if so, 1 if not.

A bed that is served writes an estimate to its journal every few seconds, so a journal in FOLDER must have
grown within the last SECONDS (60). A feed that is lost for that long makes a container unhealthy as well:
nobody is watching this patient then. Standard library alone, and a fast start: it runs every 15 s.
"""

import sys
import time
from pathlib import Path

SUFFIX = ".journal"
LIMIT_S = 60.0


def complaint(folder: Path, limit_s: float) -> str | None:
    """Say what is wrong, or None."""
    ages_s = [time.time() - path.stat().st_mtime for path in folder.glob(f"*{SUFFIX}")]
    if not ages_s:
        return f"no *{SUFFIX} in {folder}; start the stream with --journal {folder}/NAME{SUFFIX}"
    if min(ages_s) > limit_s:
        return f"no journal in {folder} has grown for {min(ages_s):.0f} s; is the feed there?"
    return None


def main() -> int:
    """Check, and say why not."""
    folder = Path(sys.argv[1])
    problem = complaint(folder, float(sys.argv[2]) if len(sys.argv) > 2 else LIMIT_S)
    if problem:
        print(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
