/**
 * The running ECG: a canvas with the grid, and one above it on which only what is new is drawn.
 * Nothing is interpolated: where no sample was measured, no line is drawn.
 */
import { byId, cssValue, element } from "./format.js";
import { layoutLeads } from "./layout.js";
import { MISSING } from "./protocol.js";

const SPEED_MM_S = 25;
const GAIN_MM_MV = 10;
const ERASE_PX = 14;
const BASELINE_TAU_S = 3.18; // a high-pass of 0.05 Hz, the low end of a diagnostic ECG
/** Without samples for so long the trace is not live, and is drawn faint. */
export const QUIET_MS = 1000;
const KEPT = 1024;

export class Sweep {
  /** @param {HTMLElement} stage a positioned element that the canvases fill */
  constructor(stage) {
    this.stage = stage;
    this.grid = stage.querySelector("canvas.grid").getContext("2d");
    this.trace = stage.querySelector("canvas.trace").getContext("2d");
    this.labels = stage.querySelector(".lead-labels");
    this.note = byId("sweep-note");
    this.stats = { blocks: 0, holes: 0, frames: 0, latencyMs: [] };
    this.pending = [];
    this.recent = []; // one sweep of blocks, to draw again what a new size wiped out
    this.off = new Map();
    this.setLeads([], 500);
    new ResizeObserver(() => this.resize()).observe(stage);
    const frame = () => {
      this.draw();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /**
   * @param {string[]} names
   * @param {number} rateHz
   */
  setLeads(names, rateHz) {
    this.names = names;
    this.rateHz = rateHz;
    this.level = new Float64Array(names.length); // each lead's slow baseline, mV
    this.heard = new Float64Array(names.length); // samples it was learnt from
    this.stage.setAttribute("aria-label", `Running ECG of ${names.length} leads: ${names.join(", ")}`);
    this.lastMs = null;
    this.lastSeq = undefined;
    this.recent = [];
    this.resize();
  }

  /**
   * Say that a lead is off, and why; or null where it is on.
   * @param {Map<string, string>} off what to write, by lead
   */
  setOff(off) {
    this.names.forEach((name, i) => {
      if (off.has(name) !== this.off.has(name)) this.penY[i] = NaN;
    });
    this.off = off;
    this.nameLeads();
  }

  /** Forget all that is drawn: what is not live must not look so. */
  clear() {
    this.pending = [];
    this.recent = [];
    this.lastMs = null;
    this.wipeAll();
  }

  wipeAll() {
    this.next = null;
    this.penY = new Float32Array(this.names.length).fill(NaN);
    this.trace.clearRect(0, 0, this.width, this.height);
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.width = this.stage.clientWidth;
    this.height = this.stage.clientHeight;
    for (const context of [this.grid, this.trace]) {
      context.canvas.width = Math.round(this.width * ratio);
      context.canvas.height = Math.round(this.height * ratio);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.layout = layoutLeads(this.names.length, this.width, this.height);
    const { mmPx, cells } = this.layout;
    this.perSweep = Math.max(1, Math.round(((cells[0]?.width ?? this.width) / mmPx / SPEED_MM_S) * this.rateHz));
    this.drawGrid();
    this.nameLeads();
    this.wipeAll();
    this.stroke(this.recent);
    this.pending = [];
  }

  drawGrid() {
    const { grid, width, height } = this;
    const { mmPx, pulsePx, rows } = this.layout;
    this.ink = { trace: cssValue("--trace"), off: cssValue("--trace-off"), gap: cssValue("--gap") };
    grid.clearRect(0, 0, width, height);
    if (mmPx >= 2.4) this.rule(mmPx, cssValue("--grid-fine"));
    this.rule(5 * mmPx, cssValue("--grid"));
    if (this.names.length === 0) return;
    grid.strokeStyle = this.ink.trace;
    grid.lineWidth = 1.5;
    grid.beginPath();
    for (let row = 0; row < rows; row++) {
      const foot = (row + 0.5) * (height / rows) + Math.min(5 * mmPx, height / rows / 2 - 2);
      const head = foot - GAIN_MM_MV * mmPx;
      const left = (pulsePx - 7 * mmPx) / 2;
      grid.moveTo(left, foot);
      for (const [mm, y] of [[1, foot], [1, head], [6, head], [6, foot], [7, foot]]) grid.lineTo(left + mm * mmPx, y);
    }
    grid.stroke();
  }

  rule(step, style) {
    const { grid, width, height } = this;
    grid.strokeStyle = style;
    grid.lineWidth = 1;
    grid.beginPath();
    for (let x = this.layout.pulsePx % step; x < width; x += step) {
      grid.moveTo(Math.round(x) + 0.5, 0);
      grid.lineTo(Math.round(x) + 0.5, height);
    }
    for (let y = (height / 2) % step; y < height; y += step) {
      grid.moveTo(0, Math.round(y) + 0.5);
      grid.lineTo(width, Math.round(y) + 0.5);
    }
    grid.stroke();
  }

  nameLeads() {
    const labels = this.names.map((name, i) => {
      const { x, y } = this.layout.cells[i];
      const label = element("span", name);
      label.style.left = `${x + 4}px`;
      label.style.top = `${y + 2}px`;
      if (this.off.has(name)) label.append(element("b", this.off.get(name)));
      return label;
    });
    this.labels.replaceChildren(...labels);
  }

  /** @param {import("./protocol.js").Block} block */
  push(block) {
    if (block.leads !== this.names.length) return;
    if (this.lastSeq !== undefined && block.seq > this.lastSeq + 1) this.stats.holes += block.seq - this.lastSeq - 1;
    this.lastSeq = block.seq;
    this.stats.blocks += 1;
    this.lastMs = performance.now();
    block.off = this.off;
    for (const kept of [this.pending, this.recent]) {
      kept.push(block);
      if (kept.length * block.samples > this.perSweep) kept.shift(); // pending grows so long only while hidden
    }
  }

  /** @returns {number | null} ms since samples came; null where none did */
  get quietMs() {
    return this.lastMs === null ? null : performance.now() - this.lastMs;
  }

  draw() {
    this.stats.frames += 1;
    this.tellQuiet();
    if (this.pending.length === 0) return;
    this.stroke(this.pending);
    this.measure();
    this.pending = [];
  }

  /** @param {import("./protocol.js").Block[]} blocks */
  stroke(blocks) {
    const { trace } = this;
    trace.lineJoin = "bevel";
    trace.lineWidth = 1.5;
    for (const block of blocks) this.drawBlock(block);
  }

  measure() {
    const { latencyMs } = this.stats;
    for (const block of this.pending) latencyMs.push(Date.now() - block.sentMs);
    if (latencyMs.length > KEPT) latencyMs.splice(0, latencyMs.length - KEPT);
  }

  tellQuiet() {
    const quiet = this.quietMs !== null && this.quietMs > QUIET_MS;
    const text = quiet ? `No samples for ${Math.floor(this.quietMs / 1000)} s` : "";
    if (this.note.textContent === text) return;
    this.note.textContent = text;
    this.note.hidden = !quiet;
    this.stage.classList.toggle("quiet", quiet);
  }

  drawBlock(block) {
    const first = Math.round(block.tS * this.rateHz);
    if (this.next === null || first < this.next - block.samples || first - this.next >= this.perSweep) {
      if (this.next !== null) this.trace.clearRect(0, 0, this.width, this.height);
      this.penY.fill(NaN);
    } else if (first > this.next + 1) {
      this.wipe(this.next, first, this.ink.gap);
      this.penY.fill(NaN);
    }
    this.wipe(first, first + block.samples, null);
    for (let lead = 0; lead < block.leads; lead++) {
      this.drawLead(block, lead, first);
    }
    this.next = first + block.samples;
  }

  /** Clear the columns from one sample to another, and a bar ahead of it; wrap at the right end. */
  wipe(from, to, fill) {
    const { perSweep, layout, trace } = this;
    const start = ((from % perSweep) + perSweep) % perSweep;
    const length = to - from;
    const parts = [[start, Math.min(perSweep, start + length)]];
    if (start + length > perSweep) parts.push([0, start + length - perSweep]);
    const { columns, pulsePx } = layout;
    const width = (this.width - pulsePx) / columns;
    for (let column = 0; column < columns; column++) {
      const x = pulsePx + column * width;
      for (const [a, b] of parts) {
        const left = x + (a / perSweep) * width;
        const right = x + (b / perSweep) * width;
        trace.clearRect(left + 1, 0, Math.min(right + ERASE_PX, x + width) - left, this.height);
        if (fill) {
          trace.fillStyle = fill;
          trace.fillRect(left, 0, right - left, this.height);
        }
      }
    }
  }

  /** A stroke of its own for each lead: one of all would have the whole screen rastered for some short lines. */
  drawLead(block, lead, first) {
    const path = this.trace;
    const { perSweep, layout, level, heard, penY } = this;
    const { x, y, width, height } = layout.cells[lead];
    const mvPx = GAIN_MM_MV * layout.mmPx;
    const middle = y + height / 2;
    const slowest = BASELINE_TAU_S * this.rateHz;
    const offset = lead * block.samples;
    const isOff = block.off.has(this.names[lead]);
    let position = ((first % perSweep) + perSweep) % perSweep;
    let at = penY[lead];
    path.strokeStyle = isOff ? this.ink.off : this.ink.trace;
    path.beginPath();
    if (at === at) path.moveTo(x + (Math.max(0, position - 1) / perSweep) * width, at);
    for (let i = 0; i < block.samples; i++, position++) {
      if (position === perSweep) {
        position = 0;
        at = NaN;
      }
      const count = block.counts[offset + i];
      if (count === MISSING && !isOff) {
        at = NaN;
        continue;
      }
      let target = middle;
      if (!isOff) {
        const mv = count * block.mvPerCount;
        heard[lead] = Math.min(heard[lead] + 1, slowest);
        level[lead] += (mv - level[lead]) / heard[lead];
        target = middle - (mv - level[lead]) * mvPx;
      }
      const px = x + (position / perSweep) * width;
      if (at === at) path.lineTo(px, target);
      else path.moveTo(px, target);
      at = target;
    }
    path.stroke();
    penY[lead] = at;
  }
}
