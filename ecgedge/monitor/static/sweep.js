/** The running ECG: a canvas with the grid, the names of the leads, and a canvas above them that a worker draws on. */
import { byId, cssValue, element, setText } from "./format.js";
import { GAIN_MM_MV, layoutLeads, SPEED_MM_S } from "./layout.js";

/** Without samples for so long the trace is not live, and is drawn faint. */
export const QUIET_MS = 1000;
const CHECK_MS = 250;
const KEPT = 1024;

export class Sweep {
  /** @param {HTMLElement} stage a positioned element that the canvases fill */
  constructor(stage) {
    this.stage = stage;
    this.grid = stage.querySelector("canvas.grid").getContext("2d");
    this.labels = stage.querySelector(".lead-labels");
    this.stats = { blocks: 0, holes: 0, frames: 0, latencyMs: [] };
    this.off = new Map();
    this.openPen(stage.querySelector("canvas.trace").transferControlToOffscreen());
    this.setLeads([], 500);
    new ResizeObserver(() => this.resize()).observe(stage);
    setInterval(() => this.tellQuiet(), CHECK_MS);
  }

  openPen(canvas) {
    this.pen = new Worker("/static/pen_worker.js", { type: "module" });
    this.pen.postMessage({ do: "open", canvas }, [canvas]);
    this.pen.onmessage = ({ data }) => this.drawn(data);
    this.pen.onerror = () => {
      this.broken = true;
    };
  }

  /** What the pen says that it has drawn. */
  drawn({ frames, latencyMs }) {
    const { stats } = this;
    this.drawnMs = performance.now();
    stats.frames += frames;
    stats.latencyMs.push(...latencyMs);
    if (stats.latencyMs.length > KEPT) stats.latencyMs.splice(0, stats.latencyMs.length - KEPT);
  }

  /**
   * @param {string[]} names
   * @param {number} rateHz
   */
  setLeads(names, rateHz) {
    this.names = names;
    this.rateHz = rateHz;
    this.stage.setAttribute("aria-label", `Running ECG of ${names.length} leads: ${names.join(", ")}`);
    this.lastMs = null;
    this.lastSeq = undefined;
    this.pen.postMessage({ do: "leads", leads: names.length });
    this.resize();
    this.setOff(this.off);
  }

  /**
   * Say which leads are off, and why.
   * @param {Map<string, string>} off what to write, by lead
   */
  setOff(off) {
    this.off = off;
    this.pen.postMessage({ do: "off", off: this.names.map((name) => off.has(name)) });
    this.nameLeads();
  }

  /** Forget all that is drawn: what is not live must not look so. */
  clear() {
    this.lastMs = null;
    this.pen.postMessage({ do: "clear" });
  }

  /** Draw in the size and the colours that the page has now. */
  resize() {
    const { stage, grid } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    const layout = layoutLeads(this.names.length, width, height);
    const columnS = (layout.cells[0]?.width ?? width) / layout.mmPx / SPEED_MM_S;
    const ink = { trace: cssValue("--trace"), off: cssValue("--trace-off"), gap: cssValue("--gap") };
    this.plan = { width, height, ratio, layout, ink, rateHz: this.rateHz, perSweep: Math.max(1, Math.round(columnS * this.rateHz)) };
    this.pen.postMessage({ do: "plan", plan: this.plan });
    grid.canvas.width = Math.round(width * ratio);
    grid.canvas.height = Math.round(height * ratio);
    grid.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawGrid();
    this.nameLeads();
  }

  drawGrid() {
    const { mmPx } = this.plan.layout;
    if (mmPx >= 2.4) this.rule(mmPx, cssValue("--grid-fine"));
    this.rule(5 * mmPx, cssValue("--grid"));
    if (this.names.length > 0) this.drawPulses();
  }

  rule(step, style) {
    const { grid } = this;
    const { width, height, layout } = this.plan;
    grid.strokeStyle = style;
    grid.lineWidth = 1;
    grid.beginPath();
    for (let x = layout.pulsePx % step; x < width; x += step) {
      grid.moveTo(Math.round(x) + 0.5, 0);
      grid.lineTo(Math.round(x) + 0.5, height);
    }
    for (let y = (height / 2) % step; y < height; y += step) {
      grid.moveTo(0, Math.round(y) + 0.5);
      grid.lineTo(width, Math.round(y) + 0.5);
    }
    grid.stroke();
  }

  /** A pulse of 1 mV before each row. */
  drawPulses() {
    const { grid } = this;
    const { height, layout, ink } = this.plan;
    const { mmPx, pulsePx, rows } = layout;
    const rowPx = height / rows;
    const left = (pulsePx - 7 * mmPx) / 2;
    grid.strokeStyle = ink.trace;
    grid.lineWidth = 1.5;
    grid.beginPath();
    for (let row = 0; row < rows; row++) {
      const foot = (row + 0.5) * rowPx + Math.min(5 * mmPx, rowPx / 2 - 2);
      const head = foot - GAIN_MM_MV * mmPx;
      grid.moveTo(left, foot);
      for (const [mm, y] of [[1, foot], [1, head], [6, head], [6, foot], [7, foot]]) grid.lineTo(left + mm * mmPx, y);
    }
    grid.stroke();
  }

  nameLeads() {
    const labels = this.names.map((name, i) => {
      const { x, y } = this.plan.layout.cells[i];
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
    if (this.lastSeq !== undefined && block.seq > this.lastSeq + 1) this.stats.holes += block.seq - this.lastSeq - 1;
    this.lastSeq = block.seq;
    this.stats.blocks += 1;
    if (this.lastMs === null) this.drawnMs = performance.now(); // the pen has been given nothing to draw until now
    this.lastMs = performance.now();
    this.pen.postMessage({ do: "block", block });
  }

  /** @returns {number | null} ms since samples came; null where none did */
  get quietMs() {
    return this.lastMs === null ? null : performance.now() - this.lastMs;
  }

  /** A trace that does not move must not look live, whoever is to blame. */
  tellQuiet() {
    const quiet = this.quietMs !== null && this.quietMs > QUIET_MS;
    const stuck = this.broken || (this.lastMs !== null && !quiet && !document.hidden && this.lastMs - this.drawnMs > QUIET_MS);
    setText(byId("sweep-note"), quiet ? `No samples for ${Math.floor(this.quietMs / 1000)} s` : stuck ? "The trace stands still" : "");
    byId("sweep-note").hidden = !quiet && !stuck;
    this.stage.classList.toggle("quiet", quiet || stuck);
  }
}
