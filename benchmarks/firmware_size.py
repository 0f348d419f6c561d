"""What the firmware bridge's C library takes on a Cortex-M4: text, stack, instructions a frame; and nanopb beside it.

Needs arm-none-eabi-gcc with newlib and qemu-system-arm. For the comparison also nanopb's runtime as sources (Debian:
`apt-get source nanopb`; its packages and the one on PyPI have none) and its generator (`pip install nanopb`). nanopb
writes the fields of the same DATA message, the samples once as bytes that are packed already and once as repeated
sint32; framing, check value and stuffing would come on top, while the library's figures hold them (its instructions are
also counted with the library's CRC-32C over what it wrote).

    python benchmarks/firmware_size.py [--nanopb FOLDER] [--out benchmarks/results/firmware_size.json]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import common
import typer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "firmware_bridge" / "c"))

import counts  # noqa: E402 - a script beside the C sources
import sizes  # noqa: E402 - likewise

MOST_SAMPLES = {"bytes": 608, "sint32": 304}
"""What fits a DATA frame: bytes, or counts of 16 bits."""
FIELDS = {
    "seq": "uint32",
    "simulated": "bool",
    "sample_index": "uint32",
    "t_us": "uint64",
    "lead_off": "uint32",
    "channels": "uint32",
    "samples": "uint32",
    "format": "uint32",
    "gain_id": "uint32",
}
SENDER = """
#include <pb_encode.h>
#include "data.pb.h"
size_t send(const Data *data, uint8_t *out, size_t capacity);
size_t send(const Data *data, uint8_t *out, size_t capacity)
{
    pb_ostream_t stream = pb_ostream_from_buffer(out, capacity);
    return pb_encode(&stream, Data_fields, data) ? stream.bytes_written : 0u;
}
"""
RECEIVER = """
#include <pb_decode.h>
#include "data.pb.h"
bool receive(Data *data, const uint8_t *in, size_t size);
bool receive(Data *data, const uint8_t *in, size_t size)
{
    pb_istream_t stream = pb_istream_from_buffer(in, size);
    return pb_decode(&stream, Data_fields, data);
}
"""


COUNT = """
#include "counts.h"
#include "eeb.h"
#include "send.c"
static uint8_t wire[1024];
static int32_t counts[80];
static Data data = {.channels = 8, .samples = 10, .format = 1, .simulated = true};
static size_t size;
static volatile uint32_t crc;
static void encode_data(void)
{
    for (size_t i = 0u; i < 80u; i++) {
        PUT
    }
    data.SAMPLES = LENGTH;
    size = send(&data, wire, sizeof wire);
    data.seq++;
    data.sample_index += 10u;
    data.t_us += 20000u;
}
static void encode_and_check(void)
{
    encode_data();
    crc = eeb_crc32c(0u, wire, size);
}
void reset(void)
{
    start_counting();
    for (int32_t i = 0; i < 80; i++) {
        counts[i] = (i % 9 == 0) ? 0 : (i * i * 97) - (i * 7001);
    }
    measure("fields ", encode_data);
    measure("fields_and_check_value ", encode_and_check);
    leave(size > 0u);
}
"""
"""The samples of firmware_bridge/c/counts.c."""
PUT = {
    "bytes": (
        "data.packed.bytes[3u * i] = (uint8_t)counts[i];"
        "data.packed.bytes[3u * i + 1u] = (uint8_t)(counts[i] >> 8);"
        "data.packed.bytes[3u * i + 2u] = (uint8_t)(counts[i] >> 16);",
        "packed.size",
        "240",
    ),
    "sint32": ("data.counts[i] = counts[i];", "counts_count", "80"),
}
SMALLEST = ("-DPB_NO_ERRMSG", "-DPB_BUFFER_ONLY")
"""nanopb's own options for small code: no error texts, no streams but buffers."""


def write_descriptor(path: Path, samples: str) -> None:
    """Write the DATA message as a protobuf descriptor set, in place of a run of protoc."""
    from google.protobuf import descriptor_pb2

    kinds = descriptor_pb2.FieldDescriptorProto
    described = descriptor_pb2.FileDescriptorSet()
    file = described.file.add(name="data.proto", syntax="proto3")
    message = file.message_type.add(name="Data")
    fields = {**FIELDS, "counts" if samples == "sint32" else "packed": samples}
    for number, (name, kind) in enumerate(fields.items(), 1):
        repeated = kind == "sint32"
        message.field.add(
            name=name,
            number=number,
            type=getattr(kinds, f"TYPE_{kind.upper()}"),
            label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
        )
    path.write_bytes(described.SerializeToString())


def generate(folder: Path, samples: str) -> None:
    """Run nanopb's generator: data.pb.c and data.pb.h."""
    write_descriptor(folder / "data.pb", samples)
    most = f"Data.{'counts max_count' if samples == 'sint32' else 'packed max_size'}:{MOST_SAMPLES[samples]}"
    (folder / "data.options").write_text(most + "\n")
    generator = [sys.executable, "-m", "nanopb.generator.nanopb_generator"]
    words = [*generator, "--quiet", "-f", "data.options", "-D", ".", "data.pb"]
    subprocess.run(words, cwd=folder, check=True)


def link(folder: Path, sources: list[str], include: Path, root: str) -> int:
    """Link nanopb's runtime and one function with newlib-nano, and return the bytes of text, empty image included."""
    (folder / "start.c").write_text("void start(void);\nvoid start(void)\n{\n    for (;;) {\n    }\n}\n")
    image = str(folder / "image.elf")
    flags = [flag for flag in sizes.FLAGS if flag != "-ffreestanding"]
    libraries = [
        "--specs=nano.specs",
        "-nostartfiles",
        "-Wl,--gc-sections,-e,start",
        f"-Wl,--undefined={root}",
    ]
    words = [
        sizes.CC,
        *flags,
        *SMALLEST,
        f"-I{include}",
        f"-I{folder}",
        *libraries,
        str(folder / "start.c"),
        *sources,
    ]
    sizes.run(*words, "-o", image)
    return int(sizes.run("arm-none-eabi-size", image).splitlines()[1].split()[0])


def nanopb_text(runtime: Path, samples: str) -> dict[str, int]:
    """Return bytes of text of a sender and of a receiver of DATA."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder, samples)
        (folder / "sender.c").write_text(SENDER)
        (folder / "receiver.c").write_text(RECEIVER)
        common_ = [str(runtime / "pb_common.c"), str(folder / "data.pb.c")]
        nothing = link(folder, [], runtime, "start")
        sender = [str(runtime / "pb_encode.c"), str(folder / "sender.c")]
        receiver = [str(runtime / "pb_decode.c"), str(folder / "receiver.c")]
        return {
            "data sender": link(folder, [*common_, *sender], runtime, "send") - nothing,
            "data receiver": link(folder, [*common_, *receiver], runtime, "receive") - nothing,
        }


def nanopb_instructions(runtime: Path, samples: str, level: str) -> dict[str, int]:
    """Return instructions a frame of a sender of DATA, the samples put into the message; without and with CRC-32C."""
    put, member, length = PUT[samples]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder, samples)
        (folder / "send.c").write_text(SENDER)
        text = COUNT.replace("PUT", put).replace("SAMPLES", member).replace("LENGTH", length)
        (folder / "count.c").write_text(text)
        sources = [str(runtime / "pb_common.c"), str(runtime / "pb_encode.c"), str(folder / "data.pb.c")]
        sources.append(str(sizes.HERE / "eeb.c"))
        paths = [f"-I{runtime}", f"-I{folder}", str(folder / "count.c"), *sources]
        return counts.run_image(level, *SMALLEST, "--specs=nano.specs", *paths)


def version(runtime: Path) -> str:
    """Return the version that nanopb's header names."""
    text = (runtime / "pb.h").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("#define NANOPB_VERSION"))
    return line.split('"')[1]


def beside(
    runtime: Path | None, eeb: dict[str, int], counted: dict[str, dict[str, int]]
) -> dict[str, Any] | str:
    """Return nanopb's sizes and instructions and their ratios to the library's, or why there are none."""
    if runtime is None:
        return "not measured: no --nanopb folder"
    forms = {samples: nanopb_text(runtime, samples) for samples in MOST_SAMPLES}
    instructions = {
        level: {samples: nanopb_instructions(runtime, samples, level) for samples in MOST_SAMPLES}
        for level in counted
    }
    ratios = {
        samples: {
            "data sender": text["data sender"] / eeb["data sender"],
            "data receiver": text["data receiver"] / eeb["receiver"],
        }
        for samples, text in forms.items()
    }
    return {
        "runtime": version(runtime),
        "generator": metadata.version("nanopb"),
        "options": list(SMALLEST),
        "text_bytes": forms,
        "text, times the library's": ratios,
        "instructions_a_frame": instructions,
        "instructions, times the library's": {
            level: {
                samples: {name: n / counted[level]["encode_data"] for name, n in found.items()}
                for samples, found in by_form.items()
            }
            for level, by_form in instructions.items()
        },
    }


def main(nanopb: Path | None = None, out: Path = HERE / "results" / "firmware_size.json") -> None:
    """Measure, print, write."""
    measured = sizes.measure()
    counted = {level: counts.count(level) for level in counts.OPTIMIZATIONS}
    result = {
        "benchmark": "firmware_size",
        **common.machine(),
        "compiler": sizes.run(sizes.CC, "--version").splitlines()[0],
        "emulator": sizes.run("qemu-system-arm", "--version").splitlines()[0],
        "flags": list(sizes.FLAGS),
        **measured,
        "instructions_a_frame": counted,
        "nanopb": beside(nanopb, measured["text_bytes"], counted),
    }
    common.write_json(out, result)
    print(out.read_text("utf-8"))


if __name__ == "__main__":
    typer.run(main)
