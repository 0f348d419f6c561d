/**
 * Draws the running trace: only what is new, behind a bar that wipes ahead of it.
 * Nothing is interpolated: where no sample was measured, no line is drawn.
 */
import { GAIN_MM_MV } from "./layout.js";
import { MISSING } from "./protocol.js";

const ERASE_PX = 14;
const LINE_PX = 1.5;
const BASELINE_TAU_S = 3.18; // a high-pass of 0.05 Hz, the low end of a diagnostic ECG

/**
 * What is drawn where: `perSweep` samples go from the left end of a column to its right end.
 * @typedef {{width: number, height: number, ratio: number, rateHz: number, perSweep: number,
 *   layout: import("./layout.js").Layout, ink: {trace: string, off: string, gap: string}}} Plan
 */

export class Pen {
  /** @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context */
  constructor(context) {
    this.context = context;
    this.restart(0);
  }

  /** Begin anew with so many leads. @param {number} leads */
  restart(leads) {
    this.level = new Float64Array(leads); // each lead's slow baseline, mV
    this.heard = new Float64Array(leads); // samples it was learnt from
    this.penY = new Float32Array(leads).fill(NaN);
    this.off = Array.from({ length: leads }, () => false);
    this.clear();
  }

  /** Draw in another size, or in other colours. @param {Plan} plan */
  setPlan(plan) {
    this.plan = plan;
    const { canvas } = this.context;
    canvas.width = Math.round(plan.width * plan.ratio);
    canvas.height = Math.round(plan.height * plan.ratio);
    this.context.setTransform(plan.ratio, 0, 0, plan.ratio, 0, 0);
    this.wipeAll();
    this.pending = [...this.recent];
  }

  /** @param {boolean[]} off which leads are drawn as a line that tells so, from the next block on */
  setOff(off) {
    off.forEach((is, lead) => {
      if (is !== this.off[lead]) this.penY[lead] = NaN;
    });
    this.off = off;
  }

  /** Forget all that is drawn: what is not live must not look so. */
  clear() {
    this.pending = [];
    this.recent = []; // one sweep of blocks, to draw again what a new size wiped out
    this.wipeAll();
  }

  wipeAll() {
    this.next = null;
    this.penY.fill(NaN);
    if (this.plan) this.context.clearRect(0, 0, this.plan.width, this.plan.height);
  }

  /** @param {import("./protocol.js").Block} block */
  push(block) {
    if (block.leads !== this.penY.length) return;
    const told = { ...block, off: this.off, mv: this.filter(block) };
    for (const kept of [this.pending, this.recent]) {
      kept.push(told);
      if (kept.length * block.samples > this.plan.perSweep) kept.shift(); // pending grows so long only while hidden
    }
  }

  /** The samples in mV, less their lead's slow baseline; NaN where nothing was measured. */
  filter({ leads, samples, counts, mvPerCount }) {
    const { level, heard, plan } = this;
    const found = new Float32Array(counts.length).fill(NaN);
    for (let lead = 0; lead < leads; lead++) {
      for (let i = lead * samples; i < (lead + 1) * samples; i++) {
        if (counts[i] === MISSING) continue;
        const mv = counts[i] * mvPerCount;
        heard[lead] = Math.min(heard[lead] + 1, BASELINE_TAU_S * plan.rateHz);
        level[lead] += (mv - level[lead]) / heard[lead];
        found[i] = mv - level[lead];
      }
    }
    return found;
  }

  /** Draw what waits. @returns {number[]} when each of its blocks was sent, ms */
  draw() {
    const blocks = this.pending;
    this.pending = [];
    for (const block of blocks) this.drawBlock(block);
    return blocks.map(({ sentMs }) => sentMs);
  }

  drawBlock(block) {
    const { rateHz, perSweep, ink } = this.plan;
    const first = Math.round(block.tS * rateHz);
    if (this.next === null || first < this.next - block.samples || first - this.next >= perSweep) {
      this.wipeAll();
    } else if (first > this.next + 1) {
      this.wipe(this.next, first, ink.gap);
      this.penY.fill(NaN);
    }
    this.wipe(first, first + block.samples, null);
    this.context.lineJoin = "bevel";
    this.context.lineWidth = LINE_PX;
    for (let lead = 0; lead < block.leads; lead++) this.drawLead(block, lead, this.positionOf(first));
    this.next = first + block.samples;
  }

  /** Where in its sweep a sample stands. */
  positionOf(sample) {
    const { perSweep } = this.plan;
    return ((sample % perSweep) + perSweep) % perSweep;
  }

  /** Clear the columns from one sample to another, and a bar ahead of it; wrap at the right end. */
  wipe(from, to, fill) {
    const { perSweep, layout, height } = this.plan;
    const start = this.positionOf(from);
    const end = start + to - from;
    const parts = [[start, Math.min(perSweep, end)]];
    if (end > perSweep) parts.push([0, end - perSweep]);
    for (const { x, width } of layout.cells.filter(({ y }) => y === 0)) {
      for (const [a, b] of parts) {
        const left = x + (a / perSweep) * width;
        const right = x + (b / perSweep) * width;
        const from = a === 0 ? left - 1 : left + 1; // but for the first, the end of what was drawn last stays
        this.context.clearRect(from, 0, Math.min(right + ERASE_PX, x + width) - left, height);
        if (fill) {
          this.context.fillStyle = fill;
          this.context.fillRect(left, 0, right - left, height);
        }
      }
    }
  }

  /** A stroke of its own for each lead: one of all would have the whole screen rastered for some short lines. */
  drawLead(block, lead, position) {
    const { context, penY } = this;
    const { perSweep, layout, ink } = this.plan;
    const { x, y: top, width, height } = layout.cells[lead];
    const [middle, mvPx] = [top + height / 2, GAIN_MM_MV * layout.mmPx];
    const isOff = block.off[lead];
    let at = penY[lead];
    context.strokeStyle = isOff ? ink.off : ink.trace;
    context.beginPath();
    if (at === at) context.moveTo(x + (Math.max(0, position - 1) / perSweep) * width, at);
    for (let i = 0; i < block.samples; i++, position++) {
      if (position === perSweep) {
        position = 0;
        at = NaN;
      }
      const y = isOff ? middle : middle - block.mv[lead * block.samples + i] * mvPx;
      const px = x + (position / perSweep) * width;
      if (at === at && y === y) context.lineTo(px, y);
      else if (y === y) context.moveTo(px, y);
      at = y;
    }
    context.stroke();
    penY[lead] = at;
  }
}
