"""The child of a cold start: import, open the bundle, pass the self-test, answer once, say how much memory it took.

python -m ecgedge.bench.first_answer BUNDLE VARIANT RUNTIME      one line of JSON when the answer is there
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from ecgedge.bundle import load_bundle
from ecgedge.runtime import open_runner


def memory_mb() -> dict[str, float | None]:
    """Return the resident memory of this process now and at most, in MB; None where the system does not say.

    Not getrusage: its maximum outlives exec, so a child of a large process would report its parent's.
    """
    return {"rss_mb": _status_mb("VmRSS:"), "peak_rss_mb": _status_mb("VmHWM:")}


def _status_mb(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith(key)]
    return kilobytes[0] * 1024 / 1e6 if kilobytes else None


def main(source: str, variant: str, runtime: str) -> None:
    """Answer one window of zeros."""
    bundle = load_bundle(source)
    spec = next(v for v in bundle.manifest.variants if v.name == variant)
    with open_runner(bundle, spec, runtime=runtime) as runner:
        runner.run(np.zeros((1, len(spec.leads), runner.window_samples), np.float32))
        sys.stdout.write(json.dumps(memory_mb()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
