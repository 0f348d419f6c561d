"""Text size and worst stack of eeb.c on a Cortex-M4, held to budgets. Python standard library and arm-none-eabi-gcc.

Each image is linked for itself with --gc-sections and without any library; the size of an image of nothing is taken
off. The stack is that of the deepest path of calls below each function of eeb.h;
what is called through a pointer is the deepest of the functions that check a message (`..._agrees`).

    python sizes.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CC = "arm-none-eabi-gcc"
FLAGS = (
    *("-std=c99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-ffreestanding"),
    *("-ffunction-sections", "-fdata-sections"),
)
SENDER = ("eeb_encode_data", "eeb_encode_info")
RECEIVER = ("eeb_decoder_init", "eeb_decoder_push", "eeb_data_count", "eeb_validity_carries_value")
TEXT_BUDGETS = {"data sender": 1024, "sender": 1024, "receiver": 2048, "everything": 2560}
"""Bytes: of what sends DATA; DATA and INFO; of what receives every message; of all."""
STACK_BUDGETS = {"eeb_decoder_push": 96}
"""Bytes. The decoder may run in an interrupt."""
STACK_BUDGET = 160
"""Bytes, of any other function."""


def run(*words: str) -> str:
    """Run a program and return what it printed."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def public_functions() -> tuple[str, ...]:
    """Return the functions that eeb.h declares."""
    header = (HERE / "eeb.h").read_text(encoding="utf-8")
    return tuple(re.findall(r"^(?:\w+ )+(eeb_\w+)\(", header, re.MULTILINE))


def image_roots() -> dict[str, tuple[str, ...]]:
    """Return what each image is asked to hold."""
    return {
        "data sender": SENDER[:1],
        "sender": SENDER,
        "receiver": RECEIVER,
        "everything": public_functions(),
    }


def text_bytes(folder: Path, roots: tuple[str, ...]) -> int:
    """Link an image of `roots` and return its text, constants included."""
    keep = [f"-Wl,--undefined={name}" for name in roots]
    image = str(folder / "image.elf")
    run(CC, *FLAGS, "-nostdlib", "-Wl,--gc-sections,-e,start", *keep, str(folder / "start.o"),
        str(folder / "eeb.o"), "-o", image)  # fmt: skip
    return int(run(CC.replace("gcc", "size"), image).splitlines()[1].split()[0])


def measure_text(folder: Path) -> dict[str, int]:
    """Return bytes of text of every image, an image of nothing taken off."""
    (folder / "start.c").write_text("void start(void);\nvoid start(void)\n{\n    for (;;) {\n    }\n}\n")
    run(CC, *FLAGS, "-c", str(folder / "start.c"), "-o", str(folder / "start.o"))
    nothing = text_bytes(folder, ())
    return {name: text_bytes(folder, roots) - nothing for name, roots in image_roots().items()}


def read_calls(text: str) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Read what gcc's -fcallgraph-info=su wrote: stack of each function, and whom it calls."""
    own = {}
    for title, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]+)"', text):
        found = re.search(r"(\d+) bytes \((\w+)\)", label)
        if found is not None and found[2] != "static":
            raise SystemExit(f"{title}: its stack is {found[2]}, not known at compile time")
        own[title.rpartition(":")[2]] = int(found[1]) if found is not None else 0
    calls: dict[str, set[str]] = {name: set() for name in own}
    for source, target in re.findall(r'sourcename: "([^"]+)" targetname: "([^"]+)"', text):
        calls[source.rpartition(":")[2]].add(target.rpartition(":")[2])
    checks = {name for name in own if name.endswith("_agrees")}
    calls["__indirect_call"] = checks
    return own, calls


def deepest(name: str, own: dict[str, int], calls: dict[str, set[str]], above: tuple[str, ...] = ()) -> int:
    """Return the stack of a function with all that it calls."""
    if name in above:
        raise SystemExit(f"{name} calls itself: no stack is enough")
    below = [deepest(callee, own, calls, (*above, name)) for callee in calls.get(name, ())]
    return own.get(name, 0) + max(below, default=0)


def measure() -> dict[str, dict[str, int]]:
    """Return text by image and stack by function."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(CC, *FLAGS, "-fcallgraph-info=su", "-c", str(HERE / "eeb.c"), "-o", str(folder / "eeb.o"))
        own, calls = read_calls((folder / "eeb.ci").read_text(encoding="utf-8"))
        return {
            "text_bytes": measure_text(folder),
            "stack_bytes": {function: deepest(function, own, calls) for function in public_functions()},
        }


def over_budget(found: dict[str, dict[str, int]]) -> list[str]:
    """Return what is larger than it may be."""
    limits = {
        "text_bytes": TEXT_BUDGETS,
        "stack_bytes": {name: STACK_BUDGETS.get(name, STACK_BUDGET) for name in found["stack_bytes"]},
    }
    return [
        f"{name}: {value} bytes of {kind.partition('_')[0]}, of at most {limits[kind][name]}"
        for kind, values in found.items()
        for name, value in values.items()
        if value > limits[kind][name]
    ]


def main() -> None:
    """Measure and print; exit code 1 where a budget is not kept."""
    found = measure()
    print(run(CC, "--version").splitlines()[0], *FLAGS)
    for kind, values in found.items():
        for name, value in values.items():
            print(f"{kind.partition('_')[0]:6} {name:28} {value:5} bytes")
    sys.exit("\n".join(over_budget(found)) or 0)


if __name__ == "__main__":
    main()
