"""The record of the C library's sizes is this library's, and the page repeats the record."""

import importlib
import json
import re
import sys
from pathlib import Path

import needs
import pytest

REPO = Path(__file__).parents[2]
RECORD = json.loads((REPO / "benchmarks" / "results" / "firmware_size.json").read_text(encoding="utf-8"))
PAGE = (REPO / "firmware_bridge" / "README.md").read_text(encoding="utf-8")
INSTALL = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"


@pytest.fixture
def firmware_size(monkeypatch):
    needs.programs("arm-none-eabi-gcc", "qemu-system-arm", package=INSTALL)
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    yield importlib.import_module("firmware_size")
    for name in ("firmware_size", "common", "sizes", "counts"):
        sys.modules.pop(name, None)


def numbers(line):
    """Return the numbers in the cells of the page's row that begins so."""
    (row,) = re.findall(rf"^\| {re.escape(line)}[^|]*\|(.*)\|$", PAGE, re.MULTILINE)
    return [int(cell) for cell in row.split("|")]


def test_the_record_is_what_this_library_takes(firmware_size):
    compiler = firmware_size.sizes.run(firmware_size.sizes.CC, "--version").splitlines()[0]
    if compiler != RECORD["compiler"]:
        pytest.skip(f"the record was made with {RECORD['compiler']}, this is {compiler}")
    found = firmware_size.sizes.measure()
    assert found["text_bytes"] == RECORD["text_bytes"], "run benchmarks/firmware_size.py again"
    assert found["stack_bytes"] == RECORD["stack_bytes"]
    for level, counted in RECORD["instructions_a_frame"].items():
        assert firmware_size.counts.count(level) == pytest.approx(counted, rel=0.01)


def test_the_page_repeats_the_record():
    text, stack = RECORD["text_bytes"], RECORD["stack_bytes"]
    for name, size in text.items():
        assert numbers(name) == [size]
    assert numbers("`eeb_decoder_push`") == [stack.pop("eeb_decoder_push")]
    assert numbers("`eeb_encode_data`") == [stack.pop("eeb_encode_data")]
    assert numbers("any other encoder") == [max(stack.values())]
    counted = RECORD["instructions_a_frame"]
    rows = {
        "DATA, 8 channels": "encode_data",
        "the same: decode": "decode_data",
        "the longest byte, a delimiter: CONFIG": "config_delimiter",
        "the longest byte: INFO": "info_delimiter",
    }
    for row, name in rows.items():
        assert numbers(row) == [counted["-Os"][name], counted["-O2"][name]]


def test_the_page_repeats_the_ratios_to_nanopb():
    (said,) = re.findall(r"^For comparison nanopb.*$", PAGE, re.MULTILINE)
    nanopb = RECORD["nanopb"]
    text = nanopb["text, times the library's"]["sint32"]
    assert text == nanopb["text, times the library's"]["bytes"]
    instructions = nanopb["instructions, times the library's"]["-Os"]
    ratios = [text["data sender"], text["data receiver"]]
    ratios += [
        instructions[form][part] for part in ("fields", "fields_and_check_value") for form in instructions
    ]
    assert re.findall(r"\d\.\d\d", said) == [f"{ratio:.2f}" for ratio in ratios]


def test_ratios_are_of_one_message(firmware_size):
    text = RECORD["nanopb"]["text_bytes"]["bytes"]["data sender"]
    assert RECORD["nanopb"]["text, times the library's"]["bytes"]["data sender"] == pytest.approx(
        text / RECORD["text_bytes"]["data sender"]
    )
    assert firmware_size.beside(None, {}, {}) == "not measured: no --nanopb folder"


def test_nanopb_generates_the_message_that_is_compared(firmware_size, tmp_path):
    pytest.importorskip("nanopb", reason="needs the development group: make dev")
    for samples, line in (("bytes", "BYTES,    packed"), ("sint32", "REPEATED, SINT32,   counts")):
        firmware_size.generate(tmp_path, samples)
        text = (tmp_path / "data.pb.h").read_text()
        assert line in text
        assert all(f" {name}," in text for name in firmware_size.FIELDS)
