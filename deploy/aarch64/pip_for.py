"""pip for a machine that is not this one: `python pip_for.py 3.10.12 aarch64 install --dry-run ...`.

`--platform` and `--python-version` choose the wheels, but pip evaluates environment markers such as
`python_version < "3.11"` for the interpreter that runs it. Under Python 3.11 and these options for 3.10, our
constraints ask for a numpy that has no wheel for 3.10, and `tomli`, which 3.10 needs, is left out. So the
target's markers are put in their place before pip starts; its install report names what it evaluated.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from importlib import import_module

from pip._vendor.packaging import markers


def target_environment(python: str, machine: str) -> dict[str, str]:
    """Return the marker values of CPython `python` (for example 3.10.12) on Linux on `machine`."""
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": platform.release(),
        "platform_system": "Linux",
        "platform_version": platform.version(),
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
    }


def main() -> int:
    """Run pip with the target's markers."""
    python, machine, *arguments = sys.argv[1:]
    environment = target_environment(python, machine)
    unknown = set(markers.default_environment()) - set(environment)
    if unknown:
        raise SystemExit(
            f"this pip evaluates markers that pip_for does not set: {', '.join(sorted(unknown))}"
        )
    vars(markers)["default_environment"] = lambda: dict(environment)
    # Only now: what pip imports from here on holds the name as it is at that moment.
    pip_main: Callable[[list[str]], int] = import_module("pip._internal.cli.main").main
    return pip_main(arguments)


if __name__ == "__main__":
    sys.exit(main())
