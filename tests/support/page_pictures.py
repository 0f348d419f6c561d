"""Pictures of the page beside the ones that a person has looked at: the same but for how glyphs are smoothed.

A picture is kept at half its size (a quarter where it is wide) in few levels of each colour. Both are blurred by 2 x 2
before they are compared: edges of another rasteriser fall below `STEP`, what has moved or has another colour does not.
"""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

STEP = 40
"""Levels of 255 by which a pixel must differ, in any of its colours, to count."""

MOST_OF_ALL = 0.002
MOST_OF_A_BLOCK = 0.08
"""The share of pixels that may differ, in all and in the worst block: some twice what hinted glyphs make of it."""

BLOCK_PX = 16
BOX_PX = 6
"""By so much an element's box may differ: another version of a font is a little wider."""

LEVELS = 16
"""So many of each colour are kept: a palette would lose the colours that are rare, as those of buttons are."""

WIDE_PX = 1600

BOXES = """() => Object.fromEntries([...document.querySelectorAll("body [id], .panel, .tile, .lead-labels > span")]
  .filter((node) => node.checkVisibility({visibilityProperty: true}) && !node.matches("option, #dead span"))
  .map((node, i) => [node, node.id || `${node.className || node.tagName} ${i}`, node.getBoundingClientRect()])
  .filter(([, , {width, height}]) => width && height)
  .map(([, name, {x, y, width, height}]) => [name, [x, y, width, height].map(Math.round)]))"""


def reduced(png):
    """A screenshot as it is kept: smaller."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return picture.reduce(4 if picture.width > WIDE_PX else 2)


def keep(picture, path):
    """Write a reduced picture in few levels of each colour."""
    path.parent.mkdir(exist_ok=True)
    step = 255 // (LEVELS - 1)
    few = picture.point([round(value / step) * step for value in range(256)] * 3)
    few.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def difference(seen, kept, *, step=STEP):
    """The shares of pixels that differ: of all, and of the worst block with its place in the kept picture."""
    if seen.size != kept.size:
        return 1.0, 1.0, (0, 0)
    a, b = (np.asarray(picture.convert("RGB").reduce(2), np.int16) for picture in (seen, kept))
    differs = np.abs(a - b).max(axis=2) > step
    rows, columns = (-(-n // BLOCK_PX) for n in differs.shape)
    padded = np.zeros((rows * BLOCK_PX, columns * BLOCK_PX), bool)
    padded[: differs.shape[0], : differs.shape[1]] = differs
    blocks = padded.reshape(rows, BLOCK_PX, columns, BLOCK_PX).mean(axis=(1, 3))
    row, column = np.unravel_index(blocks.argmax(), blocks.shape)
    return float(differs.mean()), float(blocks.max()), (int(column) * 2 * BLOCK_PX, int(row) * 2 * BLOCK_PX)


def faults(seen, kept):
    """In words, what differs between two reduced pictures."""
    of_all, of_block, place = difference(seen, kept)
    if of_all <= MOST_OF_ALL and of_block <= MOST_OF_A_BLOCK:
        return []
    return [f"{of_all:.2%} of all pixels differ, {of_block:.0%} of the block at {place} of the kept picture"]


def moved(seen, kept):
    """In words, which elements have come, gone, moved or changed their size."""
    found = [f"{name} is {'new' if name in seen else 'gone'}" for name in sorted(seen.keys() ^ kept.keys())]
    both = sorted(seen.keys() & kept.keys())
    found += [
        f"{name} is at {seen[name]}, was at {kept[name]}" for name in both if _apart(seen[name], kept[name])
    ]
    return found


def _apart(seen, kept):
    return max(abs(a - b) for a, b in zip(seen, kept, strict=True)) > BOX_PX


def read_boxes(path):
    """The boxes of each picture, by its name."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def write_boxes(path, boxes):
    """Write them, a picture a line."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(boxes[name], separators=(',', ':'))}" for name in sorted(boxes)
    )
    path.write_text("{\n" + lines + "\n}\n", "utf-8")
