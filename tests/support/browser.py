"""Debian's Chromium, driven by Playwright: started, or the test is skipped with what brings it."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

_AXE = Path(__file__).parents[2] / ".peers" / "node_modules" / "axe-core" / "axe.min.js"


@contextmanager
def chromium(*options, **environment):
    """A browser without a window; software draws. Options of its command line, and what its environment has besides."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the development group: make dev")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium: apt-get install chromium fonts-dejavu-core")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *options], env={**os.environ, **environment}
        )
        yield browser
        browser.close()


@contextmanager
def opened(browser, url, *, width=1280, height=800, scheme="dark", at=None, **context):
    """A page, which must not have reported an error or a refused resource by its end; `at` stops its wall clock."""
    view = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **context)
    view.set_default_timeout(60_000)  # a browser beside other tests is slow, not wrong
    page = view.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Security Policy" in said.text else None)
    if at is not None:
        page.clock.set_fixed_time(at)
    page.goto(url)
    yield page
    view.close()
    assert errors == []


def axe_violations(page):
    """What axe-core finds against WCAG 2.2 A and AA and its own best practices: rule, and where."""
    if not _AXE.is_file():
        pytest.skip("needs the npm package axe-core: make peers")
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (item["id"], node["target"], node["failureSummary"])
        for item in found["violations"]
        for node in item["nodes"]
    ]


CUT_OR_OVERLAPPING = """() => {
  const seen = (node) => node.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const name = (node) => node.id || node.className || node.textContent.slice(0, 20) || node.tagName;
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push("page is wider than the screen");
  const leaves = [...document.querySelectorAll("body *")].filter((node) =>
    seen(node) && !node.closest("#watermark, .scroll, select, svg, .u-wrap, .sr, table")
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim() !== ""));
  for (const node of leaves) {
    if (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== "inline")
      found.push(`cut: ${name(node)} (${node.scrollWidth} > ${node.clientWidth})`);
    if (node.scrollHeight > node.clientHeight + 1 && getComputedStyle(node).overflowY === "hidden")
      found.push(`cut below: ${name(node)}`);
    const box = node.getBoundingClientRect();
    if (box.left < -1 || box.right > innerWidth + 1) found.push(`off the screen: ${name(node)}`);
  }
  const boxes = leaves.map((node) => [node, node.getBoundingClientRect()]).filter(([, box]) => box.width && box.height);
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [[a, p], [b, q]] = [boxes[i], boxes[j]];
    if (a.contains(b) || b.contains(a)) continue;
    const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (across > 2 && down > 2) found.push(`overlap: ${name(a)} and ${name(b)}`);
  }
  for (const panel of document.querySelectorAll(".panel, .tile, .bar, #alarm, #health"))
    if (seen(panel) && (panel.scrollWidth > panel.clientWidth + 1 || panel.scrollHeight > panel.clientHeight + 1))
      found.push(`overflows: ${name(panel)}`);
  return found;
}"""
"""What a person would see as cut or overlapping text: of leaves with text, and of panels."""


def layout_faults(page):
    """Text that is cut, off the screen or over other text; panels whose contents do not fit."""
    return page.evaluate(CUT_OR_OVERLAPPING)


THREE_FRAMES = """() => new Promise((done) => requestAnimationFrame(
  () => requestAnimationFrame(() => requestAnimationFrame(done))))"""


def lasting_layout_faults(page, *, within_s=15.0):
    """Those that do not go by themselves: the page hears of its size in frames, and a busy machine has few."""
    end_s = time.monotonic() + within_s
    while True:
        page.evaluate(THREE_FRAMES)
        found = layout_faults(page)
        if not found or time.monotonic() > end_s:
            return found


def evaluate_module(page, module, expression):
    """The value of an expression in which `m` is one of the page's modules."""
    return page.evaluate(f"import({json.dumps('/static/' + module)}).then((m) => {expression})")
